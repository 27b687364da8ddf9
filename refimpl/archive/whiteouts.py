"""What becomes of an archive's whiteouts: three ways, chosen by what the layer is written to.

On a plain tree ``.wh.NAME`` removes NAME and ``.wh..wh..opq`` empties its directory of what is older (DIF-031 to
DIF-034). In an overlay's upper directory both become the kernel's marks (DIF-015, DIF-017). In an aufs branch they are
aufs's own marks already and are written as they are (DIF-018).
"""

from __future__ import annotations

import posixpath
from typing import Protocol

from refimpl.archive.tar_header import Header
from refimpl.contract.mounts import FileType, RootFS

PREFIX = ".wh."
"""Begins the name of a whiteout."""

OPAQUE = ".wh..wh..opq"
"""Hides everything older in its directory."""


class Whiteouts(Protocol):
    """One way to treat them.

    Attributes:
        wants_written: whether ``convert`` looks at what this archive has made; a million paths need not be kept if not.
    """

    wants_written: bool

    def convert(self, fs: RootFS, header: Header, path: str, written: set[str]) -> bool:
        """Do what an entry's name asks for, if it is a whiteout's.

        Args:
            path: where the entry would be, symlinks resolved.
            written: the paths that this archive has made.

        Returns:
            Whether the entry is still to be written.

        Raises:
            OSError: as the operation gives.
        """
        ...


class RemovingWhiteouts:
    """Whiteouts are carried out on the tree."""

    wants_written = True

    def convert(self, fs: RootFS, header: Header, path: str, written: set[str]) -> bool:
        """Remove what the whiteout names."""
        directory, base = posixpath.split(path)
        if base == OPAQUE:
            _remove_older(fs, directory, written)
            return False
        if base.startswith(PREFIX):
            remove(fs, posixpath.join(directory, base.removeprefix(PREFIX)))
            return False
        return True


class OverlayWhiteouts:
    """Whiteouts become the marks of an overlay's upper directory.

    Args:
        namespace: of the attribute: ``trusted``, or ``user`` inside a user namespace.
    """

    wants_written = False

    def __init__(self, namespace: str = "trusted") -> None:
        self._opaque = f"{namespace}.overlay.opaque"

    def convert(self, fs: RootFS, header: Header, path: str, written: set[str]) -> bool:
        """Make the mark; one that is there already, or a file, is an error (EEXIST)."""
        directory, base = posixpath.split(path)
        if base == OPAQUE:
            fs.setxattr(directory, self._opaque, b"y")
            return False
        if base.startswith(PREFIX):
            hidden = posixpath.join(directory, base.removeprefix(PREFIX))
            fs.mknod(hidden, FileType.CHAR, 0)
            fs.lchown(hidden, header.uid, header.gid)
            return False
        return True


class LiteralWhiteouts:
    """Whiteouts are files like others: the file system below reads them itself."""

    wants_written = False

    def convert(self, fs: RootFS, header: Header, path: str, written: set[str]) -> bool:
        """Let the entry be written."""
        return True


def remove(fs: RootFS, path: str) -> None:
    """Remove whatever is there, and all below it; nothing is no error."""
    if fs.exists(path):
        fs.rmtree(path)


def _remove_older(fs: RootFS, directory: str, written: set[str]) -> None:
    """Remove everything below a directory that this archive has not written."""
    todo = [directory]
    while todo:
        here = todo.pop()
        for name in fs.listdir(here):
            path = posixpath.join(here, name)
            if path not in written:
                fs.rmtree(path)
            elif fs.lstat(path).type is FileType.DIRECTORY:
                todo.append(path)
