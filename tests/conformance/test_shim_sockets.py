"""Sockets that a run's own shims leave go with the run; those that are served stay, and so do other people's."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from conformance.shim import sockets

ADDRESS = "/t/c.sock"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in the place of the machine's own one, and nothing remembered."""
    # Not pytest's: the path of a unix socket may not be longer than 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cfs-") as name:
        monkeypatch.setattr(sockets, "FOLDER", Path(name))
        monkeypatch.setattr(sockets, "_expected", {})
        yield Path(name)


@pytest.fixture
def serving() -> Iterator[ExitStack]:
    """Keeps listeners."""
    with ExitStack() as stack:
        yield stack


def stale(path: Path) -> Path:
    """A socket that nobody serves."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return path


def test_only_sockets_that_were_expected_and_are_not_served_go(folder: Path, serving: ExitStack) -> None:
    served = sockets.expect(ADDRESS, "n", "served")
    listener = serving.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(served))
    listener.listen()
    dead = stale(sockets.expect(ADDRESS, "n", "dead"))
    sockets.expect(ADDRESS, "n", "never made")
    strange = stale(sockets.of(ADDRESS, "n", "somebody else's"))
    other = stale(sockets.expect("/other/c.sock", "n", "dead"))

    sockets.forget(ADDRESS)
    sockets.forget(ADDRESS)

    assert not dead.exists()
    assert served.exists()
    assert strange.exists()
    assert other.exists()
    sockets.forget_all()
    assert not other.exists()
    assert strange.exists()


def test_bundles_tell_of_sockets_that_were_not_expected(folder: Path) -> None:
    state = folder / "state"
    left, elsewhere = folder / "left", state / "elsewhere"
    for id, path in (("c1", left), ("c2", elsewhere)):
        bundle = state / "io.containerd.runtime.v2.task" / "n" / id
        bundle.mkdir(parents=True)
        (bundle / "address").write_text(f"unix://{path}\n")
        stale(path)

    sockets.forget(ADDRESS, state)

    assert not left.exists()
    assert elsewhere.exists(), "shims make their sockets in one place"
