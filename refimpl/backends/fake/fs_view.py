"""A view of the fake world from one directory: paths, symlinks and mounts, over whatever file systems are mounted.

``View`` is the ``RootFS`` that the host and its mounter hand out. Its root cannot be left: ``..`` stops there and
absolute symlinks start there. Every operation holds the host's lock from the look-up to the change.
Clauses MNT-002, MNT-006, MNT-008, SNP-036.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

from refimpl.backends.fake.fs_handle import Handle
from refimpl.backends.fake.fs_inode import Inode, fail
from refimpl.backends.fake.fs_paths import MountPoint, Mounts, Paths, Place
from refimpl.contract.mounts import FileStat, FileType
from refimpl.contract.times import Clock

_READ_AHEAD = 1 << 18
_TEXT_MAX = 4095  # bytes of a symlink's text
_XATTR_NAME_MAX, _XATTR_MAX = 255, 1 << 16  # bytes


class View:
    """A ``contract.mounts.RootFS`` of the fake world.

    Args:
        mounts: what is mounted where.
        mount, node: the directory that is this view's root.
        lock: the host's.
        clock: where new objects get their times.
    """

    def __init__(self, mounts: Mounts, mount: MountPoint, node: Any, lock: threading.RLock, clock: Clock) -> None:
        self._mounts = mounts
        self._paths = Paths(mounts, mount, node)
        self.lock = lock
        self._clock = clock

    def locate(self, path: str) -> list[tuple[MountPoint, Any]]:
        """What a path leads to, with all that it leads through, outermost first; for the mount table.

        Raises:
            OSError: ENOENT, ENOTDIR, ELOOP.
        """
        with self.lock:
            trail = self._paths.trail(path, follow=True)
            if trail[-1].node is None:
                raise fail(errno.ENOENT, path)
            return [(place.mount, place.node) for place in trail]

    def below(self, path: str) -> View:
        """The view whose root is the directory ``path``."""
        with self.lock:
            place = self._paths.found(path, follow=True)
            if place.mount.fs.inode(place.node).type is not FileType.DIRECTORY:
                raise fail(errno.ENOTDIR, path)
            return View(self._mounts, place.mount, place.node, self.lock, self._clock)

    # --- looking

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted by byte order."""
        with self.lock:
            place = self._paths.found(path, follow=True)
            if place.mount.fs.inode(place.node).type is not FileType.DIRECTORY:
                raise fail(errno.ENOTDIR, path)
            return sorted(place.mount.fs.names(place.node), key=os.fsencode)

    def lstat(self, path: str) -> FileStat:
        """The entry itself."""
        with self.lock:
            place = self._paths.found(path)
            return place.mount.fs.stat(place.node)

    def exists(self, path: str) -> bool:
        """Whether the entry itself exists."""
        try:
            self.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def readlink(self, path: str) -> str:
        """The text of a symlink."""
        with self.lock:
            target = self._paths.symlink(self._paths.found(path))
            if target is None:
                raise fail(errno.EINVAL, path)
            return target

    def xattrs(self, path: str) -> Mapping[str, bytes]:
        """Extended attributes of the entry itself."""
        with self.lock:
            place = self._paths.found(path)
            stored = place.mount.fs.inode(place.node).xattrs
            shown = ((place.mount.fs.outer_xattr(name), value) for name, value in stored.items())
            return {name: value for name, value in shown if name is not None}

    def walk(self, path: str = "/") -> Iterator[tuple[str, FileStat]]:
        """Every entry below and including ``path``, parents first; what vanishes meanwhile is left out."""
        top = "/" + "/".join(name for name in path.split("/") if name not in {"", "."})
        stat = self.lstat(top)
        todo = [(top, stat)]
        while todo:
            at, stat = todo.pop()
            yield at, stat
            if stat.type is not FileType.DIRECTORY:
                continue
            try:
                names = self.listdir(at)
            except FileNotFoundError:
                continue
            prefix = at if at.endswith("/") else at + "/"
            for name in reversed(names):
                try:
                    todo.append((prefix + name, self.lstat(prefix + name)))
                except FileNotFoundError:
                    continue

    # --- content

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        with self.lock:
            place = self._file(path)
            inode = place.mount.fs.inode(place.node)
            return inode.read(0, inode.size)

    def _file(self, path: str) -> Place:
        place = self._paths.found(path, follow=True)
        kind = place.mount.fs.inode(place.node).type
        if kind is FileType.DIRECTORY:
            raise fail(errno.EISDIR, path)
        if kind is not FileType.FILE:
            raise fail(errno.ENXIO, path)  # no device, fifo or socket has another end here
        return place

    def open(self, path: str, mode: str = "rb") -> BinaryIO:
        """A file object, buffered; ``mode`` is ``rb``, ``wb``, ``ab`` or ``r+b``."""
        if mode not in {"rb", "wb", "ab", "r+b"}:
            raise ValueError(f"invalid mode: {mode!r}")
        with self.lock:
            if mode == "rb":
                place = self._file(path)
                raw = Handle(place.mount.fs.inode(place.node), self.lock, self._clock, writable=False)
                return cast("BinaryIO", io.BufferedReader(raw, _READ_AHEAD))
            raw = Handle(self._writable_file(path, 0o644, create=mode != "r+b"), self.lock, self._clock, writable=True)
            if mode == "wb":
                raw.truncate(0)
            elif mode == "ab":
                raw.seek(0, io.SEEK_END)
            return cast("BinaryIO", io.BufferedRandom(raw) if mode == "r+b" else io.BufferedWriter(raw, _READ_AHEAD))

    def _writable_file(self, path: str, mode: int, *, create: bool) -> Inode:
        place = self._paths.resolve(path, follow=True)
        if place.node is None:
            if not create:
                raise fail(errno.ENOENT, path)
            self._paths.changeable(place, path)
            inode = Inode(FileType.FILE, mode, self._clock.now())
            self._add(place, inode, path)
            return inode
        place = self._paths.changeable(self._file(path), path)
        return place.mount.fs.writable(place.node)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Create or replace the content of a file."""
        with self.lock:
            inode = self._writable_file(path, mode, create=True)
            now = self._clock.now()
            inode.truncate(0, now)
            inode.write(0, data, now)

    def truncate(self, path: str, size: int) -> None:
        """Set the length of a file."""
        with self.lock:
            place = self._paths.changeable(self._file(path), path)
            place.mount.fs.writable(place.node).truncate(size, self._clock.now())

    # --- names

    def _add(self, place: Place, inode: Inode, path: str) -> None:
        above = place.mount.fs.inode(place.directory)
        if above.mode & 0o2000:
            # What is made in a set-gid directory belongs to its group, and directories pass that on.
            inode.gid = above.gid
            inode.mode |= 0o2000 if inode.is_directory else 0
        try:
            place.mount.fs.add(place.directory, place.name, inode)
        except OSError as error:
            raise fail(error.errno or errno.EIO, path) from None

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """Make one directory."""
        with self.lock:
            self._add(self._paths.vacant(path), Inode(FileType.DIRECTORY, mode, self._clock.now()), path)

    def makedirs(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and those above it that are missing."""
        with self.lock:
            at = ""
            for name in path.split("/"):
                if name in {"", "."}:
                    continue
                at = f"{at}/{name}"
                place = self._paths.resolve(at, follow=True)
                if place.node is None:
                    self.mkdir(at, mode)
                elif place.mount.fs.inode(place.node).type is not FileType.DIRECTORY:
                    raise fail(errno.ENOTDIR, at)

    def symlink(self, text: str, path: str) -> None:
        """Make a symlink."""
        with self.lock:
            place = self._paths.vacant(path)
            if not text:
                raise fail(errno.ENOENT, path)
            if len(os.fsencode(text)) > _TEXT_MAX:
                raise fail(errno.ENAMETOOLONG, path)
            inode = Inode(FileType.SYMLINK, 0o777, self._clock.now())
            inode.target, inode.size = text, len(os.fsencode(text))
            self._add(place, inode, path)

    def mknod(self, path: str, type: FileType, mode: int = 0o644, device: tuple[int, int] = (0, 0)) -> None:
        """Make a device node, fifo, socket or empty file."""
        with self.lock:
            if type in {FileType.DIRECTORY, FileType.SYMLINK}:
                raise fail(errno.EINVAL, path)
            inode = Inode(type, mode, self._clock.now())
            if type in {FileType.CHAR, FileType.BLOCK}:
                inode.device = device
            self._add(self._paths.vacant(path), inode, path)

    def link(self, existing: str, path: str) -> None:
        """Make ``path`` a hardlink of ``existing``."""
        with self.lock:
            source, target = self._paths.found(existing), self._paths.vacant(path)
            if source.mount.fs.inode(source.node).type is FileType.DIRECTORY:
                raise fail(errno.EPERM, existing)
            if source.mount is not target.mount:
                raise fail(errno.EXDEV, existing)
            target.mount.fs.link(source.node, target.directory, target.name)

    def unlink(self, path: str) -> None:
        """Remove an entry that is no directory."""
        with self.lock:
            place = self._paths.entry(path)
            if place.mount.fs.inode(place.node).type is FileType.DIRECTORY:
                raise fail(errno.EISDIR, path)
            place.mount.fs.remove(place.directory, place.name)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        with self.lock:
            place = self._paths.entry(path)
            if place.mount.fs.inode(place.node).type is not FileType.DIRECTORY:
                raise fail(errno.ENOTDIR, path)
            try:
                place.mount.fs.remove(place.directory, place.name)
            except OSError as error:
                raise fail(error.errno or errno.EIO, path) from None

    def rmtree(self, path: str) -> None:
        """Remove an entry and all below it; what is mounted there is refused (EBUSY)."""
        with self.lock:
            # Not by recursion: a tree may be deeper than Python's stack.
            for each, stat in reversed(list(self.walk(path))):
                (self.rmdir if stat.type is FileType.DIRECTORY else self.unlink)(each)

    def rename(self, old: str, new: str) -> None:
        """rename(2)."""
        with self.lock:
            # Both ways are walked before either entry is asked for, as the kernel does it: errors come in this order.
            source, target = self._paths.resolve(old), self._paths.resolve(new)
            if source.directory is None or target.directory is None:
                raise fail(errno.EBUSY, old if source.directory is None else new)
            if source.mount is not target.mount:
                raise fail(errno.EXDEV, old)
            self._paths.changeable(source, old)
            if source.node is None:
                raise fail(errno.ENOENT, old)
            fs = source.mount.fs
            moving = fs.inode(source.node)
            if moving.is_directory and self._is_below(new, source):
                raise fail(errno.EINVAL, old)
            if target.node is not None:
                if self._is_below(old, target):
                    raise fail(errno.ENOTEMPTY, new)
                if (fs.key(source.directory), source.name) == (fs.key(target.directory), target.name):
                    return
                _check_replaceable(moving, target, new)
            try:
                fs.rename(source.directory, source.name, target.directory, target.name)
            except OSError as error:
                raise fail(error.errno or errno.EIO, new if error.errno == errno.ENOTEMPTY else old) from None

    def _is_below(self, path: str, place: Place) -> bool:
        """Whether a path ends somewhere below a directory; a rename to there would cut both off the tree."""
        fs = place.mount.fs
        key = fs.key(place.node)
        above = self._paths.trail(path.rstrip("/").rpartition("/")[0], follow=True)
        return any(at.mount is place.mount and fs.key(at.node) == key for at in above)

    # --- attributes

    def _attributes(self, path: str, *, follow: bool = False) -> Inode:
        place = self._paths.changeable(self._paths.found(path, follow=follow), path)
        return place.mount.fs.writable(place.node)

    def chmod(self, path: str, mode: int) -> None:
        """Set permission bits; a final symlink is followed."""
        with self.lock:
            self._attributes(path, follow=True).mode = mode & 0o7777

    def lchown(self, path: str, uid: int, gid: int) -> None:
        """Set owner and group; takes set-id bits and capabilities off a file, as Linux does."""
        with self.lock:
            self._attributes(path).chown(uid, gid)

    def utime(self, path: str, atime: int, mtime: int) -> None:
        """Set times in nanoseconds."""
        with self.lock:
            inode = self._attributes(path)
            inode.atime, inode.mtime = atime, mtime

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        """Set one extended attribute.

        Raises:
            OSError: EOPNOTSUPP for a name outside user, trusted, security and system; EPERM for user on anything but
                files and directories; ERANGE for a name, E2BIG for a value that is too long.
        """
        with self.lock:
            place = self._paths.changeable(self._paths.found(path), path)
            if not 0 < len(os.fsencode(name)) <= _XATTR_NAME_MAX:
                raise fail(errno.ERANGE, path)
            if len(value) > _XATTR_MAX:
                raise fail(errno.E2BIG, path)
            space = name.partition(".")[0]
            if space not in {"user", "trusted", "security", "system"} or name == space:
                raise fail(errno.EOPNOTSUPP, path)
            kind = place.mount.fs.inode(place.node).type
            if space == "user" and kind not in {FileType.FILE, FileType.DIRECTORY}:
                raise fail(errno.EPERM, path)
            inode = place.mount.fs.writable(place.node)
            inode.xattrs[place.mount.fs.stored_xattr(name)] = bytes(value)

    def removexattr(self, path: str, name: str) -> None:
        """Remove one extended attribute.

        Raises:
            OSError: ENODATA when it is not there.
        """
        with self.lock:
            place = self._paths.changeable(self._paths.found(path), path)
            if name not in self.xattrs(path):
                raise fail(errno.ENODATA, path)
            del place.mount.fs.writable(place.node).xattrs[place.mount.fs.stored_xattr(name)]


def _check_replaceable(moving: Inode, target: Place, path: str) -> None:
    replaced = target.mount.fs.inode(target.node)
    if replaced is moving:
        return
    if moving.is_directory and not replaced.is_directory:
        raise fail(errno.ENOTDIR, path)
    if replaced.is_directory and not moving.is_directory:
        raise fail(errno.EISDIR, path)
