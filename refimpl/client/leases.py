"""Leases over gRPC: a ``contract.leases.LeaseManager`` (containerd.services.leases.v1), and one for a piece of work."""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from refimpl.api import leases_v1_pb2 as pb
from refimpl.api.leases_v1_pb2_grpc import LeasesStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.leases import Lease, LeaseManager, Resource

EXPIRE = "containerd.io/gc.expire"
"""Label of a lease: when it stops counting (RFC 3339)."""

LIFETIME = 24 * 3600
"""Seconds after which a working lease ends by itself, in case the worker never came back to do so."""


class RemoteLeases:
    """The leases of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = LeasesStub(connection.channel)

    def create(self, ctx: CallContext, id: str = "", labels: Mapping[str, str] | None = None) -> Lease:
        """Make a lease; without ``id`` the daemon draws one."""
        answer = self._connection.unary(ctx, self._stub.Create, pb.CreateRequest(id=id, labels=labels))
        return _from_wire(convert.present(answer, "lease", answer.lease))

    def delete(self, ctx: CallContext, id: str, *, sync: bool = False) -> None:
        """End a lease."""
        self._connection.unary(ctx, self._stub.Delete, pb.DeleteRequest(id=id, sync=sync))

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Lease]:
        """The leases for which any filter holds."""
        answer = self._connection.unary(ctx, self._stub.List, pb.ListRequest(filters=filters))
        return [_from_wire(lease) for lease in answer.leases]

    def add_resource(self, ctx: CallContext, lease: str, resource: Resource) -> None:
        """Hold one more object."""
        question = pb.AddResourceRequest(id=lease, resource=pb.Resource(id=resource.id, type=resource.type))
        self._connection.unary(ctx, self._stub.AddResource, question)

    def delete_resource(self, ctx: CallContext, lease: str, resource: Resource) -> None:
        """Let go of one object."""
        question = pb.DeleteResourceRequest(id=lease, resource=pb.Resource(id=resource.id, type=resource.type))
        self._connection.unary(ctx, self._stub.DeleteResource, question)

    def list_resources(self, ctx: CallContext, lease: str) -> builtins.list[Resource]:
        """All that the lease holds."""
        answer = self._connection.unary(ctx, self._stub.ListResources, pb.ListResourcesRequest(id=lease))
        return [Resource(resource.id, resource.type) for resource in answer.resources]


@contextmanager
def working_lease(ctx: CallContext, leases: LeaseManager) -> Iterator[CallContext]:
    """A context under a lease of its own for the length of the block, so that the collector takes nothing half made.

    A context that is under a lease already is handed through: its owner decides how long things are held (IMG-051).
    """
    if ctx.lease:
        yield ctx
        return
    end = datetime.fromtimestamp(time.time() + LIFETIME, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lease = leases.create(ctx, labels={EXPIRE: end})
    # Whatever ends the work, its deadline or its cancellation too: the lease has to go.
    last = replace(ctx, deadline=None, cancel=None)
    try:
        yield ctx.with_lease(lease.id)
    except BaseException:
        # What went wrong first is what the caller has to see, not that the daemon is gone as well.
        with suppress(ContainerdError):
            leases.delete(last, lease.id)
        raise
    leases.delete(last, lease.id)


def _from_wire(message: pb.Lease) -> Lease:
    return Lease(message.id, convert.time_from_wire(message, "created_at"), dict(message.labels))
