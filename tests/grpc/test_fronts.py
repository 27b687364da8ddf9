"""Fronts as plugins: what they need, what becomes of them without it, and what they refuse before asking anybody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.empty_pb2 import Empty

from refimpl.api import diff_v1_pb2, events_ttrpc_v1_pb2, events_v1_pb2, types_pb2
from refimpl.backends.fake.clock import FakeClock
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound
from refimpl.contract.mounts import Mount
from refimpl.contract.types import Descriptor, TypedAny
from refimpl.grpc import (
    containers,
    content,
    cri,
    diff,
    images,
    introspection,
    leases,
    namespaces,
    snapshots,
    tasks,
)
from refimpl.grpc.diff import DiffFront
from refimpl.grpc.events import TTRPC_NAME, EventsFront
from refimpl.kernel import InitContext, Kernel, Registration, TTRPCMethod
from refimpl.services.events import Exchange, Subscription
from refimpl.services.plugin_types import SERVICE
from tests.grpc.world import Aborted, FakeContext, make
from tests.services.fakes import Store

FRONTS = {
    "containers": containers, "content": content, "diff": diff, "images": images, "introspection": introspection,
    "leases": leases, "namespaces": namespaces, "snapshots": snapshots, "tasks": tasks,
}  # fmt: skip


def booted(*registrations: Registration, id: str) -> Any:
    kernel = Kernel(registrations, root=Path("/nowhere"), state=Path("/nowhere"))
    return kernel.boot()[f"io.containerd.grpc.v1.{id}"]


@pytest.mark.parametrize("name", FRONTS)
def test_a_front_without_its_service_fails_and_names_it(name: str) -> None:
    plugin = booted(*FRONTS[name].refimpl_registrations(), id=name)
    assert str(plugin.error) == f"{name} service not found"


@pytest.mark.parametrize("name", FRONTS)
def test_a_front_shares_the_fate_of_its_service(name: str) -> None:
    def init(_ic: InitContext) -> object:
        raise NotFound("no plugins registered for io.x")

    broken = Registration(SERVICE, f"{name}-service", init=init)
    plugin = booted(*FRONTS[name].refimpl_registrations(), broken, id=name)
    assert str(plugin.error) == "no plugins registered for io.x: not found"


def test_the_cri_tells_its_versions_although_it_skips() -> None:
    plugin = booted(*cri.refimpl_registrations(), id="cri")
    assert plugin.status == "skip"
    assert plugin.exports == {"CRIVersion": "v1", "CRIVersionAlpha": "v1alpha2"}


def served(context: FakeContext) -> grpc.ServicerContext:
    return cast("grpc.ServicerContext", context)


def test_apply_without_a_layer_is_refused_and_asks_no_differ() -> None:
    differ, context = Store(), FakeContext()
    with pytest.raises(Aborted):
        DiffFront(differ).Apply(diff_v1_pb2.ApplyRequest(), served(context))
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert differ.calls == []


def test_both_directions_of_a_differ_are_converted_whole() -> None:
    layer = Descriptor("a/b", "sha256:x", 3, {"k": "v"})
    differ = Store(apply=layer, compare=layer)
    front, message = DiffFront(differ), types_pb2.Descriptor(media_type="a/b", digest="sha256:x", size=3)
    mount = types_pb2.Mount(type="bind", source="/s", options=["ro"])
    applied = front.Apply(
        diff_v1_pb2.ApplyRequest(diff=message, mounts=[mount], payloads={"p": ProtoAny(type_url="t", value=b"v")}),
        served(FakeContext()),
    )
    made = front.Diff(
        diff_v1_pb2.DiffRequest(left=[mount], right=[mount, mount], media_type="m", ref="r", labels={"l": "x"}),
        served(FakeContext()),
    )
    assert dict(applied.applied.annotations) == dict(made.diff.annotations) == {"k": "v"}
    expected = Mount("bind", "/s", options=("ro",))
    (apply, compare) = differ.calls
    assert apply[1][1:] == (Descriptor("a/b", "sha256:x", 3), [expected], {"p": TypedAny("t", b"v")})
    assert compare[1][1:] == ([expected], [expected, expected])
    assert compare[2] == {"media_type": "m", "ref": "r", "labels": {"l": "x"}}


class Registrar:
    """A ttrpc server that only remembers."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, TTRPCMethod]] = {}

    def add_service(self, name: str, methods: Any) -> None:
        self.services[name] = dict(methods)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = Exchange(FakeClock())
    yield made
    made.close()


def test_on_ttrpc_only_forward_is_served_and_the_header_does_not_count(exchange: Exchange) -> None:
    registrar = Registrar()
    EventsFront(exchange).register_ttrpc(registrar)
    assert list(registrar.services) == [TTRPC_NAME]
    ((name, forward),) = registrar.services[TTRPC_NAME].items()
    assert (name, forward.request) == ("Forward", events_ttrpc_v1_pb2.ForwardRequest)
    heard = exchange.subscribe(CallContext())
    envelope = {"timestamp": {"seconds": 1}, "namespace": "n1", "topic": "/tt/x", "event": {"type_url": "types.x/Y"}}
    request = forward.request(envelope=envelope)
    assert forward.handler(CallContext(namespace="zzz"), request) == Empty()
    assert (heard_one := next(heard)).namespace == "n1"
    assert heard_one.timestamp == 1_000_000_000


@pytest.mark.parametrize("missing", ["envelope", "event", "timestamp"])
def test_an_envelope_that_is_not_whole_is_refused(exchange: Exchange, missing: str) -> None:
    request = make(
        events_v1_pb2.ForwardRequest,
        envelope={"timestamp": {"seconds": 1}, "namespace": "n1", "topic": "/t", "event": {"type_url": "x"}},
    )
    (request if missing == "envelope" else request.envelope).ClearField(missing)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=missing):
        EventsFront(exchange).forward(CallContext(), request)


def test_publishing_nothing_is_refused(exchange: Exchange) -> None:
    context = FakeContext()
    with pytest.raises(Aborted):
        EventsFront(exchange).Publish(events_v1_pb2.PublishRequest(topic="/a"), served(context))
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT


class ClosingBus(Exchange):
    """A bus that closes right after somebody subscribed."""

    def subscribe(self, ctx: CallContext, filters: Sequence[str] = ()) -> Subscription:
        made = super().subscribe(ctx, filters)
        self.close()
        return made


def test_when_the_bus_closes_first_the_stream_ends_with_unavailable() -> None:
    context = FakeContext()
    with pytest.raises(Aborted):
        list(EventsFront(ClosingBus(FakeClock())).Subscribe(events_v1_pb2.SubscribeRequest(), served(context)))
    assert context.code is grpc.StatusCode.UNAVAILABLE
