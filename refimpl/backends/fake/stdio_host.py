"""The real side of a fake process's standard streams: fifos and files that a client made on the real disk.

Nothing is copied by a thread: a process reads and writes the descriptors itself, without blocking, and waits for them
together with its signals. Only a terminal's input has a thread, since keys are answered whether somebody reads or not.
Clauses TSK-017 to TSK-020, TSK-028.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from refimpl.backends.fake.fs_inode import fail
from refimpl.backends.fake.stdio_streams import CHUNK, Stream, broken_pipe
from refimpl.contract.errors import DeadlineExceeded

if TYPE_CHECKING:
    from refimpl.backends.fake.processes import FakeProcess
    from refimpl.backends.fake.terminal import Terminal
    from refimpl.contract.context import CallContext

READER_SECONDS = 30.0
"""How long a fifo is waited for to get a reader (TSK-028)."""

_POLL_SECONDS = 0.005


class HostOutput(Stream):
    """A descriptor to write to.

    Args:
        fd: owned by the stream.
        keep: a fifo's other side, held open so that a client that goes away breaks nothing; -1 for none.
    """

    def __init__(self, fd: int, keep: int = -1) -> None:
        super().__init__()
        os.set_blocking(fd, False)
        self._fd, self._keep = fd, keep

    def write(self, process: FakeProcess | None, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                if process is None:
                    return
                process.wake.poll(self._fd, select.POLLOUT)
                process.checkpoint()
            except BrokenPipeError:
                if process is None:
                    return
                broken_pipe(process)

    def _release(self) -> None:
        os.close(self._fd)
        if self._keep >= 0:
            os.close(self._keep)


class HostInput(Stream):
    """A fifo to read from. It is open for writing here too, so it ends only after ``end_input`` (TSK-018).

    Attributes:
        fd: the descriptor.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._writer = -1
        try:
            if stat.S_ISFIFO(os.fstat(self.fd).st_mode):
                self._writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            os.close(self.fd)
            raise

    def end_input(self) -> None:
        """Give up our own side for writing; the reader's end comes when the client's are closed too. Idempotent."""
        with self._lock:
            if self._writer >= 0:
                os.close(self._writer)
                self._writer = -1

    def read(self, process: FakeProcess, size: int) -> bytes:
        while True:
            try:
                return os.read(self.fd, size)
            except BlockingIOError:
                caught = len(process.caught)
                process.wake.poll(self.fd, select.POLLIN)
                process.checkpoint()
                if len(process.caught) > caught:
                    raise fail(errno.EINTR) from None

    def _release(self) -> None:
        self.end_input()
        os.close(self.fd)


class Keyboard:
    """Types what comes out of a fifo into a terminal, until the terminal is closed."""

    def __init__(self, path: str, terminal: Terminal) -> None:
        self._input = HostInput(path)
        self._terminal = terminal
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"keyboard-{path}", daemon=True)
        self._thread.start()

    def end_input(self) -> None:
        """As ``HostInput.end_input``."""
        self._input.end_input()

    def close(self) -> None:
        """Stop typing. Idempotent."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                os.eventfd_write(self._stop, 1)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._input.fd, select.POLLIN)
        poller.register(self._stop, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._stop in ready:
                break
            try:
                data = os.read(self._input.fd, CHUNK)
            except BlockingIOError:
                continue
            if not data:
                self._terminal.hang_up()
                break
            self._terminal.feed(data)
        with self._lock:
            self._stopped = True
            os.close(self._stop)
        self._input.close()


def open_fifo(ctx: CallContext, path: str) -> HostOutput:
    """Open a fifo for writing; waits for its reader, then keeps it open for reading as well.

    Raises:
        DeadlineExceeded: no reader came.
        Canceled, DeadlineExceeded: the caller gave up.
        OSError: it cannot be opened.
    """
    fd, until = -1, time.monotonic() + READER_SECONDS
    while fd < 0:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            ctx.check()
            if time.monotonic() > until:
                raise DeadlineExceeded from None
            time.sleep(_POLL_SECONDS)
    return HostOutput(fd, os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def open_file(path: str) -> HostOutput:
    """Open an existing file for appending.

    Raises:
        OSError: it cannot be opened.
    """
    return HostOutput(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))


def make_file(path: str) -> HostOutput:
    """Open a file for appending, made with missing directories if need be.

    Raises:
        OSError: it cannot be made.
    """
    Path(path).parent.mkdir(0o755, parents=True, exist_ok=True)
    return HostOutput(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))


def is_fifo(path: str) -> bool:
    """Whether a fifo is there."""
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    except OSError:
        return False
