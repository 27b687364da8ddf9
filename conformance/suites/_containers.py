"""Words for the checks of containers and namespaces: records in a line, and an ear for the events of a check."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from conformance import patience
from refimpl.api import containers_v1_pb2 as pb
from refimpl.api import event_types_pb2
from refimpl.client import convert
from refimpl.contract.containers import Container, ContainerStore, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, NotFound
from refimpl.contract.events import Envelope, EventExchange
from refimpl.contract.namespaces import NamespaceStore
from refimpl.contract.types import TypedAny

SERVICE = "containerd.services.containers.v1.Containers"

RUNTIME = RuntimeInfo("io.containerd.runc.v2")
SPEC = TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b'{"ociVersion":"1.0.2"}')
RUNC_OPTIONS = TypedAny("containerd.runc.v1.Options", b"\x08\x01")

PATIENCE = patience.SECONDS
"""Seconds that a check waits for an event which has to come."""


def record(id: str, **fields: Any) -> Container:
    """A container record with nothing but what is mandatory, and ``fields``."""
    return Container(**{"id": id, "runtime": RUNTIME, "spec": SPEC, **fields})


def whole(id: str, **fields: Any) -> Container:
    """A container record in which every field of 1.6 says something."""
    said = {
        "image": "img1",
        "labels": {"a": "1"},
        "snapshotter": "overlayfs",
        "snapshot_key": "k/1",
        "extensions": {"ext.a": TypedAny("t/x", b"\x01")},
    }
    return record(id, **{**said, **fields})


def exists(containers: ContainerStore, ctx: CallContext, id: str) -> bool:
    """Whether the namespace has a container of that id."""
    try:
        containers.get(ctx, id)
    except NotFound:
        return False
    return True


def ids(containers: ContainerStore, ctx: CallContext, *filters: str) -> list[str]:
    """The ids of the containers that ``list`` answers with, in its order."""
    return [container.id for container in containers.list(ctx, filters)]


def listed(namespaces: NamespaceStore, name: str) -> bool:
    """Whether a namespace exists; only the list tells."""
    return name in [namespace.name for namespace in namespaces.list(CallContext())]


def message(container: Container) -> pb.Container:
    """A container as raw calls send it."""
    runtime = container.runtime
    return pb.Container(
        id=container.id,
        labels=dict(container.labels),
        image=container.image,
        runtime=pb.Container.Runtime(name=runtime.name, options=convert.any_to_wire(runtime.options)),
        spec=convert.any_to_wire(container.spec),
        snapshotter=container.snapshotter,
        snapshot_key=container.snapshot_key,
        extensions=convert.anys_to_wire(container.extensions),
    )


@dataclass(frozen=True, slots=True)
class Heard:
    """One event as a subscriber got it, decoded."""

    namespace: str
    topic: str
    message: Any

    @classmethod
    def of(cls, envelope: Envelope) -> Heard:
        """From an envelope; one of a type that is none of containerd's stays as it came."""
        package, _, name = envelope.event.type_url.rpartition(".")
        known = getattr(event_types_pb2, name, None) if package == "containerd.events" else None
        return cls(
            envelope.namespace, envelope.topic, known.FromString(envelope.event.value) if known else envelope.event
        )


class Ear:
    """Somebody who listens from now on.

    Args:
        ctx: whose namespace the check's own last event is told in.
        filters: what to listen to; none for everything that anybody tells.
        caller: who subscribes, if that matters.
    """

    def __init__(
        self, events: EventExchange, ctx: CallContext, filters: Sequence[str], caller: CallContext | None = None
    ) -> None:
        self._events, self._ctx = events, ctx
        self._end = f"/conform/end-{uuid.uuid4().hex[:12]}"
        self._heard: list[Envelope] = []
        self._ended = threading.Event()
        wanted = [*filters, f'topic=="{self._end}"'] if filters else []
        self._subscription = events.subscribe(caller or ctx, wanted)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        # A stream that fails shows itself as an end that does not come.
        with suppress(ContainerdError):
            for envelope in self._subscription:
                if envelope.topic == self._end:
                    self._ended.set()
                else:
                    self._heard.append(envelope)

    def __call__(self) -> list[Heard]:
        """Everything up to now. Events come in the order of publishing: behind our own last one nothing is missing."""
        self._ended.clear()
        self._events.publish(self._ctx, self._end, TypedAny("conform.End", b""))
        assert self._ended.wait(PATIENCE), "the subscription is silent: an event published by the check did not come"
        return [Heard.of(envelope) for envelope in self._heard]

    def close(self) -> None:
        """Leave."""
        self._subscription.close()
        self._thread.join(PATIENCE)


Listen = Callable[..., Ear]


@pytest.fixture
def listen(ctx: CallContext, events: EventExchange) -> Iterator[Listen]:
    """Begins to listen: ``told = listen(filter, ...)``, then ``told()``; without filters to the check's namespace."""
    ears: list[Ear] = []

    def begin(*filters: str) -> Ear:
        ears.append(Ear(events, ctx, filters or [f"namespace=={ctx.namespace}"]))
        return ears[-1]

    yield begin
    for ear in ears:
        ear.close()
