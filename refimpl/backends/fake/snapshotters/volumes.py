"""Snapshots kept as volumes with file systems of their own: btrfs, devmapper and zfs.

The fake host has every device that a configuration names: ROOT of btrfs and zfs is a mounted file system of that type,
a thin pool exists under any name. What is asked of the real plugins and can fail for want of hardware cannot fail here.
A snapshot of a volume is a clone that shares pages, so it costs what is changed.
Clauses SNX-037 to SNX-069.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from refimpl.backends.fake.fs import DiskFS
from refimpl.backends.fake.fs_inode import Inode, clone_tree, stat_of, tree
from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.mounttable import Volume
from refimpl.contract.context import CallContext
from refimpl.contract.errors import FailedPrecondition, Unimplemented
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.snapshots.config import check_fs_type, check_size
from refimpl.snapshots.layered import Prefixes
from refimpl.snapshots.record import Record, Snapshot

FSTYPE_LABEL = "containerd.io/snapshot/devmapper/fstype"
"""The type of the file system on a thin device and on all that are cloned from it (SNX-054)."""

DEFAULT_POOL = "fake-pool"
"""The thin pool of a host whose configuration names none; the real plugin refuses to load then (SNX-045)."""

_EMPTY_EXT4 = 9_109_504  # bytes that mkfs writes: a fresh file system is not nothing (SNX-056)
_EMPTY_DATASET = 114_688
_PASSED = Prefixes(create="", commit="", remove="", mounts="")


def _bytes(inodes: Iterable[Inode], directory_blocks: int = 0) -> int:
    return sum(stat_of(inode, directory_blocks).blocks * 512 for inode in inodes)


def _changed(root: Inode, below: Inode) -> list[Inode]:
    """The inodes of a tree that are not what the tree below has at the same place."""
    changed: list[Inode] = []
    todo: list[tuple[Inode, Inode | None]] = [(root, below)]
    while todo:
        inode, old = todo.pop()
        if old is None or not _same(inode, old):
            changed.append(inode)
        for name, child in inode.children.items():
            todo.append((child, old.children.get(name) if old else None))
    return list({inode.number: inode for inode in changed}.values())


def _same(a: Inode, b: Inode) -> bool:
    kept = (a.type, a.mode, a.uid, a.gid, a.device, a.target) == (b.type, b.mode, b.uid, b.gid, b.device, b.target)
    return kept and (a.is_directory or (a.size, a.mtime) == (b.size, b.mtime))


class _Volumes:
    """What the three have in common."""

    prefixes = _PASSED

    def __init__(self, host: FakeHost, root: str) -> None:
        self.root = root
        self._host = host

    def labels(self, before: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
        """The caller's, and nothing inherited (SNP-061, SNP-062)."""
        return given

    def shown(self, record: Record) -> Info:
        """The record as it is."""
        return record.info

    def undo(self, snapshot: Snapshot) -> None:
        """Unheard of: a transaction in memory is committed or refused before anything is made."""

    def strays(self, live: frozenset[int]) -> Sequence[str]:
        """Refuse: what was removed is gone already."""
        raise Unimplemented

    def discard(self, names: Sequence[str]) -> None:
        """Volumes are taken away inside the transaction: nothing is left for later."""

    def _mount_root(self, type: str, source: str, mode: int) -> Volume:
        """ROOT as a mounted file system, unless an earlier kernel on this host has mounted it."""
        with self._host.lock:
            volume = self._host.volumes.get(source)
            if volume is None:
                disk = DiskFS(self._host.clock, directory_blocks=0)
                volume = self._host.volumes[source] = Volume(type, {0: disk})
                self._host.fs.makedirs(self.root, 0o700)
                self._host.mounts.mount(self.root, Mount(type, source))
            self._host.fs.chmod(self.root, mode)
            return volume


class BtrfsLayers(_Volumes):
    """Layers that are subvolumes: active/ID, view/ID and, read only, snapshots/ID."""

    def __init__(self, host: FakeHost, root: str) -> None:
        super().__init__(host, root)
        self._device = _device_of(host, root)
        self._volume = self._mount_root("btrfs", self._device, 0o700)
        for name in ("active", "view", "snapshots"):
            if not host.fs.exists(f"{root}/{name}"):
                host.fs.mkdir(f"{root}/{name}", 0o755)

    def _path(self, kind: Kind, id: int) -> str:
        folder = {Kind.ACTIVE: "active", Kind.VIEW: "view", Kind.COMMITTED: "snapshots"}[kind]
        return f"{self.root}/{folder}/{id}"

    def _subvolume(self, path: str, *, source: str = "", read_only: bool = False) -> None:
        """Make a subvolume, empty or as a snapshot of another one."""
        self._host.fs.mkdir(path, 0o755)
        _, directory = self._host.mounts.origin(path)
        if source:
            clone_tree(self._host.mounts.origin(source)[1], directory)
        disk = DiskFS(self._host.clock, directory_blocks=0, root=directory, read_only=read_only)
        self._volume.trees[next(self._volume.numbers)] = disk

    def _number(self, path: str) -> int:
        _, directory = self._host.mounts.origin(path)
        return next(number for number, disk in self._volume.trees.items() if number and disk.root is directory)

    def _delete(self, path: str) -> None:
        del self._volume.trees[self._number(path)]
        self._host.fs.rmtree(path)

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """A snapshot of the parent's subvolume, or an empty one (SNX-039)."""
        ctx.check()
        source = self._path(Kind.COMMITTED, snapshot.parents[0]) if snapshot.parents else ""
        read_only = bool(source) and snapshot.kind is Kind.VIEW
        self._subvolume(self._path(snapshot.kind, snapshot.id), source=source, read_only=read_only)

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """The subvolume by its id (SNX-040)."""
        number = self._number(self._path(snapshot.kind, snapshot.id))
        mode = ("ro",) if snapshot.kind is Kind.VIEW else ()
        return [Mount("btrfs", self._device, options=(f"subvolid={number}", *mode))]

    def usage(self, ctx: CallContext, snapshot: Snapshot) -> Usage:
        """What differs from the parent; the whole tree without one (SNX-042)."""
        _, root = self._host.mounts.origin(self._path(snapshot.kind, snapshot.id))
        if not snapshot.parents:
            inodes = list(tree(root))
            return Usage(_bytes(inodes), len(inodes))
        _, below = self._host.mounts.origin(self._path(Kind.COMMITTED, snapshot.parents[0]))
        changed = [inode for inode in _changed(root, below) if inode is not root]
        return Usage(_bytes(changed), len(changed) + 1)  # the root counts, changed or not

    def commit(self, snapshot: Snapshot) -> None:
        """A read-only snapshot takes the active one's place, under a new subvolume id (SNX-041)."""
        active = self._path(Kind.ACTIVE, snapshot.id)
        self._subvolume(self._path(Kind.COMMITTED, snapshot.id), source=active, read_only=True)
        self._delete(active)

    def remove(self, record: Record) -> Sequence[str]:
        """Delete the subvolume (SNX-043)."""
        self._delete(self._path(record.kind, record.id))
        return ()


def _device_of(host: FakeHost, root: str) -> str:
    """The block device below ROOT: the one of an earlier kernel on this host, or a new one."""
    with host.lock:
        for entry in host.mounts.entries():
            if entry.target == root and entry.mount.type == "btrfs":
                return entry.mount.source
        taken = sum(volume.type == "btrfs" for volume in host.volumes.values())
        return f"/dev/fake-btrfs{taken}"


@dataclass
class _Pool:
    """The table of thin devices, kept in ROOT/POOL.db.

    Attributes:
        devices: every thin volume by snapshot number, active or not.
        removed: those that ``cleanup`` is to delete.
    """

    devices: dict[int, Volume] = field(default_factory=dict)
    removed: set[int] = field(default_factory=set)


class DevmapperLayers(_Volumes):
    """Layers that are thin devices of a pool.

    Args:
        pool: the pool's name; empty for a default one.
        size: of a device, such as ``10GB``; empty for a default one. Not enforced.
        fs_type: of fresh devices; empty for ext4.
        async_remove: delete devices in the next clean-up only.

    Raises:
        Unknown: a size or type that the real plugin refuses (SNX-047, SNX-048).
    """

    def __init__(
        self,
        host: FakeHost,
        root: str,
        *,
        pool: str = "",
        size: str = "",
        fs_type: str = "",
        async_remove: bool = False,
    ) -> None:
        super().__init__(host, root)
        if size:
            check_size(size)
        check_fs_type(fs_type)
        self._pool_name = pool or DEFAULT_POOL
        self._fs_type = fs_type or "ext4"
        self._async = async_remove
        host.fs.makedirs(root, 0o750)
        table = f"{root}/{self._pool_name}.db"
        found = host.databases.setdefault(table, _Pool())
        assert isinstance(found, _Pool), "nobody else writes a database of that name"
        self._pool = found
        if not host.fs.exists(table):
            host.fs.write(table, b"", mode=0o600)

    def _source(self, id: int) -> str:
        return f"/dev/mapper/{self._pool_name}-snap-{id}"

    def labels(self, before: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
        """The caller's, and the file system type that goes down the chain (SNX-054)."""
        return {**given, FSTYPE_LABEL: before.get(FSTYPE_LABEL, self._fs_type)}

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """A thin snapshot of the parent's device, or a fresh one (SNX-051, SNX-055)."""
        ctx.check()
        if snapshot.parents:
            below = self._pool.devices[snapshot.parents[0]]
            device = Volume(below.type, {0: below.trees[0].clone()})
        else:
            device = Volume(self._fs_type, {0: DiskFS(self._host.clock)})
        self._pool.devices[snapshot.id] = device
        self._host.volumes[self._source(snapshot.id)] = device

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """The device (SNX-053)."""
        type = self._pool.devices[snapshot.id].type
        options: tuple[str, ...] = ("nouuid",) if type == "xfs" else ()
        if snapshot.kind is Kind.VIEW:
            options += ("ro",)
        return [Mount(type, self._source(snapshot.id), options=options)]

    def _mapped(self, id: int) -> int:
        return _EMPTY_EXT4 + _bytes(tree(self._pool.devices[id].trees[0].root), 8)

    def usage(self, ctx: CallContext, snapshot: Snapshot) -> Usage:
        """Mapped bytes less the parent's; inodes are not counted (SNX-056)."""
        below = self._mapped(snapshot.parents[0]) if snapshot.parents else 0
        return Usage(max(0, self._mapped(snapshot.id) - below), 0)

    def commit(self, snapshot: Snapshot) -> None:
        """Deactivate the device; the volume stays in the pool (SNX-055)."""
        self._host.volumes.pop(self._source(snapshot.id), None)

    def remove(self, record: Record) -> Sequence[str]:
        """Delete the device, or mark it for the next clean-up (SNX-058, SNX-059).

        Raises:
            FailedPrecondition: the device is mounted.
        """
        source = self._source(record.id)
        if any(entry.mount.source == source for entry in self._host.mounts.entries()):
            raise FailedPrecondition(f'failed to remove device "{source.removeprefix("/dev/mapper/")}": device is busy')
        self._host.volumes.pop(source, None)
        self._pool.removed.add(record.id)
        if not self._async:
            self._delete_removed()
        return ()

    def _delete_removed(self) -> None:
        for id in self._pool.removed:
            self._pool.devices.pop(id, None)
        self._pool.removed.clear()

    def strays(self, live: frozenset[int]) -> Sequence[str]:
        """Delete what was marked; nothing to do without async_remove (SNX-059)."""
        self._delete_removed()
        return ()


class ZfsLayers(_Volumes):
    """Layers that are datasets below the one mounted at ROOT."""

    prefixes = Prefixes(mounts="")

    def __init__(self, host: FakeHost, root: str) -> None:
        super().__init__(host, root)
        self._dataset = f"fake-zpool{root}"
        self._mount_root("zfs", self._dataset, 0o755)

    def _source(self, id: int) -> str:
        return f"{self._dataset}/{id}"

    def _frozen(self, id: int) -> str:
        return f"{self._source(id)}@snapshot"

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """A clone of the parent's snapshot, or an empty dataset (SNX-065)."""
        ctx.check()
        if snapshot.parents:
            disk = self._host.volumes[self._frozen(snapshot.parents[0])].trees[0].clone()
        else:
            disk = DiskFS(self._host.clock, directory_blocks=0)
        self._host.volumes[self._source(snapshot.id)] = Volume("zfs", {0: disk})

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """The dataset; ``ro`` for a view also later on, which the real plugin forgets (SNX-066, SNX-067)."""
        mode = ("ro",) if snapshot.kind is Kind.VIEW else ()
        return [Mount("zfs", self._source(snapshot.id), options=mode)]

    def usage(self, ctx: CallContext, snapshot: Snapshot) -> Usage:
        """What the dataset uses by itself; inodes are not known (SNX-068)."""
        root = self._host.volumes[self._source(snapshot.id)].trees[0].root
        if not snapshot.parents:
            return Usage(_EMPTY_DATASET + _bytes(tree(root)), -1)
        below = self._host.volumes[self._frozen(snapshot.parents[0])].trees[0].root
        return Usage(_bytes(_changed(root, below)), -1)

    def commit(self, snapshot: Snapshot) -> None:
        """Add the dataset's snapshot, from which children are cloned (SNX-065)."""
        disk = self._host.volumes[self._source(snapshot.id)].trees[0].clone()
        disk.read_only = True
        self._host.volumes[self._frozen(snapshot.id)] = Volume("zfs", {0: disk})

    def remove(self, record: Record) -> Sequence[str]:
        """Destroy the dataset and its snapshot (SNX-069)."""
        self._host.volumes.pop(self._frozen(record.id), None)
        del self._host.volumes[self._source(record.id)]
        return ()
