"""The corpus of hostile archives on the real disk, by us and by the real containerd: the same trees and errors."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from refimpl.archive.media_types import TAR
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.types import Descriptor
from refimpl.linux.tree import DirectoryTree
from tests.acceptance.daemons import containerd, running
from tests.archive.hostile import CASES, Case, damaged
from tests.backends.fake.trees import dump
from tests.backends.real.worlds import World, bind, overlay, world

pytestmark = pytest.mark.root

SEEDS = int(os.environ.get("REFIMPL_FUZZ_SEEDS", "60"))
PATIENCE = 120.0
"""Seconds for one call."""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("w")) as made:
        yield made


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    (path / "inner").mkdir(parents=True)
    (path / "victim").write_bytes(b"precious")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "target"
    path.mkdir()
    yield path
    _remove(path)


def _remove(path: Path) -> None:
    """Remove a tree that is deeper than the recursion of shutil."""
    with DirectoryTree(str(path.parent)) as tree:
        tree.rmtree(f"/{path.name}")


@pytest.mark.parametrize("name", CASES)
def test_nothing_outside_changes_and_the_error_is_containerds(
    real: World, target: Path, outside: Path, name: str
) -> None:
    case = CASES[name]
    real.apply(case.data_before(str(outside)), bind(target))
    before = dump(DirectoryTree(str(outside)))
    if case.error:
        with pytest.raises(Unknown) as error:
            real.apply(case.data(str(outside)), bind(target))
        assert str(error.value).endswith(case.error)
    else:
        real.apply(case.data(str(outside)), bind(target))
    assert dump(DirectoryTree(str(outside))) == before
    assert sorted(path.name for path in target.parent.iterdir()) == ["outside", "target"]


@pytest.mark.debian("containerd")
@pytest.mark.parametrize("way", ["plain", "overlay"])
def test_the_real_daemon_makes_the_same_of_each(real: World, tmp_path: Path, outside: Path, way: str) -> None:
    before = dump(DirectoryTree(str(outside)))
    differing = {}
    with running(containerd(tmp_path / "daemon")) as daemon, Client(str(daemon.socket)) as client:
        for name, case in CASES.items():
            if case.deep and way == "overlay":
                continue
            ours = _outcome(_Ours(real), case, tmp_path / "a", outside, way)
            theirs = _outcome(_Theirs(client), case, tmp_path / "b", outside, way)
            if ours != theirs:
                differing[name] = (ours, theirs)
            if way == "plain" and not theirs[0].endswith(case.error):
                differing[name] = ((case.error, {}), theirs)
    assert differing == {}
    assert dump(DirectoryTree(str(outside))) == before


@pytest.mark.debian("containerd")
def test_the_real_daemon_makes_the_same_of_damaged_ones(real: World, tmp_path: Path, outside: Path) -> None:
    differing = []
    with running(containerd(tmp_path / "daemon")) as daemon, Client(str(daemon.socket)) as client:
        for seed in range(SEEDS):
            case = Case([damaged(seed, str(outside))], end=False)
            ours = _outcome(_Ours(real), case, tmp_path / "a", outside, "plain")
            if ours != _outcome(_Theirs(client), case, tmp_path / "b", outside, "plain"):
                differing.append(seed)
    assert differing == []


class _Ours:
    def __init__(self, real: World) -> None:
        self.apply = real.apply


class _Theirs:
    def __init__(self, client: Client) -> None:
        self._client = client

    def apply(self, data: bytes, mounts: Sequence[Mount]) -> object:
        ctx, digest = CallContext("default"), f"sha256:{hashlib.sha256(data).hexdigest()}"
        writer = self._client.content.writer(ctx, digest, total=len(data))
        writer.write(data)
        writer.commit(ctx, len(data), digest, {"containerd.io/gc.root": "test"})
        try:
            # containerd takes its time over a thousand directories in an overlay.
            patient = CallContext("default", deadline=time.monotonic() + PATIENCE)
            return self._client.diff.apply(patient, Descriptor(TAR, digest, len(data)), mounts)
        finally:
            self._client.content.delete(ctx, digest)


def _outcome(
    differ: _Ours | _Theirs, case: Case, top: Path, outside: Path, way: str
) -> tuple[str, dict[str, tuple[object, ...]]]:
    """What is left of the error's text without the words before it, and the tree."""
    start = time.time_ns() - 3600 * 10**9
    for name in ("upper", "work", "lower"):
        (top / name).mkdir(parents=True)
    mounts = overlay(top) if way == "overlay" else bind(top / "upper")
    said = ""
    try:
        differ.apply(case.data_before(str(outside)), bind(top / "upper"))
        differ.apply(case.data(str(outside)), mounts)
    except ContainerdError as error:
        said = str(error).rpartition(": ")[2]
        if case.error.endswith(said):
            said = case.error
    tree = dump(DirectoryTree(str(top / "upper")), times_before=start)
    _remove(top)
    return said, tree
