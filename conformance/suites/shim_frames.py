"""ttrpc, frame by frame: what a server does with bytes (SHM-097 to 105).

Judged on a shim's socket; the daemon's own socket is served by the same protocol.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass

import pytest

from conformance import clause, patience
from conformance.shim.events import SERVICE as EVENTS
from conformance.shim.raw import LIMIT, Raw
from conformance.shim.raw import request as ask
from conformance.shim.task import SERVICES
from conformance.suites._shim import (
    SHIM,
    shim,
)
from refimpl.api import task_v2_pb2 as pb
from refimpl.api import typeurl
from refimpl.api.event_types_pb2 import TaskStart
from refimpl.api.events_ttrpc_v1_pb2 import ForwardRequest
from refimpl.api.ttrpc_pb2 import Response

SERVER = ("ttrpc",)
"""Any server of ttrpc: a shim, or a daemon."""

OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 3, 8, 12, 13


@dataclass(frozen=True)
class Endpoint:
    """A ttrpc server and one method of it.

    Attributes:
        good: payload of a request that succeeds.
        silent: payload of one that succeeds with nothing to say.
    """

    address: str
    service: str
    method: str
    good: bytes
    silent: bytes


@pytest.fixture
def server(shim):
    """A container in a shim, created."""
    return shim.created()


@pytest.fixture
def endpoint(subject, request, ctx):
    """The server under judgement: a shim's, or the one that a daemon has for the events of shims."""
    if "shim-binary" in subject.offers:
        found = request.getfixturevalue("server")
        service = found.task.service
        good = ask(service, "Connect", pb.ConnectRequest(id=found.id))
        silent = ask(service, "Shutdown", pb.ShutdownRequest(id=found.id))
        return Endpoint(found.address, service, "Connect", good, silent)
    message = ForwardRequest()
    message.envelope.timestamp.FromNanoseconds(time.time_ns())
    message.envelope.namespace, message.envelope.topic = ctx.namespace, "/conform/frames"
    message.envelope.event.CopyFrom(typeurl.pack(TaskStart(container_id="c", pid=1)))
    good = ask(EVENTS, "Forward", message)
    return Endpoint(f"{subject.address}.ttrpc", EVENTS, "Forward", good, good)


@pytest.fixture
def raw(endpoint):
    """A connection for frames made by hand."""
    with Raw(endpoint.address) as connection:
        yield connection


@clause("SHM-097", needs=SHIM)
def test_an_answer_has_the_header_of_its_request(shim):
    """Rejects: a length in the other byte order, a stream of the server's own, a greeting before the first answer."""
    address = shim.serve(shim.bundle())
    with Raw(address) as raw:
        codes = []
        for stream, service in enumerate(SERVICES):
            raw.send(2 * stream + 3, ask(service, "Connect", pb.ConnectRequest()))
            # The process behind the socket is still coming to life.
            heard = raw.receive(2 * patience.SECONDS)
            assert heard is not None, "the connection was closed"
            assert (heard.stream, heard.type, heard.flags) == (2 * stream + 3, 2, 0)
            codes.append(heard.code)

    assert sorted(codes) == [OK, UNIMPLEMENTED], "a shim serves one version of the service"


@clause("SHM-097", needs=SERVER)
def test_a_server_says_nothing_before_it_is_asked(raw):
    """Rejects: a handshake."""
    assert raw.silent()


@clause("SHM-098", needs=SERVER)
@pytest.mark.parametrize("stream", [4, 0, 0xFFFFFFFE])
def test_an_even_stream_is_refused_and_no_harm_done(raw, endpoint, stream):
    """Rejects: the end of the connection; an answer as if nothing were wrong."""
    heard = raw.ask(stream, endpoint.good)

    assert (heard.stream, heard.code) == (stream, INVALID_ARGUMENT), heard.message
    assert raw.ask(5, endpoint.good).code == OK


@clause("SHM-098", needs=SERVER)
def test_streams_may_come_out_of_order_or_are_refused(raw, endpoint):
    """Rejects: the end of the connection for a stream that is lower than the last."""
    first, second, third = (raw.ask(stream, endpoint.good) for stream in (9, 7, 11))

    assert (first.code, third.code) == (OK, OK)
    # 1.x takes any odd stream, 2.x only ones that rise.
    assert second.code in (OK, INVALID_ARGUMENT)


@clause("SHM-099", needs=SERVER)
def test_a_frame_of_the_largest_size_is_handled(raw, endpoint):
    """Rejects: a limit that counts the header too."""
    filler = ask("foo.Bar", "Nope", b"x" * (LIMIT - 64))
    filler = ask("foo.Bar", "Nope", b"x" * (LIMIT - 64 + LIMIT - len(filler)))
    assert len(filler) == LIMIT

    assert raw.ask(1, filler).code == UNIMPLEMENTED
    assert raw.ask(3, endpoint.good).code == OK


@clause("SHM-099", needs=SERVER)
def test_a_frame_over_the_limit_is_refused_and_read_to_its_end(raw, endpoint):
    """Rejects: the end of the connection; bytes of the refused frame taken for the next header."""
    heard = raw.ask(1, b"x" * (LIMIT + 1))

    assert (heard.stream, heard.code) == (1, RESOURCE_EXHAUSTED)
    assert str(LIMIT + 1) in heard.message
    assert str(LIMIT) in heard.message.replace(str(LIMIT + 1), "")
    assert raw.ask(3, endpoint.good).code == OK


@clause("SHM-100", needs=SERVER)
def test_garbage_is_refused_and_the_connection_goes_on(raw, endpoint):
    """Rejects: the end of the connection; one code for every kind of garbage."""
    assert raw.ask(1, b"\xff\xff\xff").code == INVALID_ARGUMENT
    assert raw.ask(3, ask(endpoint.service, endpoint.method, b"\xff\xff\xff")).code == INTERNAL
    assert raw.ask(5, b"").code == UNIMPLEMENTED
    assert raw.ask(7, endpoint.good).code == OK


@clause("SHM-100", needs=SERVER)
def test_unknown_fields_of_a_request_are_passed_over(raw, endpoint):
    """Rejects: a server that refuses what a newer client adds."""
    # Field 99 of both messages, with three bytes.
    unknown = b"\x9a\x06\x03abc"

    assert raw.ask(1, endpoint.good + unknown).code == OK


@clause("SHM-101", needs=SERVER)
@pytest.mark.parametrize("type", [9, 2, 0, 255])
def test_a_frame_of_another_type_is_passed_over(raw, endpoint, type):
    """Rejects: an answer to, or the end of the connection for, what is not a request."""
    raw.send(1, endpoint.good, type=type)
    heard = raw.ask(3, endpoint.good)

    assert (heard.stream, heard.code) == (3, OK)
    assert raw.silent()


@clause("SHM-101", needs=SERVER)
def test_flags_of_a_call_are_no_reason_to_refuse_it(raw, endpoint):
    """Rejects: a server that knows no flags and so refuses them."""
    assert raw.ask(1, endpoint.good, flags=0xFF).code == OK


@clause("SHM-101", needs=SERVER)
def test_data_for_a_stream_that_is_not_open_does_no_harm(raw, endpoint):
    """Rejects: the end of the connection."""
    raw.send(1, b"abc", type=3)
    raw.send(3, endpoint.good)
    heard = raw.receive()
    assert heard is not None
    if heard.stream == 1:  # 2.x answers
        assert heard.code == INVALID_ARGUMENT
        heard = raw.receive()

    assert heard is not None
    assert (heard.stream, heard.code) == (3, OK)


@clause("SHM-102", needs=SERVER)
def test_success_with_nothing_to_say_is_an_empty_frame(raw, endpoint):
    """Rejects: a status of OK in each answer, which a strict reader of empty frames never sees."""
    heard = raw.ask(1, endpoint.silent)

    assert (heard.type, heard.payload) == (2, b"")


@clause("SHM-102", needs=SERVER)
def test_an_error_has_code_and_message_and_no_payload(raw, endpoint):
    """Rejects: an error in the payload."""
    heard = raw.ask(1, ask(endpoint.service, "Nope"))

    response = Response.FromString(heard.payload)
    assert (response.status.code, response.payload) == (UNIMPLEMENTED, b"")
    assert "Nope" in response.status.message


@clause("SHM-103", needs=SHIM)
def test_a_wait_holds_up_nothing(raw, endpoint, server):
    """Rejects: one request at a time."""
    server.start()
    raw.send(1, ask(server.task.service, "Wait", pb.WaitRequest(id=server.id)))
    heard = raw.ask(3, endpoint.good)

    assert (heard.stream, heard.code) == (3, OK)
    server.kill()
    ended = raw.receive()
    assert ended is not None
    assert (ended.stream, ended.code) == (1, OK)


@clause("SHM-103", needs=SERVER)
def test_requests_sent_together_are_all_answered(raw, endpoint):
    """Rejects: a request lost among others."""
    streams = list(range(1, 41, 2))
    frames = b"".join(struct.pack(">IIBB", len(endpoint.good), stream, 1, 0) + endpoint.good for stream in streams)
    raw.socket.sendall(frames)

    heard = [raw.receive() for _ in streams]

    assert sorted(one.stream for one in heard if one is not None) == streams


@clause("SHM-104", needs=SHIM)
def test_a_frame_that_is_cut_short_is_never_executed(raw, server):
    """Rejects: a request made of what came so far."""
    kill = ask(server.task.service, "Start", pb.StartRequest(id=server.id))
    frame = struct.pack(">IIBB", len(kill), 1, 1, 0) + kill
    raw.socket.sendall(struct.pack(">IIBB", 100 + len(kill), 1, 1, 0) + frame[10:])
    raw.socket.shutdown(socket.SHUT_WR)

    with contextlib.suppress(TimeoutError):
        assert raw.receive(0.5) is None, "it was answered"
    raw.socket.close()
    time.sleep(0.1)
    assert server.state().pid == server.pid
    assert server.state().status == 1, "it was executed"


@clause("SHM-105", needs=SERVER)
def test_service_and_method_are_matched_letter_by_letter(raw, endpoint):
    """Rejects: names in any case, paths as gRPC writes them."""
    service, method = endpoint.service, endpoint.method
    wrong = [(service, method.lower()), (service, f"/{method}"), ("", method), (service.lower(), method), (service, "")]
    for number, names in enumerate(wrong):
        heard = raw.ask(2 * number + 1, ask(*names))
        assert heard.code == UNIMPLEMENTED, f"{names}: {heard.code}"
    assert raw.ask(21, endpoint.good).code == OK


@clause("SHM-105", needs=SERVER)
def test_metadata_that_nobody_knows_is_passed_over(raw, endpoint):
    """Rejects: a server that insists on metadata, or on knowing all of it."""
    # Field 5 of a request, and field 4, the time limit: 5 s.
    metadata = ask("", "", metadata={"x-unknown": "1"}, nano=5_000_000_000)

    assert raw.ask(1, endpoint.good + metadata).code == OK


@clause("SHM-097", needs=SERVER)
def test_the_header_of_an_answer_goes_before_all_else(raw, endpoint):
    """Rejects: an answer on a stream of the server's own."""
    heard = raw.ask(7, endpoint.good)

    assert (heard.stream, heard.type, heard.flags, heard.code) == (7, 2, 0, OK)
