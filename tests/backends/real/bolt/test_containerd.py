"""The same file in turn with the real containerd: each finds what the other wrote, in a file that stays sound."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from refimpl.backends.real.bolt import BoltStoreFactory
from refimpl.backends.real.bolt.check import inspect
from refimpl.cli import main
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.images import Image, ImageStore
from refimpl.contract.times import SystemClock
from refimpl.contract.types import Descriptor
from refimpl.metadata.database import Database
from refimpl.metadata.images import ImageStore as OurImages
from tests.acceptance import daemons

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd", "ctr")]

METADATA = "io.containerd.metadata.v1.bolt/meta.db"
SNAPSHOTS = "io.containerd.snapshotter.v1.native/metadata.db"
CTX = CallContext("bolt-test")
DIGEST = "sha256:" + "a" * 64


@contextmanager
def stopped(daemon: daemons.Daemon) -> Iterator[ImageStore]:
    """Images through our engine, while containerd does not run."""
    database = Database(BoltStoreFactory().open(daemon.root / METADATA, timeout=1.0), SystemClock())
    try:
        yield OurImages(database)
    finally:
        database.close()


@contextmanager
def started(daemon: daemons.Daemon) -> Iterator[ImageStore]:
    """Images through the real containerd."""
    with daemons.running(daemon), Client(str(daemon.socket)) as client:
        yield client.images


def change(random: Random, images: ImageStore, model: dict[str, Image], count: int, *, grow: bool) -> None:
    """Create and delete images at random, with labels small and large."""
    for _ in range(count):
        if random.random() < (0.8 if grow else 0.15) or not model:
            name = f"docker.io/library/{random.randrange(10**9)}:latest"
            labels = {f"label-{number}": "x" * random.choice([5, 300, 3000]) for number in range(random.randrange(3))}
            model[name] = images.create(CTX, Image(name, Descriptor("m", DIGEST, 5), labels))
        else:
            name = random.choice(list(model))
            images.delete(CTX, name)
            del model[name]


def test_both_write_one_file_in_turn(tmp_path: Path) -> None:
    """Neither finds less than the other left, over rounds that make the trees grow and shrink."""
    random = Random(1)
    daemon = daemons.containerd(tmp_path)
    model: dict[str, Image] = {}
    for round_ in range(6):
        for side in (started, stopped):
            with side(daemon) as images:
                assert {image.name: image for image in images.list(CTX)} == model, f"{side.__name__}, round {round_}"
                change(random, images, model, 60, grow=round_ != 4)
            assert inspect(daemon.root / METADATA, 1.0).problems == []
    with started(daemon) as images:
        assert {image.name: image for image in images.list(CTX)} == model
    assert inspect(daemon.root / METADATA, 1.0).statistics.depth > 1


def test_containerd_makes_its_first_records_in_a_file_of_ours(tmp_path: Path) -> None:
    daemon = daemons.containerd(tmp_path)
    model: dict[str, Image] = {}
    with stopped(daemon) as images:
        change(Random(2), images, model, 100, grow=True)
    with started(daemon) as images:
        assert {image.name: image for image in images.list(CTX)} == model
        assert daemon.ctr("namespaces", "create", "more", "k=v").code == 0
        assert daemon.ctr("namespaces", "ls", "-q").stdout.split() == [b"bolt-test", b"more"]
    store = BoltStoreFactory().open(daemon.root / METADATA, timeout=1.0)
    with store.view() as root:
        v1 = root.bucket(b"v1")
        assert v1 is not None
        assert v1.get(b"version") == b"\x06"
        more = v1.bucket(b"more")
        assert more is not None
        labels = more.bucket(b"labels")
        assert labels is not None
        assert list(labels.items()) == [(b"k", b"v")]
    store.close()


def test_a_killed_containerd_leaves_a_file_that_we_go_on_with(tmp_path: Path) -> None:
    daemon = daemons.containerd(tmp_path)
    model: dict[str, Image] = {}
    daemon.start()
    try:
        with Client(str(daemon.socket)) as client:
            change(Random(3), client.images, model, 50, grow=True)
    finally:
        daemon.stop(signal.SIGKILL)
    with stopped(daemon) as images:
        assert {image.name: image for image in images.list(CTX)} == model
        change(Random(4), images, model, 50, grow=True)
    assert inspect(daemon.root / METADATA, 1.0).problems == []


def test_the_snapshotters_database_is_read_too_and_the_modes_are_containerds(tmp_path: Path) -> None:
    daemon = daemons.containerd(tmp_path)
    with daemons.running(daemon), Client(str(daemon.socket)) as client:
        snapshots = client.snapshotter("native")
        snapshots.prepare(CTX, "a")
        snapshots.commit(CTX, "base", "a")
        snapshots.prepare(CTX, "b", "base")
    theirs = [stat.S_IMODE((daemon.root / path).stat().st_mode) for path in (METADATA, SNAPSHOTS)]
    directory = stat.S_IMODE((daemon.root / METADATA).parent.stat().st_mode)

    mask = os.umask(0o022)
    try:
        BoltStoreFactory().open(tmp_path / "ours" / "meta.db").close()
    finally:
        os.umask(mask)
    assert theirs == [stat.S_IMODE((tmp_path / "ours" / "meta.db").stat().st_mode), 0o600]
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == directory

    assert inspect(daemon.root / SNAPSHOTS, 1.0).problems == []
    store = BoltStoreFactory().open(daemon.root / SNAPSHOTS, timeout=1.0)
    with store.view() as root:
        v1 = root.bucket(b"v1")
        assert v1 is not None
        records = v1.bucket(b"snapshots")
        assert records is not None
        assert records.sequence == 2
        assert [key for key, _ in records.items()] == [b"bolt-test/2/base", b"bolt-test/3/b"]
    store.close()


def test_whoever_has_the_file_open_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = daemons.containerd(tmp_path)
    with daemons.running(daemon):
        assert daemon.process is not None
        assert main(["bolt", "check", str(daemon.root / METADATA)]) == 1
        assert f"in use by process {daemon.process.pid} (containerd): stop it first" in capsys.readouterr().err
    assert main(["bolt", "check", str(daemon.root / METADATA)]) == 0
