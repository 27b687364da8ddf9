"""io.containerd.grpc.v1.introspection: the wire in front of introspection-service.

Its directory holds the daemon's UUID, which the service keeps. Clauses SVC-001 to 007, PLG-011 to 013, PLG-054 to 058.
"""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import introspection_v1_pb2 as pb
from refimpl.api import introspection_v1_pb2_grpc as wire
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unimplemented
from refimpl.contract.introspection import Introspection
from refimpl.grpc import convert
from refimpl.grpc.calls import unary
from refimpl.grpc.fronts import service
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE


class IntrospectionFront(wire.IntrospectionServicer):
    """containerd.services.introspection.v1.Introspection."""

    def __init__(self, introspection: Introspection) -> None:
        self._introspection = introspection

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_IntrospectionServicer_to_server(self, server)

    @unary
    def Plugins(self, request: pb.PluginsRequest, ctx: CallContext) -> pb.PluginsResponse:
        """The plugins wanted, in order of initialisation."""
        plugins = self._introspection.plugins(ctx, list(request.filters))
        return pb.PluginsResponse(plugins=map(convert.plugin_to, plugins))

    @unary
    def Server(self, request: Empty, ctx: CallContext) -> pb.ServerResponse:
        """Who the daemon is."""
        server = self._introspection.server(ctx)
        return pb.ServerResponse(uuid=server.uuid, pid=server.pid, pidns=server.pidns)

    @unary
    def PluginInfo(self, request: pb.PluginInfoRequest, ctx: CallContext) -> pb.PluginInfoResponse:
        """A method of 2.x, refused as 1.6 refuses what it does not know (SVC-006)."""
        service_name = pb.DESCRIPTOR.services_by_name["Introspection"].full_name
        raise Unimplemented(f"unknown method PluginInfo for service {service_name}", bare=True)


def init(ic: InitContext) -> IntrospectionFront:
    """Stand before the service."""
    return IntrospectionFront(service(ic, "introspection"))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "introspection", init=init, requires=(SERVICE,))]
