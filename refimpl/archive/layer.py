"""Packing the difference of two trees into a layer archive (DIF-057 to DIF-065)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import replace

from refimpl.archive.changes import Change, ChangeKind, changes
from refimpl.archive.tar_header import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, HARDLINK, REGULAR, SYMLINK, Header
from refimpl.archive.tar_writer import TarWriter
from refimpl.archive.whiteouts import PREFIX
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import FileStat, FileType, RootFS
from refimpl.contract.times import SECOND

_CAPABILITY = "security.capability"
_CHUNK = 1 << 18
_TYPEFLAGS = {
    FileType.FILE: REGULAR,
    FileType.DIRECTORY: DIRECTORY,
    FileType.SYMLINK: SYMLINK,
    FileType.CHAR: CHAR,
    FileType.BLOCK: BLOCK_DEVICE,
    FileType.FIFO: FIFO,
}


def write_layer(ctx: CallContext, write: Callable[[bytes], object], lower: RootFS, upper: RootFS, now: int) -> None:
    """Write the archive that turns ``lower`` into ``upper``.

    Args:
        write: takes the archive's bytes in order.
        now: nanoseconds since the Unix epoch, which whiteouts are stamped with (DIF-052).

    Raises:
        Unknown: a file became shorter while it was read.
        OSError: the trees cannot be read.
        Canceled, DeadlineExceeded: nobody waits any more.
    """
    packer = _Packer(ctx, TarWriter(write), upper, now)
    for change in changes(ctx, lower, upper):
        packer.add(change)
    packer.finish()


class _Packer:
    """A layer that is being packed."""

    def __init__(self, ctx: CallContext, tar: TarWriter, fs: RootFS, now: int) -> None:
        self._ctx = ctx
        self._tar = tar
        self._fs = fs
        self._now = now
        self._directories: set[str] = {""}
        self._first_names: dict[int, str] = {}
        self._unchanged_names: dict[int, list[str]] = {}

    def add(self, change: Change) -> None:
        """Write what one change needs: nothing, an entry, or an entry with links to it."""
        name = change.path.removeprefix("/")
        if change.kind is ChangeKind.DELETED:
            directory, base = posixpath.split(name)
            mtime = (self._now + SECOND // 2) // SECOND * SECOND  # rounded, where all others are cut
            self._write(Header(posixpath.join(directory, PREFIX + base), mtime=mtime))
            return
        if change.stat.type is FileType.SOCKET:
            return
        self._add_object(name, change.stat, changed=change.kind is not ChangeKind.UNCHANGED)

    def _add_object(self, name: str, stat: FileStat, *, changed: bool) -> None:
        linked = stat.type is not FileType.DIRECTORY and stat.links > 1
        if linked and stat.inode in self._first_names:
            self._write(self._link(name, stat))
            return
        if not changed:
            if linked:
                # To be linked, should a new name of the same inode turn up (DIF-062).
                self._unchanged_names.setdefault(stat.inode, []).append(name)
            return
        header = self._header(name, stat)
        if linked:
            self._first_names[stat.inode] = header.name
        self._write(header)
        if stat.type is FileType.FILE:
            self._write_content(name, stat.size)
        for other in self._unchanged_names.pop(stat.inode, []) if linked else []:
            self._write(replace(header, name=other, typeflag=HARDLINK, linkname=header.name, size=0))

    def _link(self, name: str, stat: FileStat) -> Header:
        return replace(self._header(name, stat), typeflag=HARDLINK, linkname=self._first_names[stat.inode], size=0)

    def _header(self, name: str, stat: FileStat) -> Header:
        path = "/" + name
        capability = self._fs.xattrs(path).get(_CAPABILITY)
        return Header(
            name=name + "/" if stat.type is FileType.DIRECTORY else name,
            typeflag=_TYPEFLAGS[stat.type],
            mode=stat.mode,
            uid=stat.uid,
            gid=stat.gid,
            size=stat.size if stat.type is FileType.FILE else 0,
            mtime=stat.mtime,
            linkname=self._fs.readlink(path) if stat.type is FileType.SYMLINK else "",
            device=stat.device,
            xattrs={} if capability is None else {_CAPABILITY: capability},
        )

    def _write(self, header: Header) -> None:
        """Write a header, those of its directories first (DIF-060)."""
        name = header.name.rstrip("/")
        parent = posixpath.dirname(name)
        if parent not in self._directories:
            self._directories.add(parent)
            self._write(self._header(parent, self._fs.lstat("/" + parent)))
        if header.typeflag == DIRECTORY:
            self._directories.add(name)
        self._tar.add(header)

    def _write_content(self, name: str, size: int) -> None:
        if size == 0:
            return
        with self._fs.open("/" + name) as file:
            while size:
                self._ctx.check()
                piece = file.read(min(size, _CHUNK))
                if not piece:
                    raise Unknown("short write copying file")
                self._tar.content(piece)
                size -= len(piece)

    def finish(self) -> None:
        """Mark the end of the archive."""
        self._tar.finish()
