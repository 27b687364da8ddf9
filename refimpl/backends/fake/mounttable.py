"""mount(2) and umount(2) of the fake host, and the table of what is mounted where.

A mount hides a directory of another mount; the path walk of ``fs_view`` asks here whenever it enters one. File
systems on devices (btrfs, ext4, xfs, zfs) come from the host's volumes, overlay and aufs are made over directories.
Errors are the kernel's: ENODEV for an unknown type, EINVAL for unknown data, ENOENT for a missing source.
Clauses MNT-002 to MNT-017, MNT-020, MNT-021.
"""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from refimpl.backends.fake.fs import DiskFS, FileSystem
from refimpl.backends.fake.fs_inode import Inode, fail
from refimpl.backends.fake.fs_paths import MountPoint
from refimpl.backends.fake.fs_union import AufsMarks, OverlayMarks, UnionFS
from refimpl.backends.fake.fs_view import View
from refimpl.contract.errors import InvalidArgument, Unknown
from refimpl.contract.mount_options import PAGE_SIZE, MountOptions, parse_options, shorten_lower_directories
from refimpl.contract.mounts import Mount
from refimpl.contract.times import Clock

_OVERLAY_OPTIONS = {
    "lowerdir", "upperdir", "workdir", "index", "userxattr", "redirect_dir", "metacopy", "xino", "volatile",
    "nfs_export", "default_permissions", "uuid", "fsync",
}  # fmt: skip
_TMPFS_OPTIONS = {
    "size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "huge", "mpol", "inode32", "inode64", "noswap",
}  # fmt: skip
_VOLUME_OPTIONS = {
    "btrfs": {"subvol", "subvolid", "discard", "ssd", "nodatacow", "compress", "space_cache"},
    "ext4": {"discard", "nodiscard", "data", "errors", "barrier", "nobarrier"},
    "xfs": {"nouuid", "discard", "nodiscard"},
    "zfs": set[str](),
}
_AUFS_OPTIONS = {"br", "dio", "xino", "dirperm1"}


@dataclass
class Volume:
    """A block device or dataset with file systems in it.

    Attributes:
        type: file system type that mount(2) finds on it.
        trees: its file systems: one, with number 0, or a btrfs's subvolumes by their id.
        numbers: the ids of new subvolumes; none comes twice.
    """

    type: str
    trees: dict[int, DiskFS] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(256))


@dataclass(frozen=True, slots=True)
class MountEntry:
    """A line of the mount table.

    Attributes:
        target: the directory as it was named.
        mount: what was asked for.
        read_only: whether ``ro`` is in effect.
    """

    target: str
    mount: Mount
    read_only: bool


@dataclass(slots=True, eq=False)
class _Mounted:
    """What the table keeps: where a mount hangs, and through which directories of that mount one gets there."""

    target: str
    mount: Mount
    point: MountPoint
    parent: MountPoint
    key: Hashable
    through: frozenset[Hashable]


class MountTable:
    """What is mounted on the fake host.

    Args:
        root: the disk at ``/``.
        volumes: block devices and datasets by name; the host's own table, looked at at each mount.
    """

    def __init__(self, root: DiskFS, volumes: dict[str, Volume], lock: threading.RLock, clock: Clock) -> None:
        self._volumes = volumes
        self._clock = clock
        self._lock = lock
        self._over: dict[int, dict[Hashable, _Mounted]] = {}
        self._mounted: list[_Mounted] = []
        mount = MountPoint(root, root.root)
        self.view = View(self, mount, root.root, lock, clock)

    def on(self, mount: MountPoint, node: Any) -> MountPoint | None:
        """What is mounted on a node, as seen through ``mount``."""
        over = self._over.get(id(mount))
        if not over:
            return None
        record = over.get(mount.fs.key(node))
        return None if record is None else record.point

    def origin(self, path: str) -> tuple[DiskFS, Inode]:
        """The disk and directory that a path leads to, for those who keep trees there.

        Raises:
            OSError: ENOENT, ENOTDIR; EINVAL inside a union.
        """
        disk, node, _ = self._directory(path)
        return disk, node

    def entries(self) -> list[MountEntry]:
        """The table, oldest mount first."""
        with self._lock:
            return [MountEntry(r.target, r.mount, r.point.read_only or r.point.fs.read_only) for r in self._mounted]

    def mount(self, target: str, mount: Mount) -> None:
        """Perform one mount.

        Raises:
            OSError: with mount(2)'s errno.
            Unknown: more option data than a page takes (MNT-012).
            InvalidArgument: an option that this host cannot do.
        """
        _, shortened = shorten_lower_directories(mount)
        options = parse_options(shortened.options)
        if len(",".join(options.data)) > PAGE_SIZE:
            raise Unknown("mount options is too long")
        if mount.type.startswith(("fuse.", "fuse3.")):
            # A helper program's matter (MNT-019), of which this host has none.
            raise Unknown(_helper_failed(mount, target))
        if options.loop:
            raise InvalidArgument("the fake host has no loop devices: option loop")
        if any("\0" in word for word in (mount.source, mount.type, *options.data)):
            raise fail(errno.EINVAL, mount.source)
        with self._lock:
            trail = self.view.locate(target)
            if "remount" in options.flags:
                self._remount(target, options)
                return
            # Only what the kernel is told may be shortened; the directories are found by their full names.
            full = parse_options(mount.options)
            point = self._bind(mount, full) if full.bind else self._new(mount, full)
            parent, node = trail[-1]
            if point.fs.inode(point.root).is_directory is not parent.fs.inode(node).is_directory:
                raise fail(errno.ENOTDIR, target)
            through = frozenset(m.fs.key(n) for m, n in trail if m is parent)
            self._attach(_Mounted(target, mount, point, parent, parent.fs.key(node), through))
            if "rbind" in full.flags:
                self._take_along(mount.source, target, point)

    def _attach(self, record: _Mounted) -> None:
        self._over.setdefault(id(record.parent), {})[record.key] = record
        self._mounted.append(record)

    def _remount(self, target: str, options: MountOptions) -> None:
        self._top(target).point.read_only = options.read_only

    def _bind(self, mount: Mount, options: MountOptions) -> MountPoint:
        source, node = self.view.locate(mount.source)[-1]
        return MountPoint(source.fs, node, read_only=options.read_only or source.read_only)

    def _take_along(self, source: str, target: str, copy: MountPoint) -> None:
        """Mount again, below a recursive bind, what is mounted below its source (with its own flags: MNT-009)."""
        origin, node = self.view.locate(source)[-1]
        todo = [(origin, origin.fs.key(node), copy)]
        while todo:
            old, key, new = todo.pop()
            for record in list(self._over.get(id(old), {}).values()):
                if key not in record.through or record.point is copy:
                    continue
                point = MountPoint(record.point.fs, record.point.root, record.point.read_only)
                self._attach(_Mounted(target, record.mount, point, new, record.key, record.through))
                todo.append((record.point, point.fs.key(point.root), point))

    def _new(self, mount: Mount, options: MountOptions) -> MountPoint:
        # A file system gets one text, whoever put the commas in.
        options = replace(options, data=tuple(filter(None, ",".join(options.data).split(","))))
        if mount.type == "tmpfs":
            fs = self._tmpfs(options)
        elif mount.type == "overlay":
            return self._point(self._overlay(options), options)
        elif mount.type == "aufs":
            return self._point(self._aufs(options), options)
        elif mount.type in _VOLUME_OPTIONS:
            fs = self._volume(mount, options)
        else:
            raise fail(errno.ENODEV, mount.type)
        return self._point(fs, options)

    @staticmethod
    def _point(fs: FileSystem[Any], options: MountOptions) -> MountPoint:
        return MountPoint(fs, fs.root, read_only=options.read_only)

    def _tmpfs(self, options: MountOptions) -> DiskFS:
        _check_options(options, _TMPFS_OPTIONS)
        fs = DiskFS(self._clock, directory_blocks=0)
        fs.root.mode = int(options.value("mode") or "1777", 8)
        fs.root.uid, fs.root.gid = int(options.value("uid") or 0), int(options.value("gid") or 0)
        return fs

    def _volume(self, mount: Mount, options: MountOptions) -> DiskFS:
        _check_options(options, _VOLUME_OPTIONS[mount.type])
        volume = self._volumes.get(mount.source)
        if volume is None:
            self.view.locate(mount.source)
            raise fail(errno.ENOTBLK, mount.source)
        if volume.type != mount.type:
            raise fail(errno.EINVAL, mount.source)
        number = int(options.value("subvolid") or 0)
        if number not in volume.trees:
            raise fail(errno.ENOENT, mount.source)
        return volume.trees[number]

    def _directory(self, path: str) -> tuple[DiskFS, Inode, MountPoint]:
        """A directory of a disk, as a layer of a union."""
        mount, node = self.view.locate(path)[-1]
        if not isinstance(mount.fs, DiskFS):
            raise fail(errno.EINVAL, path)  # a union on a union: the kernel refuses it as an upper layer too
        if not node.is_directory:
            raise fail(errno.EINVAL, path)  # the overlay's own check: path walks are not involved
        return mount.fs, node, mount

    def _overlay(self, options: MountOptions) -> UnionFS:
        _check_options(options, _OVERLAY_OPTIONS)
        if options.value("redirect_dir") == "on":
            raise InvalidArgument("the fake host's overlay does not redirect directories: option redirect_dir=on")
        lower, upper = options.value("lowerdir"), options.value("upperdir")
        if not lower:
            raise fail(errno.EINVAL, "overlay")
        lowers = [self._directory(path)[1] for path in lower.split(":")]
        marks = OverlayMarks("user" if "userxattr" in options.data else "trusted")
        if upper is None:
            if len(lowers) < 2:
                raise fail(errno.EINVAL, "overlay")
            return UnionFS(None, None, lowers, marks)
        disk, node, mount = self._directory(upper)
        if mount.read_only:
            raise fail(errno.EINVAL, upper)
        self._work_directory(options, mount)
        return UnionFS(disk, node, lowers, marks)

    def _work_directory(self, options: MountOptions, upper: MountPoint) -> None:
        """Claim the work directory, where the kernel prepares what it renames into place."""
        path = options.value("workdir")
        if path is None:
            raise fail(errno.EINVAL, "overlay")
        if self._directory(path)[2] is not upper:
            raise fail(errno.EINVAL, path)
        if self.view.exists(f"{path}/work/incompat/volatile"):
            raise fail(errno.EINVAL, path)
        if not self.view.exists(f"{path}/work"):
            self.view.mkdir(f"{path}/work", 0)
        if "volatile" in options.data:
            self.view.makedirs(f"{path}/work/incompat/volatile", 0)

    def _aufs(self, options: MountOptions) -> UnionFS:
        _check_options(options, _AUFS_OPTIONS)
        branches = next((o.removeprefix("br:") for o in options.data if o.startswith("br:")), "")
        upper: tuple[DiskFS, Inode] | None = None
        lowers: list[Inode] = []
        for branch in branches.split(":"):
            path, _, mode = branch.partition("=")
            disk, node, _mount = self._directory(path)
            if mode == "rw":
                upper = (disk, node)
            else:
                lowers.append(node)
        return UnionFS(upper[0] if upper else None, upper[1] if upper else None, lowers, AufsMarks())

    def _top(self, target: str) -> _Mounted:
        mount, node = self.view.locate(target)[-1]
        record = next((r for r in self._mounted if r.point is mount), None)
        if record is None or mount.fs.key(node) != mount.fs.key(mount.root):
            raise fail(errno.EINVAL, target)
        return record

    def unmount(self, target: str) -> None:
        """Undo the topmost mount on ``target``.

        Raises:
            OSError: EINVAL if it is no mount point, EBUSY if something is mounted below it.
        """
        with self._lock:
            record = self._top(target)
            if self._over.get(id(record.point)):
                raise fail(errno.EBUSY, target)
            self._detach(record)

    def unmount_all(self, target: str) -> None:
        """Undo every mount on ``target`` and those below, deepest first; no mount point is no error (MNT-020, 021)."""
        with self._lock:
            while target:
                try:
                    record = self._top(target)
                except OSError as error:
                    if error.errno in {errno.EINVAL, errno.ENOENT}:
                        return
                    raise
                self._detach_tree(record)

    def _detach_tree(self, record: _Mounted) -> None:
        for above in list(self._over.get(id(record.point), {}).values()):
            self._detach_tree(above)
        self._detach(record)

    def _detach(self, record: _Mounted) -> None:
        over = self._over[id(record.parent)]
        del over[record.key]
        if not over:
            del self._over[id(record.parent)]
        self._mounted.remove(record)


def _helper_failed(mount: Mount, target: str) -> str:
    kind, _, name = mount.type.partition(".")
    options = "".join(f" -o {option}" for option in mount.options)
    told = f"mount.{kind} [{mount.source} {target}{options} -t {name}]"
    return f'mount helper [{told}] failed: "": executable file not found in $PATH'


def _check_options(options: MountOptions, known: set[str]) -> None:
    for option in options.data:
        if option.partition("=")[0].partition(":")[0] not in known:
            raise fail(errno.EINVAL, option)
