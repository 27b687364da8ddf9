"""io.containerd.service.v1.containers-service: container records, and the events of their changes.

The records live in the metadata database. Clauses CTR-001 to 045 (records), CTR-033 to 035 and EVT-026 (events).
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.any_pb2 import Any

from refimpl.api import event_types_pb2 as events
from refimpl.contract.containers import Container, ContainerStore
from refimpl.contract.context import CallContext
from refimpl.contract.events import EventExchange
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.events import announce
from refimpl.services.plugin_types import EVENT, METADATA, SERVICE


class ContainersService:
    """A ``contract.containers.ContainerStore`` that tells what it changed, after it is stored (EVT-041)."""

    def __init__(self, store: ContainerStore, exchange: EventExchange) -> None:
        self._store, self._exchange = store, exchange

    def get(self, ctx: CallContext, id: str) -> Container:
        """As the store."""
        return self._store.get(ctx, id)

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Container]:
        """As the store."""
        return self._store.list(ctx, filters)

    def create(self, ctx: CallContext, container: Container) -> Container:
        """As the store; tells ``/containers/create`` (CTR-033)."""
        created = self._store.create(ctx, container)
        runtime = events.ContainerCreate.Runtime(name=created.runtime.name)
        if (options := created.runtime.options) is not None:
            runtime.options.CopyFrom(Any(type_url=options.type_url, value=options.value))
        event = events.ContainerCreate(id=created.id, image=created.image, runtime=runtime)
        announce(self._exchange, ctx, "/containers/create", event)
        return created

    def update(self, ctx: CallContext, container: Container, fieldpaths: Sequence[str] = ()) -> Container:
        """As the store; tells ``/containers/update`` with the values after the change (CTR-034)."""
        updated = self._store.update(ctx, container, fieldpaths)
        event = events.ContainerUpdate(
            id=updated.id, image=updated.image, labels=updated.labels, snapshot_key=updated.snapshot_key
        )
        announce(self._exchange, ctx, "/containers/update", event)
        return updated

    def delete(self, ctx: CallContext, id: str) -> None:
        """As the store; tells ``/containers/delete`` (CTR-035)."""
        self._store.delete(ctx, id)
        announce(self._exchange, ctx, "/containers/delete", events.ContainerDelete(id=id))


def init(ic: InitContext) -> ContainersService:
    """Put the service above the database."""
    return ContainersService(ic.get(METADATA).containers, ic.get(EVENT))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service."""
    return [Registration(SERVICE, "containers-service", init=init, requires=(EVENT, METADATA))]
