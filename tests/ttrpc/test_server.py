"""ttrpc, byte by byte: what the server answers, what it refuses, what it survives."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue, StringValue

from refimpl.api.ttrpc_pb2 import KeyValue, Request, Response
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound
from refimpl.daemon.threads import LazyThreads
from refimpl.kernel import TTRPCMethod
from refimpl.ttrpc.frames import MAX_PAYLOAD, REQUEST, Frame, FrameTooLongError, read_frame
from refimpl.ttrpc.server import Server

SERVICE = "test.Echo"
WAIT = 60.0


class Echo:
    """A service whose calls can be held."""

    def __init__(self) -> None:
        self.contexts: list[CallContext] = []
        self.held = threading.Event()
        self.cancelled = threading.Event()

    def say(self, ctx: CallContext, request: StringValue) -> StringValue:
        self.contexts.append(ctx)
        return request

    def nothing(self, _ctx: CallContext, _request: StringValue) -> Empty:
        return Empty()

    def fail(self, _ctx: CallContext, request: StringValue) -> Empty:
        raise NotFound(f"task {request.value}")

    def crash(self, _ctx: CallContext, _request: StringValue) -> Empty:
        raise ZeroDivisionError("by zero")

    def hold(self, ctx: CallContext, request: StringValue) -> StringValue:
        assert ctx.cancel is not None
        while not self.held.wait(0.01):
            if ctx.cancel.cancelled:
                self.cancelled.set()
                break
        return request

    def grow(self, _ctx: CallContext, _request: StringValue) -> BytesValue:
        return BytesValue(value=bytes(MAX_PAYLOAD))

    def methods(self) -> dict[str, TTRPCMethod]:
        names = ("say", "nothing", "fail", "crash", "hold", "grow")
        return {name.capitalize(): TTRPCMethod(StringValue, getattr(self, name)) for name in names}


class Peer:
    """The other end of a connection."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def send(self, stream: int, payload: bytes, type: int = REQUEST, flags: int = 0) -> None:
        self.socket.sendall(Frame(stream, type, payload, flags).encode())

    def call(self, method: str, text: str = "", *, stream: int = 1, service: str = SERVICE, **more: object) -> None:
        payload = StringValue(value=text).SerializeToString()
        request = Request(service=service, method=method, payload=payload, **more)  # type: ignore[arg-type]
        self.send(stream, request.SerializeToString())

    def answer(self) -> tuple[int, Response]:
        frame = read_frame(self.socket)
        assert frame is not None
        assert (frame.type, frame.flags) == (2, 0)
        return frame.stream, Response.FromString(frame.payload)

    def refusal(self) -> tuple[int, str]:
        _, response = self.answer()
        assert response.payload == b""
        return response.status.code, response.status.message


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def server(echo: Echo, tmp_path: Path) -> Iterator[Server]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "t.sock"))
    listener.listen()
    made = Server(listener, LazyThreads(16))
    made.add_service(SERVICE, echo.methods())
    made.start()
    yield made
    made.stop()


@pytest.fixture
def peer(server: Server, tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path / "t.sock")
    yield made
    made.socket.close()


def test_a_call_is_answered_on_its_stream(peer: Peer) -> None:
    peer.call("Say", "hello", stream=5)
    stream, response = peer.answer()
    assert stream == 5
    assert not response.HasField("status")
    assert StringValue.FromString(response.payload).value == "hello"


def test_an_empty_result_is_a_frame_of_ten_bytes(peer: Peer) -> None:
    peer.call("Nothing", stream=3)
    assert peer.socket.recv(100) == bytes.fromhex("00000000 00000003 02 00")


def test_calls_on_one_connection_do_not_wait_for_each_other(peer: Peer, echo: Echo) -> None:
    peer.call("Hold", "first", stream=1)
    peer.call("Say", "second", stream=3)
    assert peer.answer()[0] == 3
    echo.held.set()
    assert peer.answer()[0] == 1


def test_namespace_headers_and_deadline_reach_the_handler(peer: Peer, echo: Echo) -> None:
    metadata = [
        KeyValue(key="Containerd-Namespace-TTRPC", value="k8s"),
        KeyValue(key="a", value="1"),
        KeyValue(key="a"),
    ]
    peer.call("Say", metadata=metadata, timeout_nano=60_000_000_000)
    peer.answer()
    context = echo.contexts[0]
    assert (context.namespace, context.headers) == ("k8s", {"a": "1"})
    assert context.deadline is not None
    assert 0 < context.deadline - time.monotonic() <= 60


def test_a_call_without_a_timeout_has_no_deadline(peer: Peer, echo: Echo) -> None:
    peer.call("Say")
    peer.answer()
    assert echo.contexts[0].deadline is None


def test_an_error_of_the_contract_becomes_its_status(peer: Peer) -> None:
    peer.call("Fail", "t1")
    assert peer.refusal() == (5, "task t1: not found")


def test_any_other_error_is_unknown_and_the_connection_stays(peer: Peer) -> None:
    peer.call("Crash")
    assert peer.refusal() == (2, "by zero")
    peer.call("Say", "still here", stream=3)
    assert peer.answer()[0] == 3


@pytest.mark.parametrize(
    "service,method,text",
    [
        ("test.Nope", "Say", "service test.Nope"),
        (SERVICE, "Nope", "method Nope"),
        (SERVICE, "say", "method say"),
        ("/test.Echo", "Say", "service /test.Echo"),
        ("", "", "service "),
    ],
)
def test_an_unknown_name_is_unimplemented(peer: Peer, service: str, method: str, text: str) -> None:
    peer.call(method, service=service)
    assert peer.refusal() == (12, text)


def test_an_empty_request_names_no_service(peer: Peer) -> None:
    peer.send(1, b"")
    assert peer.refusal() == (12, "service ")


def test_a_payload_that_is_no_request_is_invalid(peer: Peer) -> None:
    peer.send(1, b"\xff\xff\xff")
    code, text = peer.refusal()
    assert code == 3
    assert text.startswith("unmarshal request error: ")


def test_an_inner_payload_that_does_not_parse_is_internal(peer: Peer) -> None:
    peer.send(1, Request(service=SERVICE, method="Say", payload=b"\xff\xff").SerializeToString())
    code, text = peer.refusal()
    assert code == 13
    assert text.startswith("ttrpc: error unmarshalling payload: ")


@pytest.mark.parametrize("stream", [0, 2])
def test_an_even_stream_is_refused(peer: Peer, stream: int) -> None:
    peer.call("Say", stream=stream)
    assert peer.refusal() == (3, "StreamID must be odd for client initiated streams")


def test_a_stream_id_may_come_again(peer: Peer) -> None:
    for _ in range(2):
        peer.call("Say", "x", stream=1)
        assert peer.answer()[0] == 1


def test_frames_of_other_types_are_ignored(peer: Peer) -> None:
    peer.send(1, b"data", type=3)
    peer.send(1, b"what", type=77)
    peer.call("Say", "x", stream=3)
    assert peer.answer()[0] == 3


def test_flags_are_ignored(peer: Peer) -> None:
    request = Request(service=SERVICE, method="Nothing")
    peer.send(1, request.SerializeToString(), flags=0xFF)
    assert peer.answer()[0] == 1


def test_a_frame_over_the_limit_is_refused_and_the_connection_goes_on(peer: Peer) -> None:
    length = MAX_PAYLOAD + 1
    peer.socket.sendall(struct.pack(">IIBB", length, 7, 1, 0) + bytes(length))
    assert peer.refusal() == (8, f"message length {length} exceed maximum message size of {MAX_PAYLOAD}")
    peer.call("Say", "x", stream=9)
    assert peer.answer()[0] == 9


def test_a_frame_of_exactly_the_limit_is_taken(peer: Peer) -> None:
    request = Request(service=SERVICE, method="Nothing")
    padding = request.metadata.add(key="x", value="y" * (MAX_PAYLOAD - 100))
    padding.value += "y" * (MAX_PAYLOAD - request.ByteSize())
    assert len(request.SerializeToString()) == MAX_PAYLOAD
    peer.send(1, request.SerializeToString())
    assert peer.answer()[0] == 1


def test_an_answer_over_the_limit_fails_that_call_only(peer: Peer) -> None:
    peer.call("Grow")
    code, text = peer.refusal()
    assert code == 8
    assert "exceed maximum message size" in text


def test_our_own_frames_keep_to_the_limit() -> None:
    with pytest.raises(FrameTooLongError):
        Frame(1, REQUEST, bytes(MAX_PAYLOAD + 1)).encode()


def test_a_frame_that_is_cut_short_is_never_executed(peer: Peer, echo: Echo) -> None:
    request = Request(service=SERVICE, method="Say").SerializeToString()
    peer.socket.sendall(Frame(1, REQUEST, request).encode()[:-1])
    peer.socket.shutdown(socket.SHUT_WR)
    assert peer.socket.recv(10) == b""
    assert echo.contexts == []


def test_a_client_that_goes_away_cancels_its_calls(peer: Peer, echo: Echo) -> None:
    peer.call("Hold")
    peer.socket.close()
    assert echo.cancelled.wait(WAIT)


def test_a_stop_hangs_up_and_waits_for_nobody(peer: Peer, echo: Echo, server: Server, tmp_path: Path) -> None:
    peer.call("Hold")
    peer.call("Say", stream=3)
    assert peer.answer()[0] == 3
    server.stop()
    assert peer.socket.recv(10) == b""
    assert echo.cancelled.wait(WAIT)
    with pytest.raises(ConnectionError):
        Peer(tmp_path / "t.sock")
    server.stop()


def test_a_service_has_one_place(server: Server, echo: Echo) -> None:
    with pytest.raises(ValueError, match=r"test\.Echo"):
        server.add_service(SERVICE, echo.methods())
