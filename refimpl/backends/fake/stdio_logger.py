"""Logging programs: ``binary://`` URIs, a real program that gets a fake process's output.

The program is started with descriptor 3 to read standard output from, 4 for standard error and 5 to say that it is
ready, and is told to end when the task is deleted. Clauses TSK-021, TSK-022.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from refimpl.backends.fake.stdio_host import HostOutput

if TYPE_CHECKING:
    from refimpl.contract.context import CallContext

log = logging.getLogger("refimpl.fake")

TERM_SECONDS = 12.0
"""How long a logger has between SIGTERM and SIGKILL."""

_POLL_SECONDS = 0.02
_OUT, _ERR, _READY = 3, 4, 5


class LoggerProgram:
    """A logging program that runs.

    Args:
        argv: the program and its arguments.
        container, namespace: whose output it gets; all of its environment.

    Attributes:
        stdout, stderr: where the process writes; owned by who takes them.

    Raises:
        OSError: the program cannot be started.
        Canceled, DeadlineExceeded: the caller gave up before it was ready.
    """

    def __init__(self, ctx: CallContext, argv: Sequence[str], container: str, namespace: str) -> None:
        pipes = [_pipe() for _ in range(3)]
        (out_r, out_w), (err_r, err_w), (ready_r, ready_w) = pipes
        theirs = ((out_r, _OUT), (err_r, _ERR), (ready_w, _READY))
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in theirs]
        environment = {"CONTAINER_ID": container, "CONTAINER_NAMESPACE": namespace}
        try:
            self._pid = os.posix_spawn(argv[0], list(argv), environment, file_actions=actions)
        except OSError:
            for fd in (out_w, err_w, ready_r):
                os.close(fd)
            raise
        finally:
            for fd in (out_r, err_r, ready_w):
                os.close(fd)
        self.stdout, self.stderr = HostOutput(out_w), HostOutput(err_w)
        try:
            _wait_ready(ctx, ready_r)
        except BaseException:
            self.stdout.close()
            self.stderr.close()
            self.end()
            raise
        finally:
            os.close(ready_r)

    def end(self) -> None:
        """Tell it to end; what it does then is watched from a thread."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        threading.Thread(target=self._reap, name=f"logger-{self._pid}", daemon=True).start()

    def _reap(self) -> None:
        until = time.monotonic() + TERM_SECONDS
        with suppress(ChildProcessError):
            while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > until:
                    log.warning("logging program %d ignores SIGTERM: killed", self._pid)
                    os.kill(self._pid, signal.SIGKILL)
                    os.waitpid(self._pid, 0)
                    return
                time.sleep(_POLL_SECONDS)


def _pipe() -> tuple[int, int]:
    """A pipe with numbers that the program's own three cannot meet."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in ends)
    for fd in ends:
        os.close(fd)
    return high[0], high[1]


def _wait_ready(ctx: CallContext, fd: int) -> None:
    """Wait until something was written or the other side is closed; a program that ended counts as ready (TSK-022)."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while not poller.poll(_POLL_SECONDS * 1000):
        ctx.check()
