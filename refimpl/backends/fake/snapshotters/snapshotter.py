"""A snapshotter whose storage and database are a fake host's."""

from __future__ import annotations

from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.kv import MemoryStore
from refimpl.snapshots.layered import LayeredSnapshotter, Layers
from refimpl.snapshots.store import RecordStore


class FakeSnapshotter(LayeredSnapshotter):
    """A ``contract.snapshots.Snapshotter`` and ``Cleaner`` on a fake host."""

    def __init__(self, host: FakeHost, layers: Layers) -> None:
        super().__init__(RecordStore(self._database, host.clock), layers)
        self._host = host
        self._path = f"{layers.root}/metadata.db"

    def _database(self) -> MemoryStore:
        """Made at the first use and found again by the next kernel on this host (SNX-005, SNP-113)."""
        with self._host.lock:
            store = self._host.databases.get(self._path)
            if store is None:
                store = self._host.databases[self._path] = MemoryStore()
                self._host.fs.write(self._path, b"", mode=0o600)
            assert isinstance(store, MemoryStore), "nobody else writes a database of that name"
            return store

    def close(self) -> None:
        """Nothing is held: the host keeps it all."""
