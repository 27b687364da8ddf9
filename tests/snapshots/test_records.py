"""The snapshotters' database: the bytes that containerd writes, and what is refused (refimpl.snapshots.records)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.kv import MemoryStore
from refimpl.contract import kv
from refimpl.contract.encoding import encode_time
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.snapshots.record import Record, Snapshot
from refimpl.snapshots.records import Records


class Bench:
    """A database in memory, with its records."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()

    @contextmanager
    def records(self) -> Iterator[Records]:
        with self.store.update() as root:
            yield Records(root, self.clock)

    def tree(self) -> dict[str, object]:
        """All that is in the database; keys and names readable, values in hex."""
        with self.store.view() as root:
            return _tree(root)


def _tree(bucket: kv.Bucket) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in bucket.items():
        inner = bucket.bucket(key) if value is None else None
        found[key.decode("latin-1")] = _tree(inner) if inner is not None else (value or b"").hex()
    return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_bytes_are_those_of_containerd(bench: Bench) -> None:
    with bench.records() as records:
        records.create(Kind.ACTIVE, "t/1/k1", "", {"containerd.io/snapshot/l": "1", "empty": ""})
        records.commit("t/2/n1", "t/1/k1", Usage(4096, 1), {})
        records.create(Kind.ACTIVE, "t/3/k2", "t/2/n1", {"a": "b"})
        records.create(Kind.VIEW, "t/4/v1", "t/2/n1", {})
    now = encode_time(bench.clock.now()).hex()

    # A dump of the real daemon's file, but for the times.
    assert bench.tree() == {
        "v1": {
            "parents": {"\1\0\2": b"t/3/k2".hex(), "\1\0\3": b"t/4/v1".hex()},
            "snapshots": {
                "t/2/n1": {
                    "id": "01", "kind": "03", "inodes": "02", "size": "8040", "createdat": now, "updatedat": now,
                },
                "t/3/k2": {
                    "id": "02", "kind": "02", "parent": b"t/2/n1".hex(), "createdat": now, "updatedat": now,
                    "labels": {"a": b"b".hex()},
                },
                "t/4/v1": {"id": "03", "kind": "01", "parent": b"t/2/n1".hex(), "createdat": now, "updatedat": now},
            },
        }
    }  # fmt: skip


def test_a_commit_names_the_child_anew_below_its_parent(bench: Bench) -> None:
    with bench.records() as records:
        records.create(Kind.ACTIVE, "a", "", {})
        records.commit("base", "a", Usage(), {})
        records.create(Kind.ACTIVE, "b", "base", {})
        records.commit("top", "b", Usage(7, 8), {"l": "1"})

        assert records.get("top") == Record(
            2, Info("top", "base", Kind.COMMITTED, bench.clock.now(), bench.clock.now(), {"l": "1"}), Usage(7, 8)
        )
        assert records.snapshot("top") == Snapshot(2, Kind.COMMITTED, (1,))
        with pytest.raises(FailedPrecondition):
            records.remove("base")
        records.remove("top")
        records.remove("base")
    assert bench.tree() == {"v1": {"parents": {}, "snapshots": {}}}


def test_children_are_told_apart_by_whole_numbers(bench: Bench) -> None:
    """Numbers of two bytes begin with bytes that are numbers of one."""
    with bench.records() as records:
        for number in range(1, 301):
            records.create(Kind.ACTIVE, f"k{number}", "", {})
            records.commit(f"n{number}", f"k{number}", Usage(), {})
        records.create(Kind.ACTIVE, "child", "n300", {})

        for number in range(1, 300):
            records.remove(f"n{number}")
        with pytest.raises(FailedPrecondition):
            records.remove("n300")


def test_an_update_takes_and_leaves_labels(bench: Bench) -> None:
    with bench.records() as records:
        records.create(Kind.ACTIVE, "a", "", {"kept": "1", "gone": "2"})
        bench.clock.advance(1.5)
        changed = records.update(Info("a", labels={"new": "3"}), ["labels.new", "labels.gone"])

        assert dict(changed.info.labels) == {"kept": "1", "new": "3"}
        assert changed.info.updated_at - changed.info.created_at == 1_500_000_000
        assert records.get("a") == changed
        assert records.update(Info("a"), []).info.labels == {}


def test_a_database_without_any_record_is_as_good_as_one_with_others(bench: Bench) -> None:
    with bench.store.view() as root:
        records = Records(root, bench.clock)
        assert list(records.all()) == []
        assert not records.has("a")
        with pytest.raises(NotFound):
            records.get("a")


def test_a_number_is_drawn_once_even_if_its_snapshot_is_gone(bench: Bench) -> None:
    with bench.records() as records:
        records.create(Kind.ACTIVE, "a", "", {})
        records.remove("a")
        assert records.create(Kind.VIEW, "a", "", {}).id == 2


def test_names_are_any_bytes(bench: Bench) -> None:
    odd = b"t/1/\xff\xfe".decode("utf-8", "surrogateescape")
    with bench.records() as records:
        records.create(Kind.ACTIVE, odd, "", {})
        assert [record.info.name for record in records.all()] == [odd]
        records.remove(odd)


@pytest.mark.parametrize("key,value", [(b"id", b""), (b"id", b"\xff"), (b"kind", b"\x09"), (b"createdat", b"x")])
def test_a_damaged_record_is_named(bench: Bench, key: bytes, value: bytes) -> None:
    with bench.records() as records:
        records.create(Kind.ACTIVE, "a", "", {})
    with bench.store.update() as root:
        bucket: kv.Bucket | None = root
        for step in (b"v1", b"snapshots", b"a"):
            assert bucket is not None
            bucket = bucket.bucket(step)
        assert bucket is not None
        bucket.put(key, value)

    with bench.records() as records, pytest.raises(Unknown, match='failed to read snapshot "a"'):
        records.get("a")


@pytest.mark.parametrize("ancestor", ["base", "top"])
def test_a_circle_of_parents_has_an_end(bench: Bench, ancestor: str) -> None:
    with bench.records() as records:
        records.create(Kind.ACTIVE, "a", "", {})
        records.commit("base", "a", Usage(), {})
        records.create(Kind.ACTIVE, "b", "base", {})
        records.commit("top", "b", Usage(), {})
    with bench.store.update() as root:
        bucket: kv.Bucket | None = root
        for step in (b"v1", b"snapshots", b"base"):
            assert bucket is not None
            bucket = bucket.bucket(step)
        assert bucket is not None
        bucket.put(b"parent", ancestor.encode())

    with bench.records() as records, pytest.raises(Unknown, match="is its own ancestor"):
        records.snapshot("top")


@pytest.mark.parametrize(
    "kind,text,call",
    [
        (AlreadyExists, "snapshot a: already", lambda r: r.create(Kind.VIEW, "a", "", {})),
        (NotFound, 'missing parent "no" bucket', lambda r: r.create(Kind.VIEW, "b", "no", {})),
        (InvalidArgument, 'parent "a" is not committed', lambda r: r.create(Kind.VIEW, "b", "a", {})),
        (Unknown, "bucket name required", lambda r: r.create(Kind.VIEW, "", "", {})),
        (Unknown, 'failed to set label "":"x": key required', lambda r: r.create(Kind.VIEW, "b", "", {"": "x"})),
        (Unknown, "bucket name required", lambda r: r.commit("", "a", Usage(), {})),
        (AlreadyExists, "committed snapshot base", lambda r: r.commit("base", "a", Usage(), {})),
        (NotFound, 'failed to get active snapshot "no"', lambda r: r.commit("x", "no", Usage(), {})),
        (FailedPrecondition, 'snapshot "base" is not active', lambda r: r.commit("x", "base", Usage(), {})),
        (FailedPrecondition, "snapshot base not active or view", lambda r: r.mountable("base")),
        (NotFound, "snapshot no: not found", lambda r: r.remove("no")),
        (InvalidArgument, 'cannot update "size" field on snapshot "a"', lambda r: r.update(Info("a"), ["size"])),
    ],
)
def test_a_refusal_changes_nothing(bench: Bench, kind: type[ContainerdError], text: str, call: object) -> None:
    with bench.records() as records:
        records.create(Kind.ACTIVE, "x", "", {})
        records.commit("base", "x", Usage(1, 1), {})
        records.create(Kind.ACTIVE, "a", "base", {})
    before = bench.tree()

    assert callable(call)
    with pytest.raises(kind) as error, bench.records() as records:
        call(records)

    assert text in str(error.value)
    assert bench.tree() == before
