"""Open files of the fake world: they stay with their inode, whatever becomes of the name."""

from __future__ import annotations

import errno
import io
import threading
from typing import Any

from refimpl.backends.fake.fs_inode import Inode, fail
from refimpl.contract.times import Clock


class Handle(io.RawIOBase):
    """An unbuffered open file; every operation holds the host's lock."""

    def __init__(self, inode: Inode, lock: threading.RLock, clock: Clock, *, writable: bool) -> None:
        super().__init__()
        self._inode, self._lock, self._clock = inode, lock, clock
        self._writable = writable
        self._at = 0

    def readable(self) -> bool:
        """Whether bytes can be read: a buffer above decides who may."""
        return True

    def writable(self) -> bool:
        """Whether bytes can be written."""
        return self._writable

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from here."""
        with self._lock:
            data = self._inode.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def write(self, data: Any) -> int:
        """Write from here."""
        view = memoryview(data).cast("B")
        with self._lock:
            self._inode.write(self._at, view, self._clock.now())
        self._at += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset in bytes."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._inode.size}[whence]
        if base + offset < 0:
            raise fail(errno.EINVAL)
        self._at = base + offset
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file."""
        size = self._at if size is None else size
        with self._lock:
            self._inode.truncate(size, self._clock.now())
        return size
