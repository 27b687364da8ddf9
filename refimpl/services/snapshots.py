"""io.containerd.service.v1.snapshots-service: all snapshotters by name, and the events of what is made in them.

Records live in the metadata database, files in the snapshotter plugins. Told are prepare, commit and remove; view,
update and the collector tell nothing in 1.6 (SNP-110 to 112, EVT-031). Clauses SNP-001 to 113.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from refimpl.api import event_types_pb2 as events
from refimpl.contract.context import CallContext
from refimpl.contract.events import EventExchange
from refimpl.contract.mounts import ClientMounts, Mount
from refimpl.contract.snapshots import Info, Snapshotter, Usage
from refimpl.kernel import InitContext, Registration, Resource, hookimpl
from refimpl.services.events import announce
from refimpl.services.plugin_types import EVENT, METADATA, SERVICE


class TellingSnapshotter:
    """A ``contract.snapshots.Snapshotter`` that tells what was made, with the client's own keys.

    It is no ``Cleaner``: the namespaced API does not offer that, whatever the plugin below can do (SNP-099).
    """

    def __init__(self, snapshotter: Snapshotter, exchange: EventExchange) -> None:
        self._snapshotter, self._exchange = snapshotter, exchange

    def stat(self, ctx: CallContext, key: str) -> Info:
        """As the snapshotter."""
        return self._snapshotter.stat(ctx, key)

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """As the snapshotter."""
        return self._snapshotter.update(ctx, info, fieldpaths)

    def usage(self, ctx: CallContext, key: str) -> Usage:
        """As the snapshotter."""
        return self._snapshotter.usage(ctx, key)

    def mounts(self, ctx: CallContext, key: str) -> list[Mount]:
        """As the snapshotter."""
        return self._snapshotter.mounts(ctx, key)

    def prepare(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """As the snapshotter; tells ``/snapshot/prepare``."""
        mounts = self._snapshotter.prepare(ctx, key, parent, labels)
        announce(self._exchange, ctx, "/snapshot/prepare", events.SnapshotPrepare(key=key, parent=parent))
        return mounts

    def view(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """As the snapshotter."""
        return self._snapshotter.view(ctx, key, parent, labels)

    def commit(self, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """As the snapshotter; tells ``/snapshot/commit``."""
        self._snapshotter.commit(ctx, name, key, labels)
        announce(self._exchange, ctx, "/snapshot/commit", events.SnapshotCommit(key=key, name=name))

    def remove(self, ctx: CallContext, key: str) -> None:
        """As the snapshotter; tells ``/snapshot/remove``."""
        self._snapshotter.remove(ctx, key)
        announce(self._exchange, ctx, "/snapshot/remove", events.SnapshotRemove(key=key))

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """As the snapshotter."""
        return self._snapshotter.walk(ctx, filters)

    def close(self) -> None:
        """Nothing to release: whoever made the snapshotter closes it."""


def init(ic: InitContext) -> Mapping[str, Snapshotter]:
    """Put a telling snapshotter above each that the database offers; those that failed are not among them (SNP-002)."""
    exchange = ic.get(EVENT)
    return {name: TellingSnapshotter(each, exchange) for name, each in ic.get(METADATA).snapshotters.items()}


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service."""
    return [Registration(SERVICE, "snapshots-service", init=init, requires=(EVENT, METADATA))]


@hookimpl
def refimpl_resources() -> list[Resource]:
    """Clients are told the mounts, unless whoever assembles a daemon says otherwise."""
    return [Resource(ClientMounts, lambda _: ClientMounts())]
