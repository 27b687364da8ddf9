"""Signals: SIGTERM and SIGINT stop, SIGUSR1 dumps all stacks, SIGPIPE and SIGUSR2 do nothing, SIGHUP ends the process.

While plugins are initialised a stop breaks into whatever the main thread is doing, because an init may wait for ever
(for the lock on the database, PLG-063, DMN-050); later it only sets an event. Clauses DMN-043 to DMN-045.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from types import FrameType

log = logging.getLogger("refimpl.daemon")


class Stopped(BaseException):
    """A stop was asked for during the start. No ``Exception``: a plugin's failing init is caught, this must not be."""


class Signals:
    """The process's signal handlers; installed from the main thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._booting = True
        # The system may give a signal to any thread, and only the main thread runs handlers: the pipe wakes it.
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._woken, False)

    def install(self) -> None:
        """Take over the signals."""
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGUSR1, _dump)
        # Handlers, not SIG_IGN: a child process would inherit being deaf.
        for number in (signal.SIGPIPE, signal.SIGUSR2):
            signal.signal(number, _nothing)

    def booted(self) -> None:
        """From now on a stop is waited for.

        Raises:
            Stopped: it was asked for a moment ago.
        """
        self._booting = False
        if self._stop.is_set():
            raise Stopped

    def wait(self) -> None:
        """Back when a stop is asked for."""
        while not self._stop.is_set():
            os.read(self._wake, 512)

    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()
        if self._booting:
            # Once is enough: a second signal must not break into the cleaning up.
            self._booting = False
            raise Stopped


def stacks() -> str:
    """What every thread is doing, as text."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  # the documented way to other threads' frames
        stack = "".join(traceback.format_stack(frame))
        parts.append(f"thread {ident} [{names.get(ident, 'foreign')}]:\n{stack}")
    return "\n".join(parts)


def _dump(_number: int, _frame: FrameType | None) -> None:
    text = stacks()
    log.info("=== BEGIN goroutine stack dump ===\n%s\n=== END goroutine stack dump ===", text)
    path = Path(tempfile.gettempdir()) / f"containerd.{os.getpid()}.stacks.log"
    try:
        path.write_text(text)
    except OSError as error:
        log.warning("failed to write the stack dump", extra={"fields": {"error": error, "path": path}})
    else:
        log.info("goroutine stack dump written to %s", path)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    return
