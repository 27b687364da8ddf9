"""One thread that waits for many small things: what shims write to their logs, and ends of processes.

A thread for each would cost a daemon with a thousand shims two thousand of them. Descriptors that are watched belong
to the watcher: it alone reads and closes them, so that a number is never somebody else's while it is still watched.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger("refimpl.runtime")

_CHUNK = 65536
_CLOSE_SECONDS = 5.0


class Watcher:
    """Calls back when a descriptor has something to say. The thread starts with the first of them."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._todo: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ, None)

    def watch(self, descriptor: int, ready: Callable[[], bool]) -> Callable[[], None]:
        """Have ``ready`` called, in the watcher's thread, whenever there is something to read.

        Args:
            descriptor: closed by the watcher when it is no longer watched.
            ready: must not wait; whether to go on watching.

        Returns:
            What ends it. Idempotent, from any thread; ``ready`` may be called once more meanwhile.
        """
        if not self._do(lambda: self._register(descriptor, ready)):
            os.close(descriptor)
        over = threading.Event()

        def end() -> None:
            if not over.is_set():
                over.set()
                self._do(lambda: self._forget(descriptor, ready))

        return end

    def close(self) -> None:
        """Stop watching everything. Idempotent."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            thread = self._thread
            self._stir()
        if thread is None:
            self._let_go()
        else:
            thread.join(_CLOSE_SECONDS)

    def _do(self, action: Callable[[], None]) -> bool:
        """Have the thread do something; False if it is too late for that."""
        with self._lock:
            if self._closing:
                return False
            self._todo.append(action)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="refimpl-watcher", daemon=True)
                self._thread.start()
            self._stir()
            return True

    def _stir(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it will wake up anyway
            os.write(self._woken, b"\0")

    def _register(self, descriptor: int, ready: Callable[[], bool]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, ready)

    def _forget(self, descriptor: int, ready: Callable[[], bool]) -> None:
        key = self._selector.get_map().get(descriptor)
        if key is not None and key.data is ready:
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def _run(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.read(self._wake, _CHUNK)
                elif not self._call(key.data):
                    self._forget(key.fd, key.data)
            while self._todo:
                self._todo.popleft()()
        self._let_go()

    def _let_go(self) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._forget(key.fd, key.data)
        self._selector.close()
        # Under the lock: whoever closes may still be about to wake us.
        with self._lock:
            for descriptor in (self._wake, self._woken):
                os.close(descriptor)

    @staticmethod
    def _call(ready: Callable[[], bool]) -> bool:
        try:
            return bool(ready())
        except Exception as error:  # the others have to be watched all the same
            log.error("watching failed", extra={"fields": {"error": error}}, exc_info=error)
            return False


def copier(source: int, target: int | None) -> Callable[[], bool]:
    """Copies what a fifo holds, for ``Watcher.watch``.

    Args:
        source: not blocking.
        target: where to; None to throw it away, which a writer needs as much as a reader that looks.
    """

    def copy() -> bool:
        try:
            data = os.read(source, _CHUNK)
        except BlockingIOError:
            return True
        if data and target is not None:
            with contextlib.suppress(OSError):  # nobody reads the daemon's own log
                os.write(target, data)
        return bool(data)

    return copy


def open_log(path: str) -> int:
    """Make a fifo for a shim's log, if it is not there, and open it so that neither side ever waits (SHM-032).

    Opened for writing as well, there is no end of file between two writers, and a writer finds a reader at any time.
    """
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o700)
        os.chmod(path, 0o700)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def on_exit(watcher: Watcher, pid: int, ended: Callable[[], None]) -> Callable[[], None]:
    """Have ``ended`` called in the watcher's thread when a process is over; a child is waited for, so that it can go.

    ``ended`` must not wait.

    Returns:
        What takes it back.

    Raises:
        ProcessLookupError: there is no such process.
    """
    descriptor = os.pidfd_open(pid)

    def ready() -> bool:
        with contextlib.suppress(ChildProcessError):  # the child of a daemon that was here before
            os.waitpid(pid, os.WNOHANG)
        ended()
        return False

    return watcher.watch(descriptor, ready)
