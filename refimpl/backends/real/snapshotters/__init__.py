"""io.containerd.snapshotter.v1.*: containerd's six snapshotters on a machine.

overlayfs and native keep layers in directories below ROOT, the plugin's own directory or ``root_path``, and their
records in ROOT/metadata.db, in containerd's own format: a root goes back and forth between the two. aufs, btrfs,
devmapper and zfs are there to say why they are not.

Clauses SNX-001 to SNX-071, SNP-009 to SNP-085. Twins: refimpl.backends.fake.snapshotters.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from refimpl.api.status import text_of
from refimpl.backends.real.snapshotters import absent
from refimpl.backends.real.snapshotters.native import NativeLayers
from refimpl.backends.real.snapshotters.overlay import OverlayLayers
from refimpl.contract.errors import Unknown
from refimpl.contract.kv import Store, StoreFactory
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.snapshots.config import Config, DevmapperConfig, OverlayConfig
from refimpl.snapshots.layered import LayeredSnapshotter, Layers, prefixed
from refimpl.snapshots.store import RecordStore

TYPE = "io.containerd.snapshotter.v1"

LOCK_SECONDS = 10.0
"""How long a call waits for another process that has the database: two daemons with one ``root_path`` (containerd: for
ever)."""

_OPENING = "failed to open database file"


def database(factory: StoreFactory, root: Path) -> Store:
    """ROOT/metadata.db, readable by root alone (SNX-005).

    Raises:
        Unavailable: another process has it for ``LOCK_SECONDS`` on end.
        Unknown: it is no database, or damaged, or the file cannot be had.
    """
    path = root / "metadata.db"
    with prefixed(_OPENING):
        try:
            # An engine makes a database out of an empty file, and leaves the mode of the file alone.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            return factory.open(path, timeout=LOCK_SECONDS)
        except OSError as error:
            raise Unknown(f"open {text_of(error)}") from error


def _snapshotter(ic: InitContext, root: Path, layers: Layers) -> LayeredSnapshotter:
    factory = ic.resource(StoreFactory)  # type: ignore[type-abstract]  # resources are asked for by Protocol
    return LayeredSnapshotter(RecordStore(lambda: database(factory, root), ic.clock), layers)


def overlayfs(ic: InitContext) -> LayeredSnapshotter:
    """Layers that the kernel stacks; the effective directory is exported (SNX-003)."""
    root = Path(ic.config.root_path or ic.root)
    ic.exports["root"] = str(root)
    return _snapshotter(ic, root, OverlayLayers(root, ic.log, upperdir_label=ic.config.upperdir_label))


def native(ic: InitContext) -> LayeredSnapshotter:
    """Layers that are copies; 1.6 exports nothing."""
    root = Path(ic.config.root_path or ic.root)
    return _snapshotter(ic, root, NativeLayers(root, ic.log))


def _registration(id: str, init: Callable[[InitContext], object], config: type[Config] = Config) -> Registration:
    return Registration(TYPE, id, init=init, config=config, platforms=True, backend="real")


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The six, in containerd's order."""
    return [
        _registration("aufs", absent.aufs),
        _registration("btrfs", absent.btrfs),
        _registration("devmapper", absent.devmapper, DevmapperConfig),
        _registration("native", native),
        _registration("overlayfs", overlayfs, OverlayConfig),
        _registration("zfs", absent.zfs),
    ]
