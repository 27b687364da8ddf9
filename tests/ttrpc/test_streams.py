"""Streams, our client against our server: in either direction, and every way in which they end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from refimpl.api.ttrpc_pb2 import Request, Response
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import (
    Canceled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    NotFound,
    ResourceExhausted,
    Unimplemented,
)
from refimpl.daemon.threads import LazyThreads
from refimpl.kernel.service import TTRPCMethod
from refimpl.ttrpc.client import Client, ClientStream, Closed
from refimpl.ttrpc.frames import DATA, MAX_PAYLOAD, NO_DATA, REMOTE_CLOSED, REMOTE_OPEN, REQUEST, Frame, read_frame
from refimpl.ttrpc.server import Server
from refimpl.ttrpc.streams import BACKLOG, ServerStream, StreamMethod

CTX = CallContext(namespace="ns")
SERVICE = "test.Streams"
WAIT = 60


def text(value: str) -> StringValue:
    return StringValue(value=value)


class Streams:
    """A service with one method of each kind."""

    def __init__(self) -> None:
        self.namespaces: list[str] = []
        self.left = threading.Event()
        self.go = threading.Event()

    def echo(self, ctx: CallContext, stream: ServerStream) -> None:
        self.namespaces.append(ctx.namespace)
        for message in stream:
            stream.send(message)

    def join(self, _ctx: CallContext, stream: ServerStream) -> StringValue:
        return text("".join(message.value for message in stream))

    def count(self, _ctx: CallContext, stream: ServerStream) -> StringValue:
        for number in range(int(stream.receive().value)):
            stream.send(text(str(number)))
        assert stream.receive() is None, "who asks once sends no more"
        return text("last")

    def fail(self, _ctx: CallContext, stream: ServerStream) -> None:
        stream.send(text("before"))
        raise NotFound("the rest")

    def hold(self, _ctx: CallContext, stream: ServerStream) -> None:
        try:
            stream.receive()
        finally:
            self.left.set()

    def slow(self, _ctx: CallContext, stream: ServerStream) -> None:
        assert self.go.wait(WAIT)
        for _ in stream:
            pass

    def grow(self, _ctx: CallContext, stream: ServerStream) -> None:
        stream.send(text("x" * MAX_PAYLOAD))

    def methods(self) -> dict[str, TTRPCMethod | StreamMethod]:
        many = ("echo", "count", "fail", "hold", "slow", "grow")
        return {
            "Unary": TTRPCMethod(StringValue, lambda _, message: message),
            "Join": StreamMethod(StringValue, self.join, many_answers=False),
            **{name.capitalize(): StreamMethod(StringValue, getattr(self, name)) for name in many},
        }


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
def address(streams: Streams, tmp_path: Path) -> Iterator[str]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "t.sock"))
    listener.listen()
    server = Server(listener, LazyThreads(16))
    server.add_service(SERVICE, streams.methods())
    server.start()
    yield f"unix://{tmp_path}/t.sock"
    server.stop()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client.connect(address) as made:
        yield made


def opened(client: Client, method: str, ctx: CallContext = CTX, once: str | None = None) -> ClientStream[StringValue]:
    return client.stream(ctx, SERVICE, method, StringValue, None if once is None else text(once))


def test_messages_go_both_ways_while_the_stream_is_open(client: Client, streams: Streams) -> None:
    stream = opened(client, "Echo")
    for word in ("a", "", "c"):
        stream.send(text(word))
        answer = stream.receive()
        assert answer is not None
        assert answer.value == word, "an empty message is one"
    stream.close_send()
    stream.close_send()
    assert stream.receive() is None
    assert stream.receive() is None
    assert streams.namespaces == ["ns"]


def test_many_messages_get_one_answer(client: Client) -> None:
    stream = opened(client, "Join")
    for word in ("a", "b", "c"):
        stream.send(text(word))
    stream.close_send()
    assert [message.value for message in stream] == ["abc"]


def test_one_message_gets_many_answers(client: Client) -> None:
    assert [message.value for message in opened(client, "Count", once="3")] == ["0", "1", "2", "last"]


def test_two_streams_and_a_call_share_a_connection(client: Client) -> None:
    first, second = opened(client, "Echo"), opened(client, "Echo")
    first.send(text("1"))
    second.send(text("2"))
    assert client.call(CTX, SERVICE, "Unary", text("3"), StringValue).value == "3"
    assert [stream.receive() for stream in (second, first)] == [text("2"), text("1")]


def test_an_error_ends_the_stream_after_what_was_sent(client: Client) -> None:
    stream = opened(client, "Fail")
    assert stream.receive() == text("before")
    with pytest.raises(NotFound, match="the rest: not found"):
        stream.receive()
    assert stream.receive() is None


def test_an_unknown_method_refuses_the_stream(client: Client) -> None:
    with pytest.raises(Unimplemented, match="method Nope"):
        opened(client, "Nope").receive()


def test_a_side_that_has_sent_all_sends_no_more(client: Client) -> None:
    stream = opened(client, "Count", once="0")
    with pytest.raises(FailedPrecondition):
        stream.send(text("again"))


def test_a_caller_that_gives_up_hears_of_it(client: Client) -> None:
    token = CancelToken()
    cancelled = opened(client, "Hold", CallContext(cancel=token))
    threading.Timer(0.05, token.cancel).start()
    with pytest.raises(Canceled):
        cancelled.receive()
    with pytest.raises(DeadlineExceeded):
        # The time may be over before the stream is open.
        opened(client, "Hold", CallContext(deadline=time.monotonic() + 0.05)).receive()


def test_a_client_that_goes_away_ends_its_streams_on_both_sides(client: Client, streams: Streams) -> None:
    stream = opened(client, "Hold")
    assert client.call(CTX, SERVICE, "Unary", text(""), StringValue) == text(""), "the stream has arrived"
    client.close()
    assert streams.left.wait(WAIT)
    with pytest.raises(Closed):
        stream.receive()


def test_a_stream_that_is_closed_takes_nothing_more(client: Client) -> None:
    stream = opened(client, "Echo")
    stream.close()
    stream.send(text("for nobody"))
    assert stream.receive() is None


def test_an_answer_over_the_limit_ends_the_stream(client: Client) -> None:
    with pytest.raises(ResourceExhausted, match="exceed maximum message size"):
        opened(client, "Grow").receive()


def test_a_handler_that_takes_nothing_is_not_buried(client: Client, streams: Streams) -> None:
    stream = opened(client, "Slow")
    for _ in range(BACKLOG + 1):
        stream.send(text("more"))
    assert client.call(CTX, SERVICE, "Unary", text(""), StringValue) == text(""), "all of it has arrived"
    streams.go.set()
    with pytest.raises(ResourceExhausted, match="wait for the handler"):
        stream.receive()


@pytest.fixture
def wire(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(WAIT)
        made.connect(address.removeprefix("unix://"))
        yield made


def request(method: str, payload: bytes = b"") -> bytes:
    return Request(service=SERVICE, method=method, payload=payload).SerializeToString()


def next_frame(wire: socket.socket) -> tuple[int, int, bytes]:
    frame = read_frame(wire)
    assert frame is not None
    return frame.type, frame.flags, frame.payload


def test_a_stream_byte_by_byte(wire: socket.socket) -> None:
    first, second = text("first").SerializeToString(), text("second").SerializeToString()
    wire.sendall(Frame(1, REQUEST, request("Echo", first), REMOTE_OPEN).encode())
    assert next_frame(wire) == (DATA, 0, first), "a request may hold the first message"
    wire.sendall(Frame(1, DATA, second, REMOTE_CLOSED).encode())
    assert next_frame(wire) == (DATA, 0, second), "the last message may come with the end"
    assert next_frame(wire) == (DATA, REMOTE_CLOSED | NO_DATA, b"")


def test_an_open_streams_id_is_taken(wire: socket.socket) -> None:
    for _ in range(2):
        wire.sendall(Frame(1, REQUEST, request("Hold"), REMOTE_OPEN).encode())
    _, _, payload = next_frame(wire)
    refused = Response.FromString(payload).status
    assert (refused.code, refused.message) == (3, "StreamID cannot be re-used and must increment")


def test_data_that_does_not_parse_ends_the_stream(wire: socket.socket) -> None:
    wire.sendall(Frame(1, REQUEST, request("Echo"), REMOTE_OPEN).encode())
    wire.sendall(Frame(1, DATA, b"\xff\xff").encode())
    _, _, payload = next_frame(wire)
    assert Response.FromString(payload).status.code == 13


def test_a_client_passes_over_empty_frames_and_refuses_what_does_not_parse() -> None:
    ours, theirs = socket.socketpair()
    with theirs, Client(ours) as client:
        stream = opened(client, "Echo")
        for payload, flags in ((b"", NO_DATA), (b"", NO_DATA), (b"\xff\xff", 0)):
            theirs.sendall(Frame(1, DATA, payload, flags).encode())
        with pytest.raises(Internal):
            stream.receive()
