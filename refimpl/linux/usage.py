"""What a tree takes on the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512  # of st_blocks, whatever the file system's own blocks are


def disk_usage(path: str, check: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """Allocated bytes and number of inodes of a tree, its root included; each inode counts once.

    The tree may be in use: what vanishes during the walk does not count. One file descriptor is open at a time, however
    deep the tree is.

    Args:
        check: called before each directory; what it raises ends the walk.

    Raises:
        OSError: there is no such directory, it cannot be read, or a directory was moved away from under the walk.
    """
    counter = _Counter()
    here = os.open(path, _DIRECTORY)
    try:
        counter.add(os.fstat(here))
        # Per level from the root to ``here``: which directory it is, and its subdirectories not yet visited.
        levels = [(_identity(here), counter.scan(here))]
        while True:
            check()
            ahead = levels[-1][1]
            if ahead:
                try:
                    inner = os.open(ahead.pop(), _DIRECTORY, dir_fd=here)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                here = _replace(here, inner)
                levels.append((_identity(here), counter.scan(here)))
                continue
            levels.pop()
            if not levels:
                return counter.size, len(counter.seen)
            here = _replace(here, os.open("..", _DIRECTORY, dir_fd=here))
            if _identity(here) != levels[-1][0]:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
    finally:
        os.close(here)


class _Counter:
    """The sums of a walk."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, int]] = set()
        self.size = 0

    def add(self, found: os.stat_result) -> None:
        """Count an inode, unless it has been met under another name."""
        inode = (found.st_dev, found.st_ino)
        if inode not in self.seen:
            self.seen.add(inode)
            self.size += found.st_blocks * _BLOCK

    def scan(self, directory: int) -> list[str]:
        """Count the entries of an open directory; answers with its subdirectories."""
        inner = []
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    found = os.lstat(entry.name, dir_fd=directory)
                except FileNotFoundError:
                    continue
                self.add(found)
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
        return inner


def _identity(directory: int) -> tuple[int, int]:
    found = os.fstat(directory)
    return found.st_dev, found.st_ino


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new
