"""io.containerd.event.v1.exchange: the bus on which everything that happens is told.

Nothing is kept on disk. Each subscriber has a queue of its own without a limit, so a slow one delays nobody and loses
nothing; publishing puts an envelope into every queue whose filter wants it, under one lock, so that all subscribers see
one order. (The real exchange edits its list of receivers while walking it, and may deliver twice; this one does not.)
Clauses EVT-001 to 005, EVT-007, EVT-008, EVT-012 to 022, EVT-024, EVT-043. There is one for both worlds: it touches
neither.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from refimpl.api import typeurl
from refimpl.contract import filters as filter_language
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument, NotFound
from refimpl.contract.events import Envelope, EventExchange
from refimpl.contract.identifiers import validate_identifier, validate_namespace
from refimpl.contract.quoting import quoted
from refimpl.contract.times import ZERO_TIME, Clock
from refimpl.contract.types import TypedAny
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import EVENT


class Subscription:
    """One subscriber's queue. Iterating waits; ``close`` ends it from any thread."""

    def __init__(self, wanted: filter_language.Filter, leave: Callable[[Subscription], None]) -> None:
        self._wanted, self._leave = wanted, leave
        self._changed = threading.Condition()
        self._queue: deque[Envelope] = deque()
        self._closed = False

    def offer(self, envelope: Envelope, adaptor: filter_language.Adaptor) -> None:
        """Queue an envelope if the filter wants it. Never waits for the subscriber."""
        if not self._wanted(adaptor):
            return
        with self._changed:
            if not self._closed:
                self._queue.append(envelope)
                self._changed.notify()

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Envelope:
        """The next envelope, in order; waits for it. What is still queued at ``close`` is dropped."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._queue))
            if self._closed:
                raise StopIteration
            return self._queue.popleft()

    def close(self) -> None:
        """Leave the audience. Idempotent."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
        self._leave(self)


class Exchange:
    """A ``contract.events.EventExchange`` in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._order = threading.Lock()
        # Replaced, never edited: a delivery that is under way keeps the audience it started with (EVT-022).
        self._audience: tuple[Subscription, ...] = ()

    def publish(self, ctx: CallContext, topic: str, event: TypedAny) -> None:
        """Tell ``event`` in the caller's namespace, with the present time; it is not looked into (EVT-001, EVT-005).

        Raises:
            FailedPrecondition: no namespace (EVT-002).
            InvalidArgument: a bad namespace (EVT-002) or topic (EVT-003).
        """
        try:
            namespace = ctx.require_namespace()
        except ContainerdError as error:
            raise type(error)(f"failed publishing event: {error.message}") from error
        _validate_topic(topic)
        with self._order:
            # The time is taken inside the lock, so that timestamps never go back within the common order (EVT-019).
            self._deliver(Envelope(self._clock.now(), namespace, topic, event))

    def forward(self, ctx: CallContext, envelope: Envelope) -> None:
        """Pass on an envelope as it is; the caller's own namespace does not count (EVT-007).

        Raises:
            InvalidArgument: bad namespace or topic, or the zero time (EVT-008).
        """
        try:
            validate_namespace(envelope.namespace)
        except InvalidArgument as error:
            raise InvalidArgument(f"event envelope has invalid namespace: {error.message}") from error
        _validate_topic(envelope.topic)
        if envelope.timestamp == ZERO_TIME:
            raise InvalidArgument("timestamp must be set on forwarded event")
        with self._order:
            self._deliver(envelope)

    def subscribe(self, ctx: CallContext, filters: Sequence[str] = ()) -> Subscription:
        """Listen to all namespaces from now on (EVT-012, EVT-013); the end of the call ends the subscription (EVT-021).

        Raises:
            InvalidArgument: a filter that does not parse (EVT-018).
        """
        try:
            wanted = filter_language.parse(filters)
        except InvalidArgument as error:
            raise InvalidArgument(f"failed parsing subscription filters: {error.message}") from error
        subscription = Subscription(wanted, self._leave)
        with self._order:
            self._audience = (*self._audience, subscription)
        if ctx.cancel is not None:
            ctx.cancel.on_cancel(subscription.close)
        return subscription

    def close(self) -> None:
        """Send everybody home. Idempotent."""
        for subscription in self._audience:
            subscription.close()

    def _deliver(self, envelope: Envelope) -> None:
        adaptor = _EnvelopeFields(envelope)
        for subscription in self._audience:
            subscription.offer(envelope, adaptor)

    def _leave(self, subscription: Subscription) -> None:
        with self._order:
            self._audience = tuple(other for other in self._audience if other is not subscription)


class _EnvelopeFields:
    """What filters can ask of an envelope: topic, namespace, event.<field> (EVT-015, EVT-016)."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope

    def __call__(self, fieldpath: Sequence[str]) -> str | None:
        match fieldpath:
            case ["topic", *_]:
                return self._envelope.topic or None
            case ["namespace", *_]:
                return self._envelope.namespace or None
            case ["event", *rest] if self._event is not None:
                return _field(self._event, rest)
        return None

    @cached_property
    def _event(self) -> Message | None:
        """The event decoded, once for all subscribers; None for a type that is not known."""
        packed = self._envelope.event
        try:
            return typeurl.unpack(Any(type_url=packed.type_url, value=packed.value))
        except (typeurl.UnknownType, typeurl.MalformedValue):
            return None


def _field(message: Message, path: Sequence[str]) -> str | None:
    """A text field by its proto names, nested with dots; an entry of a map by all that follows the map's name."""
    if not path:
        return None
    field = message.DESCRIPTOR.fields_by_name.get(path[0])
    if field is None:
        return None
    value = getattr(message, path[0])
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return filter_language.map_value(path, value)
    if isinstance(value, Message):
        return _field(value, path[1:])
    return value or None if isinstance(value, str) else None


def _validate_topic(topic: str) -> None:
    if not topic:
        raise InvalidArgument(f"envelope topic {quoted(topic)}: must not be empty")
    if not topic.startswith("/"):
        raise InvalidArgument(f"envelope topic {quoted(topic)}: must start with '/'")
    if topic == "/":
        raise InvalidArgument(f"envelope topic {quoted(topic)}: must have at least one component")
    for component in topic[1:].split("/"):
        try:
            validate_identifier(component)
        except InvalidArgument as error:
            raise InvalidArgument(
                f"envelope topic {quoted(topic)}: failed validation on component {quoted(component)}: {error.message}"
            ) from error


def announce(exchange: EventExchange | None, ctx: CallContext, topic: str, event: Message) -> None:
    """Publish one of containerd's own events, under its type's bare name (EVT-025).

    Args:
        exchange: None in a daemon without a bus, where nobody could listen.
    """
    if exchange is not None:
        packed = typeurl.pack(event)
        exchange.publish(ctx, topic, TypedAny(packed.type_url, packed.value))


def exchange_if_any(ic: InitContext) -> EventExchange | None:
    """The bus, for a service that also works without it (images-service does not require it in containerd)."""
    try:
        found: EventExchange = ic.get(EVENT)
    except NotFound:
        return None
    return found


def init(ic: InitContext) -> Exchange:
    """Make the bus."""
    return Exchange(ic.clock)


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The bus, which requires nothing (EVT-024)."""
    return [Registration(EVENT, "exchange", init=init)]
