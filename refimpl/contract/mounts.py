"""Mounts, and a root file system as a checker, a differ or a runtime sees it.

A snapshotter never mounts: it answers with mounts that somebody else performs. A ``Mounter`` is that somebody: the
kernel, or a fake host. What it gives is a ``RootFS``: one view of files that is the same for both, so that a differ or
a conformance check need not know which world it is in.

Clauses MNT-001 to MNT-033; what the options mean is in ``contract.mount_options``.

Words: *target* is the directory that is mounted over; a *path* inside a ``RootFS`` is absolute from its root, with
``/`` as separator, and never leaves it: ``..`` and symlinks are resolved inside the root.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Protocol

from refimpl.contract.context import CallContext


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount, in the words of mount(2) as containerd passes them: plain data (MNT-001).

    Attributes:
        type: file system type (``bind``, ``overlay``, ``ext4``, ...).
        source: what is mounted (a directory, a device).
        target: sub-directory below the root file system (2.x only; empty in 1.6; MNT-030).
        options: as in fstab, in order, flags among them (MNT-005).
    """

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientMounts:
    """What clients are told who ask for the mounts of a snapshot: a resource of the kernel.

    A client such as ``ctr run IMAGE`` performs these mounts itself, to read ``/etc/group``. The directories of a fake
    world are not there for it, nor may it mount at all without root. Told nothing, it looks into an empty directory.

    Attributes:
        told: whether the Snapshots service answers ``Mounts`` with the mounts, or with none.
    """

    told: bool = True


@dataclass(frozen=True, slots=True)
class TemporaryMounts:
    """Where mounts are made that last as long as a call: a resource of the kernel (DMN-022, MNT-024).

    A daemon says a place of its own, which its next start empties: what a killed one left mounted is found there.

    Attributes:
        directory: where the mount points are made; empty for the place of temporary files.
    """

    directory: str = ""


class FileType(Enum):
    """What a directory entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    CHAR = "char"
    BLOCK = "block"
    FIFO = "fifo"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class FileStat:
    """lstat(2) of an entry.

    Attributes:
        mode: permission bits with set-uid, set-gid and sticky (07777), no type bits.
        size: bytes (length of the target for a symlink).
        blocks: 512-byte blocks in use.
        mtime, atime: nanoseconds since the Unix epoch.
        device: (major, minor) of a device node, else (0, 0).
        inode: equal for two paths exactly if they are hardlinks of one file.
    """

    type: FileType
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    atime: int
    inode: int
    links: int = 1
    device: tuple[int, int] = (0, 0)
    blocks: int = 0


class RootFS(Protocol):
    """A tree of files below one root. Errors are ``OSError`` with the errno that Linux gives."""

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted by byte order, without ``.`` and ``..``."""
        ...

    def lstat(self, path: str) -> FileStat:
        """The entry itself; a final symlink is not followed."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the entry itself exists (a dangling symlink does)."""
        ...

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        ...

    def open(self, path: str, mode: str = "rb") -> BinaryIO:
        """A file object; ``mode`` is ``rb``, ``wb``, ``ab`` or ``r+b``."""
        ...

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Create or replace the content of a file; ``mode`` counts only for a new one."""
        ...

    def readlink(self, path: str) -> str:
        """The text of a symlink."""
        ...

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """Make one directory."""
        ...

    def makedirs(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and those above it that are missing."""
        ...

    def symlink(self, text: str, path: str) -> None:
        """Make a symlink at ``path`` whose text is ``text``."""
        ...

    def link(self, existing: str, path: str) -> None:
        """Make ``path`` a hardlink of ``existing`` (final symlinks are not followed)."""
        ...

    def mknod(self, path: str, type: FileType, mode: int = 0o644, device: tuple[int, int] = (0, 0)) -> None:
        """Make a device node, fifo or socket."""
        ...

    def rename(self, old: str, new: str) -> None:
        """rename(2)."""
        ...

    def unlink(self, path: str) -> None:
        """Remove an entry that is no directory."""
        ...

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        ...

    def rmtree(self, path: str) -> None:
        """Remove an entry and all below it; symlinks are not followed."""
        ...

    def chmod(self, path: str, mode: int) -> None:
        """Set permission bits; a final symlink is followed."""
        ...

    def lchown(self, path: str, uid: int, gid: int) -> None:
        """Set owner and group of the entry itself."""
        ...

    def utime(self, path: str, atime: int, mtime: int) -> None:
        """Set times in nanoseconds of the entry itself."""
        ...

    def truncate(self, path: str, size: int) -> None:
        """Set the length of a file, in bytes."""
        ...

    def xattrs(self, path: str) -> Mapping[str, bytes]:
        """Extended attributes of the entry itself."""
        ...

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        """Set one extended attribute of the entry itself."""
        ...

    def removexattr(self, path: str, name: str) -> None:
        """Remove one extended attribute of the entry itself."""
        ...

    def walk(self, path: str = "/") -> Iterator[tuple[str, FileStat]]:
        """Every entry below and including ``path``, parents first, siblings in byte order, not following symlinks."""
        ...


class Mounter(Protocol):
    """Performs the mounts that snapshotters answer with."""

    def mounted(
        self, ctx: CallContext, mounts: Sequence[Mount], *, read_only: bool = False
    ) -> AbstractContextManager[RootFS]:
        """The file system that ``mounts``, performed in order, make; unmounted again on leaving, also on failure.

        The mounts stack on one directory (MNT-002), made for this call and removed after it (MNT-024, MNT-025).
        An empty list of mounts is an empty directory that is thrown away (MNT-004), unless something is left in it
        (MNT-025).

        Args:
            read_only: drop the means to write from every mount of the list (MNT-027).

        Raises:
            InvalidArgument: an option or type that this host does not offer.
            Unknown: more option data than fits into a page (MNT-012).
            OSError: what mount(2) gives, in the fake world with the same errno (MNT-007); earlier mounts of the list
                are undone (MNT-003).
        """
        ...
