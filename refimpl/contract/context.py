"""The call context: everything a call carries besides its arguments.

containerd passes these through Go's ``context.Context``; here they are one explicit, immutable value that is the
first argument of every contract method, so the data flow can be read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from refimpl.contract.errors import Canceled, DeadlineExceeded, FailedPrecondition, InvalidArgument
from refimpl.contract.identifiers import validate_namespace


class CancelToken:
    """A flag that the caller sets once and the callee may look at or wait for, at any time, from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Ask for the end of the call. Idempotent."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called once when the call is cancelled, from the cancelling thread; now, if it already is.

        For work that waits on something other than this token. The callback must not raise or wait.
        """
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def forget(self, callback: Callable[[], None]) -> None:
        """Take back one ``on_cancel``, when the work it would have stopped is over; unknown callbacks are ignored."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    @property
    def cancelled(self) -> bool:
        """Whether the end of the call was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until cancelled, at most ``seconds``; True if cancelled."""
        return self._event.wait(seconds)


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who calls, under which lease, until when.

    Attributes:
        namespace: the namespace header as sent; empty when there was none.
        lease: the id in the lease header; empty when the call is under no lease.
        deadline: ``time.monotonic()`` seconds after which the caller no longer waits; None for no limit.
        cancel: set when the caller goes away.
        headers: the other request metadata, lower-case keys (trace context among them).
    """

    namespace: str = ""
    lease: str = ""
    deadline: float | None = None
    cancel: CancelToken | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def require_namespace(self) -> str:
        """The namespace, validated.

        Raises:
            FailedPrecondition: no namespace was sent.
            InvalidArgument: the namespace is no valid identifier.
        """
        if not self.namespace:
            raise FailedPrecondition("namespace is required")
        try:
            validate_namespace(self.namespace)
        except InvalidArgument as error:
            raise InvalidArgument(f"namespace validation: {error.message}") from error
        return self.namespace

    def check(self) -> None:
        """Stop work that nobody waits for.

        Raises:
            Canceled: the caller went away.
            DeadlineExceeded: the deadline passed.
        """
        if self.cancel is not None and self.cancel.cancelled:
            raise Canceled
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlineExceeded

    def with_namespace(self, namespace: str) -> CallContext:
        """The same call in another namespace."""
        return replace(self, namespace=namespace)

    def with_lease(self, lease: str) -> CallContext:
        """The same call under another lease (empty for none)."""
        return replace(self, lease=lease)
