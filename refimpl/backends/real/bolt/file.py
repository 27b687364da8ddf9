"""The file under a database: its lock, the map it is read through, and the writes in their order.

Everything that reaches the disk goes through ``write``, ``grow`` and ``sync``; a test that wants to see a power cut
stands in between.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refimpl.contract.errors import Unavailable

_LOCK_INTERVAL = 0.05
"""Seconds between two attempts to get the lock."""


class File:
    """An open file of a database.

    Args:
        path: where it is; made if missing, unless ``read_only``.
        read_only: only look at it.
        mode: permissions of a new file, before the process's umask.

    Raises:
        OSError: it cannot be opened, or is no file.
    """

    def __init__(self, path: Path, *, read_only: bool = False, mode: int = 0o644) -> None:
        self.path = path
        self.read_only = read_only
        flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
        # Not blocking, so that a pipe in the file's place is refused and not waited for.
        self._fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, mode)
        kind = os.fstat(self._fd).st_mode
        if not stat.S_ISREG(kind):
            os.close(self._fd)
            reason = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
            raise OSError(reason, os.strerror(reason), str(path))

    def lock(self, timeout: float = 0.0) -> None:
        """Keep others out: all of them as a writer, writers as a reader (flock(2), MET-015 to 018).

        Args:
            timeout: seconds to wait for it; 0 waits for ever.

        Raises:
            Unavailable: the time is over. The text is bbolt's, ``timeout``.
        """
        kind = fcntl.LOCK_SH if self.read_only else fcntl.LOCK_EX
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if timeout and time.monotonic() + _LOCK_INTERVAL > deadline:
                    raise Unavailable("timeout", bare=True) from None
            else:
                return
            # flock(2) itself cannot be given a time limit, and a thread inside it would not see a signal's exception.
            time.sleep(_LOCK_INTERVAL)

    def holders(self) -> list[int]:
        """The processes that have a lock on the file, as far as the kernel tells (``/proc/locks``)."""
        found = os.fstat(self._fd)
        here = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        try:
            lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        except OSError:
            return []
        # 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
        locks = (line.split() for line in lines)
        return sorted({int(lock[4]) for lock in locks if len(lock) > 5 and lock[1] == "FLOCK" and lock[5] == here})

    def size(self) -> int:
        """The file's length in bytes."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file; fewer at its end."""
        return os.pread(self._fd, length, offset)

    def map(self) -> mmap.mmap:
        """The whole file as it is and will be: later writes are seen through the map, later growth is not.

        Reading it after somebody cut the file ends the process (SIGBUS). The lock keeps away who keeps the rules.
        """
        return mmap.mmap(self._fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)

    def write(self, data: bytes, offset: int) -> None:
        """Write all of ``data`` at an offset; on the disk after ``sync``."""
        view = memoryview(data)
        with self._named_errors():
            while view:
                done = os.pwrite(self._fd, view, offset)
                view, offset = view[done:], offset + done

    def grow(self, size: int) -> None:
        """Make the file longer, and be sure of it."""
        with self._named_errors():
            os.ftruncate(self._fd, size)
            os.fsync(self._fd)

    def sync(self) -> None:
        """Return when everything written is on the disk (fdatasync(2))."""
        with self._named_errors():
            os.fdatasync(self._fd)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Say which file it was: a full disk is told to clients, and a daemon has several databases."""
        try:
            yield
        except OSError as error:
            error.filename = str(self.path)
            raise

    def sync_name(self) -> None:
        """Return when the file's name is on the disk: that of a new file could be lost with all that is in it."""
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that cannot sync directories has nothing to promise
                raise
        finally:
            os.close(directory)

    def close(self) -> None:
        """Let go of the lock and of the file. Idempotent."""
        if self._fd >= 0:
            # Closing alone would not do: every map has a descriptor of its own, and the lock lives as long as the last.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = -1
