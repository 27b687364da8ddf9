"""Stand-ins on either side of a service: stores that answer what they were told, a bus that remembers, a collector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.message import Message

from refimpl.api import typeurl
from refimpl.contract.context import CallContext
from refimpl.contract.events import Envelope, Subscription
from refimpl.contract.gc import CollectionStats
from refimpl.contract.types import TypedAny


@dataclass
class Bus:
    """An exchange on which everything can be looked up later: namespace, topic and the decoded event."""

    told: list[tuple[str, str, Message]] = field(default_factory=list)

    def publish(self, ctx: CallContext, topic: str, event: TypedAny) -> None:
        namespace = ctx.require_namespace()
        self.told.append((namespace, topic, typeurl.unpack(ProtoAny(type_url=event.type_url, value=event.value))))

    def forward(self, ctx: CallContext, envelope: Envelope) -> None:
        raise AssertionError("services publish; only fronts forward")

    def subscribe(self, ctx: CallContext, filters: Sequence[str] = ()) -> Subscription:
        raise AssertionError("services publish; only fronts subscribe")


class Store:
    """Any store: each method in ``answers`` gives its answer, or raises it; calls are noted in order."""

    def __init__(self, **answers: object) -> None:
        self._answers = answers
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            self.calls.append((name, args, keywords))
            answer = self._answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


@dataclass
class Scheduler:
    """A collector that notes when it was asked, and how many events had been told by then."""

    bus: Bus
    asked: list[int] = field(default_factory=list)

    def schedule_and_wait(self, ctx: CallContext) -> CollectionStats:
        self.asked.append(len(self.bus.told))
        return CollectionStats(0.0, {})

    def close(self) -> None:
        pass


def taken(subscription: Iterator[Envelope], count: int) -> list[Envelope]:
    """The next ``count`` envelopes."""
    return [next(subscription) for _ in range(count)]
