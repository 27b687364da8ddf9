"""Error kinds and gRPC status codes: the one table, read forwards by servers and backwards by clients.

Codes are the numbers of the wire, so that nobody has to import grpc to name one (introspection reports them as
numbers). What has no kind is Unknown. Clauses SVC-057 to 059, PLG-029.
"""

from refimpl.contract.errors import (
    Aborted,
    AlreadyExists,
    Canceled,
    ContainerdError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    Unknown,
)

UNKNOWN = 2
"""The code of an error of no known kind."""

CODES: tuple[tuple[type[ContainerdError], int], ...] = (
    (Canceled, 1),
    (Unknown, UNKNOWN),
    (InvalidArgument, 3),
    (DeadlineExceeded, 4),
    (NotFound, 5),
    (AlreadyExists, 6),
    (PermissionDenied, 7),
    (ResourceExhausted, 8),
    (FailedPrecondition, 9),
    (Aborted, 10),
    (OutOfRange, 11),
    (Unimplemented, 12),
    (Internal, 13),
    (Unavailable, 14),
)
"""Every kind with its code; each occurs once on either side."""

_KINDS = {code: kind for kind, code in CODES}


def code_of(error: BaseException) -> int:
    """The status code of an error; ``UNKNOWN`` for one of no known kind."""
    for kind, code in CODES:
        if isinstance(error, kind):
            return code
    return UNKNOWN


def text_of(error: BaseException) -> str:
    """The text that a client sees: what failed and where, and for containerd's kinds the kind as last word (SVC-059).

    An ``OSError`` is written as Go writes one (``/proc/x: no such file or directory``), without Python's number.
    """
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror[0].lower() + error.strerror[1:]
        return f"{error.filename}: {reason}" if error.filename else reason
    return str(error) or type(error).__name__


def error_from(code: int, text: str) -> ContainerdError:
    """The error that a status stands for.

    Its text ends with the kind exactly once, however many hops it made (SVC-058). A code without a kind of ours is
    Unknown.
    """
    kind = _KINDS.get(code, Unknown)
    if text == kind.text:
        return kind("", bare=False)
    return kind(text.removesuffix(f": {kind.text}"), bare=False)
