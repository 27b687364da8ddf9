"""One root, two daemons in turn: what one has written the other shows, goes on with, and gives back.

Nothing is converted on the way. Each takes the root as the other left it, also in the middle of an upload.
"""

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refimpl.client import Client
from refimpl.contract.context import CallContext
from tests.acceptance import daemons, inventory
from tests.acceptance.daemons import Daemon
from tests.acceptance.images import DOCKER_NAME, OCI_NAME, Images

pytestmark = [pytest.mark.root, pytest.mark.debian("ctr", "containerd", "busybox")]

ROUNDS = 10
STEPS = 10
HALF = b"half of a blob. " * (3 << 16)
"""Three pieces of the size in which ``ctr`` sends: all of it arrives."""

WHOLE = HALF + b"and the rest of it"

both_orders = pytest.mark.parametrize("first", ["containerd", "refimpl"])


@pytest.fixture
def pair(first: str, base: Path) -> Iterator[list[Daemon]]:
    """The two daemons on one base, none of them running; the one that begins is in front."""
    found = [daemons.containerd(base), daemons.refimpl(base, backends="real")]
    yield found if first == "containerd" else found[::-1]
    for daemon in found:
        daemon.end()


@both_orders
def test_a_filled_root_goes_to_the_other_daemon_and_back(pair: list[Daemon], archives: Images) -> None:
    first, second = pair
    with daemons.running(first):
        _fill(first, archives)
        _collect(first)
        filled = inventory.take(first)
    _check_files(first)

    with daemons.running(second):
        shown = inventory.take(second)
        assert not inventory.differences(filled, shown)
        _collect(second)
        assert not inventory.differences(filled, inventory.take(second)), "a collection loses nothing"
        _run(second, "-n", "two", "images", "import", "--snapshotter", "native", str(archives.docker))
        _run(second, "-n", "default", "images", "rm", "--sync", DOCKER_NAME)
        _collect(second)
        changed = inventory.take(second)
    assert inventory.differences(filled, changed)
    _check_files(second)

    with daemons.running(first):
        assert not inventory.differences(changed, inventory.take(first))
        _collect(first)
        assert not inventory.differences(changed, inventory.take(first)), "a collection loses nothing"
        _finish_upload(first)


@both_orders
def test_ten_rounds_of_random_work(pair: list[Daemon], archives: Images, first: str) -> None:
    """Every other daemon is killed at its end: what a call has answered is on the disk."""
    work = _Work(random.Random(f"{first} begins"), archives)
    before: inventory.Inventory = {}
    for turn in range(ROUNDS):
        daemon = pair[turn % 2]
        daemon.start()
        if turn:
            assert not inventory.differences(before, inventory.take(daemon)), f"turn {turn}, after {work.done}"
            _collect(daemon)
            lost = inventory.differences(before, inventory.take(daemon))
            assert not lost, f"turn {turn}: a collection of what was collected before, after {work.done}"
        for _ in range(STEPS):
            work.step(daemon)
        _collect(daemon)
        before = inventory.take(daemon)
        daemon.stop(signal.SIGKILL if turn % 4 > 1 else signal.SIGTERM)
        _check_files(daemon)


def _run(daemon: Daemon, *arguments: str) -> str:
    """A command that must work; its output."""
    done = daemon.ctr(*arguments)
    where = f"{daemon.command[0]}: ctr {' '.join(arguments)}"
    assert done.code == 0, f"{where}: {done.stderr.decode()}\n{daemon.log[-2000:]}"
    return done.stdout.decode()


def _namespaces(daemon: Daemon) -> list[str]:
    return _run(daemon, "namespaces", "ls", "-q").split()


def _collect(daemon: Daemon) -> None:
    """A whole garbage collection, waited for."""
    name = _namespaces(daemon)[0]
    _run(daemon, "-n", name, "leases", "create", "--id", "collect")
    _run(daemon, "-n", name, "leases", "rm", "--sync", "collect")


def _fill(daemon: Daemon, archives: Images) -> None:
    _run(daemon, "namespaces", "create", "two", "owner=tests")
    _run(daemon, "images", "import", str(archives.oci))
    _run(daemon, "images", "import", "--snapshotter", "native", str(archives.docker))
    _run(daemon, "-n", "two", "images", "import", str(archives.oci))
    _run(daemon, "images", "label", OCI_NAME, "stage=first", "note=kept")
    _run(daemon, "leases", "create", "--id", "held", "--expires", "48h", "why=tests")
    _run(daemon, "containers", "create", "--label", "a=b", OCI_NAME, "first", "echo", "hello")
    _run(daemon, "containers", "create", "--snapshotter", "native", DOCKER_NAME, "second")
    _run(daemon, "-n", "two", "containers", "create", "--env", "A=B", OCI_NAME, "third")
    _run(daemon, "snapshots", "prepare", "loose")
    _run(daemon, "snapshots", "--snapshotter", "native", "prepare", "kept")
    _run(daemon, "snapshots", "--snapshotter", "native", "commit", "committed", "kept")
    _begin_upload(daemon, "default", "half")


def _begin_upload(daemon: Daemon, namespace: str, ref: str) -> None:
    """An upload whose client dies in the middle: ``ctr`` sends what it has and waits for the rest."""
    arguments = ("-n", namespace, "content", "ingest", "--expected-size", str(len(WHOLE)), ref)
    with Client(str(daemon.socket), timeout=daemons.COMMAND_SECONDS) as client, daemon.background(*arguments) as upload:
        assert upload.stdin is not None
        upload.stdin.write(HALF)
        upload.stdin.flush()
        ctx = CallContext(namespace=namespace)
        deadline = time.monotonic() + daemons.COMMAND_SECONDS
        # To the last piece: one that is on its way would be written after the next look at the ingest, or be lost.
        while (ref, len(HALF)) not in {(status.ref, status.offset) for status in client.content.list_statuses(ctx)}:
            assert time.monotonic() < deadline, f"{ref} does not get on:\n{daemon.log[-2000:]}"
            time.sleep(0.02)


def _finish_upload(daemon: Daemon) -> None:
    """Go on where the other daemon's client was cut off, and read the blob back."""
    digest = f"sha256:{hashlib.sha256(WHOLE).hexdigest()}"
    ctx = CallContext(namespace="default")
    with Client(str(daemon.socket), timeout=daemons.COMMAND_SECONDS) as client:
        writer = client.content.writer(ctx, "half", total=len(WHOLE), expected=digest)
        offset = writer.status().offset
        assert offset == len(HALF)
        writer.write(WHOLE[offset:])
        writer.commit(ctx, len(WHOLE), digest, labels={"containerd.io/gc.root": "tests"})
        writer.close()
        assert client.content.info(ctx, digest).size == len(WHOLE)
        assert client.content.reader(ctx, digest).read_at(0, len(WHOLE)) == WHOLE


def _check_files(daemon: Daemon) -> None:
    """Every database file that lies there is whole."""
    files = sorted(str(path) for path in daemon.root.rglob("*.db"))
    assert any(file.endswith("meta.db") for file in files)
    for file in files:
        command = [sys.executable, "-m", "refimpl", "bolt", "check", file]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"after {daemon.command[0]}: {done.stdout}{done.stderr}"


class _Work:
    """Random commands that all work, because it remembers what there is.

    Args:
        choose: decides everything.
        archives: what is imported.
    """

    def __init__(self, choose: random.Random, archives: Images) -> None:
        self.done: list[str] = []
        self._choose = choose
        self._archives = {OCI_NAME: archives.oci, DOCKER_NAME: archives.docker}
        self._names = 0
        self._namespaces: list[str] = []
        self._images: list[tuple[str, str, str]] = []
        self._containers: list[tuple[str, str]] = []
        self._leases: list[tuple[str, str]] = []
        self._snapshots: list[tuple[str, str, str]] = []

    def step(self, daemon: Daemon) -> None:
        """One command, or none where what it needs is not there."""
        kinds: list[Callable[[Daemon], None]] = [
            self._create_namespace,
            self._import,
            self._import,
            self._create_container,
            self._create_container,
            self._prepare,
            self._create_lease,
            self._tag,
            self._label,
            self._upload,
            self._remove_image,
            self._remove_container,
            self._remove_lease,
            self._remove_snapshot,
        ]
        (self._choose.choice(kinds) if self._namespaces else self._create_namespace)(daemon)

    def _name(self, what: str) -> str:
        self._names += 1
        return f"{what}-{self._names}"

    def _ctr(self, daemon: Daemon, *arguments: str) -> None:
        self.done.append(" ".join(arguments))
        _run(daemon, *arguments)

    def _one(self, things: list[Any]) -> list[Any]:
        """One of them, or none if there are none."""
        return [self._choose.choice(things)] if things else []

    def _taken(self, things: list[Any]) -> list[Any]:
        """The same, and it is forgotten."""
        return [things.pop(self._choose.randrange(len(things)))] if things else []

    def _create_namespace(self, daemon: Daemon) -> None:
        name = self._name("ns")
        self._ctr(daemon, "namespaces", "create", name, f"made={name}")
        self._namespaces.append(name)

    def _import(self, daemon: Daemon) -> None:
        namespace, image = self._choose.choice(self._namespaces), self._choose.choice([*self._archives])
        snapshotter = self._choose.choice(inventory.SNAPSHOTTERS)
        archive = str(self._archives[image])
        self._ctr(daemon, "-n", namespace, "images", "import", "--snapshotter", snapshotter, archive)
        # The labels on the image's content name one snapshotter after the other: only the last one holds its layers.
        self._images = [found for found in self._images if found[:2] != (namespace, image)]
        self._images.append((namespace, image, snapshotter))

    def _remove_image(self, daemon: Daemon) -> None:
        for namespace, image, _ in self._taken(self._images):
            self._ctr(daemon, "-n", namespace, "images", "rm", "--sync", image)

    def _create_container(self, daemon: Daemon) -> None:
        for namespace, image, snapshotter in self._one(self._images):
            name = self._name("c")
            self._ctr(
                daemon, "-n", namespace, "containers", "create", "--snapshotter", snapshotter, "--label", f"of={name}",
                image, name, "echo", name,
            )  # fmt: skip
            self._containers.append((namespace, name))

    def _remove_container(self, daemon: Daemon) -> None:
        for namespace, name in self._taken(self._containers):
            self._ctr(daemon, "-n", namespace, "containers", "rm", name)

    def _tag(self, daemon: Daemon) -> None:
        for namespace, image, _ in self._one(self._images):
            self._ctr(
                daemon, "-n", namespace, "images", "tag", "--force", image, f"registry.test/{self._name('tag')}:1"
            )

    def _label(self, daemon: Daemon) -> None:
        for namespace, image, _ in self._one(self._images):
            self._ctr(daemon, "-n", namespace, "images", "label", image, f"last={self._name('label')}")

    def _create_lease(self, daemon: Daemon) -> None:
        namespace, name = self._choose.choice(self._namespaces), self._name("lease")
        self._ctr(daemon, "-n", namespace, "leases", "create", "--id", name, f"is={name}")
        self._leases.append((namespace, name))

    def _remove_lease(self, daemon: Daemon) -> None:
        for namespace, name in self._taken(self._leases):
            self._ctr(daemon, "-n", namespace, "leases", "rm", name)

    def _prepare(self, daemon: Daemon) -> None:
        namespace, key = self._choose.choice(self._namespaces), self._name("snapshot")
        snapshotter = self._choose.choice(inventory.SNAPSHOTTERS)
        snapshots = ("-n", namespace, "snapshots", "--snapshotter", snapshotter)
        self._ctr(daemon, *snapshots, "prepare", key)
        if self._choose.random() < 0.5:
            self._ctr(daemon, *snapshots, "commit", f"{key}-committed", key)
            key = f"{key}-committed"
        self._snapshots.append((namespace, snapshotter, key))

    def _remove_snapshot(self, daemon: Daemon) -> None:
        for namespace, snapshotter, key in self._taken(self._snapshots):
            self._ctr(daemon, "-n", namespace, "snapshots", "--snapshotter", snapshotter, "rm", key)

    def _upload(self, daemon: Daemon) -> None:
        namespace, ref = self._choose.choice(self._namespaces), self._name("upload")
        self.done.append(f"half an upload of {ref} in {namespace}")
        _begin_upload(daemon, namespace, ref)
