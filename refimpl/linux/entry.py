"""One name in an open directory: what an operation on a path that is confined to a tree works on."""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType
from typing import Self

from refimpl.contract.mounts import FileStat, FileType

_TYPES = {
    stat.S_IFREG: FileType.FILE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFLNK: FileType.SYMLINK,
    stat.S_IFCHR: FileType.CHAR,
    stat.S_IFBLK: FileType.BLOCK,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFSOCK: FileType.SOCKET,
}
TYPE_BITS = {kind: bits for bits, kind in _TYPES.items()}
"""The type bits of ``st_mode``, by type."""

_SET_GID = 0o2000


class Entry:
    """A name in a directory that is open as long as the ``with`` block lasts.

    Operations on the name get the errno of the path that was asked for: what the system says of ``/proc`` or of a bare
    name is reworded on leaving.
    """

    __slots__ = ("_path", "directory", "name")

    def __init__(self, directory: int, name: str, path: str) -> None:
        self.directory = directory
        self.name = name
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        os.close(self.directory)
        if isinstance(error, OSError):
            error.filename, error.filename2 = self._path, None

    def vacant(self) -> str:
        """The name, for something new.

        Raises:
            OSError: EEXIST for the root.
        """
        if self.name == ".":
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        return self.name

    def removable(self) -> str:
        """The name, to be taken away.

        Raises:
            OSError: EBUSY for the root.
        """
        if self.name == ".":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return self.name

    def proc(self) -> str:
        """A path for calls that take no directory; only its last name is the tree's, and is not to be followed."""
        return f"/proc/self/fd/{self.directory}/{self.name}"

    def set_new_mode(self, mode: int) -> None:
        """Give what was just made the bits that the process's umask took; the set-gid bit that it inherited stays."""
        made = stat.S_IMODE(os.stat(self.name, dir_fd=self.directory, follow_symlinks=False).st_mode)
        wanted = mode | made & _SET_GID
        if made != wanted:
            fd = os.open(self.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory)
            try:
                os.chmod(f"/proc/self/fd/{fd}", wanted)
            finally:
                os.close(fd)


def file_stat(found: os.stat_result) -> FileStat:
    """The same in the contract's words."""
    kind = _TYPES[stat.S_IFMT(found.st_mode)]
    node = kind in {FileType.CHAR, FileType.BLOCK}
    return FileStat(
        type=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size,
        mtime=found.st_mtime_ns,
        atime=found.st_atime_ns,
        inode=found.st_ino,
        links=found.st_nlink,
        device=(os.major(found.st_rdev), os.minor(found.st_rdev)) if node else (0, 0),
        blocks=found.st_blocks,
    )
