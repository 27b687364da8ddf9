"""The fake disk: a tree of inodes with what Linux keeps about a file and a container's layer depends on.

No paths here: a path is resolved by ``fs_view``, across mounts; a file system only knows directories, names and
inodes. Why not pyfakefs: docs/adr/0006-the-fake-file-system.md.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Hashable, Iterable
from typing import Protocol, TypeVar

from refimpl.backends.fake.fs_inode import SECTORS, Inode, clone_tree, fail, stat_of
from refimpl.contract.mounts import FileStat, FileType
from refimpl.contract.times import Clock

_NAME_MAX = 255

Node = TypeVar("Node")


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
        self, clock: Clock, *, directory_blocks: int = SECTORS, root: Inode | None = None, read_only: bool = False
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
