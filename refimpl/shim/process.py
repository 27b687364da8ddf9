"""A process of a container, as a client sees it: its streams, its states, its end, and who waits for it.

Clauses SHM-060, SHM-071 to SHM-073, TSK-036 to TSK-045, TSK-052 to TSK-062.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, Unknown
from refimpl.shim.stdio import ProcessIO, Stdio

CREATED, RUNNING, STOPPED = "created", "running", "stopped"

EVER_SECONDS = 1e9
"""A deadline for nobody."""


def refuse(message: str) -> Unknown:
    """A refusal of what the state of a process does not allow: of no kind, and saying so."""
    return Unknown(message, bare=False)


class Exit:
    """How a process ended.

    Attributes:
        status: exit code, or 128 and the number of the signal.
        at: nanoseconds since 1970; None for what never ran.
    """

    def __init__(self, status: int, at: int | None) -> None:
        self.status, self.at = status, at


class Process:
    """Init or an exec.

    Attributes:
        lock: held while something is done to it; never while it is looked at.
        pid: 0 before there is one.
        status: ``CREATED``, ``RUNNING`` or ``STOPPED``; a container's pause is not seen from here.
        exit: how it ended; None while it has not.
        io: its streams; None before they are opened.
    """

    def __init__(self, id: str, stdio: Stdio) -> None:
        self.id, self.stdio = id, stdio
        self.lock = threading.RLock()
        self.pid = 0
        self.status = CREATED
        self.exit: Exit | None = None
        self.io: ProcessIO | None = None
        self._changed = threading.Condition()
        self._over: Exit | ContainerdError | None = None
        self._held: list[Callable[[], None]] | None = None

    # --- its end

    def hold(self) -> None:
        """Keep back the end until ``release``: a client hears of a start before an end, however quick that is."""
        with self._changed:
            self._held = []

    @property
    def held(self) -> bool:
        """Whether its end would be kept back."""
        with self._changed:
            return self._held is not None

    def release(self) -> None:
        """Let an end that was kept back happen now."""
        # Under the lock: who finds that it is held no more may rely on its end having been told.
        with self._changed:
            held, self._held = self._held, None
            for function in held or ():
                function()

    def when_free(self, function: Callable[[], None]) -> None:
        """Call a function, now or with ``release``."""
        with self._changed:
            if self._held is not None:
                self._held.append(function)
                return
        function()

    def end(self, status: int, at: int) -> Exit:
        """Note that it has ended; waiters are not told yet."""
        self.exit = Exit(status, at)
        self.status = STOPPED
        return self.exit

    def tell(self, outcome: Exit | ContainerdError) -> None:
        """Let those who wait go on, with the exit or an error. The first outcome counts."""
        with self._changed:
            if self._over is None:
                self._over = outcome
            self._changed.notify_all()

    def wait(self, ctx: CallContext) -> Exit:
        """Wait for the end.

        Raises:
            Canceled, DeadlineExceeded: the caller gave up first.
            ContainerdError: the end will never come.
        """
        if ctx.cancel is not None:
            ctx.cancel.on_cancel(self._wake)
        try:
            with self._changed:
                while self._over is None:
                    ctx.check()
                    left = EVER_SECONDS if ctx.deadline is None else ctx.deadline - time.monotonic()
                    # Threads of Python cannot wait as long as that.
                    self._changed.wait(min(max(left, 0.0), 3600.0))
                outcome = self._over
        finally:
            if ctx.cancel is not None:
                ctx.cancel.forget(self._wake)
        if isinstance(outcome, ContainerdError):
            raise outcome
        return outcome

    def over_within(self, seconds: float) -> bool:
        """Wait for the end, whatever it is; whether it came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._over is not None, seconds)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # --- its streams

    def resize(self, width: int, height: int) -> None:
        """Set the size of its terminal; nothing without one."""
        if self.io is not None:
            self.io.resize(width, height)

    def close_input(self) -> None:
        """Let its input end."""
        if self.io is not None:
            self.io.end_input()

    def close_io(self, seconds: float) -> None:
        """Wait for its output, at most that long, and close its streams."""
        if self.io is not None:
            self.io.close(seconds)
