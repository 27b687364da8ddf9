"""io.containerd.grpc.v1.events: the wire in front of the bus, on gRPC and, for shims, on ttrpc.

It keeps nothing. On ttrpc only Forward is served, under the name of a service of its own (EVT-010, SVC-067).
Clauses EVT-001 to 025, SVC-068.
"""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

from collections.abc import Iterator

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import events_ttrpc_v1_pb2, types_pb2
from refimpl.api import events_v1_pb2 as pb
from refimpl.api import events_v1_pb2_grpc as wire
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument, Unavailable, Unknown
from refimpl.contract.events import EventExchange
from refimpl.contract.quoting import quoted
from refimpl.contract.times import SECOND, ZERO_TIME
from refimpl.grpc import convert
from refimpl.grpc.calls import streaming, unary
from refimpl.kernel import InitContext, Registration, TTRPCMethod, TTRPCRegistrar, hookimpl
from refimpl.services.plugin_types import EVENT, GRPC

_FIRST, _LAST = ZERO_TIME, 253_402_300_800 * SECOND - 1
"""The times that the wire can carry: the years 1 to 9999."""

TTRPC_NAME = "containerd.services.events.ttrpc.v1.Events"


class EventsFront(wire.EventsServicer):
    """containerd.services.events.v1.Events, and containerd.services.events.ttrpc.v1.Events."""

    def __init__(self, exchange: EventExchange) -> None:
        self._exchange = exchange

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_EventsServicer_to_server(self, server)

    def register_ttrpc(self, server: TTRPCRegistrar) -> None:
        """Put the shims' service on the ttrpc server."""
        forward = TTRPCMethod(events_ttrpc_v1_pb2.ForwardRequest, self.forward)
        server.add_service(TTRPC_NAME, {"Forward": forward})

    @unary
    def Publish(self, request: pb.PublishRequest, ctx: CallContext) -> Empty:
        """Tell something in the caller's namespace (EVT-001 to 005); there must be something to tell (EVT-006)."""
        if not request.HasField("event"):
            raise InvalidArgument(f"no event to publish under {quoted(request.topic)}")
        self._exchange.publish(ctx, request.topic, convert.any_from(request.event))
        return Empty()

    @unary
    def Forward(self, request: pb.ForwardRequest, ctx: CallContext) -> Empty:
        """Pass on an envelope (EVT-007, EVT-008)."""
        return self.forward(ctx, request)

    def forward(self, ctx: CallContext, request: pb.ForwardRequest | events_ttrpc_v1_pb2.ForwardRequest) -> Empty:
        """Pass on an envelope from either wire; refuse one that is not whole, where containerd dies (EVT-009, SVC-062).

        Raises:
            InvalidArgument: no envelope, no event, no timestamp, or what the bus refuses.
        """
        if not request.HasField("envelope"):
            raise InvalidArgument("no envelope to forward")
        if not request.envelope.HasField("event"):
            raise InvalidArgument("event must be set on forwarded event")
        envelope = convert.envelope_from(request.envelope)
        if not _FIRST <= envelope.timestamp <= _LAST or not 0 <= request.envelope.timestamp.nanos < SECOND:
            # Subscribers written in Go cannot read such a message: their stream would end.
            raise InvalidArgument("timestamp of forwarded event is out of range")
        self._exchange.forward(ctx, envelope)
        return Empty()

    @streaming
    def Subscribe(self, request: pb.SubscribeRequest, ctx: CallContext) -> Iterator[types_pb2.Envelope | None]:
        """Everything wanted, from now on, until the client goes (EVT-012 to 022).

        Raises:
            Unknown: a filter that does not parse (EVT-018).
            Unavailable: the bus closed first.
        """
        try:
            subscription = self._exchange.subscribe(ctx, list(request.filters))
        except ContainerdError as error:
            # containerd loses the code here, and its clients have seen nothing else (SVC-038).
            raise Unknown(f"subscription error: {error}") from error
        try:
            # The client may rely from here on that it misses nothing. containerd keeps silent until the first event.
            yield None
            for envelope in subscription:
                yield convert.envelope_to(envelope)
        finally:
            subscription.close()
        ctx.check()
        raise Unavailable("subscription error: the exchange is closed")


def init(ic: InitContext) -> EventsFront:
    """Stand before the bus."""
    return EventsFront(ic.get(EVENT))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "events", init=init, requires=(EVENT,))]
