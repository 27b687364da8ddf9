"""The error kinds of the containerd API, raised in any layer and translated at the edge.

containerd knows few kinds of failure; a client decides by the kind, a person reads the message. The text of an error
is ``<message>: <kind text>``, as Go's wrapped errors print it, because clients show and sometimes match it.
One table (``refimpl.api.status``) maps kinds to gRPC codes and back.
"""

from __future__ import annotations


class ContainerdError(Exception):
    """A failure with a kind. Raise a subclass; catch this one only at a boundary.

    Args:
        message: what went wrong, naming the object and, where it matters, the namespace. May be empty.
        bare: leave the kind's text off; for the few messages that containerd forms without it.
    """

    text = "unknown"

    def __init__(self, message: str = "", *, bare: bool = False) -> None:
        self.message = message
        self.bare = bare
        super().__init__(message)

    def __str__(self) -> str:
        if self.bare:
            return self.message
        return f"{self.message}: {self.text}" if self.message else self.text


class Unknown(ContainerdError):
    """No kind fits; the message is all there is."""

    def __init__(self, message: str = "", *, bare: bool = True) -> None:
        super().__init__(message, bare=bare)


class InvalidArgument(ContainerdError):
    """The request can never succeed as it stands, whatever the state of the daemon."""

    text = "invalid argument"


class NotFound(ContainerdError):
    """The named object does not exist in this namespace."""

    text = "not found"


class AlreadyExists(ContainerdError):
    """The name is taken, or the content is already there."""

    text = "already exists"


class FailedPrecondition(ContainerdError):
    """The object is in a state that does not allow the call."""

    text = "failed precondition"


class Unavailable(ContainerdError):
    """Not now: a lock is held or a peer is away; the same call may succeed later."""

    text = "unavailable"


class Unimplemented(ContainerdError):
    """The implementation does not offer this call, or not for this input (containerd: ErrNotImplemented)."""

    text = "not implemented"


class OutOfRange(ContainerdError):
    """An offset or size lies outside the object."""

    text = "out of range"


class Aborted(ContainerdError):
    """A stream was ended by its other side."""

    text = "aborted"


class Canceled(ContainerdError):
    """The caller went away; the text is Go's ``context canceled``."""

    text = "context canceled"


class DeadlineExceeded(ContainerdError):
    """The caller's deadline passed before the work was done."""

    text = "context deadline exceeded"


class ResourceExhausted(ContainerdError):
    """A limit was reached, such as the size of a message."""

    text = "resource exhausted"


class PermissionDenied(ContainerdError):
    """The host refused the operation."""

    text = "permission denied"


class Internal(ContainerdError):
    """A peer answered against its protocol."""

    text = "internal"
