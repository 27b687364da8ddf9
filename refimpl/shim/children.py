"""Child processes: those that are started here, and those that a subreaper inherits (SHM-036).

Processes of containers are never started by the shim itself: the OCI runtime starts them and ends, and as the nearest
subreaper the shim becomes their parent. So whoever ends may be a command that somebody waits for, a process of a
container, or an orphan that is nobody's business; all are reaped in one place.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refimpl.contract.context import CallContext

FileActions = Sequence[tuple[Any, ...]]
"""As ``os.posix_spawn`` takes them."""

OnExit = Callable[[int, int], None]
"""Called with an exit status as shells count it (128 and the signal) and the time in nanoseconds since 1970."""


class Command:
    """A process that was started here.

    Attributes:
        pid: of the process.
        status: how it ended, once ``wait`` has said that it did: as a shell counts, 128 and the number of a signal.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status = 0
        self._ended = threading.Event()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; whether it came in time."""
        return self._ended.wait(seconds)

    def end(self, status: int) -> None:
        """It has ended; for whoever reaps."""
        self.status = status
        self._ended.set()


class Children:
    """All children of this process.

    Args:
        looped: a loop calls ``reap``; otherwise whoever waits for a command reaps it.
    """

    def __init__(self, *, looped: bool = True) -> None:
        self._looped = looped
        self._lock = threading.Lock()
        self._left_alone = 0
        self._commands: dict[int, Command] = {}
        self._watched: dict[int, OnExit] = {}
        self._expecting = 0
        self._early: dict[int, tuple[int, int]] = {}

    def spawn(
        self, argv: Sequence[str], environment: Mapping[str, str], actions: FileActions, *, search: bool = True
    ) -> Command:
        """Start a command, in a process group of its own.

        Args:
            search: look for it on PATH.

        Raises:
            OSError: there is no such program, or it cannot be run.
        """
        run = os.posix_spawnp if search else os.posix_spawn
        with self._lock:  # whoever reaps waits: the command is known before its end is
            pid = run(
                argv[0], list(argv), dict(environment), file_actions=list(actions), setpgroup=0,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )  # fmt: skip
            command = self._commands[pid] = Command(pid)
        return command

    def wait(self, command: Command, ctx: CallContext | None = None) -> int:
        """Wait for a command; its exit status.

        Args:
            ctx: of a caller who may give up: then the command is killed, with all that it has started in its group. For
                where a loop reaps.
        """
        if not self._looped:
            _, status = os.waitpid(command.pid, 0)
            return _as_shell(status)
        if ctx is None:
            command.wait()
            return command.status

        def end() -> None:
            self._end(command)

        if ctx.cancel is not None:
            ctx.cancel.on_cancel(end)
        try:
            if not command.wait(None if ctx.deadline is None else max(0.0, ctx.deadline - time.monotonic())):
                end()
                command.wait()
        finally:
            if ctx.cancel is not None:
                ctx.cancel.forget(end)
        return command.status

    def _end(self, command: Command) -> None:
        with self._lock, suppress(ProcessLookupError):  # whoever reaps waits: the number is still the command's
            if self._commands.get(command.pid) is command:
                os.killpg(command.pid, signal.SIGKILL)

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """While somebody else starts commands and waits for them: nobody is reaped."""
        with self._lock:
            self._left_alone += 1
        try:
            yield
        finally:
            with self._lock:
                self._left_alone -= 1
            self.reap()

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """While a process comes to life whose pid is not known yet: its exit, should it be quick, is kept."""
        with self._lock:
            self._expecting += 1
        try:
            yield
        finally:
            with self._lock:
                self._expecting -= 1
                if not self._expecting:
                    self._early.clear()

    def watch(self, pid: int, on_exit: OnExit) -> None:
        """Have ``on_exit`` called when a process that was not started here ends; at once if it has, while expected."""
        with self._lock:
            early = self._early.pop(pid, None)
            if early is None:
                self._watched[pid] = on_exit
        if early is not None:
            on_exit(*early)

    def kill(self, pid: int, signal: int) -> bool:
        """Send a signal to a process that is watched; whether it was there to take it.

        Raises:
            OSError: there is no such signal.
        """
        with self._lock:  # whoever reaps waits: the pid is not somebody else's meanwhile
            if pid not in self._watched:
                return False
            os.kill(pid, signal)
            return True

    def reap(self) -> None:
        """Take in all who have ended."""
        while True:
            with self._lock:
                if self._left_alone:
                    return
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return
                if not pid:
                    return
                at = time.time_ns()
                code = _as_shell(status)
                command = self._commands.pop(pid, None)
                on_exit = self._watched.pop(pid, None)
                if command is None and on_exit is None and self._expecting:
                    self._early[pid] = (code, at)
            if command is not None:
                command.end(code)
            elif on_exit is not None:
                on_exit(code, at)


def _as_shell(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
