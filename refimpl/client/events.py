"""Events over gRPC: a ``contract.events.EventExchange`` (containerd.services.events.v1).

When is a subscription there? The protocol has no acknowledgement: a stream on which nothing happens is silent. What is
known, and what ``subscribe`` makes of it:

- A server may send its initial metadata once the subscriber is registered; then that is the answer.
- containerd sends it with the first event only. But it starts the streams of one connection in the order of their
  arrival, so that after a later call on the same connection was answered, the subscription has been started. Some
  microseconds may still be missing until it is registered (measured: of 50 events published right after the call 11
  were lost, with one call in between none), hence ``SETTLE`` seconds and ``ROUNDS`` calls.
- A stream that ended meanwhile tells why, for instance a filter that does not parse.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import events_v1_pb2 as pb
from refimpl.api import types_pb2
from refimpl.api.events_v1_pb2_grpc import EventsStub
from refimpl.api.version_v1_pb2_grpc import VersionStub
from refimpl.client import convert
from refimpl.client.connection import Connection, cancelling, error_of, headers_of
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Canceled, ContainerdError, DeadlineExceeded, Unavailable
from refimpl.contract.events import Envelope
from refimpl.contract.types import TypedAny

if TYPE_CHECKING:
    from grpc import _CallIterator as CallIterator  # only the type stubs have it

ROUNDS = 3
"""Calls that are answered on the connection before a silent subscription counts as registered."""

SETTLE = 0.05
"""Seconds in which a server that acknowledges does so, and another has usually registered."""


class RemoteEvents:
    """The event exchange of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = EventsStub(connection.channel)
        self._version = VersionStub(connection.channel)

    def publish(self, ctx: CallContext, topic: str, event: TypedAny) -> None:
        """Tell an event."""
        question = pb.PublishRequest(topic=topic, event=convert.any_to_wire(event))
        self._connection.unary(ctx, self._stub.Publish, question)

    def forward(self, ctx: CallContext, envelope: Envelope) -> None:
        """Pass on an envelope."""
        self._connection.unary(ctx, self._stub.Forward, pb.ForwardRequest(envelope=_to_wire(envelope)))

    def subscribe(self, ctx: CallContext, filters: Sequence[str] = ()) -> RemoteSubscription:
        """Listen from now on; see the module for what "now" can mean.

        The subscription lives until it is closed, or until the deadline of ``ctx`` if there is one.
        """
        ctx.check()
        seconds = None if ctx.deadline is None else self._connection.seconds(ctx)
        with self._connection.errors(ctx):
            call = self._stub.Subscribe(pb.SubscribeRequest(filters=filters), timeout=seconds, metadata=headers_of(ctx))
        subscription = RemoteSubscription(ctx, call)
        try:
            self._settle(ctx, subscription)
        except ContainerdError:
            subscription.close()
            raise
        return subscription

    def _settle(self, ctx: CallContext, subscription: RemoteSubscription) -> None:
        wait = SETTLE
        for _ in range(ROUNDS):
            if subscription.acknowledged(wait):
                return
            wait = 0.0
            try:
                self._connection.unary(ctx, self._version.Version, Empty())
            except (DeadlineExceeded, Canceled, Unavailable):
                # What carries no call carries no subscription; if the stream has a reason of its own, that is better.
                subscription.acknowledged(0)
                raise
            except ContainerdError:
                continue  # Refused is answered too.
        subscription.acknowledged(0)


class RemoteSubscription:
    """A place in the audience of a daemon."""

    def __init__(self, ctx: CallContext, call: CallIterator[types_pb2.Envelope]) -> None:
        self._ctx = ctx
        self._call = call
        self._closed = False
        self._acknowledged = threading.Event()
        self._watch = ExitStack()
        self._watch.enter_context(cancelling(ctx, call.cancel))
        # `initial_metadata` waits without limit; the thread ends with the first event, or with the stream.
        threading.Thread(target=self._await_metadata, name="events-subscribe", daemon=True).start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Envelope:
        """The next envelope; waits for it.

        Raises:
            StopIteration: the subscription was closed, or the server has no more.
            ContainerdError: the server or the context ended the stream.
        """
        if self._closed:
            raise StopIteration
        try:
            return _from_wire(next(self._call))
        except grpc.RpcError as failure:
            if self._closed:
                raise StopIteration from failure
            raise self._reason(failure) from failure

    def close(self) -> None:
        """Leave; a waiting ``__next__`` ends."""
        self._closed = True
        self._watch.close()
        self._call.cancel()

    def acknowledged(self, seconds: float) -> bool:
        """Whether the server has shown, within ``seconds``, that it knows of the subscription.

        Raises:
            ContainerdError: the server refused it.
        """
        if not self._acknowledged.wait(seconds):
            return False
        if not self._call.is_active() and self._call.code() is not grpc.StatusCode.OK:
            raise self._reason(self._call)
        return True

    def _await_metadata(self) -> None:
        try:
            self._call.initial_metadata()
        finally:
            self._acknowledged.set()

    def _reason(self, failure: grpc.RpcError | grpc.Call) -> ContainerdError:
        if self._ctx.cancel is not None and self._ctx.cancel.cancelled:
            return Canceled()
        return error_of(failure)


def _to_wire(envelope: Envelope) -> types_pb2.Envelope:
    return types_pb2.Envelope(
        timestamp=convert.time_to_wire(envelope.timestamp),
        namespace=envelope.namespace,
        topic=envelope.topic,
        event=convert.any_to_wire(envelope.event),
    )


def _from_wire(message: types_pb2.Envelope) -> Envelope:
    return Envelope(
        timestamp=convert.time_from_wire(message, "timestamp"),
        namespace=message.namespace,
        topic=message.topic,
        event=convert.any_from_wire(message.event),
    )
