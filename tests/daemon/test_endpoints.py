"""Endpoints: what is on them, how large a message may be, what cannot be opened (DMN-023 to 036, DMN-066 to 068)."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import cast
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.empty_pb2 import Empty

from conformance.shim.waiting import until
from refimpl.api.events_ttrpc_v1_pb2 import ForwardRequest
from refimpl.api.ttrpc_pb2 import Request, Response
from refimpl.api.version_v1_pb2_grpc import VersionStub
from refimpl.client import Client
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, FailedPrecondition, ResourceExhausted, Unimplemented
from refimpl.contract.types import TypedAny
from refimpl.daemon.sockets import ListenError
from refimpl.kernel import Configuration
from refimpl.kernel.config import DebugConfig, MetricsConfig, TTRPCConfig
from refimpl.ttrpc.frames import REQUEST, Frame, read_frame
from tests.daemon.inprocess import configured, running

CTX = CallContext(namespace="test")
WAIT = 60.0


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose sockets have short enough paths."""
    return tmp_path_factory.mktemp("e")


@contextmanager
def client_of(configuration: Configuration) -> Iterator[Client]:
    with running(configuration), Client(configuration.grpc.address) as client:
        yield client


def free_port() -> int:
    """A port that nobody has; below those that the system gives to whoever asks for any, so that it stays free."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", random.randrange(20000, 32000))) as probe:
            return int(probe.getsockname()[1])


def container(size: int) -> Container:
    return Container(id=f"c{size}", runtime=RuntimeInfo("io.containerd.runc.v2"), spec=TypedAny("x", bytes(size)))


# --- messages -------------------------------------------------------------------------------------------------------


def test_messages_may_have_16_mib_and_a_larger_one_breaks_nothing(base: Path) -> None:
    with client_of(configured(base)) as client:
        client.containers.create(CTX, container(15728640))
        with pytest.raises(ResourceExhausted, match=r"larger than max \(\d+ vs\. 16777216\)"):
            client.containers.create(CTX, container(16777217))
        assert client.health()


def test_the_limits_can_be_set(base: Path) -> None:
    with client_of(configured(base, {"max_recv_message_size": 1024})) as client:
        client.containers.create(CTX, container(900))
        with pytest.raises(ResourceExhausted):
            client.containers.create(CTX, container(1100))


def test_an_answer_over_the_limit_fails_and_the_call_has_been_done(base: Path) -> None:
    with client_of(configured(base, {"max_send_message_size": 1024})) as client:
        with pytest.raises(ResourceExhausted):
            client.containers.create(CTX, container(100000))
        with pytest.raises(ResourceExhausted):
            client.containers.get(CTX, "c100000")


def test_less_than_nothing_is_the_librarys_own_limit(base: Path) -> None:
    with client_of(configured(base, {"max_recv_message_size": -1})) as client:
        client.containers.create(CTX, container(3 << 20))
        with pytest.raises(ResourceExhausted):
            client.containers.create(CTX, container(5 << 20))


# --- names ----------------------------------------------------------------------------------------------------------


def ask(address: str, method: str) -> tuple[str, str]:
    """The status of an empty call."""
    with grpc.insecure_channel(address) as channel:
        call = cast("Callable[..., bytes]", channel.unary_unary(method))
        try:
            call(b"", timeout=WAIT)
        except grpc.RpcError as error:
            return str(error.code().name), error.details() or ""
    return "OK", ""


def test_what_nobody_offers_is_refused_in_containerds_words(base: Path) -> None:
    configuration = configured(base, disabled_plugins=["io.containerd.grpc.v1.version"])
    address = f"unix:{configuration.grpc.address}"
    with client_of(configuration) as client:
        assert client.health()
        version = "containerd.services.version.v1.Version"
        assert ask(address, f"/{version}/Version") == ("UNIMPLEMENTED", f"unknown service {version}")
        images = "containerd.services.images.v1.Images"
        assert ask(address, f"/{images}/Nope") == ("UNIMPLEMENTED", f"unknown method Nope for service {images}")
        reflection = "grpc.reflection.v1alpha.ServerReflection"
        assert ask(address, f"/{reflection}/ServerReflectionInfo") == ("UNIMPLEMENTED", f"unknown service {reflection}")


def test_a_failed_service_is_unknown_and_the_others_work(base: Path) -> None:
    with client_of(configured(base, disabled_plugins=["io.containerd.gc.v1.scheduler"])) as client:
        with pytest.raises(Unimplemented, match=r"unknown service containerd\.services\.images\.v1\.Images"):
            client.images.list(CTX)
        assert client.containers.list(CTX) == []


def test_a_socket_path_may_hold_any_character(base: Path) -> None:
    (base / "a%20b c").mkdir()
    with running(configured(base / "a%20b c")):
        address = f"unix:{quote(str(base / 'a%20b c/c.sock'))}"
        assert ask(address, "/containerd.services.version.v1.Version/Version") == ("OK", "")
        assert (base / "a%20b c/c.sock").exists()


# --- ttrpc ----------------------------------------------------------------------------------------------------------


def ttrpc(path: str, request: Request) -> Response:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(WAIT)
        peer.connect(path)
        peer.sendall(Frame(1, REQUEST, request.SerializeToString()).encode())
        frame = read_frame(peer)
    assert frame is not None
    return Response.FromString(frame.payload)


def forward() -> Request:
    message = ForwardRequest()
    message.envelope.timestamp.GetCurrentTime()
    message.envelope.namespace, message.envelope.topic = "shim", "/tasks/exit"
    message.envelope.event.CopyFrom(ProtoAny(type_url="x", value=b"y"))
    return Request(
        service="containerd.services.events.ttrpc.v1.Events", method="Forward", payload=message.SerializeToString()
    )


def test_what_a_shim_forwards_over_ttrpc_reaches_subscribers(base: Path) -> None:
    with client_of(configured(base)) as client:
        subscription = client.events.subscribe(replace(CTX, deadline=time.monotonic() + WAIT))
        assert ttrpc(str(base / "c.sock.ttrpc"), forward()).status.code == 0
        envelope = next(subscription)
        subscription.close()
    assert (envelope.namespace, envelope.topic, envelope.event) == ("shim", "/tasks/exit", TypedAny("x", b"y"))


def test_the_ttrpc_socket_is_there_without_any_service(base: Path) -> None:
    configuration = configured(base, disabled_plugins=["io.containerd.grpc.v1.events"])
    with running(configuration):
        assert ttrpc(configuration.ttrpc_address, forward()).status.code == 12


@pytest.mark.root
@pytest.mark.parametrize(
    "grpc_owner,ttrpc_settings,owner",
    [
        ({"uid": 1234, "gid": 5678}, {}, (1234, 5678)),
        ({"uid": 1234, "gid": 5678}, {"address": "t"}, (0, 0)),
        ({"uid": 1234, "gid": 5678}, {"address": "t", "uid": 77, "gid": 88}, (77, 88)),
        ({"uid": 1234, "gid": 5678}, {"uid": 77, "gid": 88}, (1234, 5678)),
    ],
)
def test_the_owner_of_the_ttrpc_socket(
    base: Path, grpc_owner: dict[str, int], ttrpc_settings: dict[str, object], owner: tuple[int, int]
) -> None:
    settings = dict(ttrpc_settings)
    if "address" in settings:
        settings["address"] = str(base / "t.sock")
    configuration = configured(base, grpc_owner, ttrpc=TTRPCConfig(**settings))  # type: ignore[arg-type]
    with running(configuration):
        made = Path(configuration.ttrpc_address).stat()
        assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (*owner, 0o660)
        main = Path(configuration.grpc.address).stat()
        assert (main.st_uid, main.st_gid, main.st_mode & 0o777) == (1234, 5678, 0o660)


# --- metrics and debug ----------------------------------------------------------------------------------------------


def get(address: str, path: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=WAIT) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", ""


def test_calls_are_counted_by_method_and_status(base: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with client_of(configured(base, metrics=MetricsConfig(address=address))) as client:
        with pytest.raises(FailedPrecondition):
            client.containers.list(CallContext())
        assert list(client.content.walk(CTX)) == []
        assert ask(f"unix:{base / 'c.sock'}", "/no.such/Thing")[0] == "UNIMPLEMENTED"
        assert [get(address, path)[0] for path in ("/metrics", "/")] == [404, 404]
        status, kind, page = get(address, "/v1/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    labels = 'grpc_method="List",grpc_service="containerd.services.containers.v1.Containers",grpc_type="unary"'
    assert f'grpc_server_handled_total{{grpc_code="FailedPrecondition",{labels}}} 1.0' in page
    assert f'grpc_server_handled_total{{grpc_code="OK",{labels}}} 0.0' in page
    assert f"grpc_server_started_total{{{labels}}} 1.0" in page
    stream = 'grpc_method="List",grpc_service="containerd.services.content.v1.Content",grpc_type="server_stream"'
    assert f'grpc_server_handled_total{{grpc_code="OK",{stream}}} 1.0' in page
    assert f"grpc_server_msg_received_total{{{stream}}} 1.0" in page
    quiet = 'grpc_method="Delete",grpc_service="containerd.services.images.v1.Images",grpc_type="unary"'
    assert f"grpc_server_started_total{{{quiet}}} 0.0" in page
    assert 'grpc_type="bidi_stream"' in page
    assert "containerd_build_info_total{" in page
    assert "process_resident_memory_bytes" in page
    assert "handling_seconds" not in page
    assert "no.such" not in page


def test_the_histogram_is_there_when_it_is_wanted(base: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with client_of(configured(base, metrics=MetricsConfig(address=address, grpc_histogram=True))) as client:
        client.containers.list(CTX)
        page = get(address, "/v1/metrics")[2]
    labels = 'grpc_method="List",grpc_service="containerd.services.containers.v1.Containers",grpc_type="unary"'
    assert f"grpc_server_handling_seconds_count{{{labels}}} 1.0" in page


def debug_pages(request: Callable[[str], tuple[int, str, bytes]]) -> None:
    status, kind, body = request("/debug/vars")
    assert (status, kind) == (200, "application/json; charset=utf-8")
    assert json.loads(body)["threads"] > 0
    assert b"goroutine" in request("/debug/pprof/")[2]
    for name in ("cmdline", "symbol", "goroutine", "threadcreate", "heap", "allocs", "block", "mutex"):
        assert request(f"/debug/pprof/{name}")[0] == 200, name
    assert b"MainThread" in request("/debug/pprof/goroutine")[2]
    assert b"MainThread" in request("/debug/pprof/threadcreate")[2]
    assert b"threading." in request("/debug/pprof/profile?seconds=0.1")[2]
    assert b"threading." in request("/debug/pprof/trace?seconds=0.1")[2]
    assert request("/debug/pprof/profile?seconds=x")[0] == 400
    assert [request(path)[0] for path in ("/debug/pprof/nosuch", "/", "/v1/metrics")] == [404, 404, 404]


def test_the_debug_endpoint_on_a_socket(base: Path) -> None:
    path = base / "d.sock"

    def request(target: str) -> tuple[int, str, bytes]:
        connection = HTTPConnection("localhost", timeout=WAIT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(WAIT)
        connection.sock.connect(str(path))
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.headers["Content-Type"], body

    with running(configured(base, debug=DebugConfig(address=str(path)))):
        assert path.stat().st_mode & 0o777 == 0o660
        debug_pages(request)
    assert not path.exists()


def test_the_debug_endpoint_on_tcp(base: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with running(configured(base, debug=DebugConfig(address=address))):
        assert get(address, "/debug/vars")[0] == 200


def test_by_default_there_is_no_further_endpoint(base: Path) -> None:
    with running(configured(base)):
        assert sorted(path.name for path in base.iterdir()) == ["c.sock", "c.sock.ttrpc", "root", "state"]


# --- what cannot be opened ------------------------------------------------------------------------------------------


def refusal(configuration: Configuration) -> str:
    with pytest.raises(ListenError) as caught, running(configuration):
        pass
    assert not Path(configuration.grpc.address).is_socket(), "nothing is left open"
    return str(caught.value)


def test_a_busy_or_malformed_metrics_address_ends_the_start(base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        said = refusal(configured(base, metrics=MetricsConfig(address=address)))
    assert said.startswith("failed to get listener for metrics endpoint: ")
    assert "address already in use" in said
    for wrong in ("nonsense", "/a/path", "127.0.0.1:http"):
        assert "failed to get listener" in refusal(configured(base, metrics=MetricsConfig(address=wrong)))


def test_a_busy_or_malformed_tcp_address_ends_the_start(base: Path) -> None:
    said = refusal(configured(base, {"tcp_address": "nonsense"}))
    assert said.startswith("failed to get listener for TCP grpc endpoint: ")
    assert "missing port in address" in said
    with socket.create_server(("127.0.0.1", 0)) as busy:
        said = refusal(configured(base, {"tcp_address": f"127.0.0.1:{busy.getsockname()[1]}"}))
    assert "failed to get listener for TCP grpc endpoint" in said


def test_a_directory_in_the_place_of_the_socket_ends_the_start(base: Path) -> None:
    (base / "c.sock").mkdir()
    said = refusal(configured(base))
    assert said.startswith("failed to get listener for main endpoint: ")
    assert said.endswith("is a directory")


def test_a_path_that_is_too_long_ends_the_start_also_the_derived_one(base: Path) -> None:
    room = 104 - len(str(base)) - 1
    long = configured(base)
    for length, ttrpc_address, endpoint in ((room - 4, "", "ttrpc"), (room + 1, str(base / "t"), "main")):
        settings = long.grpc.__class__(address=f"{base}/{'x' * length}")
        said = refusal(Configuration(
            root=long.root, state=long.state, grpc=settings, ttrpc=TTRPCConfig(address=ttrpc_address)
        ))  # fmt: skip
        assert f"failed to get listener for {endpoint if endpoint == 'main' else 'main ttrpc'} endpoint" in said
        assert "unix socket path too long (> 104)" in said


# --- TCP and TLS ----------------------------------------------------------------------------------------------------


def test_tcp_offers_only_what_asks_for_it(base: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with running(configured(base, {"tcp_address": address})):
        assert ask(address, "/containerd.services.version.v1.Version/Version")[0] == "UNIMPLEMENTED"
        assert ask(address, "/grpc.health.v1.Health/Check")[0] == "UNIMPLEMENTED"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, ``ca`` and ``other``, and a certificate signed by each: ``server`` and ``stranger``."""
    base = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=base, capture_output=True, timeout=60, check=True)

    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    for authority, name in (("ca", "server"), ("other", "stranger")):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
        openssl(
            "req", "-x509", *key, "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-subj", f"/CN={authority}"
        )
        openssl(
            "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject,
            "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
        )  # fmt: skip
    return base


def over_tls(address: str, certificates: Path, name: str = "") -> str:
    """The status of a call with the certificate of that name."""
    pair = [(certificates / f"{name}{suffix}").read_bytes() for suffix in (".key", ".pem")] if name else [None, None]
    credentials = grpc.ssl_channel_credentials((certificates / "ca.pem").read_bytes(), *pair)
    with grpc.secure_channel(address, credentials) as channel:
        try:
            VersionStub(channel).Version(Empty(), timeout=WAIT)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


@pytest.mark.debian("openssl")
@pytest.mark.parametrize(
    "authority,expected",
    [
        ("", {"plain": "UNAVAILABLE", "": "UNIMPLEMENTED", "stranger": "UNIMPLEMENTED"}),
        ("ca.pem", {"plain": "UNAVAILABLE", "": "UNAVAILABLE", "stranger": "UNAVAILABLE", "server": "UNIMPLEMENTED"}),
    ],
)
def test_tls_on_tcp(base: Path, certificates: Path, authority: str, expected: dict[str, str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "tcp_address": address,
        "tcp_tls_cert": str(certificates / "server.pem"),
        "tcp_tls_key": str(certificates / "server.key"),
        "tcp_tls_ca": str(certificates / authority) if authority else "",
    }
    with running(configured(base, settings)):
        seen = {
            name: ask(address, "/containerd.services.version.v1.Version/Version")[0]
            if name == "plain"
            else over_tls(address, certificates, name)
            for name in expected
        }
    assert seen == expected


@pytest.mark.debian("openssl")
def test_tls_files_that_cannot_be_used_end_the_start_also_without_an_address(base: Path, certificates: Path) -> None:
    cert, key = str(certificates / "server.pem"), str(certificates / "server.key")
    assert "open /nope: no such file" in refusal(configured(base, {"tcp_tls_cert": "/nope", "tcp_tls_key": key}))
    wrong = {"tcp_tls_cert": cert, "tcp_tls_key": str(certificates / "stranger.key")}
    assert "tls: private key does not match public key" in refusal(configured(base, wrong))
    no_ca = {"tcp_tls_cert": cert, "tcp_tls_key": key, "tcp_tls_ca": "/nope"}
    assert "failed to load CA file: open /nope" in refusal(configured(base, no_ca))


# --- the end --------------------------------------------------------------------------------------------------------


def test_plugins_are_closed_after_the_endpoints_and_nothing_runs_on(base: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with running(configured(base)), Client(str(base / "c.sock")) as client:
        assert client.health()
    assert not (base / "c.sock").exists()

    def left() -> set[str]:
        return {thread.name for thread in threading.enumerate() if not thread.daemon} - before

    assert until(lambda: not left(), WAIT), left()
    with Client(str(base / "c.sock")) as client, pytest.raises(ContainerdError):
        client.version.version(CTX)
