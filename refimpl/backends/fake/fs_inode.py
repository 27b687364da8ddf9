"""Inodes of the fake disk: what Linux keeps about an object, and content in pages.

A page that was never written is a hole and takes no block; a clone shares the pages that neither side changes.
Clauses SNP-046 to SNP-051, SNP-084.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from refimpl.contract.mounts import FileStat, FileType

PAGE = 4096
"""Bytes of a page, which is also the block that a page takes on the fake disk."""

SECTORS = PAGE // 512
"""512-byte blocks in a page."""

_FAST_SYMLINK = 60  # ext4 keeps a shorter target inside the inode
_numbers = itertools.count(2)  # one counter for all fake disks: equal numbers are hardlinks, whatever file system


def fail(number: int, path: str = "") -> OSError:
    """The ``OSError`` that Linux gives for ``number``; Python picks the subclass."""
    return OSError(number, os.strerror(number), path)


class Inode:
    """One file, directory or other object, with as many names as it has links."""

    __slots__ = (
        "atime",
        "children",
        "device",
        "gid",
        "links",
        "mode",
        "mtime",
        "number",
        "pages",
        "size",
        "target",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(self, type: FileType, mode: int, now: int) -> None:
        self.number = next(_numbers)
        self.type = type
        self.mode = mode & 0o7777
        self.uid = self.gid = 0
        self.mtime = self.atime = now
        self.links = 0
        self.device = (0, 0)
        self.target = ""
        self.size = 0
        self.xattrs: dict[str, bytes] = {}
        self.children: dict[str, Inode] = {}
        self.pages: dict[int, bytes] = {}

    @property
    def is_directory(self) -> bool:
        """Whether it has children rather than content."""
        return self.type is FileType.DIRECTORY

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; holes read as zeros."""
        end = min(self.size, offset + size)
        if offset >= end:
            return b""
        first = offset // PAGE
        pages = [self.pages.get(i, b"").ljust(PAGE, b"\0") for i in range(first, (end - 1) // PAGE + 1)]
        data = b"".join(pages)
        start = offset - first * PAGE
        return data if start == 0 and len(data) == end - offset else data[start : start + end - offset]

    def write(self, offset: int, data: bytes | memoryview, now: int) -> None:
        """Put ``data`` at ``offset``; what lies between the old end and it is a hole."""
        view = memoryview(data)
        done, total = 0, len(view)
        while done < total:
            index, start = divmod(offset + done, PAGE)
            count = min(PAGE - start, total - done)
            piece = bytes(view[done : done + count])
            if count < PAGE:
                old = self.pages.get(index, b"").ljust(start, b"\0")
                piece = old[:start] + piece + old[start + count :]
            self.pages[index] = piece
            done += count
        self.size = max(self.size, offset + total)
        self.mtime = now
        # As the kernel does, also for root: new content has not earned the old one's capabilities.
        self.xattrs.pop("security.capability", None)

    def truncate(self, size: int, now: int) -> None:
        """Cut or extend to ``size`` bytes; an extension is a hole."""
        if size < self.size:
            last, rest = divmod(size, PAGE)
            for index in [i for i in self.pages if i > last or (i == last and rest == 0)]:
                del self.pages[index]
            if rest and last in self.pages:
                self.pages[last] = self.pages[last][:rest]
        self.size = size
        self.mtime = now
        self.xattrs.pop("security.capability", None)

    def chown(self, uid: int, gid: int) -> None:
        """Change owner and group; like the kernel, take set-id bits and capabilities off what is no directory."""
        if not self.is_directory:
            self.mode &= ~0o4000
            if self.mode & 0o010:
                self.mode &= ~0o2000
            self.xattrs.pop("security.capability", None)
        self.uid, self.gid = uid, gid

    def copy_of(self, other: Inode) -> None:
        """Take everything but number, names and children from ``other``; pages are shared, being immutable."""
        self.type, self.mode, self.uid, self.gid = other.type, other.mode, other.uid, other.gid
        self.mtime, self.atime, self.device, self.target = other.mtime, other.atime, other.device, other.target
        self.size, self.xattrs, self.pages = other.size, dict(other.xattrs), dict(other.pages)


def stat_of(inode: Inode, directory_blocks: int = SECTORS) -> FileStat:
    """lstat(2) of an inode; blocks are those that ext4 would allocate, but for a directory's (SNP-084)."""
    if inode.is_directory:
        blocks = directory_blocks
    elif inode.type is FileType.SYMLINK:
        blocks = 0 if inode.size < _FAST_SYMLINK else SECTORS
    else:
        blocks = len(inode.pages) * SECTORS
    return FileStat(
        type=inode.type,
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        size=PAGE if inode.is_directory else inode.size,
        mtime=inode.mtime,
        atime=inode.atime,
        inode=inode.number,
        links=inode.links,
        device=inode.device,
        blocks=blocks,
    )


def clone_tree(source: Inode, target: Inode) -> None:
    """Make the empty directory ``target`` an independent copy of ``source``.

    Hardlinks inside the tree are kept; pages are shared until one side changes them.
    """
    twins: dict[int, Inode] = {source.number: target}
    todo = [source]
    while todo:
        original = todo.pop()
        twin = twins[original.number]
        twin.copy_of(original)
        twin.links = original.links if original.is_directory else twin.links
        for name, child in original.children.items():
            if child.number not in twins:
                twins[child.number] = Inode(child.type, child.mode, 0)
                todo.append(child)
            twin.children[name] = twins[child.number]
            if not child.is_directory:
                twins[child.number].links += 1


def tree(root: Inode) -> Iterator[Inode]:
    """Every inode of a tree once, in no order."""
    seen = {root.number}
    todo = [root]
    while todo:
        inode = todo.pop()
        yield inode
        for child in inode.children.values():
            if child.number not in seen:
                seen.add(child.number)
                todo.append(child)
