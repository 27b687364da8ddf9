"""io.containerd.grpc.v1.leases: the wire in front of leases-service. It keeps nothing. Clauses LEA-001 to 042."""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import leases_v1_pb2 as pb
from refimpl.api import leases_v1_pb2_grpc as wire
from refimpl.contract.context import CallContext
from refimpl.contract.leases import LeaseManager
from refimpl.grpc import convert
from refimpl.grpc.calls import unary
from refimpl.grpc.fronts import service
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE


class LeasesFront(wire.LeasesServicer):
    """containerd.services.leases.v1.Leases."""

    def __init__(self, manager: LeaseManager) -> None:
        self._manager = manager

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_LeasesServicer_to_server(self, server)

    @unary
    def Create(self, request: pb.CreateRequest, ctx: CallContext) -> pb.CreateResponse:
        """Make a lease (LEA-001 to 005)."""
        lease = self._manager.create(ctx, request.id, dict(request.labels))
        return pb.CreateResponse(lease=convert.lease_to(lease))

    @unary
    def Delete(self, request: pb.DeleteRequest, ctx: CallContext) -> Empty:
        """End a lease (LEA-007 to 010)."""
        self._manager.delete(ctx, request.id, sync=request.sync)
        return Empty()

    @unary
    def List(self, request: pb.ListRequest, ctx: CallContext) -> pb.ListResponse:
        """All leases wanted (LEA-006)."""
        leases = self._manager.list(ctx, list(request.filters))
        return pb.ListResponse(leases=map(convert.lease_to, leases))

    @unary
    def AddResource(self, request: pb.AddResourceRequest, ctx: CallContext) -> Empty:
        """Hold one more object (LEA-011 to 016); a request without one names an empty type (LEA-040)."""
        self._manager.add_resource(ctx, request.id, convert.resource_from(request.resource))
        return Empty()

    @unary
    def DeleteResource(self, request: pb.DeleteResourceRequest, ctx: CallContext) -> Empty:
        """Let go of one object (LEA-015, LEA-018)."""
        self._manager.delete_resource(ctx, request.id, convert.resource_from(request.resource))
        return Empty()

    @unary
    def ListResources(self, request: pb.ListResourcesRequest, ctx: CallContext) -> pb.ListResourcesResponse:
        """All that a lease holds (LEA-017)."""
        resources = self._manager.list_resources(ctx, request.id)
        return pb.ListResourcesResponse(resources=map(convert.resource_to, resources))


def init(ic: InitContext) -> LeasesFront:
    """Stand before the service."""
    return LeasesFront(service(ic, "leases"))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "leases", init=init, requires=(SERVICE,))]
