"""What a fake process reads from and writes to inside the fake world: nothing, pipes and files.

A stream is one open file description: descriptors and processes share it by ``dup``, and with the last ``close`` the
other end learns of it. Reading and writing is done by a process, so that signals reach it while it waits.
"""

from __future__ import annotations

import errno
import signal
import threading
from typing import TYPE_CHECKING, BinaryIO

from refimpl.backends.fake.fs_inode import fail

if TYPE_CHECKING:
    from refimpl.backends.fake.processes import FakeProcess
    from refimpl.backends.fake.processes_wake import Wake
    from refimpl.backends.fake.terminal import Terminal

PIPE_SIZE = 65536
"""Bytes that a pipe holds."""

CHUNK = 65536
"""Most bytes that a read of an endless stream gives."""


class Stream:
    """An open file description. By itself it can neither be read nor written.

    Attributes:
        terminal: the terminal that it is, if it is one.
    """

    terminal: Terminal | None = None

    def __init__(self) -> None:
        self._references = 1
        self._reference_lock = threading.Lock()
        self.closed = threading.Event()

    def dup(self) -> Stream:
        """The same stream, to be closed once more."""
        with self._reference_lock:
            assert self._references > 0, "a closed stream is not handed on"
            self._references += 1
        return self

    def close(self) -> None:
        """Give one reference back."""
        with self._reference_lock:
            self._references -= 1
            last = self._references == 0
        if last:
            self._release()
            self.closed.set()

    def _release(self) -> None:
        """Nobody has it open any more."""

    def read(self, process: FakeProcess, size: int) -> bytes:
        """At most ``size`` bytes; none at the end.

        Raises:
            InterruptedError: a signal was caught meanwhile.
        """
        raise fail(errno.EBADF)

    def write(self, process: FakeProcess | None, data: bytes) -> None:
        """Write all of ``data``; without a process, what cannot be written at once is lost."""
        raise fail(errno.EBADF)


class NullStream(Stream):
    """/dev/null."""

    def read(self, process: FakeProcess, size: int) -> bytes:
        return b""

    def write(self, process: FakeProcess | None, data: bytes) -> None:
        """Forget ``data``."""


class ZeroStream(NullStream):
    """/dev/zero; random numbers are as predictable here."""

    def read(self, process: FakeProcess, size: int) -> bytes:
        return bytes(min(size, CHUNK))


class FullStream(ZeroStream):
    """/dev/full."""

    def write(self, process: FakeProcess | None, data: bytes) -> None:
        raise fail(errno.ENOSPC)


class FileStream(Stream):
    """A file of the fake file system."""

    def __init__(self, handle: BinaryIO, *, append: bool = False) -> None:
        super().__init__()
        self._handle = handle
        self._append = append
        self._lock = threading.Lock()

    def read(self, process: FakeProcess, size: int) -> bytes:
        with self._lock:
            return self._handle.read(size)

    def write(self, process: FakeProcess | None, data: bytes) -> None:
        with self._lock:
            if self._append:
                self._handle.seek(0, 2)
            self._handle.write(data)
            self._handle.flush()

    def _release(self) -> None:
        self._handle.close()


class Pipe:
    """A pipe; ``reader`` and ``writer`` are its ends."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.data = bytearray()
        self.reading = self.writing = True
        self._watchers: set[Wake] = set()
        self.reader: Stream = _ReadEnd(self)
        self.writer: Stream = _WriteEnd(self)

    def watch(self, wake: Wake) -> None:
        """Call ``wake`` when bytes come or go, or an end closes."""
        with self.lock:
            self._watchers.add(wake)

    def unwatch(self, wake: Wake) -> None:
        """Take one ``watch`` back."""
        with self.lock:
            self._watchers.discard(wake)

    def changed(self) -> None:
        """Tell everybody who waits."""
        with self.lock:
            watchers = list(self._watchers)
        for wake in watchers:
            wake()


class _ReadEnd(Stream):
    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def read(self, process: FakeProcess, size: int) -> bytes:
        pipe = self._pipe
        if not process.wait_until(lambda: bool(pipe.data) or not pipe.writing, pipe):
            raise fail(errno.EINTR)
        with pipe.lock:
            data = bytes(pipe.data[:size])
            del pipe.data[:size]
        pipe.changed()
        return data

    def _release(self) -> None:
        self._pipe.reading = False
        self._pipe.changed()


class _WriteEnd(Stream):
    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def write(self, process: FakeProcess | None, data: bytes) -> None:
        assert process is not None, "only processes write into pipes"
        pipe = self._pipe
        for start in range(0, len(data), PIPE_SIZE):
            piece = data[start : start + PIPE_SIZE]
            room = PIPE_SIZE - len(piece)
            while not process.wait_until(lambda room=room: len(pipe.data) <= room or not pipe.reading, pipe):  # type: ignore[misc]  # the default binds this round's value
                pass
            with pipe.lock:
                if pipe.reading:
                    pipe.data += piece
            if not pipe.reading:
                broken_pipe(process)
            pipe.changed()

    def _release(self) -> None:
        self._pipe.writing = False
        self._pipe.changed()


def broken_pipe(process: FakeProcess) -> None:
    """What a write without a reader does.

    Raises:
        Killed: by SIGPIPE.
        OSError: EPIPE, where that is ignored.
    """
    process.signal(signal.SIGPIPE, inside=True)
    process.checkpoint()
    raise fail(errno.EPIPE)
