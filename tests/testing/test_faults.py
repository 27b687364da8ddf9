"""Faults, seen from a plain gRPC client and from refimpl's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from conformance.shim.waiting import until
from refimpl.api import content_v1_pb2, content_v1_pb2_grpc, namespaces_v1_pb2, version_v1_pb2_grpc
from refimpl.api.namespaces_v1_pb2_grpc import NamespacesStub
from refimpl.client import Client
from refimpl.contract.errors import AlreadyExists, ContainerdError, NotFound, ResourceExhausted, Unavailable
from refimpl.contract.namespaces import Namespace
from refimpl.testing import FakeContainerd, UnknownMethod, fake_containerd

VERSION = "Version/Version"
NAMESPACE = (("containerd-namespace", "default"),)


def ask(channel: grpc.Channel, seconds: float = 30) -> str:
    """Ask for the version: OK, or the status's name and text."""
    try:
        version_v1_pb2_grpc.VersionStub(channel).Version(Empty(), timeout=seconds)
    except grpc.RpcError as failure:
        return f"{failure.code().name} {failure.details()}"
    return "OK"


def create(channel: grpc.Channel, name: str) -> None:
    namespace = namespaces_v1_pb2.Namespace(name=name)
    NamespacesStub(channel).Create(namespaces_v1_pb2.CreateNamespaceRequest(namespace=namespace), timeout=30)


@pytest.mark.parametrize(
    "error, seen",
    [
        (NotFound('image "x"'), 'NOT_FOUND image "x": not found'),
        (Unavailable(), "UNAVAILABLE unavailable"),
        (ResourceExhausted("too much"), "RESOURCE_EXHAUSTED too much: resource exhausted"),
    ],
)
def test_an_error_comes_as_the_daemon_would_send_it(
    containerd: FakeContainerd, channel: grpc.Channel, error: ContainerdError, seen: str
) -> None:
    containerd.faults.fail(VERSION, with_=error)

    assert ask(channel) == seen


@pytest.mark.parametrize(
    "on, struck", [(None, {1, 2, 3, 4}), (2, {2}), ((1, 3), {1, 3}), (range(1, 3), {1, 2}), ((), set())]
)
def test_the_calls_to_be_struck_are_chosen_by_number(
    containerd: FakeContainerd, channel: grpc.Channel, on: int | tuple[int, ...] | range | None, struck: set[int]
) -> None:
    fault = containerd.faults.fail(VERSION, with_=Unavailable(), on=on)

    assert {number for number in range(1, 5) if ask(channel) != "OK"} == struck
    assert fault.hits == len(struck)


def test_numbers_count_the_calls_for_which_the_predicate_holds(
    containerd: FakeContainerd, channel: grpc.Channel
) -> None:
    containerd.faults.fail(
        "Namespaces/Create", with_=Unavailable(), on=2, when=lambda call: call.request.namespace.name.startswith("b")
    )

    for name in ("a1", "b1", "a2"):
        create(channel, name)
    with pytest.raises(grpc.RpcError):
        create(channel, "b2")
    create(channel, "b3")


def test_a_struck_call_has_no_effect(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    containerd.faults.fail("Namespaces/Create", with_=Unavailable())

    with pytest.raises(grpc.RpcError):
        create(channel, "a")

    assert containerd.client.namespaces.list(containerd.unseen) == []


def test_a_call_that_is_struck_after_its_work_has_its_effect(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    containerd.faults.fail("Namespaces/Create", with_=Unavailable("lost"), on=1, after=True)

    with pytest.raises(grpc.RpcError, match="lost"):
        create(channel, "a")
    with pytest.raises(grpc.RpcError, match="already exists"):
        create(channel, "a")


def test_a_stream_can_be_struck_before_and_after_its_work(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    def write(ref: str) -> str:
        steps = [
            content_v1_pb2.WriteContentRequest(action=content_v1_pb2.WRITE, ref=ref, data=ref.encode()),
            content_v1_pb2.WriteContentRequest(action=content_v1_pb2.COMMIT, offset=1),
        ]
        try:
            list(content_v1_pb2_grpc.ContentStub(channel).Write(iter(steps), metadata=NAMESPACE, timeout=30))
        except grpc.RpcError as failure:
            return str(failure.details())
        return "OK"

    containerd.faults.fail("Content/Write", with_=Unavailable("early"), on=1)
    containerd.faults.fail("Content/Write", with_=Unavailable("late"), on=2, after=True)

    assert [write("a"), write("b"), write("c")] == ["early: unavailable", "late: unavailable", "OK"]
    assert {info.size for info in containerd.client.content.walk(containerd.unseen)} == {1}
    assert len(list(containerd.client.content.walk(containerd.unseen))) == 2


def test_a_delay_passes_on_the_hand_moved_clock(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    containerd.faults.delay(VERSION, 3600)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, channel, 60)
        containerd.calls.wait_for(VERSION, seconds=30)
        containerd.clock.advance(3599)
        assert not answer.done()
        containerd.clock.advance(1)
        assert answer.result(30) == "OK"


def test_a_delay_in_real_time_passes_by_itself() -> None:
    with fake_containerd(wall_time=True) as containerd:
        containerd.faults.delay(VERSION, 0.05)
        containerd.client.version.version(containerd.ctx)

        [call] = containerd.calls
        assert call.seconds is not None
        assert call.seconds >= 0.05


@pytest.mark.parametrize("fault", ["delay", "hang"])
def test_a_call_that_is_held_ends_when_its_caller_gives_up(
    containerd: FakeContainerd, channel: grpc.Channel, fault: str
) -> None:
    if fault == "delay":
        containerd.faults.delay(VERSION, 1)
    else:
        containerd.faults.hang(VERSION)

    patience = 0.05
    # On a busy machine a caller may give up before its call has arrived at all.
    while not containerd.calls.of(VERSION):
        assert ask(channel, patience).startswith("DEADLINE_EXCEEDED")
        patience *= 2
    call = containerd.calls.wait_for(VERSION, ended=True, seconds=30)[0]
    # The server's own clock, or the caller's word that nobody waits any more: whichever comes first.
    assert call.code in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


def test_a_dropped_call_sees_its_connection_die_and_a_new_one_works(
    containerd: FakeContainerd, channel: grpc.Channel
) -> None:
    assert ask(channel) == "OK"
    fault = containerd.faults.drop(VERSION, on=1)

    assert ask(channel).startswith("UNAVAILABLE")
    assert fault.hits == 1
    # A caller that has not noticed yet loses further calls, which never arrive.
    assert until(lambda: ask(channel) == "OK", 30.0)


def test_a_drop_after_the_work_loses_only_the_answer(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    containerd.faults.drop("Namespaces/Create", after=True)

    with pytest.raises(grpc.RpcError):
        create(channel, "a")

    [call] = containerd.calls
    assert call.response is not None
    # The watcher's own connection was cut as well.
    with Client(containerd.address) as client, pytest.raises(AlreadyExists):
        client.namespaces.create(containerd.unseen, Namespace("a"))


def test_a_drop_cuts_the_connections_of_this_daemon_only(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    with fake_containerd() as other:
        other.client.images.list(other.ctx)
        containerd.faults.drop(VERSION)
        assert ask(channel).startswith("UNAVAILABLE")
        assert other.cut_connections() == 1


def test_faults_add_up_until_one_ends_the_call(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    delay = containerd.faults.delay("*", 0)
    first = containerd.faults.fail(VERSION, with_=Unavailable("first"))
    second = containerd.faults.fail(VERSION, with_=Unavailable("second"))

    assert ask(channel) == "UNAVAILABLE first: unavailable"
    first.lift()
    assert ask(channel) == "UNAVAILABLE second: unavailable"
    assert (delay.hits, repr(second)) == (2, "<fault fail Version/Version, 2 hits>")
    containerd.faults.clear()
    assert ask(channel) == "OK"


def test_a_fault_for_a_method_that_does_not_exist_is_refused(containerd: FakeContainerd) -> None:
    with pytest.raises(UnknownMethod, match=r"no method 'Version/Get' is served; Version has Version"):
        containerd.faults.hang("Version/Get")


@pytest.mark.parametrize("on", [0, (1, -1)])
def test_calls_are_counted_from_one(containerd: FakeContainerd, on: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        containerd.faults.hang(VERSION, on=on)


def test_calls_from_many_threads_are_counted_once_each(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    fault = containerd.faults.fail(VERSION, with_=Unavailable(), on=range(1, 11))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(channel), range(40)))

    assert (answers.count("OK"), fault.hits, len(containerd.calls)) == (30, 10, 40)
