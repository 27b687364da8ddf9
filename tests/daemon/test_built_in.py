"""One built-in plugin alone, as another daemon gets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refimpl.client import Client
from refimpl.client.connection import Connection
from refimpl.client.diff import RemoteDiffer
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound
from refimpl.daemon.built_in import built_in
from refimpl.daemon.plugin_server import kind_of, serving
from tests.daemon.inprocess import configured, running

CTX = CallContext("default")


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("b")


@pytest.fixture
def host(base: Path) -> Iterator[str]:
    with running(configured(base)) as daemon:
        yield daemon.configuration.grpc.address


@pytest.mark.parametrize(
    "uri,kind",
    [
        ("io.containerd.snapshotter.v1.overlayfs", "snapshotter"),
        ("io.containerd.snapshotter.v1.native", "snapshotter"),
        ("io.containerd.content.v1.content", "content"),
    ],
)
def test_snapshotters_and_content_stores_stand_alone(base: Path, uri: str, kind: str) -> None:
    with built_in(uri, backends="fake", root=base, state=base) as plugin:
        assert kind_of(plugin) == kind


def test_a_differ_works_with_the_content_of_its_host(base: Path, host: str) -> None:
    with (
        built_in("io.containerd.differ.v1.walking", backends="fake", root=base, state=base, host=host) as plugin,
        serving(plugin, base / "diff.sock") as kind,
        Client(host) as client,
    ):
        connection = Connection(str(base / "diff.sock"))
        ctx = CTX.with_lease(client.leases.create(CTX, "held").id)
        layer = RemoteDiffer(connection).compare(ctx, [], [])
        assert (kind, client.content.info(ctx, layer.digest).size) == ("differ", layer.size)
        connection.close()


@pytest.mark.parametrize(
    "uri,kind,text",
    [
        ("io.containerd.grpc.v1.images", InvalidArgument, "only plugins of the types"),
        ("io.containerd.snapshotter.v1.nosuch", NotFound, "nosuch"),
        ("io.containerd.differ.v1.walking", InvalidArgument, "--host"),
    ],
)
def test_what_cannot_be_served_is_refused(base: Path, uri: str, kind: type[Exception], text: str) -> None:
    with (
        pytest.raises(kind, match=text),
        built_in(uri, backends="fake", root=base, state=base),
    ):
        pass


def test_the_plugin_is_closed_on_leaving(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    with built_in("io.containerd.snapshotter.v1.native", backends="fake", root=base, state=base) as plugin:
        made: Any = plugin
        monkeypatch.setattr(type(made), "close", lambda _: closed.append("closed"))
    assert closed == ["closed"]
