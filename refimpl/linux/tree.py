"""A directory of the real disk as ``contract.mounts.RootFS``: the one tree, for layers that nobody vouches for as well.

Every operation stays below the root, whatever symlinks, ``..`` or races the tree holds. The way to an entry is opened
by ``open_below``, inside the root; what is done then is done to a name in the open directory, without following it, or
to the open entry. No path is remembered between two operations, since somebody else may rename in between.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import BinaryIO, Self, cast

from refimpl.contract.mounts import FileStat, FileType
from refimpl.linux.confined import open_below
from refimpl.linux.entry import TYPE_BITS, Entry, file_stat
from refimpl.linux.removal import remove_tree

_WRITE = {"wb": os.O_WRONLY | os.O_TRUNC, "ab": os.O_WRONLY | os.O_APPEND, "r+b": os.O_RDWR}
_READ_AHEAD = 1 << 18


class DirectoryTree:
    """A ``contract.mounts.RootFS`` over a directory of the real disk. Thread-safe as far as the disk is.

    Holds the root open until ``close`` (or until nobody has the tree any more): before that a mount point can only be
    unmounted lazily.

    Args:
        root: a path of the host, followed as the host follows it.

    Raises:
        OSError: there is no such directory.
    """

    def __init__(self, root: str) -> None:
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._root)

    def close(self) -> None:
        """Let go of the root; a second time does nothing. Files that were opened stay open."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _entry(self, path: str) -> Entry:
        """Where the last name of a path is to be found; ``.`` for the root and for what ends in ``..``."""
        directory, _, name = path.rstrip("/").rpartition("/")
        if name in {"", ".", ".."}:
            directory, name = path, "."
        try:
            return Entry(open_below(self._root, directory, os.O_PATH | os.O_DIRECTORY), name, path)
        except OSError as error:
            error.filename = path
            raise

    # --- looking

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted by byte order."""
        fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(os.listdir(fd), key=os.fsencode)
        finally:
            os.close(fd)

    def lstat(self, path: str) -> FileStat:
        """The entry itself."""
        with self._entry(path) as entry:
            return file_stat(os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False))

    def exists(self, path: str) -> bool:
        """Whether the entry itself exists."""
        try:
            self.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def readlink(self, path: str) -> str:
        """The text of a symlink."""
        with self._entry(path) as entry:
            return os.readlink(entry.name, dir_fd=entry.directory)

    def xattrs(self, path: str) -> Mapping[str, bytes]:
        """Extended attributes of the entry itself."""
        with self._entry(path) as entry:
            at = entry.proc()
            names = os.listxattr(at, follow_symlinks=False)
            return {name: os.getxattr(at, name, follow_symlinks=False) for name in names}

    def walk(self, path: str = "/") -> Iterator[tuple[str, FileStat]]:
        """Every entry below and including ``path``, parents first; what vanishes meanwhile is left out."""
        top = "/" + "/".join(name for name in path.split("/") if name not in {"", "."})
        todo = [(top, self.lstat(top))]
        while todo:
            at, found = todo.pop()
            yield at, found
            if found.type is FileType.DIRECTORY:
                todo.extend(reversed(self._children(at)))

    def _children(self, path: str) -> list[tuple[str, FileStat]]:
        prefix = path if path.endswith("/") else path + "/"
        found = []
        try:
            fd = open_below(self._root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            for name in sorted(os.listdir(fd), key=os.fsencode):
                try:
                    found.append((prefix + name, file_stat(os.stat(name, dir_fd=fd, follow_symlinks=False))))
                except FileNotFoundError:
                    continue
        finally:
            os.close(fd)
        return found

    # --- content

    def _open(self, path: str, flags: int, mode: int = 0) -> int:
        return open_below(self._root, path.rstrip("/"), flags, mode)

    def _open_file(self, path: str, flags: int) -> int:
        # Not blocking: a fifo would wait for somebody at its other end.
        fd = self._open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
        kind = os.fstat(fd).st_mode
        if not stat.S_ISREG(kind):
            os.close(fd)
            number = errno.EISDIR if stat.S_ISDIR(kind) else errno.ENXIO
            raise OSError(number, os.strerror(number), path)
        return fd

    def _open_new(self, path: str, flags: int, mode: int) -> int:
        """Open a file, made if it is not there; then ``mode`` counts, whatever the process's umask is."""
        try:
            fd = self._open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            try:
                return self._open_file(path, flags)
            except FileNotFoundError:
                # A symlink that leads nowhere: the file is made there.
                fd = self._open(path, flags | os.O_CREAT, mode)
        os.fchmod(fd, mode)
        return fd

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        with self.open(path) as file:
            return file.read()

    def open(self, path: str, mode: str = "rb") -> BinaryIO:
        """A file object, buffered; ``mode`` is ``rb``, ``wb``, ``ab`` or ``r+b``. Other objects are refused (ENXIO)."""
        if mode == "rb":
            fd = self._open_file(path, os.O_RDONLY)
        elif mode == "r+b":
            fd = self._open_file(path, _WRITE[mode])
        elif mode in _WRITE:
            fd = self._open_new(path, _WRITE[mode], 0o644)
        else:
            raise ValueError(f"invalid mode: {mode!r}")
        return cast("BinaryIO", os.fdopen(fd, mode, _READ_AHEAD))

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Create or replace the content of a file."""
        with os.fdopen(self._open_new(path, _WRITE["wb"], mode), "wb") as file:
            file.write(data)

    def truncate(self, path: str, size: int) -> None:
        """Set the length of a file."""
        fd = self._open_file(path, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    # --- names

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """Make one directory."""
        with self._entry(path) as entry:
            os.mkdir(entry.vacant(), mode, dir_fd=entry.directory)
            entry.set_new_mode(mode)

    def makedirs(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and those above it that are missing."""
        at = ""
        for name in path.split("/"):
            if name in {"", "."}:
                continue
            at = f"{at}/{name}"
            try:
                os.close(self._open(at, os.O_PATH | os.O_DIRECTORY))
            except FileNotFoundError:
                self.mkdir(at, mode)

    def symlink(self, text: str, path: str) -> None:
        """Make a symlink."""
        with self._entry(path) as entry:
            os.symlink(text, entry.vacant(), dir_fd=entry.directory)

    def mknod(self, path: str, type: FileType, mode: int = 0o644, device: tuple[int, int] = (0, 0)) -> None:
        """Make a device node, fifo, socket or empty file."""
        if type in {FileType.DIRECTORY, FileType.SYMLINK}:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        with self._entry(path) as entry:
            os.mknod(entry.vacant(), TYPE_BITS[type] | mode, os.makedev(*device), dir_fd=entry.directory)
            entry.set_new_mode(mode)

    def link(self, existing: str, path: str) -> None:
        """Make ``path`` a hardlink of ``existing``."""
        self.lstat(existing)  # what is wrong with it is told first, as link(2) does
        with self._entry(existing) as old, self._entry(path) as new:
            names = old.name, new.vacant()
            os.link(*names, src_dir_fd=old.directory, dst_dir_fd=new.directory, follow_symlinks=False)

    def rename(self, old: str, new: str) -> None:
        """rename(2)."""
        with self._entry(old) as source, self._entry(new) as target:
            os.rename(source.name, target.name, src_dir_fd=source.directory, dst_dir_fd=target.directory)

    def unlink(self, path: str) -> None:
        """Remove an entry that is no directory."""
        with self._entry(path) as entry:
            os.unlink(entry.removable(), dir_fd=entry.directory)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        with self._entry(path) as entry:
            os.rmdir(entry.removable(), dir_fd=entry.directory)

    def rmtree(self, path: str) -> None:
        """Remove an entry and all below it; what is mounted there is refused (EBUSY)."""
        with self._entry(path) as entry:
            remove_tree(entry.directory, entry.removable())

    # --- attributes

    def chmod(self, path: str, mode: int) -> None:
        """Set permission bits; a final symlink is followed, inside the root."""
        fd = self._open(path, os.O_PATH)
        try:
            os.chmod(f"/proc/self/fd/{fd}", mode)
        finally:
            os.close(fd)

    def lchown(self, path: str, uid: int, gid: int) -> None:
        """Set owner and group; Linux takes set-id bits and capabilities off a file then."""
        with self._entry(path) as entry:
            os.chown(entry.name, uid, gid, dir_fd=entry.directory, follow_symlinks=False)

    def utime(self, path: str, atime: int, mtime: int) -> None:
        """Set times in nanoseconds."""
        with self._entry(path) as entry:
            os.utime(entry.name, ns=(atime, mtime), dir_fd=entry.directory, follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        """Set one extended attribute."""
        with self._entry(path) as entry:
            os.setxattr(entry.proc(), name, value, follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        """Remove one extended attribute."""
        with self._entry(path) as entry:
            os.removexattr(entry.proc(), name, follow_symlinks=False)
