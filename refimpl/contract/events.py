"""Events: what happened, told to whoever listens. Nothing is kept: who is not subscribed misses it.

Plugin type ``io.containerd.event.v1``, of which a daemon has one plugin that all others share (EVT-024).

Words: an *envelope* is one *event* (a typed message) with the *topic* and the namespace under which it is told. A topic
is ``/`` followed by components separated by ``/``, each an identifier. Clauses EVT-001 to 043.
"""

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
        namespace: in which it happened.
        topic: ``/images/create`` and the like; components are identifiers (EVT-003).
        event: the typed message; nobody needs to know its type (EVT-005).
    """

    timestamp: int
    namespace: str
    topic: str
    event: TypedAny


class Subscription(Protocol):
    """A place in the audience. Iterate to get envelopes in the order of publishing; close to leave.

    Envelopes that are not yet taken wait in a queue without a limit: a slow subscriber loses nothing and delays nobody
    (EVT-019, EVT-020).
    """

    def __iter__(self) -> Iterator[Envelope]: ...

    def __next__(self) -> Envelope:
        """The next envelope; waits for it. StopIteration after ``close``, which drops what is queued (EVT-021)."""
        ...

    def close(self) -> None:
        """Leave; a waiting ``__next__`` ends. Idempotent, from any thread."""
        ...


class EventExchange(Protocol):
    """The bus (``io.containerd.event.v1``)."""

    def publish(self, ctx: CallContext, topic: str, event: TypedAny) -> None:
        """Tell ``event`` under ``topic`` in the caller's namespace, now (EVT-001); a refused one to nobody (EVT-004).

        Raises:
            FailedPrecondition: no namespace (EVT-002).
            InvalidArgument: a bad namespace (EVT-002) or topic (EVT-003).
        """
        ...

    def forward(self, ctx: CallContext, envelope: Envelope) -> None:
        """Pass on an envelope that somebody else stamped, as it is; the caller's namespace does not count (EVT-007).

        Raises:
            InvalidArgument: bad namespace or topic, or the zero time (EVT-008).
        """
        ...

    def subscribe(self, ctx: CallContext, filters: Sequence[str] = ()) -> Subscription:
        """Listen from now on (EVT-012), in all namespaces (EVT-013), to what any of the filters wants (EVT-014).

        Filters know ``topic``, ``namespace`` and ``event.<field>``, the text fields of known types (EVT-015,
        EVT-016). The end of the call that ``ctx`` stands for ends the subscription (EVT-021).

        Raises:
            InvalidArgument: a filter that does not parse (EVT-018).
        """
        ...
