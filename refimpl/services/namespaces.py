"""io.containerd.service.v1.namespaces-service: namespaces and the events of their changes.

The records live in the metadata database. Clauses NSP-001 to 030 (records), NSP-009, NSP-021, NSP-022, EVT-028 (here).
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from refimpl.api import event_types_pb2 as events
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, Unknown
from refimpl.contract.events import EventExchange
from refimpl.contract.namespaces import Namespace, NamespaceStore
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.events import announce
from refimpl.services.plugin_types import EVENT, METADATA, SERVICE


class NamespacesService:
    """A ``contract.namespaces.NamespaceStore`` that tells what it changed."""

    def __init__(self, store: NamespaceStore, exchange: EventExchange) -> None:
        self._store, self._exchange = store, exchange

    def get(self, ctx: CallContext, name: str) -> Namespace:
        """As the store."""
        return self._store.get(ctx, name)

    def list(self, ctx: CallContext) -> list[Namespace]:
        """As the store."""
        return self._store.list(ctx)

    def create(self, ctx: CallContext, namespace: Namespace) -> Namespace:
        """As the store; tells ``/namespaces/create`` with the labels as sent (NSP-021)."""
        created = self._store.create(ctx, namespace)
        event = events.NamespaceCreate(name=namespace.name, labels=namespace.labels)
        self._announce(ctx, "/namespaces/create", namespace.name, event)
        return created

    def update(self, ctx: CallContext, namespace: Namespace, fieldpaths: Sequence[str] = ()) -> Namespace:
        """As the store; tells ``/namespaces/update`` with the labels as sent (NSP-021)."""
        updated = self._store.update(ctx, namespace, fieldpaths)
        event = events.NamespaceUpdate(name=namespace.name, labels=namespace.labels)
        self._announce(ctx, "/namespaces/update", namespace.name, event)
        return updated

    def delete(self, ctx: CallContext, name: str, *, delete_cgroup: bool = False) -> None:
        """As the store; tells ``/namespaces/delete`` in the namespace that is gone (NSP-008)."""
        self._store.delete(ctx, name, delete_cgroup=delete_cgroup)
        announce(self._exchange, ctx.with_namespace(name), "/namespaces/delete", events.NamespaceDelete(name=name))

    def _announce(self, ctx: CallContext, topic: str, name: str, event: Message) -> None:
        """Tell it in the caller's namespace, as 1.6 does, or else in ``name``, as 2.x does (NSP-009, NSP-022).

        Raises:
            Unknown: neither is a namespace in which something can be told; the change is made (NSP-014).
        """
        if not name:
            # An update of the empty name changes nothing (NSP-028): there is nothing to tell.
            return
        try:
            ctx.require_namespace()
        except ContainerdError:
            ctx = ctx.with_namespace(name)
        try:
            announce(self._exchange, ctx, topic, event)
        except ContainerdError as error:
            raise Unknown(str(error)) from error


def init(ic: InitContext) -> NamespacesService:
    """Put the service above the database."""
    return NamespacesService(ic.get(METADATA).namespaces, ic.get(EVENT))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service."""
    return [Registration(SERVICE, "namespaces-service", init=init, requires=(EVENT, METADATA))]
