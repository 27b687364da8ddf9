"""One fake daemon for all tests of a module; each test works in a namespace of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.grpc.world import NAMESPACE, Daemon, daemon


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon. Its root does not exist: a fake daemon makes no directory."""
    root: Path = tmp_path_factory.mktemp("daemon") / "root"
    with daemon(root) as made:
        yield made
    assert not root.exists()


@pytest.fixture
def channel(served: Daemon) -> grpc.Channel:
    """A connection to the daemon."""
    return served.channel


@pytest.fixture
def metadata() -> tuple[tuple[str, str], ...]:
    """The headers of a call in a namespace that nobody else uses."""
    return ((NAMESPACE, f"t-{uuid.uuid4().hex[:12]}"),)
