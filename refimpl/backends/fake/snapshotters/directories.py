"""Snapshots kept as directories: overlayfs, aufs and native.

On the fake disk, as the real plugins keep them::

    ROOT/                    0700
      metadata.db            0600, made at the first use
      snapshots/             0700
        ID/                  0700 for overlayfs and aufs; the tree itself for native
          fs/                0755, the layer
          work/              0711, of overlayfs and of active snapshots only

Clauses SNX-007 to SNX-024, SNX-029 to SNX-036, SNX-071.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refimpl.backends.fake.fs_inode import clone_tree
from refimpl.backends.fake.host import FakeHost
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unimplemented
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.snapshots.layered import Prefixes, with_label
from refimpl.snapshots.record import Record, Snapshot

UPPERDIR_LABEL = "containerd.io/snapshot/overlay.upperdir"
"""Where the layer is, if the configuration asks for the label (SNX-022)."""


def disk_usage(host: FakeHost, path: str) -> Usage:
    """Allocated bytes and distinct inodes of a tree, its root included (SNP-084)."""
    seen: dict[int, int] = {}
    for _, stat in host.fs.walk(path):
        seen[stat.inode] = stat.blocks * 512
    return Usage(sum(seen.values()), len(seen))


class _Directories:
    """What the three have in common: ROOT/snapshots with an entry for each number."""

    prefixes = Prefixes()

    def __init__(self, host: FakeHost, root: str) -> None:
        self.root = root
        self._host = host
        self._snapshots = f"{root}/snapshots"
        host.fs.makedirs(root, 0o700)
        if not host.fs.exists(self._snapshots):
            host.fs.mkdir(self._snapshots, 0o700)

    def commit(self, snapshot: Snapshot) -> None:
        """Nothing moves: the layer becomes a lower one where it is (SNX-017)."""

    def labels(self, before: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
        """The caller's, and nothing inherited (SNP-061, SNP-062)."""
        return given

    def shown(self, record: Record) -> Info:
        """The record as it is."""
        return record.info

    def undo(self, snapshot: Snapshot) -> None:
        """Delete the directory."""
        self.discard([str(snapshot.id)])

    def strays(self, live: frozenset[int]) -> Sequence[str]:
        """Refuse: what was removed is gone already (SNX-035)."""
        raise Unimplemented

    def discard(self, names: Sequence[str]) -> None:
        """Delete entries; one that is missing is no error (SNX-035)."""
        for name in names:
            path = f"{self._snapshots}/{name}"
            if self._host.fs.exists(path):
                self._host.fs.rmtree(path)


class OverlayLayers(_Directories):
    """Layers that the kernel's overlay stacks.

    Args:
        upperdir_label: answer with the label that says where the layer is.
    """

    def __init__(self, host: FakeHost, root: str, *, upperdir_label: bool = False) -> None:
        super().__init__(host, root)
        self._upperdir_label = upperdir_label
        self._common: tuple[str, ...] = ("index=off",) if host.features.overlay_index else ()
        if host.features.user_namespace:
            self._common += ("userxattr",)

    def _fs(self, id: int) -> str:
        return f"{self._snapshots}/{id}/fs"

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """Make the layer's directory, owned as the parent's (SNX-016)."""
        fs, path = self._host.fs, f"{self._snapshots}/{snapshot.id}"
        fs.mkdir(path, 0o700)
        fs.mkdir(f"{path}/fs", 0o755)
        if snapshot.kind is Kind.ACTIVE:
            fs.mkdir(f"{path}/work", 0o711)
        if snapshot.parents:
            below = fs.lstat(self._fs(snapshot.parents[0]))
            fs.lchown(f"{path}/fs", below.uid, below.gid)

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """A bind of the only layer there is, else an overlay (SNX-009 to SNX-014)."""
        if not snapshot.parents:
            mode = "ro" if snapshot.kind is Kind.VIEW else "rw"
            return [Mount("bind", self._fs(snapshot.id), options=(mode, "rbind"))]
        if snapshot.kind is Kind.VIEW and len(snapshot.parents) == 1:
            return [Mount("bind", self._fs(snapshot.parents[0]), options=("ro", "rbind"))]
        return [self._union(snapshot)]

    def _union(self, snapshot: Snapshot) -> Mount:
        own: tuple[str, ...] = ()
        if snapshot.kind is Kind.ACTIVE:
            path = f"{self._snapshots}/{snapshot.id}"
            own = (f"workdir={path}/work", f"upperdir={path}/fs")
        lower = ":".join(self._fs(id) for id in snapshot.parents)
        return Mount("overlay", "overlay", options=(*self._common, *own, f"lowerdir={lower}"))

    def usage(self, ctx: CallContext, snapshot: Snapshot) -> Usage:
        """The layer's own directory, whiteouts included (SNX-024)."""
        return disk_usage(self._host, self._fs(snapshot.id))

    def remove(self, record: Record) -> Sequence[str]:
        """Leave the directory for the next clean-up (SNX-019)."""
        return ()

    def strays(self, live: frozenset[int]) -> Sequence[str]:
        """Every entry that is no live snapshot's, whatever it is (SNX-021)."""
        names = {str(id) for id in live}
        return [name for name in self._host.fs.listdir(self._snapshots) if name not in names]

    def shown(self, record: Record) -> Info:
        """With the label that says where the layer is, if asked for (SNX-022)."""
        return with_label(record.info, UPPERDIR_LABEL, self._fs(record.id)) if self._upperdir_label else record.info


class AufsLayers(OverlayLayers):
    """Layers that aufs stacks; the same directories but for ``work``, other mounts (SNX-071)."""

    def __init__(self, host: FakeHost, root: str) -> None:
        super().__init__(host, root)
        self._common = ("dio", "xino=/dev/shm/aufs.xino")
        if host.features.aufs_dirperm1:
            self._common += ("dirperm1",)

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """Make the layer's directory; aufs needs no second one."""
        super().create(ctx, snapshot)
        if snapshot.kind is Kind.ACTIVE:
            self._host.fs.rmdir(f"{self._snapshots}/{snapshot.id}/work")

    def _union(self, snapshot: Snapshot) -> Mount:
        branches = [f"{self._fs(id)}=ro+wh" for id in snapshot.parents]
        if snapshot.kind is Kind.ACTIVE:
            branches.insert(0, f"{self._fs(snapshot.id)}=rw")
        return Mount("aufs", "none", options=(*self._common, "br:" + ":".join(branches)))


class NativeLayers(_Directories):
    """Layers that are full copies: works on any file system, costs what it copies."""

    prefixes = Prefixes(mounts="failed to get snapshot mount")

    def _path(self, id: int) -> str:
        return f"{self._snapshots}/{id}"

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """Copy the parent; a view of one shows it in place (SNX-032, SNX-033)."""
        if snapshot.kind is Kind.VIEW and snapshot.parents:
            return
        ctx.check()  # before anything is made: a refused call leaves nothing behind
        path = self._path(snapshot.id)
        self._host.fs.mkdir(path, 0o755)
        if snapshot.parents:
            _, below = self._host.mounts.origin(self._path(snapshot.parents[0]))
            _, copy = self._host.mounts.origin(path)
            clone_tree(below, copy)

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """Always one bind, options the other way round than overlayfs's (SNX-031)."""
        if snapshot.kind is Kind.VIEW:
            source = snapshot.parents[0] if snapshot.parents else snapshot.id
            return [Mount("bind", self._path(source), options=("rbind", "ro"))]
        return [Mount("bind", self._path(snapshot.id), options=("rbind", "rw"))]

    def usage(self, ctx: CallContext, snapshot: Snapshot) -> Usage:
        """The whole copy (SNX-034)."""
        return disk_usage(self._host, self._path(snapshot.id))

    def remove(self, record: Record) -> Sequence[str]:
        """The copy goes at once (SNX-035)."""
        return [str(record.id)]
