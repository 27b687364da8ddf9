"""io.containerd.service.v1.images-service: image records, the events of their changes, and synchronous deletion.

The records live in the metadata database. Clauses IMG-001 to 028 (records), IMG-020, IMG-022, EVT-027 (here).
"""

from __future__ import annotations

from collections.abc import Sequence

from refimpl.api import images_v1_pb2 as events
from refimpl.contract.context import CallContext
from refimpl.contract.events import EventExchange
from refimpl.contract.gc import GarbageScheduler
from refimpl.contract.images import Image, ImageStore
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.events import announce, exchange_if_any
from refimpl.services.plugin_types import GC, METADATA, SERVICE


class ImagesService:
    """A ``contract.images.ImageStore`` that tells what it changed and can wait for the collector."""

    def __init__(self, store: ImageStore, scheduler: GarbageScheduler, exchange: EventExchange | None) -> None:
        self._store, self._scheduler, self._exchange = store, scheduler, exchange

    def get(self, ctx: CallContext, name: str) -> Image:
        """As the store."""
        return self._store.get(ctx, name)

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Image]:
        """As the store."""
        return self._store.list(ctx, filters)

    def create(self, ctx: CallContext, image: Image) -> Image:
        """As the store; tells ``/images/create`` (IMG-022)."""
        created = self._store.create(ctx, image)
        announce(self._exchange, ctx, "/images/create", events.ImageCreate(name=created.name, labels=created.labels))
        return created

    def update(self, ctx: CallContext, image: Image, fieldpaths: Sequence[str] = ()) -> Image:
        """As the store; tells ``/images/update`` with the labels after the change (IMG-022)."""
        updated = self._store.update(ctx, image, fieldpaths)
        announce(self._exchange, ctx, "/images/update", events.ImageUpdate(name=updated.name, labels=updated.labels))
        return updated

    def delete(self, ctx: CallContext, name: str, *, sync: bool = False) -> None:
        """As the store; tells ``/images/delete`` before a synchronous call waits to collect (IMG-020, IMG-022)."""
        self._store.delete(ctx, name)
        announce(self._exchange, ctx, "/images/delete", events.ImageDelete(name=name))
        if sync:
            self._scheduler.schedule_and_wait(ctx)


def init(ic: InitContext) -> ImagesService:
    """Put the service above the database."""
    return ImagesService(ic.get(METADATA).images, ic.get(GC), exchange_if_any(ic))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service."""
    return [Registration(SERVICE, "images-service", init=init, requires=(METADATA, GC))]
