"""Daemons to be a client of: the real containerd, and refimpl on fakes. Both pass the same tests."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.client import Client
from refimpl.contract.context import CallContext
from tests.acceptance import daemons, images


@pytest.fixture(scope="session")
def places() -> Iterator[Path]:
    """A directory with a short name, because sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="client-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(
    scope="session",
    params=["refimpl", pytest.param("containerd", marks=[pytest.mark.root, pytest.mark.debian("containerd")])],
)
def daemon(request: pytest.FixtureRequest, places: Path) -> Iterator[daemons.Daemon]:
    """A running daemon."""
    base = places / str(request.param)
    made = daemons.containerd(base) if request.param == "containerd" else daemons.refimpl(base)
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def client(daemon: daemons.Daemon) -> Iterator[Client]:
    """A client of the daemon."""
    # More patience than a program has: the machine may stand still for some seconds.
    with Client(str(daemon.socket), timeout=60.0) as made:
        yield made


@pytest.fixture
def ctx() -> CallContext:
    """A call in a namespace of the test's own."""
    return CallContext(namespace=f"t-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def held(client: Client, ctx: CallContext) -> CallContext:
    """The same under a lease: a collection that an earlier test set off takes nothing of this one."""
    return ctx.with_lease(client.leases.create(ctx).id)


@pytest.fixture(scope="session")
def archives(places: Path) -> images.Images:
    """Image archives that are the same on every machine."""
    (places / "archives").mkdir()
    return images.build(places / "archives", images.stand_in_program())
