"""Trees on the real disk and in the fake world, brought to one form so that they can be compared."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refimpl.contract.mounts import FileType, RootFS

_TYPES = {
    stat.S_IFREG: FileType.FILE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFLNK: FileType.SYMLINK,
    stat.S_IFCHR: FileType.CHAR,
    stat.S_IFBLK: FileType.BLOCK,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFSOCK: FileType.SOCKET,
}
# What the kernel's overlay notes for its own use and the fake one has no use for.
_PRIVATE = {"trusted.overlay.origin", "trusted.overlay.impure"}


def load(source: Path, fs: RootFS) -> None:
    """Copy a real tree, without its root's own attributes, into an empty fake one."""
    first: dict[int, str] = {}
    made: list[tuple[str, os.stat_result]] = []
    for directory, directories, files in os.walk(source):
        for name in sorted(directories + files):
            real = Path(directory, name)
            path = "/" + str(real.relative_to(source))
            info = real.lstat()
            if info.st_ino in first and not stat.S_ISDIR(info.st_mode):
                fs.link(first[info.st_ino], path)
                continue
            first[info.st_ino] = path
            _make(real, info, fs, path)
            made.append((path, info))
    for path, info in made:
        fs.utime(path, info.st_atime_ns, info.st_mtime_ns)


def _make(real: Path, info: os.stat_result, fs: RootFS, path: str) -> None:
    kind = _TYPES[stat.S_IFMT(info.st_mode)]
    if kind is FileType.DIRECTORY:
        fs.mkdir(path)
    elif kind is FileType.FILE:
        fs.write(path, real.read_bytes())
    elif kind is FileType.SYMLINK:
        fs.symlink(os.readlink(real), path)  # noqa: PTH115 - a Path would tidy the text up
    else:
        fs.mknod(path, kind, 0, (os.major(info.st_rdev), os.minor(info.st_rdev)))
    fs.lchown(path, info.st_uid, info.st_gid)
    if kind is not FileType.SYMLINK:
        fs.chmod(path, stat.S_IMODE(info.st_mode))
    for name in os.listxattr(real, follow_symlinks=False):
        if name not in _PRIVATE:
            fs.setxattr(path, name, os.getxattr(real, name, follow_symlinks=False))


def dump(fs: RootFS, *, times_before: int = 0) -> dict[str, tuple[Any, ...]]:
    """Everything below the root that a layer carries.

    Args:
        times_before: leave out modification times from then on: those of things that a test just made.
    """
    names: dict[int, str] = {}
    found: dict[str, tuple[Any, ...]] = {}
    for path, info in fs.walk("/"):
        if path == "/":
            continue
        whiteout = info.type is FileType.CHAR and info.device == (0, 0)
        linked = "" if info.type is FileType.DIRECTORY or whiteout else names.setdefault(info.inode, path)
        content = fs.read(path) if info.type is FileType.FILE else b""
        target = fs.readlink(path) if info.type is FileType.SYMLINK else ""
        mtime = info.mtime if info.mtime < times_before else 0
        xattrs = {name: value for name, value in fs.xattrs(path).items() if name not in _PRIVATE}
        found[path] = (info.type, info.mode, info.uid, info.gid, info.device, linked, content, target, mtime, xattrs)
    return found


class RealTree:
    """The operations of a random test on a real directory, under ``RootFS``'s names; never blocks on a fifo."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def perform(self, operation: str, *arguments: Any) -> str:
        """Do it; answers with the errno's name, or with nothing."""
        return outcome(getattr(self, operation), *arguments)

    def _at(self, path: str) -> str:
        return self._root + path

    def _open(self, path: str, flags: int) -> int:
        opened = os.open(self._at(path), flags | os.O_NONBLOCK, 0o644)
        mode = os.fstat(opened).st_mode
        if not stat.S_ISREG(mode):
            os.close(opened)
            raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO, "no file")
        return opened

    def write(self, path: str, data: bytes) -> None:
        opened = self._open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(opened, data)
        os.close(opened)

    def append(self, path: str, data: bytes) -> None:
        opened = self._open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(opened, data)
        os.close(opened)

    def mkdir(self, path: str) -> None:
        Path(self._at(path)).mkdir()

    def symlink(self, text: str, path: str) -> None:
        Path(self._at(path)).symlink_to(text)

    def link(self, existing: str, path: str) -> None:
        os.link(self._at(existing), self._at(path), follow_symlinks=False)

    def mknod(self, path: str) -> None:
        os.mknod(self._at(path), stat.S_IFCHR | 0o600, os.makedev(1, 3))

    def unlink(self, path: str) -> None:
        Path(self._at(path)).unlink()

    def rmdir(self, path: str) -> None:
        Path(self._at(path)).rmdir()

    def rmtree(self, path: str) -> None:
        if not stat.S_ISDIR(os.lstat(self._at(path)).st_mode):
            raise OSError(errno.ENOTDIR, "no directory")
        shutil.rmtree(self._at(path))

    def rename(self, old: str, new: str) -> None:
        Path(self._at(old)).rename(self._at(new))

    def chmod(self, path: str, mode: int) -> None:
        Path(self._at(path)).chmod(mode)

    def lchown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self._at(path), uid, gid)

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        os.setxattr(self._at(path), name, value, follow_symlinks=False)


class FakeTree:
    """The same operations on a ``RootFS``."""

    def __init__(self, fs: RootFS) -> None:
        self._fs = fs

    def perform(self, operation: str, *arguments: Any) -> str:
        """Do it; answers with the errno's name, or with nothing."""
        own: dict[str, Callable[..., object]] = {"append": self._append, "mknod": self._mknod, "rmtree": self._rmtree}
        call: Callable[..., object] = own.get(operation) or getattr(self._fs, operation)
        return outcome(call, *arguments)

    def _append(self, path: str, data: bytes) -> None:
        with self._fs.open(path, "ab") as file:
            file.write(data)

    def _mknod(self, path: str) -> None:
        self._fs.mknod(path, FileType.CHAR, 0o600, (1, 3))

    def _rmtree(self, path: str) -> None:
        if self._fs.lstat(path).type is not FileType.DIRECTORY:
            raise OSError(errno.ENOTDIR, "no directory")
        self._fs.rmtree(path)


def outcome(operation: Callable[..., object], *arguments: Any) -> str:
    """The name of the errno with which an operation fails; empty if it does not."""
    try:
        operation(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""
