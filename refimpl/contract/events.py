"""Events: what happened, told to whoever listens. Nothing is kept: who is not subscribed misses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from refimpl.contract.context import CallContext
from refimpl.contract.types import TypedAny


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event as subscribers get it.

    Attributes:
        timestamp: Unix nanoseconds, set by the publisher's side of the bus.
        topic: ``/images/create`` and the like; segments are identifiers.
        event: the typed message.
    """

    timestamp: int
    namespace: str
    topic: str
    event: TypedAny


class Subscription(Protocol):
    """A place in the audience. Iterate to get envelopes in the order of publishing; close to leave."""

    def __iter__(self) -> Iterator[Envelope]: ...

    def __next__(self) -> Envelope:
        """The next envelope; waits for it. StopIteration after ``close``."""
        ...

    def close(self) -> None:
        """Leave; a waiting ``__next__`` ends. Idempotent, from any thread."""
        ...


class EventExchange(Protocol):
    """The bus (``io.containerd.event.v1``)."""

    def publish(self, ctx: CallContext, topic: str, event: TypedAny) -> None:
        """Tell ``event`` under ``topic`` in the caller's namespace, now.

        Raises:
            FailedPrecondition: no namespace.
            InvalidArgument: a bad topic.
        """
        ...

    def forward(self, ctx: CallContext, envelope: Envelope) -> None:
        """Pass on an envelope that somebody else stamped.

        Raises:
            InvalidArgument: bad namespace or topic, or no timestamp.
        """
        ...

    def subscribe(self, ctx: CallContext, filters: Sequence[str] = ()) -> Subscription:
        """Listen, from now on, to the envelopes (of all namespaces) for which any filter holds.

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        ...
