"""Proxy plugins: how they are named, listed and reached (PLG-042 to PLG-050)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.api import snapshots_v1_pb2_grpc as wire
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unavailable
from refimpl.contract.mounts import Mount
from refimpl.daemon.proxies import registrations
from refimpl.kernel import ConfigError, RegistrationError
from refimpl.kernel.config import ProxyPlugin
from tests.daemon.inprocess import configured, running

T = TypeVar("T")

CTX = CallContext(namespace="nsx")
SNAPSHOTTER, CONTENT = "io.containerd.snapshotter.v1", "io.containerd.content.v1"
DIFFER = "io.containerd.differ.v1"


class Recorder(wire.SnapshotsServicer):
    """A snapshotter on the other side: remembers what it was asked."""

    def __init__(self) -> None:
        self.prepared: list[tuple[pb.PrepareSnapshotRequest, dict[str, str]]] = []

    def Prepare(  # noqa: N802  # the wire's names
        self, request: pb.PrepareSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.PrepareSnapshotResponse:
        headers = {key: str(value) for key, value in context.invocation_metadata() or ()}
        self.prepared.append((request, headers))
        answer = pb.PrepareSnapshotResponse()
        answer.mounts.add(type="bind", source="/x", options=["rbind", "rw"])
        return answer

    def Usage(  # noqa: N802
        self, request: pb.UsageRequest, context: grpc.ServicerContext
    ) -> pb.UsageResponse:
        return pb.UsageResponse(size=7, inodes=3)


@contextmanager
def listening(path: Path, recorder: Recorder) -> Iterator[None]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    wire.add_SnapshotsServicer_to_server(recorder, server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait(60)


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("p")


@pytest.mark.parametrize(
    "named,meant",
    [
        ("snapshot", SNAPSHOTTER),
        (SNAPSHOTTER, SNAPSHOTTER),
        ("content", CONTENT),
        (CONTENT, CONTENT),
        ("diff", DIFFER),
        (DIFFER, DIFFER),
    ],
)
def test_a_type_may_be_given_short_or_in_full(named: str, meant: str) -> None:
    assert [made.uri for made in registrations({"p1": ProxyPlugin(named, "/x")})] == [f"{meant}.p1"]


@pytest.mark.parametrize("named", ["bogus", "Snapshot", "", "Diff"])
def test_an_unknown_type_is_refused_with_the_name_of_the_proxy(named: str) -> None:
    with pytest.raises(ConfigError, match=f'proxy_plugins.p: unknown proxy plugin type "{named}"'):
        registrations({"p": ProxyPlugin(named, "/x")})


def test_a_proxy_without_a_name_is_refused(base: Path) -> None:
    with (
        pytest.raises(RegistrationError, match="plugin: no id"),
        running(configured(base, proxy_plugins={"": ProxyPlugin("snapshot", "/x")})),
    ):
        pass


@pytest.mark.parametrize("disabled", [[], [f"{SNAPSHOTTER}.overlayfs"]], ids=["enabled", "disabled"])
def test_a_name_that_is_taken_is_refused_also_when_its_owner_is_disabled(base: Path, disabled: list[str]) -> None:
    proxies = {"overlayfs": ProxyPlugin("snapshot", "/x")}
    with (
        pytest.raises(RegistrationError, match="overlayfs: plugin: id already registered"),
        running(configured(base, proxy_plugins=proxies, disabled_plugins=disabled)),
    ):
        pass


def test_a_proxy_is_listed_with_its_address_and_works_as_soon_as_somebody_listens(base: Path) -> None:
    proxies = {"ps1": ProxyPlugin("snapshot", str(base / "ps1.sock"))}
    required = [f"{SNAPSHOTTER}.ps1"]
    recorder = Recorder()
    configuration = configured(base, proxy_plugins=proxies, required_plugins=required)
    with running(configuration), Client(str(base / "c.sock")) as client:
        (listed,) = client.introspection.plugins(CallContext(), ["id==ps1"])
        assert (listed.type, dict(listed.exports)) == (SNAPSHOTTER, {"address": str(base / "ps1.sock")})
        assert (list(listed.requires), list(listed.platforms), listed.init_err) == ([], [], None)
        snapshotter = client.snapshotter("ps1")
        with pytest.raises(Unavailable):
            snapshotter.prepare(CTX, "k1")
        labels = {"a": "b", "containerd.io/gc.root": "x", "containerd.io/snapshot/x": "1"}
        with listening(base / "ps1.sock", recorder):
            mounts = _eventually(lambda: snapshotter.prepare(CTX, "k1", labels=labels))
            assert mounts == [Mount("bind", "/x", options=("rbind", "rw"))]
            usage = snapshotter.usage(CTX, "k1")
            assert (usage.size, usage.inodes) == (7, 3)
        with pytest.raises(Unavailable):
            snapshotter.usage(CTX, "k1")
    request, headers = recorder.prepared[-1]
    namespace, number, key = request.key.split("/")
    assert (request.snapshotter, namespace, number.isdigit(), key) == ("ps1", "nsx", True, "k1")
    assert dict(request.labels) == {"containerd.io/snapshot/x": "1"}
    assert headers["containerd-namespace"] == "nsx"


def test_a_disabled_proxy_is_not_there(base: Path) -> None:
    proxies = {"ps1": ProxyPlugin("snapshot", "/x")}
    configuration = configured(base, proxy_plugins=proxies, disabled_plugins=[f"{SNAPSHOTTER}.ps1"])
    with running(configuration), Client(str(base / "c.sock")) as client:
        assert client.introspection.plugins(CallContext(), ["id==ps1"]) == []


def test_two_content_stores_are_one_too_many(base: Path) -> None:
    configuration = configured(base, proxy_plugins={"pc1": ProxyPlugin("content", "/x")})
    with running(configuration), Client(str(base / "c.sock")) as client:
        (bolt,) = client.introspection.plugins(CallContext(), ["id==bolt"])
    assert bolt.init_err is not None
    assert "multiple plugins registered for io.containerd.content.v1" in bolt.init_err.message


def test_a_proxy_content_store_alone_is_used(base: Path) -> None:
    proxies = {"pc1": ProxyPlugin("content", str(base / "none.sock"))}
    configuration = configured(base, proxy_plugins=proxies, disabled_plugins=[f"{CONTENT}.content"])
    with running(configuration), Client(str(base / "c.sock")) as client, pytest.raises(Unavailable):
        client.content.writer(CTX, "ref-1").write(b"x")


def _eventually(call: Callable[[], T]) -> T:
    """The answer of a call, which may be refused until the connection is made again (at most 8 s, PLG-046).

    On a machine that is not busy: here it may take longer.
    """
    pause, end = threading.Event(), time.monotonic() + 60
    while True:
        try:
            return call()
        except Unavailable:
            assert time.monotonic() < end, "still unavailable"
            pause.wait(0.05)
