"""io.containerd.snapshotter.v1.*: containerd's six snapshotters on a fake host.

Each answers with the mounts that its real twin would answer with, and the host can perform them. All six work here:
the real aufs and zfs skip themselves on most machines, btrfs on most disks, and devmapper fails without a pool; a fake
host has what they need, and devmapper takes a default pool and size when the configuration names none. Configured
values that the real ones refuse are refused here too. Nothing is written to the real disk.

Clauses SNX-001 to SNX-071, SNP-009 to SNP-085. Twins: refimpl.backends.real.snapshotters.
"""

from __future__ import annotations

from collections.abc import Callable

from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.snapshotters.directories import AufsLayers, NativeLayers, OverlayLayers
from refimpl.backends.fake.snapshotters.snapshotter import FakeSnapshotter
from refimpl.backends.fake.snapshotters.volumes import BtrfsLayers, DevmapperLayers, ZfsLayers
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.snapshots.config import Config, DevmapperConfig, OverlayConfig
from refimpl.snapshots.layered import Layers

TYPE = "io.containerd.snapshotter.v1"


def _init(make: Callable[[FakeHost, str, Config], Layers], *, exported: bool = True) -> Callable[[InitContext], object]:
    """What the six have in common when they start."""

    def init(ic: InitContext) -> FakeSnapshotter:
        root = ic.config.root_path or str(ic.root)
        if exported:
            ic.exports["root"] = root
        host = ic.resource(FakeHost)
        return FakeSnapshotter(host, make(host, root, ic.config))

    return init


def _overlayfs(host: FakeHost, root: str, config: Config) -> Layers:
    assert isinstance(config, OverlayConfig), "as registered"
    return OverlayLayers(host, root, upperdir_label=config.upperdir_label)


def _devmapper(host: FakeHost, root: str, config: Config) -> Layers:
    assert isinstance(config, DevmapperConfig), "as registered"
    return DevmapperLayers(
        host,
        root,
        pool=config.pool_name,
        size=config.base_image_size,
        fs_type=config.fs_type,
        async_remove=config.async_remove,
    )


def _registration(id: str, init: Callable[[InitContext], object], config: type[Config] = Config) -> Registration:
    return Registration(TYPE, id, init=init, config=config, platforms=True, backend="fake")


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The six, in containerd's order; native and devmapper export nothing in 1.6."""
    return [
        _registration("aufs", _init(lambda host, root, _: AufsLayers(host, root))),
        _registration("btrfs", _init(lambda host, root, _: BtrfsLayers(host, root))),
        _registration("devmapper", _init(_devmapper, exported=False), DevmapperConfig),
        _registration("native", _init(lambda host, root, _: NativeLayers(host, root), exported=False)),
        _registration("overlayfs", _init(_overlayfs), OverlayConfig),
        _registration("zfs", _init(lambda host, root, _: ZfsLayers(host, root))),
    ]
