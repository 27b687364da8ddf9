"""io.containerd.grpc.v1.namespaces: the wire in front of namespaces-service; keeps nothing. Clauses NSP-001 to 030."""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import namespaces_v1_pb2 as pb
from refimpl.api import namespaces_v1_pb2_grpc as wire
from refimpl.contract.context import CallContext
from refimpl.contract.namespaces import NamespaceStore
from refimpl.grpc import convert
from refimpl.grpc.calls import unary
from refimpl.grpc.fronts import service
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE


class NamespacesFront(wire.NamespacesServicer):
    """containerd.services.namespaces.v1.Namespaces."""

    def __init__(self, store: NamespaceStore) -> None:
        self._store = store

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_NamespacesServicer_to_server(self, server)

    @unary
    def Get(self, request: pb.GetNamespaceRequest, ctx: CallContext) -> pb.GetNamespaceResponse:
        """One namespace (NSP-006)."""
        namespace = self._store.get(ctx, request.name)
        return pb.GetNamespaceResponse(namespace=convert.namespace_to(namespace))

    @unary
    def List(self, request: pb.ListNamespacesRequest, ctx: CallContext) -> pb.ListNamespacesResponse:
        """All namespaces; the request's filter is not looked at (NSP-007)."""
        namespaces = self._store.list(ctx)
        return pb.ListNamespacesResponse(namespaces=map(convert.namespace_to, namespaces))

    @unary
    def Create(self, request: pb.CreateNamespaceRequest, ctx: CallContext) -> pb.CreateNamespaceResponse:
        """Make a namespace; the answer is what was sent (NSP-004). A request without one is an empty one (NSP-028)."""
        self._store.create(ctx, convert.namespace_from(request.namespace))
        return pb.CreateNamespaceResponse(namespace=request.namespace)

    @unary
    def Update(self, request: pb.UpdateNamespaceRequest, ctx: CallContext) -> pb.UpdateNamespaceResponse:
        """Change labels; the answer's namespace is there and empty, as in 1.6 (NSP-010)."""
        paths = list(request.update_mask.paths)
        self._store.update(ctx, convert.namespace_from(request.namespace), paths)
        return pb.UpdateNamespaceResponse(namespace=pb.Namespace())

    @unary
    def Delete(self, request: pb.DeleteNamespaceRequest, ctx: CallContext) -> Empty:
        """Remove an empty namespace (NSP-016 to 020)."""
        self._store.delete(ctx, request.name)
        return Empty()


def init(ic: InitContext) -> NamespacesFront:
    """Stand before the service."""
    return NamespacesFront(service(ic, "namespaces"))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "namespaces", init=init, requires=(SERVICE,))]
