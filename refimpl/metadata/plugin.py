"""io.containerd.metadata.v1.bolt: namespaces and records over the content store and the snapshotters.

On disk: ``meta.db``, in the engine that the assembly chose (bbolt's file format, or a tree in memory); layout in
``refimpl.metadata.buckets``. The directory and the file are the engine's to make: one in memory makes none.
Exports ``policy`` and ``path`` (MET-002). Clauses MET-001 to 060.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from refimpl.contract.containers import ContainerStore
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, Unavailable, Unknown
from refimpl.contract.gc import CollectionStats
from refimpl.contract.images import ImageStore
from refimpl.contract.kv import Store, StoreFactory
from refimpl.contract.leases import LeaseManager
from refimpl.contract.namespaces import NamespaceStore
from refimpl.contract.snapshots import Snapshotter
from refimpl.kernel import InitContext, Registration, SkipPlugin, hookimpl
from refimpl.metadata import containers, images, leases, namespaces
from refimpl.metadata.content import POLICIES, SHARED, NamespacedContentStore
from refimpl.metadata.database import Database
from refimpl.metadata.gc import Collector
from refimpl.metadata.snapshots import NamespacedSnapshotter

CONTENT_TYPE = "io.containerd.content.v1"
SNAPSHOTTER_TYPE = "io.containerd.snapshotter.v1"

DATABASE = "meta.db"

OPEN_TIMEOUT = "io.containerd.timeout.bolt.open"
"""The entry of ``[timeouts]`` that limits the wait for the lock; 0 does not."""

TELL_SECONDS = 10.0
"""After so long a wait the log says so, once."""


@dataclass(frozen=True, slots=True)
class BoltConfig:
    """The section ``[plugins."io.containerd.metadata.v1.bolt"]``.

    Attributes:
        content_sharing_policy: ``shared`` or ``isolated`` (MET-047); empty is ``shared``.
    """

    content_sharing_policy: str = SHARED


class Metadata:
    """Everything that has a namespace, in one database.

    Attributes:
        content: blobs and ingests of the caller's namespace.
        snapshotters: by name; those that did not load are missing.
        images, containers, namespaces, leases: the records.
        database: for tools that look at the records themselves.
    """

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        snapshotters: Mapping[str, Snapshotter],
        policy: str = SHARED,
    ) -> None:
        store = NamespacedContentStore(database, content, policy)
        named = {name: NamespacedSnapshotter(database, name, backend) for name, backend in snapshotters.items()}
        self.database = database
        self.content: ContentStore = store
        self.snapshotters: Mapping[str, Snapshotter] = dict(named)
        self.images: ImageStore = images.ImageStore(database)
        self.containers: ContainerStore = containers.ContainerStore(database)
        self.namespaces: NamespaceStore = namespaces.NamespaceStore(database)
        self.leases: LeaseManager = leases.LeaseManager(database)
        self._collector = Collector(database, store, named)

    def collect(self, ctx: CallContext) -> CollectionStats:
        """Drop what nothing holds, in all namespaces, and clean the back ends (``contract.gc.Collector``)."""
        return self._collector.collect(ctx)

    def on_mutation(self, callback: Callable[[bool], None]) -> None:
        """Have ``callback(dirty)`` called after every change that is not a collection's (MET-059)."""
        self.database.on_mutation(callback)

    def close(self) -> None:
        """Let go of the database; the content store and the snapshotters are plugins of their own. Idempotent."""
        self.database.close()


def init(ic: InitContext) -> Metadata:
    """Open the database over the content store and the snapshotters that work."""
    config: BoltConfig = ic.config
    content: ContentStore = ic.get(CONTENT_TYPE)
    snapshotters = _working_snapshotters(ic)
    policy = config.content_sharing_policy or SHARED
    ic.exports["policy"] = SHARED
    if policy not in POLICIES:
        raise InvalidArgument(f"unknown policy: {policy}")
    ic.exports["policy"] = policy
    ic.log.info("metadata content store policy set", extra={"fields": {"policy": policy}})
    path = ic.root / DATABASE
    ic.exports["path"] = str(path)
    return Metadata(Database(_open(ic, path), ic.clock), content, snapshotters, policy)


def _open(ic: InitContext, path: Path) -> Store:
    """The database, as soon as no other daemon has it (MET-016); within the time that the configuration sets (MET-017).

    A client of the one that waits sees no socket; the log says why.
    """
    factory = ic.resource(StoreFactory)  # type: ignore[type-abstract]  # resources are asked for by Protocol
    told = {"extra": {"fields": {"plugin": "bolt"}}}
    patience = threading.Timer(TELL_SECONDS, ic.log.warning, ("waiting for response from boltdb open",), told)
    patience.daemon = True
    patience.start()
    try:
        return factory.open(path, timeout=ic.timeouts.get(OPEN_TIMEOUT, 0.0))
    except Unavailable as error:
        raise Unknown("timeout") from error
    finally:
        patience.cancel()


def _working_snapshotters(ic: InitContext) -> dict[str, Snapshotter]:
    """The snapshotters that loaded, by name: one that did not must not take the others with it (PLG-017)."""
    working: dict[str, Snapshotter] = {}
    for name, plugin in ic.get_by_type(SNAPSHOTTER_TYPE).items():
        try:
            working[name] = cast("Snapshotter", plugin.instance())
        except SkipPlugin:
            continue
        except Exception as err:  # noqa: BLE001  # any plugin's own error, raised again for us to see
            ic.log.warning("could not use snapshotter %s in metadata plugin", name, extra={"fields": {"error": err}})
    return working


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """Contribute the metadata database."""
    return [
        Registration(
            "io.containerd.metadata.v1",
            "bolt",
            init=init,
            requires=(CONTENT_TYPE, SNAPSHOTTER_TYPE),
            config=BoltConfig,
        )
    ]
