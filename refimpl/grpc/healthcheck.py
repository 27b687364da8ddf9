"""io.containerd.grpc.v1.healthcheck: grpc.health.v1 for the whole server.

The empty service name is serving as soon as somebody can ask; no other name is known, and plugins that failed change
nothing (SVC-009 to 011). grpcio-health-checking gives the messages; its own servicer keeps a status for each service,
and sends an empty text with NotFound.
"""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

from collections.abc import Iterator

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as wire

from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound, Unimplemented
from refimpl.grpc.calls import streaming, unary
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC


class HealthFront(wire.HealthServicer):
    """grpc.health.v1.Health."""

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_HealthServicer_to_server(self, server)

    @unary
    def Check(self, request: pb.HealthCheckRequest, ctx: CallContext) -> pb.HealthCheckResponse:
        """Serving, for the empty name.

        Raises:
            NotFound: any other name (SVC-010).
        """
        if request.service:
            raise NotFound("unknown service", bare=True)
        return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING)

    @streaming
    def Watch(self, request: pb.HealthCheckRequest, ctx: CallContext) -> Iterator[pb.HealthCheckResponse]:
        """The status now; it never changes, so nothing more until the client goes (SVC-011)."""
        known = not request.service
        answer = pb.HealthCheckResponse.SERVING if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
        yield pb.HealthCheckResponse(status=answer)
        if ctx.cancel is not None:
            ctx.cancel.wait()

    @unary
    def List(self, request: Message, ctx: CallContext) -> Message:
        """A method that came later, refused as 1.6 refuses what it does not know (SVC-011)."""
        raise Unimplemented("unknown method List for service grpc.health.v1.Health", bare=True)


def init(_ic: InitContext) -> HealthFront:
    """Be ready."""
    return HealthFront()


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front, which requires nothing."""
    return [Registration(GRPC, "healthcheck", init=init)]
