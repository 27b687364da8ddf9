"""Logging programs, which a client names as ``binary://`` for the output of a process (TSK-021, TSK-022, TSK-026)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time

from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.shim.children import Children, Command
from refimpl.shim.files import URI
from refimpl.shim.streams import close_all

STOP_SECONDS = 12.0
"""How long a program may take to end after SIGTERM."""

_ABOVE = 10
_LOOK = 0.2


class Logger:
    """A logging program that runs.

    Attributes:
        stdout, stderr: where the process has to write; whoever uses them closes them.
    """

    def __init__(self, ctx: CallContext, children: Children, uri: URI, id: str, namespace: str) -> None:
        """Start the program and wait until it says that it is ready, or has closed the pipe by which it would.

        Raises:
            Unknown: it cannot be started.
            DeadlineExceeded, Canceled: the caller waits no longer.
        """
        argv = [uri.path, *(word for pair in uri.pairs for word in pair)]
        null = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)]
        environment = {"CONTAINER_ID": id, "CONTAINER_NAMESPACE": namespace}
        ours: list[int] = []
        handed: list[int] = []
        try:
            for reads in (True, True, False):
                _connect(ours, handed, reads=reads)
            actions = null + [(os.POSIX_SPAWN_DUP2, each, number) for number, each in enumerate(handed, 3)]
            self._command = children.spawn(argv, environment, actions, search=False)
        except OSError as error:
            close_all(ours)
            reason = (error.strerror or str(error)).lower()
            raise Unknown(f"failed to start binary process {uri.path}: {reason}", bare=False) from error
        finally:
            close_all(handed)
        self.stdout, self.stderr, ready = ours
        try:
            _wait_readable(ctx, ready)
        except BaseException:
            close_all([self.stdout, self.stderr])
            self.stop()
            raise
        finally:
            os.close(ready)

    def stop(self) -> None:
        """End the program: it is asked, and after a while made to. Waits for its end."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not _alive(self._command):
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._command.pid, number)
            self._command.wait(STOP_SECONDS)


def _connect(ours: list[int], handed: list[int], *, reads: bool) -> None:
    """Add the ends of a new pipe: ours, and the program's, which is out of the way of the numbers that it will have."""
    reader, writer = os.pipe()
    own, theirs = (writer, reader) if reads else (reader, writer)
    ours.append(own)
    try:
        handed.append(fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, _ABOVE))
    finally:
        os.close(theirs)


def _alive(command: Command) -> bool:
    return not command.wait(0)


def _wait_readable(ctx: CallContext, descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not poll.poll(_LOOK * 1000):
        ctx.check()
        if ctx.deadline is not None and time.monotonic() > ctx.deadline:
            ctx.check()
