"""Words for the checks of events: an ear on the bus, ttrpc in a few bytes, and the program behind a socket."""

from __future__ import annotations

import os
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message

from conformance import patience
from refimpl.api import event_types_pb2, images_v1_pb2
from refimpl.api.ttrpc_pb2 import KeyValue, Request, Response
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.events import Envelope, EventExchange
from refimpl.contract.types import TypedAny

SERVICE = "containerd.services.events.v1.Events"
TTRPC_SERVICE = "containerd.services.events.ttrpc.v1.Events"

PATIENCE = patience.SECONDS
"""Seconds that a check waits for an event which has to come."""

ACCEPTED = ["/ok", "/a/b/c", "/a_b.c-d", "/UPPER/x1", "/" + "x" * 76, "/a" * 102]
"""Topics."""

REFUSED = [
    "", "/", "//", "noslash", "/a//b", "/a/", "/a b", "/-a", "/a-", "/" + "x" * 77, "/ä", "/tasks/?",
]  # fmt: skip
"""No topics."""

T = TypeVar("T")


def packed(message: Message) -> TypedAny:
    """A message as the daemon's own events travel: under the bare name of its type."""
    return TypedAny(message.DESCRIPTOR.full_name, message.SerializeToString(deterministic=True))


def opened(envelope: Envelope) -> Any:
    """The message in an envelope.

    Raises:
        AssertionError: its type is none of containerd's events.
    """
    package, _, name = envelope.event.type_url.rpartition(".")
    module = {"containerd.events": event_types_pb2, "containerd.services.images.v1": images_v1_pb2}.get(package)
    known = getattr(module, name, None)
    assert known is not None, f"{envelope.topic} carries {envelope.event.type_url!r}"
    return known.FromString(envelope.event.value)


STARTED = TypedAny("containerd.events.TaskStart", b"\x10\x05\x0a\x02c1")
"""TaskStart{container_id "c1", pid 5}, its fields in an order in which no library writes them."""


class Ear:
    """Somebody who listens from now on, and tells what came from the namespaces that a check cares for.

    Args:
        caller: who subscribes.
        speaker: in whose namespace the ear's own last event is told.
        namespaces: what of the bus is told; other checks, and other people, talk on it too.
    """

    def __init__(
        self,
        events: EventExchange,
        filters: Sequence[str],
        *,
        caller: CallContext,
        speaker: CallContext,
        namespaces: frozenset[str],
    ) -> None:
        self._events, self._speaker, self._namespaces = events, speaker, namespaces
        self._end = f"/conform/end-{uuid.uuid4().hex[:12]}"
        self._heard: list[Envelope] = []
        self._changed = threading.Condition()
        self._ended = threading.Event()
        # Without filters the last event comes anyhow.
        self._subscription = events.subscribe(caller, [*filters, f'topic=="{self._end}"'] if filters else [])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        # A stream that fails shows itself as an end that does not come.
        with suppress(ContainerdError):
            for envelope in self._subscription:
                if envelope.topic == self._end:
                    self._ended.set()
                elif envelope.namespace in self._namespaces and not envelope.topic.startswith("/conform/end-"):
                    with self._changed:
                        self._heard.append(envelope)
                        self._changed.notify_all()

    def __call__(self) -> list[Envelope]:
        """Everything up to now. Events come in the order of publishing: behind the ear's own one nothing is missing."""
        self._ended.clear()
        self._events.publish(self._speaker, self._end, TypedAny("conform.End", b"\x01"))
        assert self._ended.wait(PATIENCE), "the subscription is silent: an event published by the check did not come"
        return list(self._heard)

    def topics(self) -> list[str]:
        """The topics of everything up to now."""
        return [envelope.topic for envelope in self()]

    def until(self, topic: str, count: int = 1) -> list[Envelope]:
        """Wait until a topic was told ``count`` times: what shims tell comes in its own time. Everything up to now."""
        with self._changed:
            came = self._changed.wait_for(lambda: self._count(topic) >= count, PATIENCE)
            assert came, f"{topic} was told {self._count(topic)} times, not {count}, within {PATIENCE:g} s"
            return list(self._heard)

    def _count(self, topic: str) -> int:
        return [envelope.topic for envelope in self._heard].count(topic)

    def close(self) -> None:
        """Leave."""
        self._subscription.close()
        self._thread.join(PATIENCE)


Listen = Callable[..., Ear]


@pytest.fixture
def listen(ctx: CallContext, events: EventExchange) -> Iterator[Listen]:
    """Begins to listen: ``told = listen(filter, ...)``, then ``told()``.

    Told is what happens in the check's namespace and those named in ``also``. The subscriber names no namespace unless
    ``caller`` is given.
    """
    ears: list[Ear] = []

    def begin(*filters: str, caller: CallContext | None = None, also: Sequence[str] = ()) -> Ear:
        names = frozenset({ctx.namespace, *also})
        ears.append(Ear(events, filters, caller=caller or CallContext(), speaker=ctx, namespaces=names))
        return ears[-1]

    yield begin
    for ear in ears:
        ear.close()


def within(seconds: float, work: Callable[[], T], what: str) -> T:
    """Do something that might hang.

    Raises:
        AssertionError: it was not done in time; ``what`` says what it was.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001  # raised again by who waits
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"{what} took more than {seconds:g} s"
    if failure:
        raise failure[0]
    return outcome[0]


# ---------------------------------------------------------------------------------------------------------- ttrpc

_HEADER = struct.Struct(">IIBB")  # length of the payload, stream, type, flags
_REQUEST, _RESPONSE = 1, 2


@dataclass(frozen=True, slots=True)
class TTRPCAnswer:
    """What came back from one ttrpc call.

    Attributes:
        code: number of the gRPC status; 0 for success.
    """

    code: int
    message: str
    payload: bytes


def ttrpc(address: str, service: str, method: str, request: Message, *, namespace: str = "") -> TTRPCAnswer:
    """One call to a ttrpc server.

    Raises:
        OSError: the socket broke.
        TimeoutError: no answer in ``PATIENCE``.
    """
    headers = [KeyValue(key="containerd-namespace-ttrpc", value=namespace)] if namespace else []
    call = Request(service=service, method=method, payload=request.SerializeToString(), metadata=headers)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(address)
        payload = call.SerializeToString()
        connection.sendall(_HEADER.pack(len(payload), 1, _REQUEST, 0) + payload)
        length, stream, kind, _ = _HEADER.unpack(_exactly(connection, _HEADER.size))
        answer = Response.FromString(_exactly(connection, length))
    assert (stream, kind) == (1, _RESPONSE), f"a frame of type {kind} on stream {stream} is no answer to the call"
    return TTRPCAnswer(answer.status.code, answer.status.message, answer.payload)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, "the server hung up in the middle of an answer"
        data += piece
    return data


# ---------------------------------------------------------------------------------------- the program behind a socket


def program(address: str) -> list[str]:
    """How the daemon behind a socket was started, without its options and the word that starts it.

    Empty if the daemon is this process, or its command line cannot be seen.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        # Those of the process that made the socket.
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid = struct.unpack("3i", credentials)[0]
    if pid in (0, os.getpid()):
        return []
    try:
        words = [os.fsdecode(word) for word in (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]]
    except OSError:
        return []
    start = next((i for i, word in enumerate(words) if word == "serve" or word.startswith("--")), len(words))
    return words[:start]
