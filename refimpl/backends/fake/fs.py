"""The fake disk: a tree of inodes with what Linux keeps about a file and a container's layer depends on.

No paths here: a path is resolved by ``fs_view``, across mounts; a file system only knows directories, names and
inodes. File content is kept in pages, so that a hole takes no block and a clone shares what it does not change.
Clauses SNP-047 to SNP-051, SNP-084; why not pyfakefs: docs/adr/0006-the-fake-file-system.md.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Hashable, Iterable, Iterator
from typing import Protocol, TypeVar

from refimpl.contract.mounts import FileStat, FileType
from refimpl.contract.times import Clock

PAGE = 4096
"""Bytes of a page, which is also the block that a page takes on the fake disk."""

_SECTORS = PAGE // 512
_FAST_SYMLINK = 60  # ext4 keeps a shorter target inside the inode
_NAME_MAX = 255
_numbers = itertools.count(2)  # one counter for all fake disks: equal numbers are hardlinks, whatever file system

Node = TypeVar("Node")


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


def stat_of(inode: Inode, directory_blocks: int = _SECTORS) -> FileStat:
    """lstat(2) of an inode; blocks are those that ext4 would allocate, but for a directory's (SNP-084)."""
    if inode.is_directory:
        blocks = directory_blocks
    elif inode.type is FileType.SYMLINK:
        blocks = 0 if inode.size < _FAST_SYMLINK else _SECTORS
    else:
        blocks = len(inode.pages) * _SECTORS
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


class FileSystem(Protocol[Node]):
    """What a mount shows: directories of nodes. ``DiskFS`` and ``UnionFS`` are the two kinds.

    Paths in the errors are only names; ``fs_view`` puts the whole path in.
    """

    root: Node
    read_only: bool

    def key(self, node: Node) -> Hashable:
        """What identifies a directory while something is mounted on it."""
        ...

    def inode(self, node: Node) -> Inode:
        """Where the node's attributes and content are now."""
        ...

    def writable(self, node: Node) -> Inode:
        """Where they are to be changed (an overlay copies up first)."""
        ...

    def stat(self, node: Node) -> FileStat:
        """lstat(2)."""
        ...

    def names(self, directory: Node) -> Iterable[str]:
        """Names in a directory, in no order."""
        ...

    def lookup(self, directory: Node, name: str) -> Node | None:
        """The entry of that name; None if there is none."""
        ...

    def add(self, directory: Node, name: str, inode: Inode) -> None:
        """Give ``inode`` a name that is free."""
        ...

    def link(self, node: Node, directory: Node, name: str) -> None:
        """Give an existing object a second name that is free."""
        ...

    def remove(self, directory: Node, name: str) -> None:
        """Take away a name; of a directory, only if it is empty (ENOTEMPTY)."""
        ...

    def rename(self, old: Node, old_name: str, new: Node, new_name: str) -> None:
        """Move a name; what is at the new one is replaced, and of a fitting type."""
        ...

    def outer_xattr(self, stored: str) -> str | None:
        """The name under which a stored attribute is shown; None hides it."""
        ...

    def stored_xattr(self, name: str) -> str:
        """The name under which an attribute is stored."""
        ...


class DiskFS:
    """A ``FileSystem`` that is a plain tree of inodes.

    Args:
        directory_blocks: 512-byte blocks that a directory takes: 8 on ext4, 0 on tmpfs and btrfs.
        root: the directory of another disk to show as this one's root (a btrfs subvolume); by default a new one.
    """

    def __init__(
        self, clock: Clock, *, directory_blocks: int = _SECTORS, root: Inode | None = None, read_only: bool = False
    ) -> None:
        self.clock = clock
        self.read_only = read_only
        self.directory_blocks = directory_blocks
        if root is None:
            root = Inode(FileType.DIRECTORY, 0o755, clock.now())
            root.links = 2
        self.root = root

    def clone(self) -> DiskFS:
        """An independent copy of the whole tree."""
        twin = DiskFS(self.clock, directory_blocks=self.directory_blocks)
        clone_tree(self.root, twin.root)
        return twin

    def key(self, node: Inode) -> Hashable:
        """The inode's number."""
        return node.number

    def inode(self, node: Inode) -> Inode:
        """The node itself."""
        return node

    def writable(self, node: Inode) -> Inode:
        """The node itself."""
        return node

    def stat(self, node: Inode) -> FileStat:
        """lstat(2)."""
        return stat_of(node, self.directory_blocks)

    def names(self, directory: Inode) -> Iterable[str]:
        """Names in a directory."""
        return directory.children

    def lookup(self, directory: Inode, name: str) -> Inode | None:
        """The entry of that name."""
        return directory.children.get(name)

    def add(self, directory: Inode, name: str, inode: Inode) -> None:
        """Give ``inode`` a name."""
        if len(os.fsencode(name)) > _NAME_MAX:
            raise fail(errno.ENAMETOOLONG, name)
        directory.children[name] = inode
        directory.mtime = self.clock.now()
        if inode.is_directory:
            inode.links = 2
            directory.links += 1
        else:
            inode.links += 1

    def link(self, node: Inode, directory: Inode, name: str) -> None:
        """Give ``node`` a second name."""
        self.add(directory, name, node)

    def remove(self, directory: Inode, name: str) -> None:
        """Take away a name."""
        inode = directory.children[name]
        if inode.is_directory:
            if inode.children:
                raise fail(errno.ENOTEMPTY, name)
            inode.links = 0
            directory.links -= 1
        else:
            inode.links -= 1
        del directory.children[name]
        directory.mtime = self.clock.now()

    def rename(self, old: Inode, old_name: str, new: Inode, new_name: str) -> None:
        """Move a name."""
        inode = old.children[old_name]
        if new_name in new.children:
            if new.children[new_name] is inode:
                return
            self.remove(new, new_name)
        del old.children[old_name]
        new.children[new_name] = inode
        if inode.is_directory:
            old.links -= 1
            new.links += 1
        old.mtime = new.mtime = self.clock.now()

    def outer_xattr(self, stored: str) -> str | None:
        """Every attribute is shown as it is stored."""
        return stored

    def stored_xattr(self, name: str) -> str:
        """Every attribute is stored as it is named."""
        return name
