"""io.containerd.grpc.v1.containers: the wire in front of containers-service; keeps nothing. Clauses CTR-001 to 045."""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

from collections.abc import Iterator

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import containers_v1_pb2 as pb
from refimpl.api import containers_v1_pb2_grpc as wire
from refimpl.contract.containers import ContainerStore
from refimpl.contract.context import CallContext
from refimpl.grpc import convert
from refimpl.grpc.calls import streaming, unary
from refimpl.grpc.fronts import service
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE


class ContainersFront(wire.ContainersServicer):
    """containerd.services.containers.v1.Containers."""

    def __init__(self, store: ContainerStore) -> None:
        self._store = store

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_ContainersServicer_to_server(self, server)

    @unary
    def Get(self, request: pb.GetContainerRequest, ctx: CallContext) -> pb.GetContainerResponse:
        """One record (CTR-012)."""
        container = self._store.get(ctx, request.id)
        return pb.GetContainerResponse(container=convert.container_to(container))

    @unary
    def List(self, request: pb.ListContainersRequest, ctx: CallContext) -> pb.ListContainersResponse:
        """All records wanted, in one message (CTR-013)."""
        containers = self._store.list(ctx, list(request.filters))
        return pb.ListContainersResponse(containers=map(convert.container_to, containers))

    @streaming
    def ListStream(self, request: pb.ListContainersRequest, ctx: CallContext) -> Iterator[pb.ListContainerMessage]:
        """All records wanted, one a message (CTR-014)."""
        for container in self._store.list(ctx, list(request.filters)):
            ctx.check()
            yield pb.ListContainerMessage(container=convert.container_to(container))

    @unary
    def Create(self, request: pb.CreateContainerRequest, ctx: CallContext) -> pb.CreateContainerResponse:
        """Make a record (CTR-001); a request without one is an empty one (CTR-043)."""
        container = self._store.create(ctx, convert.container_from(request.container))
        return pb.CreateContainerResponse(container=convert.container_to(container))

    @unary
    def Update(self, request: pb.UpdateContainerRequest, ctx: CallContext) -> pb.UpdateContainerResponse:
        """Change a record (CTR-018 to 029)."""
        paths = list(request.update_mask.paths)
        container = self._store.update(ctx, convert.container_from(request.container), paths)
        return pb.UpdateContainerResponse(container=convert.container_to(container))

    @unary
    def Delete(self, request: pb.DeleteContainerRequest, ctx: CallContext) -> Empty:
        """Remove a record (CTR-030)."""
        self._store.delete(ctx, request.id)
        return Empty()


def init(ic: InitContext) -> ContainersFront:
    """Stand before the service."""
    return ContainersFront(service(ic, "containers"))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "containers", init=init, requires=(SERVICE,))]
