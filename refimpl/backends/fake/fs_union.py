"""Union file systems of the fake host: overlay and aufs over directories of fake disks.

The upper directory takes what is written; what it hides it says with marks: overlay with character devices 0:0 and
an attribute, aufs with files named ``.wh.*``. What the two do beyond that is the same and written once. Held against
the kernel's overlay: a directory made over a whiteout is opaque, whiteouts share one inode, hardlinks break on
copy-up, and a directory with something below it does not move (EXDEV). What the kernel notes for its own use only
(trusted.overlay.origin and .impure) is not written.
Clauses SNP-039 to SNP-049, SNX-010 to SNX-018, SNX-071.
"""

from __future__ import annotations

import errno
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from refimpl.backends.fake.fs import DiskFS
from refimpl.backends.fake.fs_inode import Inode, fail, stat_of
from refimpl.contract.mounts import FileStat, FileType

_AUFS_PREFIX = ".wh."
_AUFS_OPAQUE = ".wh..wh..opq"


class Marks(Protocol):
    """How a union writes "not here" into a layer."""

    def hides(self, layer: Inode, name: str) -> bool:
        """Whether ``layer`` hides what the layers below it have under ``name``."""
        ...

    def hidden(self, layer: Inode) -> set[str]:
        """All names that ``layer`` hides."""
        ...

    def reserved(self, name: str, inode: Inode) -> bool:
        """Whether such an entry would be taken for a mark, so that nobody may make it."""
        ...

    def opaque(self, layer: Inode) -> bool:
        """Whether ``layer`` hides all that is below it."""
        ...

    def shows(self, layer: Inode, name: str) -> bool:
        """Whether an entry of ``layer`` is a file of the union and no mark."""
        ...

    def white_out(self, disk: DiskFS, layer: Inode, name: str) -> None:
        """Hide ``name`` from now on."""
        ...

    def clear(self, disk: DiskFS, layer: Inode, name: str) -> bool:
        """Take the mark for ``name`` away; True if there was one."""
        ...

    def set_opaque(self, disk: DiskFS, layer: Inode) -> None:
        """Hide all that is below ``layer``."""
        ...

    def outer_xattr(self, stored: str) -> str | None:
        """The shown name of a stored attribute; None hides it."""
        ...

    def stored_xattr(self, name: str) -> str:
        """The stored name of a shown attribute."""
        ...


class OverlayMarks:
    """Whiteouts are character devices 0:0, opaque directories have an attribute.

    Args:
        namespace: ``trusted``, or ``user`` for the mount option userxattr.
    """

    def __init__(self, namespace: str = "trusted") -> None:
        self._prefix = f"{namespace}.overlay."
        self._whiteout: Inode | None = None

    def hides(self, layer: Inode, name: str) -> bool:
        """Whether the entry is a whiteout."""
        child = layer.children.get(name)
        return child is not None and child.type is FileType.CHAR and child.device == (0, 0)

    def hidden(self, layer: Inode) -> set[str]:
        """The names of the whiteouts."""
        return {name for name in layer.children if self.hides(layer, name)}

    def reserved(self, name: str, inode: Inode) -> bool:
        """Whether it is a device 0:0."""
        return inode.type is FileType.CHAR and inode.device == (0, 0)

    def opaque(self, layer: Inode) -> bool:
        """Whether the attribute says so."""
        return layer.xattrs.get(self._prefix + "opaque") == b"y"

    def shows(self, layer: Inode, name: str) -> bool:
        """Whether the entry is no whiteout."""
        return not self.hides(layer, name)

    def white_out(self, disk: DiskFS, layer: Inode, name: str) -> None:
        """Make a whiteout: one inode serves the whole mount, as the kernel does it."""
        if self._whiteout is None or self._whiteout.links == 0:
            self._whiteout = Inode(FileType.CHAR, 0, disk.clock.now())
        disk.add(layer, name, self._whiteout)

    def clear(self, disk: DiskFS, layer: Inode, name: str) -> bool:
        """Remove a whiteout."""
        if self.hides(layer, name):
            disk.remove(layer, name)
            return True
        return False

    def set_opaque(self, disk: DiskFS, layer: Inode) -> None:
        """Set the attribute."""
        layer.xattrs[self._prefix + "opaque"] = b"y"

    def outer_xattr(self, stored: str) -> str | None:
        """Hide the overlay's own attributes; those of an overlay inside are kept one level down."""
        if not stored.startswith(self._prefix):
            return stored
        inner = stored.removeprefix(self._prefix)
        return self._prefix + inner.removeprefix("overlay.") if inner.startswith("overlay.") else None

    def stored_xattr(self, name: str) -> str:
        """Keep what would look like the overlay's own one level down."""
        return f"{self._prefix}overlay.{name.removeprefix(self._prefix)}" if name.startswith(self._prefix) else name


class AufsMarks:
    """Whiteouts are files ``.wh.NAME``, opaque directories hold ``.wh..wh..opq``."""

    def hides(self, layer: Inode, name: str) -> bool:
        """Whether the mark is there."""
        return _AUFS_PREFIX + name in layer.children

    def hidden(self, layer: Inode) -> set[str]:
        """The names that the marks hold."""
        return {n.removeprefix(_AUFS_PREFIX) for n in layer.children if n.startswith(_AUFS_PREFIX)}

    def reserved(self, name: str, inode: Inode) -> bool:
        """Whether the name is a mark's."""
        return name.startswith(_AUFS_PREFIX)

    def opaque(self, layer: Inode) -> bool:
        """Whether the mark is there."""
        return _AUFS_OPAQUE in layer.children

    def shows(self, layer: Inode, name: str) -> bool:
        """Whether the name is no mark's."""
        return not name.startswith(_AUFS_PREFIX)

    def white_out(self, disk: DiskFS, layer: Inode, name: str) -> None:
        """Make the mark."""
        disk.add(layer, _AUFS_PREFIX + name, Inode(FileType.FILE, 0o444, disk.clock.now()))

    def clear(self, disk: DiskFS, layer: Inode, name: str) -> bool:
        """Remove the mark."""
        if self.hides(layer, name):
            disk.remove(layer, _AUFS_PREFIX + name)
            return True
        return False

    def set_opaque(self, disk: DiskFS, layer: Inode) -> None:
        """Make the mark."""
        if not self.opaque(layer):
            disk.add(layer, _AUFS_OPAQUE, Inode(FileType.FILE, 0o444, disk.clock.now()))

    def outer_xattr(self, stored: str) -> str | None:
        """An aufs keeps nothing in attributes."""
        return stored

    def stored_xattr(self, name: str) -> str:
        """An aufs keeps nothing in attributes."""
        return name


@dataclass(slots=True, eq=False)
class UnionNode:
    """One object as the union shows it.

    Attributes:
        upper: the writable layer's inode; None until it is copied up.
        lowers: the inodes below it, nearest first; for what is no directory at most the one that is shown.
    """

    upper: Inode | None
    lowers: tuple[Inode, ...]
    parent: UnionNode | None
    name: str

    @property
    def layers(self) -> tuple[Inode, ...]:
        """From top to bottom."""
        return self.lowers if self.upper is None else (self.upper, *self.lowers)


class UnionFS:
    """A ``FileSystem`` over directories.

    Args:
        disk: the file system of the upper directory; None for a union that is read only.
        upper: the writable directory; None for a union that is read only.
        lowers: the directories below it, nearest first.
        marks: how layers say what they hide.
    """

    def __init__(self, disk: DiskFS | None, upper: Inode | None, lowers: Sequence[Inode], marks: Marks) -> None:
        self._disk = disk
        self._marks = marks
        self.read_only = upper is None
        self.root = UnionNode(upper, tuple(lowers), None, "")

    def key(self, node: UnionNode) -> Hashable:
        """The path inside the union: nodes are made anew at each look-up."""
        names = []
        at: UnionNode | None = node
        while at is not None:
            names.append(at.name)
            at = at.parent
        return tuple(names)

    def inode(self, node: UnionNode) -> Inode:
        """The topmost layer's inode."""
        return node.layers[0]

    def writable(self, node: UnionNode) -> Inode:
        """The upper inode, copied up from below if need be, its parents first."""
        if node.upper is None:
            if self._disk is None:
                raise fail(errno.EROFS, node.name)
            assert node.parent is not None, "the root of a writable union has an upper directory"
            parent = self.writable(node.parent)
            node.upper = parent.children.get(node.name)
            if node.upper is not None:
                return node.upper  # the same directory was looked up twice, as a rename does, and is copied up already
            source = node.lowers[0]
            before = parent.mtime
            copy = Inode(source.type, source.mode, 0)
            copy.copy_of(source)
            copy.xattrs = {k: v for k, v in source.xattrs.items() if self._marks.outer_xattr(k) is not None}
            self._disk.add(parent, node.name, copy)
            parent.mtime = before  # copying up is not a change to the directory that anyone asked for
            node.upper = copy
            if not source.is_directory:
                node.lowers = ()
        return node.upper

    def stat(self, node: UnionNode) -> FileStat:
        """lstat(2) of the topmost layer's inode; a merged directory does not count its links."""
        stat = stat_of(self.inode(node))
        return replace(stat, links=1) if len(node.layers) > 1 else stat

    def names(self, directory: UnionNode) -> Iterable[str]:
        """Names of all layers, but for what a layer above hides."""
        shown: set[str] = set()
        hidden: set[str] = set()
        for layer in directory.layers:
            shown.update(n for n in layer.children if n not in hidden and self._marks.shows(layer, n))
            hidden |= self._marks.hidden(layer)
        return shown

    def lookup(self, directory: UnionNode, name: str) -> UnionNode | None:
        """The entry as the layers together show it."""
        upper: Inode | None = None
        lowers: list[Inode] = []
        for layer in directory.layers:
            child = layer.children.get(name)
            if child is None or not self._marks.shows(layer, name):
                if self._marks.hides(layer, name):
                    break
                continue
            found = upper is not None or bool(lowers)
            if found and not child.is_directory:
                break
            if layer is directory.upper:
                upper = child
            else:
                lowers.append(child)
            if not child.is_directory or self._marks.opaque(child) or self._marks.hides(layer, name):
                break
        if upper is None and not lowers:
            return None
        return UnionNode(upper, tuple(lowers), directory, name)

    def _below(self, directory: UnionNode, name: str) -> bool:
        """Whether a lower layer would show ``name`` if the upper one said nothing."""
        return self.lookup(UnionNode(None, directory.lowers, directory.parent, directory.name), name) is not None

    def add(self, directory: UnionNode, name: str, inode: Inode) -> None:
        """Make ``inode`` an entry of the upper directory."""
        if self._marks.reserved(name, inode):
            raise fail(errno.EPERM, name)
        upper, disk = self.writable(directory), self._upper_disk()
        marked = self._marks.clear(disk, upper, name)
        disk.add(upper, name, inode)
        # Without a mark there is nothing below to hide; the kernel too sets none then, as long as index is off.
        if inode.is_directory and marked:
            self._marks.set_opaque(disk, inode)

    def link(self, node: UnionNode, directory: UnionNode, name: str) -> None:
        """Copy the object up and give the copy a second name."""
        inode, upper, disk = self.writable(node), self.writable(directory), self._upper_disk()
        self._marks.clear(disk, upper, name)
        disk.add(upper, name, inode)

    def remove(self, directory: UnionNode, name: str) -> None:
        """Remove an entry and hide what lies below it."""
        node = self.lookup(directory, name)
        assert node is not None, "the caller has looked the name up"
        if self.inode(node).is_directory and self.names(node):
            raise fail(errno.ENOTEMPTY, name)
        upper, disk = self.writable(directory), self._upper_disk()
        self._take_away(disk, upper, name)
        if self._below(directory, name):
            self._marks.white_out(disk, upper, name)

    def _take_away(self, disk: DiskFS, upper: Inode, name: str) -> None:
        """Remove an entry of the upper layer, with the marks that an empty directory still holds."""
        child = upper.children.get(name)
        if child is None:
            return
        if child.is_directory:
            for mark in list(child.children):
                disk.remove(child, mark)
        disk.remove(upper, name)

    def rename(self, old: UnionNode, old_name: str, new: UnionNode, new_name: str) -> None:
        """Move an entry within the upper layer, copied up before and hidden behind."""
        node, replaced = self.lookup(old, old_name), self.lookup(new, new_name)
        assert node is not None, "the caller has looked the name up"
        if self.inode(node).is_directory and node.lowers:
            raise fail(errno.EXDEV, old_name)
        if replaced is not None:
            if self.inode(replaced) is self.inode(node):
                return
            self.remove(new, new_name)
        inode, disk = self.writable(node), self._upper_disk()
        source, target = self.writable(old), self.writable(new)
        self._marks.clear(disk, target, new_name)
        disk.rename(source, old_name, target, new_name)
        if inode.is_directory and new.lowers:
            self._marks.set_opaque(disk, inode)
        if self._below(old, old_name):
            self._marks.white_out(disk, source, old_name)

    def outer_xattr(self, stored: str) -> str | None:
        """Hide what the union keeps for itself."""
        return self._marks.outer_xattr(stored)

    def stored_xattr(self, name: str) -> str:
        """Keep apart what the union keeps for itself."""
        return self._marks.stored_xattr(name)

    def _upper_disk(self) -> DiskFS:
        if self._disk is None:
            raise fail(errno.EROFS)
        return self._disk
