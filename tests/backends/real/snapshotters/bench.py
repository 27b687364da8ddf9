"""A snapshotter on a directory of the machine, with its database in a real file."""

from __future__ import annotations

import logging
from pathlib import Path

from refimpl.backends.real.bolt import BoltStoreFactory
from refimpl.backends.real.snapshotters import database
from refimpl.backends.real.snapshotters.directories import Directories
from refimpl.backends.real.snapshotters.native import NativeLayers
from refimpl.backends.real.snapshotters.overlay import OverlayLayers
from refimpl.contract.context import CallContext
from refimpl.contract.times import SystemClock
from refimpl.snapshots.layered import LayeredSnapshotter, Layers
from refimpl.snapshots.store import RecordStore

CTX = CallContext()
LOG = logging.getLogger("tests.snapshotters")
LAYERS: dict[str, type[OverlayLayers | NativeLayers]] = {"overlayfs": OverlayLayers, "native": NativeLayers}


class Bench:
    """A snapshotter with short ways to its directories.

    Attributes:
        root: ROOT.
        snapshots: ROOT/snapshots.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root, self.snapshots = root, root / "snapshots"
        self.layers: Directories = LAYERS[name](root, LOG)
        assert isinstance(self.layers, OverlayLayers | NativeLayers)
        self.snapshotter = snapshotter(root, self.layers)

    def entries(self) -> list[str]:
        """Names in ROOT/snapshots."""
        return sorted(path.name for path in self.snapshots.iterdir())

    def tree(self, number: int) -> Path:
        """The files of a snapshot."""
        entry = self.snapshots / str(number)
        return entry / "fs" if self.name == "overlayfs" else entry

    def keys(self) -> list[str]:
        """All records, by name."""
        return [info.name for info in self.snapshotter.walk(CTX)]

    def layer(self, name: str, parent: str = "") -> None:
        """An empty committed layer."""
        self.snapshotter.prepare(CTX, f"making-{name}", parent)
        self.snapshotter.commit(CTX, name, f"making-{name}")


def snapshotter(root: Path, layers: Layers) -> LayeredSnapshotter:
    """A snapshotter of these layers, with ROOT/metadata.db."""
    return LayeredSnapshotter(RecordStore(lambda: database(BoltStoreFactory(), root), SystemClock()), layers)
