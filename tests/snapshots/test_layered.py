"""Record and layer change together, whatever fails (refimpl.snapshots.layered, refimpl.snapshots.store)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.kv import MemoryStore
from refimpl.contract import kv
from refimpl.contract.context import CallContext
from refimpl.contract.errors import FailedPrecondition, NotFound, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Usage
from refimpl.snapshots.layered import LayeredSnapshotter, Prefixes
from refimpl.snapshots.record import Record, Snapshot
from refimpl.snapshots.store import RecordStore

CTX = CallContext()


class Recorded:
    """Layers that only write down what they are asked for, and fail where a test says so."""

    root = "/"
    prefixes = Prefixes()

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.there: set[int] = set()
        self.fails = ""

    def _call(self, text: str) -> None:
        self.calls.append(text)
        if self.fails and text.startswith(self.fails):
            raise OSError(28, "No space left on device")

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        self._call(f"create {snapshot.id}")
        self.there.add(snapshot.id)

    def undo(self, snapshot: Snapshot) -> None:
        self._call(f"undo {snapshot.id}")
        self.there.discard(snapshot.id)

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        self._call(f"mounts {snapshot.id}")
        return [Mount("bind", f"/{snapshot.id}")]

    def usage(self, ctx: CallContext, snapshot: Snapshot) -> Usage:
        self._call(f"usage {snapshot.id}")
        return Usage(snapshot.id, 1)

    def commit(self, snapshot: Snapshot) -> None:
        self._call(f"commit {snapshot.id}")

    def remove(self, record: Record) -> Sequence[str]:
        self._call(f"remove {record.id}")
        return [str(record.id)]

    def strays(self, live: frozenset[int]) -> Sequence[str]:
        self._call("strays")
        return [str(id) for id in sorted(self.there - live)]

    def discard(self, names: Sequence[str]) -> None:
        for name in names:
            self._call(f"discard {name}")
            self.there.discard(int(name))

    def labels(self, before: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
        return given

    def shown(self, record: Record) -> Info:
        return record.info


class Failing(MemoryStore):
    """A database that loses a transaction in the moment of its commit."""

    fails = False

    @contextmanager
    def update(self) -> Iterator[kv.Bucket]:  # type: ignore[override]  # narrower than a memory store's own
        with super().update() as root:
            yield root
            if self.fails:
                raise Unknown("disk full")


class Bench:
    def __init__(self) -> None:
        self.layers = Recorded()
        self.database = Failing()
        self.snapshotter = LayeredSnapshotter(RecordStore(lambda: self.database, FakeClock()), self.layers)

    def names(self) -> list[str]:
        return [info.name for info in self.snapshotter.walk(CTX)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("step", ["create", "mounts"])
def test_a_layer_that_cannot_be_made_leaves_no_record(bench: Bench, step: str) -> None:
    bench.layers.fails = step
    with pytest.raises(OSError, match="No space"):
        bench.snapshotter.prepare(CTX, "a")

    assert bench.names() == []
    assert bench.layers.there == set()


def test_a_record_that_cannot_be_committed_leaves_no_layer(bench: Bench) -> None:
    bench.database.fails = True
    with pytest.raises(Unknown, match="disk full"):
        bench.snapshotter.prepare(CTX, "a")

    assert bench.layers.there == set()
    bench.database.fails = False
    assert bench.names() == []


def test_a_layer_goes_after_its_record(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    bench.database.fails = True
    with pytest.raises(Unknown):
        bench.snapshotter.remove(CTX, "a")
    assert bench.layers.there == {1}, "the record is still there"

    bench.database.fails = False
    bench.snapshotter.remove(CTX, "a")
    assert bench.layers.there == set()
    assert bench.layers.calls[-2:] == ["remove 1", "discard 1"]


def test_a_layer_may_refuse_to_go(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    bench.layers.fails = "remove"
    with pytest.raises(OSError, match="No space"):
        bench.snapshotter.remove(CTX, "a")

    assert bench.names() == ["a"]


def test_a_commit_that_fails_leaves_the_snapshot_active(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    bench.layers.fails = "commit"
    with pytest.raises(OSError, match="No space"):
        bench.snapshotter.commit(CTX, "c", "a")

    assert bench.names() == ["a"]
    bench.layers.fails = ""
    bench.snapshotter.commit(CTX, "c", "a")
    assert bench.snapshotter.usage(CTX, "c") == Usage(1, 1)


def test_a_cleanup_discards_what_no_record_stands_for(bench: Bench) -> None:
    bench.snapshotter.prepare(CTX, "a")
    bench.layers.there |= {7, 8}

    bench.snapshotter.cleanup(CTX)

    assert bench.layers.there == {1}


def test_the_database_is_opened_by_the_first_call_and_not_again_after_the_end() -> None:
    opened: list[MemoryStore] = []

    def database() -> MemoryStore:
        opened.append(MemoryStore())
        return opened[-1]

    snapshotter = LayeredSnapshotter(RecordStore(database, FakeClock()), Recorded())
    assert opened == []
    for _ in range(2):
        with pytest.raises(NotFound):
            snapshotter.stat(CTX, "a")
    assert len(opened) == 1

    snapshotter.close()
    snapshotter.close()
    with pytest.raises(FailedPrecondition, match="database not open"):
        snapshotter.stat(CTX, "a")
    with pytest.raises(FailedPrecondition, match="database not open"), opened[0].view():
        pass
    assert len(opened) == 1


def test_a_database_that_cannot_be_opened_is_tried_again() -> None:
    attempts: list[int] = []

    def database() -> MemoryStore:
        attempts.append(1)
        if len(attempts) == 1:
            raise Unknown("held by somebody else")
        return MemoryStore()

    snapshotter = LayeredSnapshotter(RecordStore(database, FakeClock()), Recorded())
    with pytest.raises(Unknown):
        snapshotter.prepare(CTX, "a")
    assert snapshotter.prepare(CTX, "a")
