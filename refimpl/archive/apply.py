"""Unpacking a layer onto a tree.

Each entry takes the same steps: find its place inside the root, make what is missing above it, let whiteouts act,
clear the place, make the object, set what the header says. Directories get their times at the very end, when nothing
is made in them any more. Clauses DIF-021 to DIF-039.
"""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Sequence

from refimpl.archive import paths
from refimpl.archive.stream import ByteStream
from refimpl.archive.tar_header import DIRECTORY, HARDLINK, REGULAR, SYMLINK, TYPES, Header
from refimpl.archive.tar_reader import Entry, entries
from refimpl.archive.whiteouts import PREFIX, RemovingWhiteouts, Whiteouts, remove
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import FileType, RootFS

_LATEST = (1 << 63) - 1  # nanoseconds: the year 2262, where 64 bits end
_XATTR_TYPES = {FileType.FILE, FileType.DIRECTORY}
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EPERM}


def apply_layer(
    ctx: CallContext,
    fs: RootFS,
    stream: ByteStream,
    *,
    whiteouts: Whiteouts | None = None,
    parents: Sequence[RootFS] = (),
) -> None:
    """Unpack an archive; what came before a failure stays (DIF-039).

    Args:
        whiteouts: what becomes of them; by default they are carried out.
        parents: the layers below an overlay's upper directory, nearest first: a directory that the archive only implies
            takes its attributes from there (DIF-016).

    Raises:
        Unknown: the archive is damaged, asks for the impossible, or the tree refuses.
        Canceled, DeadlineExceeded: nobody waits any more.
    """
    layer = _Layer(ctx, fs, whiteouts or RemovingWhiteouts(), parents)
    try:
        for entry in entries(stream):
            ctx.check()
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

    def __init__(self, ctx: CallContext, fs: RootFS, whiteouts: Whiteouts, parents: Sequence[RootFS]) -> None:
        self._ctx = ctx
        self._fs = fs
        self._whiteouts = whiteouts
        self._parents = parents
        self._written: set[str] = set()
        self._directories: list[Header] = []
        # Where directories lead; forgotten whenever a symlink may have come or gone.
        self._resolved: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        """Unpack one entry."""
        header = entry.header
        directory, base = posixpath.split(paths.clean(header.name))
        if not base:
            return  # the root's own entry changes nothing (DIF-028)
        directory = self._directory(directory)
        path = posixpath.join(directory, base)
        self._make_parents(directory)
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
        self._make(entry, path)
        self._set_attributes(header, path)
        if header.typeflag == DIRECTORY:
            self._directories.append(header)
        self._written.add(path)

    def _directory(self, path: str) -> str:
        found = self._resolved.get(path)
        if found is None:
            try:
                found = self._resolved[path] = paths.resolve(self._fs, path)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise Unknown("failed to get root path: too many links") from error
        return found

    def _make_parents(self, path: str) -> None:
        """Make the directories that the archive implies (DIF-016, DIF-023)."""
        if path == "/":
            return
        try:
            kind = self._fs.lstat(path).type
        except FileNotFoundError:
            self._make_parents(posixpath.dirname(path))
            self._fs.mkdir(path, 0o755)
            self._copy_directory(path)
            return
        except NotADirectoryError:
            kind = FileType.FILE
        if kind is not FileType.DIRECTORY:
            raise Unknown(f"mkparent {path}: not a directory")

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
                self._fs.mknod(path, TYPES[typeflag], header.mode, header.device)
            case typeflag:
                raise Unknown(f"unhandled tar header type {ord(typeflag)}")

    def _write(self, entry: Entry, path: str) -> None:
        with self._fs.open(path, "wb") as file:
            for piece in entry.content():
                self._ctx.check()
                file.write(piece)

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
        self._fs.lchown(path, header.uid, header.gid)
        kind = self._fs.lstat(path).type
        for name, value in header.xattrs.items():
            self._set_xattr(path, name, value, kind)
        if kind is not FileType.SYMLINK:
            self._fs.chmod(path, header.mode)
        self._set_times(header, path)

    def _set_xattr(self, path: str, name: str, value: bytes, kind: FileType) -> None:
        """Set an attribute, unless a layer must not (trusted) or the tree cannot (DIF-026)."""
        if name.startswith("trusted.") or (name.startswith("user.") and kind not in _XATTR_TYPES):
            return
        try:
            self._fs.setxattr(path, name, value)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise

    def _set_times(self, header: Header, path: str) -> None:
        """Times out of range become the epoch; atime is never before mtime (DIF-022)."""
        atime = header.mtime if header.atime is None else max(header.atime, header.mtime)
        self._fs.utime(path, _bounded(atime), _bounded(header.mtime))

    def set_directory_times(self) -> None:
        """Set the times of the directories that have an entry (DIF-023)."""
        for header in self._directories:
            path = paths.resolve(self._fs, header.name)
            if self._fs.exists(path):
                self._set_times(header, path)


def _bounded(time: int) -> int:
    return time if 0 <= time <= _LATEST else 0
