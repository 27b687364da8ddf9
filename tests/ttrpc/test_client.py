"""The ttrpc client: many calls on one connection, how each ends, and a peer that does not play by the rules."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

from refimpl.api.ttrpc_pb2 import Request, Response
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import (
    Canceled,
    DeadlineExceeded,
    Internal,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unknown,
)
from refimpl.ttrpc.client import Client, Closed, dial
from refimpl.ttrpc.frames import DATA, MAX_PAYLOAD, REQUEST, RESPONSE, Frame, read_frame

CTX = CallContext()
WAIT = 60


class Peer:
    """A server that a test plays by hand."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(WAIT)

    def request(self) -> tuple[int, Request]:
        frame = read_frame(self.socket)
        assert frame is not None
        assert (frame.type, frame.flags) == (REQUEST, 0)
        return frame.stream, Request.FromString(frame.payload)

    def answer(self, stream: int, text: str = "", *, code: int = 0, message: str = "") -> None:
        response = Response(payload=StringValue(value=text).SerializeToString())
        if code:
            response.status.code, response.status.message = code, message
        self.send(stream, response.SerializeToString())

    def send(self, stream: int, payload: bytes, type: int = RESPONSE, flags: int = 0) -> None:
        self.socket.sendall(Frame(stream, type, payload, flags).encode())


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Peer]]:
    ours, theirs = socket.socketpair()
    yield ours, Peer(theirs)
    theirs.close()


@pytest.fixture
def peer(ends: tuple[socket.socket, Peer]) -> Peer:
    return ends[1]


@pytest.fixture
def client(ends: tuple[socket.socket, Peer]) -> Iterator[Client]:
    with Client(ends[0]) as made:
        yield made


@pytest.fixture
def say(client: Client) -> Iterator[Callable[..., Future[str]]]:
    """Starts a call and does not wait for it."""
    with ThreadPoolExecutor(32) as pool:

        def call(text: str = "", ctx: CallContext = CTX) -> Future[str]:
            return pool.submit(lambda: client.call(ctx, "test.Echo", "Say", StringValue(value=text), StringValue).value)

        yield call
        client.close()


def test_a_request_names_service_method_and_what_the_context_carries(
    say: Callable[..., Future[str]], peer: Peer
) -> None:
    ctx = CallContext("k8s", deadline=time.monotonic() + 600, headers={"a": "1"})
    called = say("hello", ctx)
    stream, request = peer.request()
    assert (stream, request.service, request.method) == (1, "test.Echo", "Say")
    assert StringValue.FromString(request.payload).value == "hello"
    assert [(each.key, each.value) for each in request.metadata] == [("containerd-namespace-ttrpc", "k8s"), ("a", "1")]
    assert 500e9 < request.timeout_nano <= 600e9
    peer.answer(stream, "bye")
    assert called.result(WAIT) == "bye"


def test_a_call_without_deadline_and_namespace_says_nothing_of_them(
    say: Callable[..., Future[str]], peer: Peer
) -> None:
    called = say()
    stream, request = peer.request()
    assert (request.timeout_nano, list(request.metadata)) == (0, [])
    peer.answer(stream)
    called.result(WAIT)


def test_an_empty_answer_has_no_payload(client: Client, peer: Peer) -> None:
    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(client.call, CTX, "s", "m", Empty(), Empty)
        peer.request()
        peer.send(1, b"")
        assert called.result(WAIT) == Empty()


def test_answers_find_their_calls_in_any_order(say: Callable[..., Future[str]], peer: Peer) -> None:
    calls = {str(n): say(str(n)) for n in range(20)}
    asked = [peer.request() for _ in calls]
    assert sorted(stream for stream, _ in asked) == list(range(1, 40, 2)), "ids are odd and rise by two"
    for stream, request in reversed(asked):
        peer.answer(stream, StringValue.FromString(request.payload).value)
    assert {text: called.result(WAIT) for text, called in calls.items()} == {text: text for text in calls}


@pytest.mark.parametrize(
    "code,message,kind,text",
    [
        (5, "task c1: not found", NotFound, "task c1: not found"),
        (5, "task c1 not there", NotFound, "task c1 not there"),
        (2, "OCI runtime create failed", Unknown, "OCI runtime create failed"),
        (77, "what", Unknown, "what"),
    ],
)
def test_a_status_becomes_an_error_with_its_own_text(
    say: Callable[..., Future[str]], peer: Peer, code: int, message: str, kind: type[Exception], text: str
) -> None:
    called = say()
    peer.answer(peer.request()[0], code=code, message=message)
    with pytest.raises(kind) as caught:
        called.result(WAIT)
    assert (type(caught.value), str(caught.value)) == (kind, text)


def test_a_caller_that_gives_up_leaves_the_others_alone(say: Callable[..., Future[str]], peer: Peer) -> None:
    token = CancelToken()
    given_up = say("first", CallContext(cancel=token))
    late = say("second", CallContext(deadline=time.monotonic() + 0.3))
    kept = say("third")
    streams: dict[str, int] = {}
    # The second may have given up before it was sent, on a machine that stood still.
    while not {"first", "third"} <= streams.keys():
        stream, request = peer.request()
        streams[StringValue.FromString(request.payload).value] = stream
    token.cancel()
    with pytest.raises(Canceled):
        given_up.result(WAIT)
    with pytest.raises(DeadlineExceeded):
        late.result(WAIT)
    for name, stream in streams.items():
        peer.answer(stream, name)
    assert kept.result(WAIT) == "third", "answers to nobody are dropped"


def test_nothing_is_sent_for_a_caller_that_waits_no_longer(client: Client, peer: Peer) -> None:
    with pytest.raises(DeadlineExceeded):
        client.call(CallContext(deadline=time.monotonic() - 1), "s", "m", Empty(), Empty)
    peer.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        peer.socket.recv(1)


@pytest.mark.parametrize("how", ["peer", "peer in the middle of a frame", "client"])
def test_the_end_of_the_connection_ends_all_calls_and_is_told_once(how: str) -> None:
    ours, theirs = socket.socketpair()
    told: list[bool] = []
    client = Client(ours, on_close=lambda: told.append(True))
    with theirs, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.call, CTX, "s", "m", Empty(), Empty) for _ in range(2)]
        for _ in calls:
            read_frame(theirs)
        if how == "client":
            client.close()
        else:
            theirs.sendall(b"\0\0\0\5\0\0" if "middle" in how else b"")
            theirs.shutdown(socket.SHUT_WR)
        for called in calls:
            with pytest.raises(Closed) as caught:
                called.result(WAIT)
            assert str(caught.value) == "ttrpc: closed"
    assert told == [True]
    with pytest.raises(Closed):
        client.call(CTX, "s", "m", Empty(), Empty)
    client.close()
    assert client.closed
    assert told == [True]


def test_who_is_told_of_the_end_may_hang_up_too() -> None:
    ours, theirs = socket.socketpair()
    done = threading.Event()

    def hang_up() -> None:
        made.close()
        done.set()

    made = Client(ours, on_close=hang_up)
    theirs.close()
    assert done.wait(WAIT)


def test_a_close_callback_that_fails_keeps_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    client = Client(ours, on_close=lambda: print(1 / 0))  # noqa: T201
    with theirs, ThreadPoolExecutor(1) as pool:
        called = pool.submit(client.call, CTX, "s", "m", Empty(), Empty)
        read_frame(theirs)
        theirs.shutdown(socket.SHUT_RDWR)
        with pytest.raises(Closed):
            called.result(WAIT)
    assert "ttrpc close callback failed" in caplog.text


def test_a_request_over_the_limit_is_not_sent(client: Client, say: Callable[..., Future[str]], peer: Peer) -> None:
    with pytest.raises(ResourceExhausted, match="exceed maximum message size"):
        client.call(CTX, "s", "m", StringValue(value="x" * MAX_PAYLOAD), Empty)
    called = say("small")
    peer.answer(peer.request()[0], "still works")
    assert called.result(WAIT) == "still works"


def test_an_answer_over_the_limit_fails_its_call_only(say: Callable[..., Future[str]], peer: Peer) -> None:
    first = say("first")
    stream, _ = peer.request()
    second = say("second")
    other, _ = peer.request()
    peer.socket.sendall(struct.pack(">IIBB", MAX_PAYLOAD + 1, stream, RESPONSE, 0) + bytes(MAX_PAYLOAD + 1))
    peer.answer(other, "fine")
    with pytest.raises(ResourceExhausted, match="exceed maximum message size"):
        first.result(WAIT)
    assert second.result(WAIT) == "fine"


@pytest.mark.parametrize(
    "payload,type",
    [(b"\xff\xff", RESPONSE), (Response(payload=b"\xff\xff").SerializeToString(), RESPONSE), (b"", DATA)],
)
def test_an_answer_that_makes_no_sense_is_the_servers_mistake(
    say: Callable[..., Future[str]], peer: Peer, payload: bytes, type: int
) -> None:
    called = say()
    peer.send(peer.request()[0], payload, type=type)
    with pytest.raises(Internal):
        called.result(WAIT)


def test_frames_for_nobody_are_dropped(say: Callable[..., Future[str]], peer: Peer) -> None:
    called = say()
    stream, _ = peer.request()
    for other, type in ((99, RESPONSE), (2, DATA), (stream, 77), (0, 0)):
        peer.send(other, b"what", type=type)
    peer.answer(stream, "mine")
    assert called.result(WAIT) == "mine"


def test_a_peer_that_reads_nothing_holds_a_caller_no_longer_than_its_deadline(client: Client) -> None:
    """The second call waits for its turn, and the first broke off in the middle of its frame: no more is possible."""
    big = StringValue(value="x" * (MAX_PAYLOAD - 100))
    # Time enough to begin that frame.
    ctx = CallContext(deadline=time.monotonic() + 2.0)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.call, ctx, "s", "m", big, Empty) for _ in range(2)]
        for called in calls:
            with pytest.raises((DeadlineExceeded, Closed)):
                called.result(WAIT)
    assert client.closed


def test_addresses_are_paths_with_a_scheme_and_abstract_names_without(tmp_path: Path) -> None:
    abstract = f"refimpl-test-{tmp_path.name}-{time.monotonic_ns()}"
    for bound, address in ((str(tmp_path / "s"), f"unix://{tmp_path}/s"), (f"\0{abstract}", abstract)):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(bound)
            listener.listen()
            with Client.connect(address) as client:
                assert not client.closed


@pytest.mark.parametrize("address", ["unix:///no/such/socket", "no-such-abstract-name", "unix:///a\0b"])
def test_nobody_at_an_address_is_unavailable(address: str) -> None:
    with pytest.raises(Unavailable, match="dial unix"):
        dial(address)
