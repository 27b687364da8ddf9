"""io.containerd.service.v1.content-service: a namespace's content, and the event of a deletion.

Records live in the metadata database, bytes in the content plugin. In 1.6 only an explicit delete is told: neither a
commit nor a collection is (CNT-068, CNT-069, EVT-030). Clauses CNT-001 to 110.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from refimpl.api import event_types_pb2 as events
from refimpl.contract.content import ContentStore, Info, Reader, Status, Writer
from refimpl.contract.context import CallContext
from refimpl.contract.events import EventExchange
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.events import announce
from refimpl.services.plugin_types import EVENT, METADATA, SERVICE


class ContentService:
    """A ``contract.content.ContentStore`` that tells what was deleted."""

    def __init__(self, store: ContentStore, exchange: EventExchange) -> None:
        self._store, self._exchange = store, exchange

    def info(self, ctx: CallContext, digest: str) -> Info:
        """As the store."""
        return self._store.info(ctx, digest)

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """As the store."""
        return self._store.update(ctx, info, fieldpaths)

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """As the store."""
        return self._store.walk(ctx, filters)

    def delete(self, ctx: CallContext, digest: str) -> None:
        """As the store; tells ``/content/delete`` (CNT-068)."""
        self._store.delete(ctx, digest)
        announce(self._exchange, ctx, "/content/delete", events.ContentDelete(digest=digest))

    def reader(self, ctx: CallContext, digest: str) -> Reader:
        """As the store."""
        return self._store.reader(ctx, digest)

    def status(self, ctx: CallContext, ref: str) -> Status:
        """As the store."""
        return self._store.status(ctx, ref)

    def list_statuses(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Status]:
        """As the store."""
        return self._store.list_statuses(ctx, filters)

    def writer(self, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> Writer:
        """As the store."""
        return self._store.writer(ctx, ref, total=total, expected=expected)

    def abort(self, ctx: CallContext, ref: str) -> None:
        """As the store."""
        self._store.abort(ctx, ref)


def init(ic: InitContext) -> ContentService:
    """Put the service above the database."""
    return ContentService(ic.get(METADATA).content, ic.get(EVENT))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service."""
    return [Registration(SERVICE, "content-service", init=init, requires=(EVENT, METADATA))]
