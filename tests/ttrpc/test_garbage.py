"""Strangers on either end: whatever bytes come, both sides stay on their feet, and no call waits for ever."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refimpl.api.ttrpc_pb2 import Request
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.daemon.threads import LazyThreads
from refimpl.kernel.service import TTRPCMethod
from refimpl.ttrpc.client import Client
from refimpl.ttrpc.frames import Frame
from refimpl.ttrpc.server import Server
from refimpl.ttrpc.streams import ServerStream, StreamMethod

SERVICE = "test.Echo"
SECONDS = 60.0
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

headers = st.builds(
    lambda length, stream, type, flags: struct.pack(">IIBB", length, stream, type, flags),
    st.integers(0, 64) | st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 9) | st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 4) | st.integers(0, 255),
    st.integers(0, 7) | st.integers(0, 255),
)
requests = st.builds(
    lambda method, payload, timeout: Request(
        service=SERVICE, method=method, payload=payload, timeout_nano=timeout
    ).SerializeToString(),
    st.sampled_from(["Say", "Echo", "Nope"]),
    st.binary(max_size=20),
    st.integers(-(2**63), 2**63 - 1),
)
frames = st.builds(
    lambda stream, type, payload, flags: Frame(stream, type, payload, flags).encode(),
    st.integers(0, 9),
    st.integers(0, 4),
    st.binary(max_size=40) | requests,
    st.integers(0, 7),
)
garbage = st.lists(st.binary(max_size=40) | headers | frames, max_size=12).map(b"".join)


def echo(_ctx: CallContext, stream: ServerStream) -> None:
    for message in stream:
        stream.send(message)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path: Path = tmp_path_factory.mktemp("ttrpc") / "t.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    server = Server(listener, LazyThreads(64))
    say = TTRPCMethod(StringValue, lambda _, message: message)
    server.add_service(SERVICE, {"Say": say, "Echo": StreamMethod(StringValue, echo)})
    server.start()
    yield path
    server.stop()


@FEW
@given(garbage)
def test_a_server_survives_any_client(address: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(SECONDS)
        stranger.connect(str(address))
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(1 << 16):
            pass
    with Client.connect(f"unix://{address}") as client:
        ctx = CallContext(deadline=time.monotonic() + SECONDS)
        assert client.call(ctx, SERVICE, "Say", StringValue(value="x"), StringValue).value == "x"


@FEW
@given(garbage, st.booleans())
def test_a_client_survives_any_server(data: bytes, streaming: bool) -> None:
    ours, theirs = socket.socketpair()
    ctx = CallContext(deadline=time.monotonic() + SECONDS)
    with theirs, Client(ours) as client:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        try:
            if streaming:
                for _ in client.stream(ctx, SERVICE, "Echo", StringValue):
                    pass
            else:
                client.call(ctx, SERVICE, "Say", StringValue(), StringValue)
        except ContainerdError:
            pass
        assert time.monotonic() < ctx.deadline  # type: ignore[operator]
