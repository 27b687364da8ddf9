"""The database: its schema's versions, transactions that nest, and what a collection learns from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.kv import MemoryBucket, MemoryStore
from refimpl.contract.errors import Unknown
from refimpl.metadata import buckets
from refimpl.metadata.database import Database, Dirty
from tests.metadata.trees import dump, fill

CHILDREN: dict[str, Any] = {
    "base": {"name": b"t/1/base"},
    "kid": {"name": b"t/2/kid", "parent": b"base"},
    "orph": {"name": b"t/3/orph", "parent": b"missing"},
}
OLD_INGESTS = {"ref1": b"t/1/ref1", "ref2": b"t/2/ref2"}
NEW_INGESTS = {"ref1": {"ref": b"t/1/ref1"}, "ref2": {"ref": b"t/2/ref2"}}


class GivenUp(Exception):
    """Ends a transaction that is not to be kept."""


class CountingStore(MemoryStore):
    """Counts the write transactions that were begun."""

    updates = 0

    @contextmanager
    def update(self) -> Iterator[MemoryBucket]:
        self.updates += 1
        with super().update() as root:
            yield root


def opened(clock: FakeClock, tree: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a tree by opening a database on it."""
    store = MemoryStore()
    with store.update() as root:
        fill(root, tree)
    Database(store, clock)
    return dump(store)


def test_a_fresh_database_holds_the_version_only(database: Database, store: MemoryStore) -> None:
    assert dump(store) == {"v1": {"version": b"\x06"}}


@pytest.mark.parametrize("version", [b"\x06", b"\x08", b"\xc6\x01"], ids=["3", "4", "99"])
def test_opening_an_up_to_date_or_newer_database_writes_nothing(clock: FakeClock, version: bytes) -> None:
    store = CountingStore()
    tree = {"v1": {"version": version, "t": {"content": {"ingest": OLD_INGESTS}}}}
    with store.update() as root:
        fill(root, tree)

    Database(store, clock)

    assert store.updates == 1, "the test's own"
    assert dump(store) == tree


@pytest.mark.parametrize("version", [None, b"", b"\xff\xff", b"\x01", b"\x02", b"\x04"])
def test_an_older_database_gets_the_current_version(clock: FakeClock, version: bytes | None) -> None:
    before = {} if version is None else {"version": version}

    assert opened(clock, {"v1": before}) == {"v1": {"version": b"\x06"}}


@pytest.mark.parametrize("version", [None, b"\x01", b"\x00"])
def test_coming_from_nothing_all_steps_are_made(clock: FakeClock, version: bytes | None) -> None:
    before: dict[str, Any] = {} if version is None else {"version": version}
    before["t"] = {"snapshots": {"native": CHILDREN}, "content": {"ingest": OLD_INGESTS, "blob": {}}}

    after = opened(clock, {"v1": before})["v1"]

    assert after["version"] == b"\x06"
    assert after["t"]["snapshots"]["native"] == {
        "base": {"name": b"t/1/base", "children": {"kid": b""}},
        "kid": CHILDREN["kid"],
        "orph": CHILDREN["orph"],
    }
    assert after["t"]["content"] == {"blob": {}, "ingests": NEW_INGESTS}


def test_only_the_missing_steps_are_made(clock: FakeClock) -> None:
    before = {"version": b"\x02", "t": {"snapshots": {"native": CHILDREN}, "content": {"ingest": OLD_INGESTS}}}

    after = opened(clock, {"v1": before})["v1"]

    assert after["t"] == {"snapshots": {"native": CHILDREN}, "content": {"ingests": NEW_INGESTS}}


def test_what_stands_beside_the_schema_is_left_alone(clock: FakeClock) -> None:
    foreign = {"v2": {"version": b"\x02"}, "k": {"sandboxes": {"s1": {}}}}

    assert opened(clock, foreign) == {**foreign, "v1": {"version": b"\x06"}}


def test_a_transaction_inside_another_is_part_of_it(database: Database, store: MemoryStore) -> None:
    with suppress(GivenUp), database.update() as outer:
        with database.update() as inner, database.view() as seen:
            buckets.make(inner, "t")
            assert outer is inner
            assert seen is inner
        raise GivenUp

    assert dump(store) == {"v1": {"version": b"\x06"}}, "what the inner one wrote went with the outer one"


def test_a_change_inside_a_read_transaction_is_refused(database: Database) -> None:
    with database.view(), pytest.raises(AssertionError), database.update():
        pass


def test_transactions_of_other_threads_are_not_joined(database: Database) -> None:
    seen: list[list[str]] = []

    def look() -> None:
        with database.view() as v1:
            seen.append([name for name, _ in buckets.subbuckets(v1)])

    with database.update() as v1:
        buckets.make(v1, "t")
        reader = threading.Thread(target=look)
        reader.start()
        reader.join(10)

    assert seen == [[]]


def test_observers_hear_whether_anything_was_deleted_since_the_last_collection(database: Database) -> None:
    heard: list[bool] = []
    database.on_mutation(heard.append)

    def create() -> None:
        with database.update() as v1:
            buckets.make(v1, "t")

    def delete() -> None:
        with database.update():
            database.mark_dirty("containers")

    create()
    delete()
    create()
    with database.gc_lock.exclusive(), database.update():
        database.take_dirty()
    assert heard == [False, True, True], "a collection is no change"

    create()
    assert heard == [False, True, True, False]


def test_a_failed_change_is_not_heard_of_and_leaves_nothing_to_collect(database: Database) -> None:
    heard: list[bool] = []
    database.on_mutation(heard.append)

    with suppress(GivenUp), database.update():
        database.mark_dirty("content")
        raise GivenUp

    assert heard == []
    assert not database.dirty


def test_an_observer_hears_of_nested_changes_once(database: Database) -> None:
    heard: list[bool] = []
    database.on_mutation(heard.append)

    with database.update(), database.update():
        database.mark_dirty("images")

    assert heard == [True]


@pytest.mark.parametrize(
    "resources,dirty",
    [
        (["images", "containers", "leases"], Dirty()),
        (["content"], Dirty(content=True)),
        (["ingests"], Dirty(content=True)),
        (["snapshots/native", "snapshots/overlayfs"], Dirty(snapshotters=frozenset({"native", "overlayfs"}))),
    ],
)
def test_a_collection_learns_which_back_ends_to_clean(database: Database, resources: list[str], dirty: Dirty) -> None:
    with database.update():
        for resource in resources:
            database.mark_dirty(resource)
    before = database.dirty

    assert database.take_dirty() == dirty
    assert (before, database.dirty) == (True, False)
    assert database.take_dirty() == Dirty(), "the marks are gone"


def test_marks_belong_into_a_write_transaction(database: Database) -> None:
    with pytest.raises(AssertionError):
        database.mark_dirty("content")
    with database.view(), pytest.raises(AssertionError):
        database.mark_dirty("content")


def test_a_collection_waits_for_changes_and_holds_off_later_ones(database: Database) -> None:
    order: list[str] = []
    asked = threading.Event()

    def collect() -> None:
        asked.set()
        with database.gc_lock.exclusive(), database.update() as v1:
            order.append("collection")
            assert buckets.find(v1, "first") is not None
            assert buckets.find(v1, "second") is None

    def change() -> None:
        with database.update() as v1:
            buckets.make(v1, "second")
            order.append("second")

    collector, changer = threading.Thread(target=collect), threading.Thread(target=change)
    with database.update() as v1:
        buckets.make(v1, "first")
        collector.start()
        assert asked.wait(10)
        while not database.gc_lock.waiting:
            pass
        changer.start()
        order.append("first")
    collector.join(10)
    changer.join(10)

    assert order == ["first", "collection", "second"]


def test_names_that_the_file_cannot_hold_have_its_own_texts(database: Database) -> None:
    with database.update() as v1:
        buckets.make(v1, "t")
        refusals: list[tuple[Callable[[], object], str]] = [
            (lambda: buckets.make(v1, "version", "x"), "incompatible value"),
            (lambda: buckets.create(v1, "version"), "incompatible value"),
            (lambda: buckets.make(v1, "t", ""), "bucket name required"),
            (lambda: buckets.put(v1, "", b""), "key required"),
            (lambda: buckets.put(v1, "x" * 32769, b""), "key too large"),
            (lambda: buckets.put(v1, "t", b""), "incompatible value"),
        ]
        for refused, text in refusals:
            with pytest.raises(Unknown) as error:
                refused()
            assert str(error.value) == text


def test_a_path_with_a_missing_step_leads_nowhere(database: Database) -> None:
    with database.update() as v1:
        made = buckets.make(v1, "t", buckets.CONTENT, buckets.BLOB)

        assert buckets.find(v1, "t", buckets.CONTENT, buckets.BLOB) is made
        assert buckets.find(v1, "t", "") is None
        assert buckets.find(v1, "version") is None
        assert buckets.find(v1, "u", buckets.CONTENT) is None
        assert list(buckets.subbuckets(None)) == []
        assert list(buckets.keys(None)) == []


def test_names_that_are_no_text_can_be_listed_and_deleted(database: Database) -> None:
    with database.update() as v1:
        v1.create_bucket(b"\xff\xfe")

        (name,) = [name for name, _ in buckets.subbuckets(v1)]

        assert buckets.remove(v1, name)
        assert not buckets.remove(v1, name)
