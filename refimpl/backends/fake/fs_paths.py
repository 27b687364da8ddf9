"""Where a path leads in the fake world: through directories, symlinks and mounts, never above its root.

Clauses MNT-002, MNT-006, DIF-035.
"""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from refimpl.backends.fake.fs import FileSystem
from refimpl.backends.fake.fs_inode import fail
from refimpl.contract.mounts import FileType

_SYMLINKS_MAX = 40


@dataclass(slots=True, eq=False)
class MountPoint:
    """A file system where it is mounted.

    Attributes:
        fs: the file system; its nodes are opaque to everybody else.
        root: the directory (or, of a bind, the file) that is shown.
        read_only: of this mount; the file system may be read only by itself.
    """

    fs: FileSystem[Any]
    root: Any
    read_only: bool = False


class Mounts(Protocol):
    """Where something is mounted on something."""

    def on(self, mount: MountPoint, node: Any) -> MountPoint | None:
        """What is mounted on a node, as seen through ``mount``."""
        ...


@dataclass(slots=True)
class Place:
    """Where a path leads.

    Attributes:
        mount, node: the object; node is None where nothing has the name yet.
        directory, name: how it is entered; directory is None for the root and for a mount point.
    """

    mount: MountPoint
    node: Any
    directory: Any
    name: str


class Paths:
    """The paths below one directory. The caller holds the host's lock.

    Args:
        mounts: what is mounted where.
        mount, node: the directory that is the root.
    """

    def __init__(self, mounts: Mounts, mount: MountPoint, node: Any) -> None:
        self._mounts = mounts
        self._root = (mount, node)

    def resolve(self, path: str, *, follow: bool = False) -> Place:
        return self.trail(path, follow=follow)[-1]

    def trail(self, path: str, *, follow: bool = False) -> list[Place]:
        """Walk ``path``, from the root to where it leads; only the last name may be missing.

        Raises:
            OSError: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG.
        """
        if "\0" in path:
            raise ValueError("embedded null byte")
        trail = [Place(*self._root, None, "")]
        names = deque(path.split("/"))
        symlinks = 0
        while names:
            name = names.popleft()
            if name in {"", "."}:
                continue
            here = trail[-1]
            if here.node is None:
                raise fail(errno.ENOENT, path)
            if here.mount.fs.inode(here.node).type is not FileType.DIRECTORY:
                raise fail(errno.ENOTDIR, path)
            if name == "..":
                if len(trail) > 1:
                    trail.pop()
                continue
            place = self._enter(here, name)
            target = self.symlink(place)
            if target is not None and (names or follow):
                symlinks += 1
                if symlinks > _SYMLINKS_MAX:
                    raise fail(errno.ELOOP, path)
                names.extendleft(reversed(target.split("/")))
                if target.startswith("/"):
                    del trail[1:]
                continue
            trail.append(place)
        return trail

    def _enter(self, here: Place, name: str) -> Place:
        node = here.mount.fs.lookup(here.node, name)
        if node is None:
            return Place(here.mount, None, here.node, name)
        mount, crossed = here.mount, False
        while (over := self._mounts.on(mount, node)) is not None:
            mount, node, crossed = over, over.root, True
        return Place(mount, node, None if crossed else here.node, name)

    @staticmethod
    def symlink(place: Place) -> str | None:
        if place.node is None:
            return None
        inode = place.mount.fs.inode(place.node)
        return inode.target if inode.type is FileType.SYMLINK else None

    def found(self, path: str, *, follow: bool = False) -> Place:
        place = self.resolve(path, follow=follow)
        if place.node is None:
            raise fail(errno.ENOENT, path)
        return place

    def vacant(self, path: str) -> Place:
        """Where a new object goes.

        Raises:
            OSError: EEXIST, EROFS, or as the walk gives.
        """
        place = self.resolve(path)
        if place.node is not None:
            raise fail(errno.EEXIST, path)
        return self.changeable(place, path)

    @staticmethod
    def changeable(place: Place, path: str) -> Place:
        if place.mount.read_only or place.mount.fs.read_only:
            raise fail(errno.EROFS, path)
        return place

    def entry(self, path: str) -> Place:
        """An entry that is to be taken away.

        Raises:
            OSError: EBUSY, EROFS (before the entry is asked for, as the kernel does it), ENOENT, or as the walk gives.
        """
        place = self.resolve(path)
        if place.directory is None:
            raise fail(errno.EBUSY, path)
        self.changeable(place, path)
        if place.node is None:
            raise fail(errno.ENOENT, path)
        return place
