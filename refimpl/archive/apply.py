"""Unpacking a layer onto a tree.

Each entry takes the same steps: find its place inside the root, make what is missing above it, let whiteouts act,
clear the place, make the object, set what the header says. Directories get their times at the very end, when nothing
is made in them any more. Clauses DIF-021 to DIF-039.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterable

from refimpl.archive import paths
from refimpl.archive.stream import ByteStream
from refimpl.archive.tar_header import (
    BLOCK_DEVICE,
    CHAR,
    DIRECTORY,
    GLOBAL,
    HARDLINK,
    REGULAR,
    SYMLINK,
    TYPES,
    Header,
    bytes_of,
)
from refimpl.archive.tar_reader import Entry, entries
from refimpl.archive.whiteouts import PREFIX, RemovingWhiteouts, Whiteouts, remove
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import FileType, RootFS

_LATEST = (1 << 63) - 1  # nanoseconds: the year 2262, where 64 bits end
_PATH_MAX = 4095  # bytes: what the kernel takes in one call
_SHOWN = 100  # characters of a path that is too long for anybody to read
_RESOLVED_MAX = 4096  # directories whose place is remembered
_XATTR_TYPES = {FileType.FILE, FileType.DIRECTORY}
_DEVICES = {CHAR, BLOCK_DEVICE}
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EPERM}


def apply_layer(
    ctx: CallContext,
    fs: RootFS,
    stream: ByteStream,
    *,
    whiteouts: Whiteouts | None = None,
    parents: Iterable[RootFS] = (),
    devices: bool = True,
) -> None:
    """Unpack an archive; what came before a failure stays (DIF-039).

    Args:
        whiteouts: what becomes of them; by default they are carried out.
        parents: the layers below an overlay's upper directory, nearest first, to be gone through again and again: a
            directory that the archive only implies takes its attributes from there (DIF-016).
        devices: whether device nodes are made; in a user namespace nobody can, and they are left out (DIF-025).

    Raises:
        Unknown: the archive is damaged, asks for the impossible, or the tree refuses.
        Canceled, DeadlineExceeded: nobody waits any more.
    """
    layer = _Layer(ctx, fs, whiteouts or RemovingWhiteouts(), parents)
    try:
        for entry in entries(stream):
            ctx.check()
            if devices or entry.header.typeflag not in _DEVICES:
                layer.add(entry)
        layer.set_directory_times()
    except OSError as error:
        raise Unknown(describe(error)) from error


def describe(error: OSError) -> str:
    """An operating system's error as Go prints it."""
    text = (error.strerror or str(error)).lower()
    return f"{error.filename}: {text}" if error.filename else text


class _Layer:
    """A layer that is being unpacked."""

    def __init__(self, ctx: CallContext, fs: RootFS, whiteouts: Whiteouts, parents: Iterable[RootFS]) -> None:
        self._ctx = ctx
        self._fs = fs
        self._whiteouts = whiteouts
        self._parents = parents
        self._written: set[str] = set()
        # Of the directories that have an entry: name, atime and mtime. Only these are kept, since a layer may have
        # a million of them.
        self._directories: list[tuple[str, int, int]] = []
        # Where directories lead that are there; forgotten whenever a symlink or a directory may have come or gone.
        self._resolved: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        """Unpack one entry."""
        header = entry.header
        name = paths.clean(header.name)
        if "\0" in name:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), header.name)
        if len(bytes_of(name)) > _PATH_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), header.name[:_SHOWN])
        directory, base = posixpath.split(name)
        if not base:
            return  # the root's own entry changes nothing (DIF-028)
        directory = self._made_directory(directory)
        path = posixpath.join(directory, base)
        if base in {PREFIX, PREFIX + ".", PREFIX + ".."}:
            raise Unknown(f"invalid whiteout name: {base}: invalid archive")
        try:
            if not self._whiteouts.convert(self._fs, header, path, self._written):
                self._resolved.clear()
                return
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Unknown(f'failed to convert whiteout file "{header.name}": {reason}') from error
        self._clear(header, path)
        # A global header makes nothing; but its place is cleared, and the directories above it are made.
        if header.typeflag != GLOBAL:
            self._make(entry, path)
            self._set_attributes(header, path)
        if header.typeflag == DIRECTORY:
            self._directories.append((header.name, *_times(header)))
        if self._whiteouts.wants_written:
            self._written.add(path)

    def _made_directory(self, path: str) -> str:
        """Where a directory is, made if it was missing."""
        found = self._resolved.get(path)
        if found is None:
            found = self._directory(path)
            self._make_parents(found)
            if len(self._resolved) >= _RESOLVED_MAX:
                self._resolved.clear()
            self._resolved[path] = found
        return found

    def _directory(self, path: str) -> str:
        try:
            return paths.resolve(self._fs, path)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise Unknown("failed to get root path: too many links") from error

    def _make_parents(self, path: str) -> None:
        """Make a directory, and those above it, that the archive implies (DIF-016, DIF-023)."""
        missing: list[str] = []
        while path != "/" and not self._is_directory(path):
            missing.append(path)
            path = posixpath.dirname(path)
        for each in reversed(missing):
            self._fs.mkdir(each, 0o755)
            self._copy_directory(each)

    def _is_directory(self, path: str) -> bool:
        """Whether a directory is there; anything else in its place is an error (DIF-038)."""
        try:
            kind = self._fs.lstat(path).type
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            kind = FileType.FILE
        if kind is not FileType.DIRECTORY:
            raise Unknown(f"mkparent {path}: not a directory")
        return True

    def _copy_directory(self, path: str) -> None:
        for parent in self._parents:
            try:
                stat = parent.lstat(paths.resolve(parent, path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.type is FileType.DIRECTORY:
                self._fs.lchown(path, stat.uid, stat.gid)
                self._fs.chmod(path, stat.mode)
                for name, value in parent.xattrs(path).items():
                    if not name.startswith("trusted."):
                        self._fs.setxattr(path, name, value)
            return

    def _clear(self, header: Header, path: str) -> None:
        """Take away what is there, unless a directory meets a directory (DIF-027)."""
        try:
            old = self._fs.lstat(path).type
        except FileNotFoundError:
            return
        if old is FileType.DIRECTORY and header.typeflag == DIRECTORY:
            return
        remove(self._fs, path)
        self._resolved.clear()

    def _make(self, entry: Entry, path: str) -> None:
        header = entry.header
        match header.typeflag:
            case typeflag if typeflag == DIRECTORY:
                if not self._fs.exists(path):
                    self._fs.mkdir(path, header.mode)
            case typeflag if typeflag == REGULAR:
                self._write(entry, path)
            case typeflag if typeflag == SYMLINK:
                self._fs.symlink(header.linkname, path)
                self._resolved.clear()
            case typeflag if typeflag == HARDLINK:
                self._link(header, path)
            case typeflag if typeflag in TYPES:
                major, minor = header.device
                # As many bits as Linux has for them: what is above is cut off, as in a layer unpacked by containerd.
                self._fs.mknod(path, TYPES[typeflag], header.mode, (major & 0xFFF, minor & 0xFFFFF))
            case typeflag:
                raise Unknown(f"unhandled tar header type {ord(typeflag)}")

    def _write(self, entry: Entry, path: str) -> None:
        try:
            with self._fs.open(path, "wb") as file:
                for piece in entry.content():
                    self._ctx.check()
                    file.write(piece)
        except OSError as error:
            # A full disk is told by write(2), which knows no name.
            error.filename = error.filename or path
            raise

    def _link(self, header: Header, path: str) -> None:
        """Link to what is inside the root, a final symlink itself (DIF-024, DIF-037)."""
        directory, base = posixpath.split(header.linkname)
        target = posixpath.join(self._directory(directory), base)
        try:
            self._fs.link(target, path)
        except OSError as error:
            raise Unknown(f"link {target} {path}: {(error.strerror or str(error)).lower()}") from error

    def _set_attributes(self, header: Header, path: str) -> None:
        """Owner first, since a change of owner takes set-id bits and capabilities away."""
        self._fs.lchown(path, _id(header.uid), _id(header.gid))
        kind = TYPES.get(header.typeflag) or self._fs.lstat(path).type  # a hardlink is what it links to
        for name, value in header.xattrs.items():
            self._set_xattr(path, name, value, kind)
        if kind is not FileType.SYMLINK:
            self._fs.chmod(path, header.mode)
        self._fs.utime(path, *_times(header))

    def _set_xattr(self, path: str, name: str, value: bytes, kind: FileType) -> None:
        """Set an attribute, unless a layer must not (trusted) or the tree cannot (DIF-026)."""
        if name.startswith("trusted.") or (name.startswith("user.") and kind not in _XATTR_TYPES):
            return
        try:
            self._fs.setxattr(path, name, value)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise

    def set_directory_times(self) -> None:
        """Set the times of the directories that have an entry (DIF-023)."""
        for name, atime, mtime in self._directories:
            self._fs.utime(paths.resolve(self._fs, name), atime, mtime)


def _id(number: int) -> int:
    """An owner as the kernel takes it: 32 bits, of which the largest number leaves things as they are."""
    number &= 0xFFFFFFFF
    return -1 if number == 0xFFFFFFFF else number


def _times(header: Header) -> tuple[int, int]:
    """Access and modification time: out of range they become the epoch; atime is never before mtime (DIF-022)."""
    atime = header.mtime if header.atime is None else max(header.atime, header.mtime)
    return _bounded(atime), _bounded(header.mtime)


def _bounded(time: int) -> int:
    return time if 0 <= time <= _LATEST else 0
