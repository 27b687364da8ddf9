"""io.containerd.service.v1.leases-service: leases, ids for those who name none, and synchronous deletion.

The records live in the metadata database. Leases have no events (LEA-038, EVT-032). Clauses LEA-001 to 042, of which
LEA-002 and LEA-008 to 010 are kept here.
"""

from __future__ import annotations

import base64
import builtins
import secrets
from collections.abc import Callable, Mapping, Sequence

from refimpl.contract.context import CallContext
from refimpl.contract.gc import GarbageScheduler
from refimpl.contract.leases import Lease, LeaseManager, Resource
from refimpl.contract.times import SECOND, Clock
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GC, METADATA, SERVICE


class LeasesService:
    """A ``contract.leases.LeaseManager`` that draws ids and can wait for the collector.

    Args:
        draw_id: a new id at each call.
    """

    def __init__(self, manager: LeaseManager, scheduler: GarbageScheduler, draw_id: Callable[[], str]) -> None:
        self._manager, self._scheduler, self._draw_id = manager, scheduler, draw_id

    def create(self, ctx: CallContext, id: str = "", labels: Mapping[str, str] | None = None) -> Lease:
        """As the manager; without ``id`` one is drawn (LEA-002)."""
        return self._manager.create(ctx, id or self._draw_id(), labels)

    def delete(self, ctx: CallContext, id: str, *, sync: bool = False) -> None:
        """As the manager; ``sync`` waits for a collection that starts after the deletion (LEA-008).

        Raises:
            DeadlineExceeded: the caller's time ran out while waiting; the lease is gone all the same (LEA-010).
        """
        self._manager.delete(ctx, id)
        if sync:
            self._scheduler.schedule_and_wait(ctx)

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Lease]:
        """As the manager."""
        return self._manager.list(ctx, filters)

    def add_resource(self, ctx: CallContext, lease: str, resource: Resource) -> None:
        """As the manager."""
        self._manager.add_resource(ctx, lease, resource)

    def delete_resource(self, ctx: CallContext, lease: str, resource: Resource) -> None:
        """As the manager."""
        self._manager.delete_resource(ctx, lease, resource)

    def list_resources(self, ctx: CallContext, lease: str) -> builtins.list[Resource]:
        """As the manager."""
        return self._manager.list_resources(ctx, lease)


def draw_id(clock: Clock) -> str:
    """An id like ``771153285-mlD_``: the nanoseconds of the present second, and chance (LEA-002)."""
    chance = base64.urlsafe_b64encode(secrets.token_bytes(3)).decode()
    return f"{clock.now() % SECOND}-{chance}"


def init(ic: InitContext) -> LeasesService:
    """Put the service above the database. The scheduler is needed, though containerd does not declare it (LEA-041)."""
    return LeasesService(ic.get(METADATA).leases, ic.get(GC), lambda: draw_id(ic.clock))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service."""
    return [Registration(SERVICE, "leases-service", init=init, requires=(METADATA,))]
