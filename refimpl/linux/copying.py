"""Copying a tree with all that belongs to its entries: owners, modes, times, links, devices, attributes, holes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 16 * 1024 * 1024
"""Bytes copied between two looks at whether the copy is still wanted."""

_NO_RANGES = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
"""What copy_file_range(2) says where it cannot do it and read(2) and write(2) can."""


def copy_tree(source: str, target: str, check: Callable[[], None] = lambda: None) -> None:
    """Make ``target``, an empty directory that is there, equal to ``source`` in every property but inode numbers.

    Names of one file stay names of one file, and holes stay holes. An attribute that cannot be written is left out. The
    tree may be of any depth; but the path of a file of several names below ``source`` is at most 4095 bytes long.

    Args:
        check: called again and again; what it raises ends the copy, with a part of it done.

    Raises:
        OSError: something cannot be read or made.
    """
    _Copy(source, target, check).run()


@dataclass(slots=True)
class _Level:
    """A directory on the way from the root to where the copy is.

    Attributes:
        name: relative to the level above.
        found: as it is in the source.
        ahead: its subdirectories that are not copied yet.
    """

    name: str
    found: os.stat_result
    ahead: list[str]


class _Copy:
    """A copy under way: one directory of each side is open."""

    def __init__(self, source: str, target: str, check: Callable[[], None]) -> None:
        self._check = check
        self._links: dict[tuple[int, int], str] = {}
        self._levels: list[_Level] = []
        self._source = os.open(source, _DIRECTORY)
        try:
            self._target = os.open(target, _DIRECTORY)
            try:
                self._root = os.dup(self._target)
            except BaseException:
                os.close(self._target)
                raise
        except BaseException:
            os.close(self._source)
            raise

    def run(self) -> None:
        """Walk the source from the top; a directory gets its times when all in it is done."""
        try:
            self._levels.append(_Level("", os.fstat(self._source), self._entries()))
            while self._levels:
                level = self._levels[-1]
                if level.ahead:
                    self._enter(level.ahead.pop())
                else:
                    self._finish(level.found)
                    self._leave()
        finally:
            for descriptor in (self._source, self._target, self._root):
                os.close(descriptor)

    def _enter(self, name: str) -> None:
        os.mkdir(name, 0o700, dir_fd=self._target)
        self._source = _replace(self._source, os.open(name, _DIRECTORY, dir_fd=self._source))
        self._target = _replace(self._target, os.open(name, _DIRECTORY, dir_fd=self._target))
        level = _Level(name, os.fstat(self._source), [])
        self._levels.append(level)
        level.ahead = self._entries()

    def _leave(self) -> None:
        self._levels.pop()
        if self._levels:
            self._source = _replace(self._source, os.open("..", _DIRECTORY, dir_fd=self._source))
            self._target = _replace(self._target, os.open("..", _DIRECTORY, dir_fd=self._target))

    def _finish(self, found: os.stat_result) -> None:
        os.fchown(self._target, found.st_uid, found.st_gid)
        os.fchmod(self._target, stat.S_IMODE(found.st_mode))
        _attributes(f"/proc/self/fd/{self._source}", f"/proc/self/fd/{self._target}", follow=True)
        os.utime(self._target, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _entries(self) -> list[str]:
        """Copy all of the open directory that is no directory; answers with its subdirectories."""
        inner = []
        with os.scandir(self._source) as entries:
            for entry in entries:
                self._check()
                found = os.lstat(entry.name, dir_fd=self._source)
                if stat.S_ISDIR(found.st_mode):
                    inner.append(entry.name)
                else:
                    self._entry(entry.name, found)
        return inner

    def _entry(self, name: str, found: os.stat_result) -> None:
        if found.st_nlink > 1:
            path = os.path.join(*(level.name for level in self._levels), name)
            first = self._links.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                os.link(first, name, src_dir_fd=self._root, dst_dir_fd=self._target, follow_symlinks=False)
                return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=self._source), name, dir_fd=self._target)
        elif stat.S_ISREG(found.st_mode):
            self._content(name, found.st_size)
        else:
            os.mknod(name, stat.S_IFMT(found.st_mode) | 0o600, found.st_rdev, dir_fd=self._target)
        self._properties(name, found)

    def _properties(self, name: str, found: os.stat_result) -> None:
        # In this order: a change of the owner clears set-uid bits and file capabilities.
        os.chown(name, found.st_uid, found.st_gid, dir_fd=self._target, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=self._target)
        _attributes(f"/proc/self/fd/{self._source}/{name}", f"/proc/self/fd/{self._target}/{name}", follow=False)
        os.utime(
            name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=self._target, follow_symlinks=False
        )  # fmt: skip

    def _content(self, name: str, size: int) -> None:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        source = os.open(name, os.O_RDONLY | flags, dir_fd=self._source)
        try:
            target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=self._target)
            try:
                offset = 0
                while offset < size and (data := _data_from(source, offset, size)) is not None:
                    start, end = data
                    self._range(source, target, start, end)
                    offset = end
                os.ftruncate(target, size)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _range(self, source: int, target: int, start: int, end: int) -> None:
        while start < end:
            self._check()
            done = _copy_range(source, target, start, min(end - start, _CHUNK))
            if not done:
                return
            start += done


def _data_from(file: int, offset: int, size: int) -> tuple[int, int] | None:
    """Where the next bytes are that are no hole; None if there are none."""
    try:
        start = os.lseek(file, offset, os.SEEK_DATA)
        return start, os.lseek(file, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        return offset, size  # a file system that knows no holes


def _copy_range(source: int, target: int, offset: int, size: int) -> int:
    try:
        return os.copy_file_range(source, target, size, offset, offset)
    except OSError as error:
        if error.errno not in _NO_RANGES:
            raise
    return os.pwrite(target, os.pread(source, min(size, 1 << 20), offset), offset)


def _attributes(source: str, target: str, *, follow: bool) -> None:
    with suppress(OSError):
        for name in os.listxattr(source, follow_symlinks=follow):
            with suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=follow), follow_symlinks=follow)


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new
