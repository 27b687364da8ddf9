"""``serve --hide-mounts``: a client that mounts for itself has nothing to mount, and its container runs anyway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound
from refimpl.contract.mounts import ClientMounts
from refimpl.contract.tasks import CreateTask
from refimpl.daemon.serve import Daemon
from refimpl.testing.seeding import Seed
from tests.daemon.inprocess import configured

CTX = CallContext(namespace="n")
ROOT = {"containerd.io/gc.root": "test"}


@pytest.fixture
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    base: Path = tmp_path_factory.mktemp("h")
    daemon = Daemon(configured(base), "fake", world={ClientMounts: ClientMounts(told=False)})
    try:
        daemon.boot()
        daemon.open()
        with Client(str(base / "c.sock")) as client:
            yield client
    finally:
        daemon.stop()


def test_mounts_is_answered_with_none_and_prepare_as_ever(client: Client) -> None:
    snapshotter = client.snapshotter("overlayfs")
    assert snapshotter.prepare(CTX, "k", "", ROOT) != []
    assert snapshotter.mounts(CTX, "k") == []
    with pytest.raises(NotFound):
        snapshotter.mounts(CTX, "other")


def test_a_container_gets_the_mounts_of_its_own_snapshot(client: Client) -> None:
    lease = client.leases.create(CTX).id
    seed = Seed(client, CTX.with_lease(lease))
    seed.image()
    container = seed.container("c")
    assert container.snapshot_key

    assert client.snapshotter(container.snapshotter).mounts(CTX, container.snapshot_key) == []
    assert client.tasks.create(CTX, CreateTask("c")) > 0
    client.tasks.start(CTX, "c")
    client.tasks.kill(CTX, "c", signal=9)
    assert client.tasks.wait(CTX, "c").status == 137
    client.tasks.delete(CTX, "c")
