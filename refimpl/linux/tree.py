"""A tree of files on the real disk, as ``contract.mounts.RootFS``."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

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
_MAKE = {kind: bits for bits, kind in _TYPES.items()}


class DirectoryTree:
    """A ``contract.mounts.RootFS`` over a directory of the real disk.

    For checks, which walk only trees that they made themselves: paths are joined to the root without resolving
    symlinks in the middle.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    def _at(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/")) if path.strip("/") else self._root

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(self._at(path)), key=os.fsencode)

    def lstat(self, path: str) -> FileStat:
        found = os.lstat(self._at(path))
        kind = _TYPES[stat.S_IFMT(found.st_mode)]
        node = kind in (FileType.CHAR, FileType.BLOCK)
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

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._at(path))

    def read(self, path: str) -> bytes:
        return Path(self._at(path)).read_bytes()

    def open(self, path: str, mode: str = "rb") -> BinaryIO:
        return cast("BinaryIO", open(self._at(path), mode))

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        # Followed: through a symlink that leads nowhere a new file is made, too.
        new = not os.path.exists(self._at(path))
        with open(self._at(path), "wb") as file:
            file.write(data)
        if new:
            os.chmod(self._at(path), mode)

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        os.mkdir(self._at(path))
        os.chmod(self._at(path), mode)

    def makedirs(self, path: str, mode: int = 0o755) -> None:
        done = ""
        for part in path.strip("/").split("/"):
            done = f"{done}/{part}"
            if not self.exists(done):
                self.mkdir(done, mode)

    def symlink(self, text: str, path: str) -> None:
        os.symlink(text, self._at(path))

    def link(self, existing: str, path: str) -> None:
        os.link(self._at(existing), self._at(path), follow_symlinks=False)

    def mknod(self, path: str, type: FileType, mode: int = 0o644, device: tuple[int, int] = (0, 0)) -> None:
        os.mknod(self._at(path), _MAKE[type] | mode, os.makedev(*device))
        os.chmod(self._at(path), mode)

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def rmtree(self, path: str) -> None:
        at = self._at(path)
        if os.path.isdir(at) and not os.path.islink(at):
            shutil.rmtree(at)
        else:
            os.unlink(at)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def lchown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self._at(path), uid, gid)

    def utime(self, path: str, atime: int, mtime: int) -> None:
        os.utime(self._at(path), ns=(atime, mtime), follow_symlinks=False)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def xattrs(self, path: str) -> Mapping[str, bytes]:
        at = self._at(path)
        return {name: os.getxattr(at, name, follow_symlinks=False) for name in os.listxattr(at, follow_symlinks=False)}

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        os.setxattr(self._at(path), name, value, follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), name, follow_symlinks=False)

    def walk(self, path: str = "/") -> Iterator[tuple[str, FileStat]]:
        found = self.lstat(path)
        yield path, found
        if found.type is FileType.DIRECTORY:
            for name in self.listdir(path):
                yield from self.walk(f"{path.rstrip('/')}/{name}")
