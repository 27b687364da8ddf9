"""The call log, seen from a plain gRPC client."""

from __future__ import annotations

import threading

import grpc
import pytest

from refimpl.api import content_v1_pb2, content_v1_pb2_grpc, events_v1_pb2, events_v1_pb2_grpc
from refimpl.api import images_v1_pb2 as pb
from refimpl.api.images_v1_pb2_grpc import ImagesStub
from refimpl.testing import FakeContainerd, UnknownMethod

NAMESPACE = (("containerd-namespace", "default"),)


def list_images(channel: grpc.Channel) -> pb.ListImagesResponse:
    return ImagesStub(channel).List(pb.ListImagesRequest(filters=["name==x"]), metadata=NAMESPACE, timeout=30)


def test_a_call_is_logged_whole_before_its_caller_has_the_answer(
    containerd: FakeContainerd, channel: grpc.Channel
) -> None:
    answer = list_images(channel)

    [call] = containerd.calls
    assert call.method == "containerd.services.images.v1.Images/List"
    assert (call.request, call.response) == (pb.ListImagesRequest(filters=["name==x"]), answer)
    assert (call.code, call.details, call.namespace) == (grpc.StatusCode.OK, "", "default")
    assert call.started_at == containerd.clock.now()
    assert call.seconds is not None
    assert 0 <= call.seconds < 30


def test_a_refused_call_is_logged_with_its_status(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError):
        ImagesStub(channel).Get(pb.GetImageRequest(name="gone"), metadata=NAMESPACE, timeout=30)

    [call] = containerd.calls.of("Images/Get")
    assert (call.code, call.details) == (grpc.StatusCode.NOT_FOUND, 'image "gone": not found')
    assert str(call).endswith("""Images/Get(name: "gone") in default -> NOT_FOUND 'image "gone": not found'""")


def test_a_stream_is_logged_with_all_its_messages(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    steps = [
        content_v1_pb2.WriteContentRequest(action=content_v1_pb2.STAT, ref="r"),
        content_v1_pb2.WriteContentRequest(action=content_v1_pb2.WRITE, data=b"hello"),
        content_v1_pb2.WriteContentRequest(action=content_v1_pb2.COMMIT, offset=5),
    ]

    answers = list(content_v1_pb2_grpc.ContentStub(channel).Write(iter(steps), metadata=NAMESPACE, timeout=30))

    [call] = containerd.calls.of("Content/Write")
    assert (call.requests, call.responses, call.code) == (steps, answers, grpc.StatusCode.OK)
    assert (call.request, call.response) == (steps[0], answers[-1])
    assert "and 1 more" in str(call)

    question = content_v1_pb2.ReadContentRequest(digest=answers[-1].digest)
    pieces = list(content_v1_pb2_grpc.ContentStub(channel).Read(question, metadata=NAMESPACE, timeout=30))
    [call] = containerd.calls.of("Content/Read")
    assert (call.request, call.responses) == (question, pieces)
    assert pieces == [content_v1_pb2.ReadContentResponse(data=b"hello")]


def test_a_call_that_waits_is_in_the_log_and_ends_there_when_its_caller_leaves(
    containerd: FakeContainerd, channel: grpc.Channel
) -> None:
    stream = events_v1_pb2_grpc.EventsStub(channel).Subscribe(events_v1_pb2.SubscribeRequest(), timeout=30)

    [call] = containerd.calls.wait_for("Events/Subscribe", seconds=30)
    assert (call.code, call.seconds, str(call)[-12:]) == (None, None, "-> under way")

    stream.cancel()
    containerd.calls.wait_for("Events/Subscribe", ended=True, seconds=30)
    assert call.code is grpc.StatusCode.CANCELLED


def test_a_caller_whose_time_is_over_is_logged_as_that(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    stream = events_v1_pb2_grpc.EventsStub(channel).Subscribe(events_v1_pb2.SubscribeRequest(), timeout=0.05)

    with pytest.raises(grpc.RpcError):
        list(stream)

    [call] = containerd.calls.wait_for("Events/Subscribe", ended=True, seconds=30)
    assert call.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_method_that_nobody_serves_is_logged(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    ask: grpc.UnaryUnaryMultiCallable[bytes, bytes]
    ask = channel.unary_unary("/containerd.services.images.v1.Images/Paint")
    with pytest.raises(grpc.RpcError):
        ask(b"", timeout=30)

    [call] = containerd.calls
    assert (call.method, call.code) == ("containerd.services.images.v1.Images/Paint", grpc.StatusCode.UNIMPLEMENTED)


def test_assertions_hold_for_what_was_called(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    list_images(channel)
    list_images(channel)
    calls = containerd.calls

    assert calls.assert_called("Images/List") == calls.assert_called("Images/*", times=2) == list(calls)
    calls.assert_not_called("Images/Get")
    calls.assert_not_called("Images/List", when=lambda call: call.namespace == "other")
    assert (len(calls), calls[-1]) == (2, calls.of("Images/List")[1])

    calls.clear()
    calls.assert_not_called("*")


@pytest.mark.parametrize("times, text", [(None, "not at least once"), (3, "not 3 times")])
def test_a_failed_assertion_shows_the_log(
    containerd: FakeContainerd, channel: grpc.Channel, times: int | None, text: str
) -> None:
    list_images(channel)

    with pytest.raises(AssertionError) as failure:
        containerd.calls.assert_called("Images/Get", times=times)

    assert str(failure.value).startswith(f"Images/Get was called 0 times, {text}; the log:\n")
    assert "Images/List(filters: " in str(failure.value)


def test_assertions_about_a_method_that_does_not_exist_fail_whatever_they_claim(containerd: FakeContainerd) -> None:
    with pytest.raises(UnknownMethod, match="Images has Create, Delete, Get, List, Update"):
        containerd.calls.assert_not_called("Images/Remove")


def test_waiting_for_a_call_ends_when_it_comes(containerd: FakeContainerd, channel: grpc.Channel) -> None:
    program = threading.Thread(target=list_images, args=(channel,))
    program.start()

    assert containerd.calls.wait_for("Images/List", ended=True, seconds=30)[0].code is grpc.StatusCode.OK
    program.join(30)


def test_waiting_for_a_call_that_does_not_come_fails_with_the_log(containerd: FakeContainerd) -> None:
    with pytest.raises(AssertionError, match=r"Images/List was not called 1 times in 0\.01 s; the log:\n.*no calls"):
        containerd.calls.wait_for("Images/List", seconds=0.01)


def test_unseen_calls_are_neither_logged_nor_struck(containerd: FakeContainerd) -> None:
    fault = containerd.faults.hang("*")

    assert containerd.client.images.list(containerd.unseen) == []
    assert (len(containerd.calls), fault.hits) == (0, 0)
