"""The store in memory behaves as a map of maps would, with transactions that see one state and leave all or nothing."""

from __future__ import annotations

import contextlib
import copy
import functools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.backends.fake.kv import MemoryStore, MemoryStoreFactory
from refimpl.contract import kv
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable

Tree = dict[bytes, "bytes | Tree"]
Step = tuple[str, list[bytes], bytes, bytes]

NAMES = st.sampled_from([b"a", b"b", b"c", b"\x00", b"\xff"])
PATHS = st.lists(NAMES, max_size=2)
STEPS = st.tuples(
    st.sampled_from(["put", "delete", "create", "make", "drop", "count"]), PATHS, NAMES, st.binary(max_size=3)
)


class Refused(Exception):
    """The model's answer to what a store refuses."""


class RollBack(Exception):
    """Ends a transaction that is not to be kept."""


class Model:
    """Buckets as plain dictionaries, sequences by path."""

    def __init__(self, tree: Tree | None = None, sequences: dict[tuple[bytes, ...], int] | None = None) -> None:
        self.tree = tree if tree is not None else {}
        self.sequences = sequences if sequences is not None else {}

    def bucket(self, path: list[bytes]) -> Tree | None:
        here: Tree = self.tree
        for name in path:
            below = here.get(name)
            if not isinstance(below, dict):
                return None
            here = below
        return here

    def apply(self, step: str, path: list[bytes], name: bytes, value: bytes) -> None:
        bucket = self.bucket(path)
        if bucket is None:
            return
        found = bucket.get(name)
        if step == "put":
            self.refuse(isinstance(found, dict))
            bucket[name] = value
        elif step == "delete":
            self.refuse(isinstance(found, dict))
            bucket.pop(name, None)
        elif step in {"create", "make"}:
            self.refuse(isinstance(found, bytes) or (step == "create" and found is not None))
            bucket.setdefault(name, {})
        elif step == "drop":
            self.refuse(not isinstance(found, dict))
            del bucket[name]
            gone = (*path, name)
            self.sequences = {key: n for key, n in self.sequences.items() if key[: len(gone)] != gone}
        else:
            self.sequences[tuple(path)] = self.sequences.get(tuple(path), 0) + 1

    @staticmethod
    def refuse(condition: bool) -> None:
        if condition:
            raise Refused


def walk(root: kv.Bucket, path: list[bytes]) -> kv.Bucket | None:
    bucket: kv.Bucket | None = root
    for name in path:
        bucket = bucket.bucket(name) if bucket is not None else None
    return bucket


def apply(root: kv.Bucket, step: str, path: list[bytes], name: bytes, value: bytes) -> None:
    bucket = walk(root, path)
    if bucket is None:
        return
    try:
        if step == "put":
            bucket.put(name, value)
        elif step == "delete":
            bucket.delete(name)
        elif step == "create":
            bucket.create_bucket(name)
        elif step == "make":
            bucket.create_bucket_if_not_exists(name)
        elif step == "drop":
            bucket.delete_bucket(name)
        else:
            bucket.next_sequence()
    except (AlreadyExists, InvalidArgument, NotFound) as err:
        raise Refused from err


def dump(bucket: kv.Bucket) -> Tree:
    """All that is in a bucket, by its own account."""
    tree: Tree = {}
    for key, value in bucket.items():
        below = bucket.bucket(key)
        assert (below is None) == (value is not None)
        tree[key] = value if value is not None else dump(below) if below is not None else {}
    assert list(tree) == sorted(tree), "keys come in byte order"
    return tree


def sequences(bucket: kv.Bucket, path: tuple[bytes, ...] = ()) -> dict[tuple[bytes, ...], int]:
    found = {path: bucket.sequence} if bucket.sequence else {}
    for key in dump(bucket):
        below = bucket.bucket(key)
        if below is not None:
            found |= sequences(below, (*path, key))
    return found


def content(root: kv.Bucket) -> tuple[Tree, dict[tuple[bytes, ...], int]]:
    return dump(root), sequences(root)


def accepts(change: Callable[..., None], step: Step) -> bool:
    try:
        change(*step)
    except Refused:
        return False
    return True


@given(st.lists(st.tuples(st.lists(STEPS, max_size=8), st.booleans()), max_size=5))
def test_transactions_leave_what_a_plain_map_would_hold(transactions: list[tuple[list[Step], bool]]) -> None:
    store, model = MemoryStore(), Model()

    for steps, keep in transactions:
        trial = Model(copy.deepcopy(model.tree), dict(model.sequences))
        with store.view() as reader, contextlib.suppress(RollBack):
            with store.update() as root:
                for step in steps:
                    assert accepts(functools.partial(apply, root), step) == accepts(trial.apply, step)
                    assert content(root) == (trial.tree, trial.sequences), "changes are seen at once"
                assert content(reader) == (model.tree, model.sequences), "but not by a reader"
                if not keep:
                    raise RollBack
            model = trial
        with store.view() as root:
            assert content(root) == (model.tree, model.sequences)


@given(st.sets(st.binary(min_size=1, max_size=3)), st.binary(max_size=3))
def test_items_begin_at_the_first_key_that_is_not_smaller(keys: set[bytes], start: bytes) -> None:
    store = MemoryStore()
    with store.update() as root:
        for key in keys:
            root.put(key, key)

        assert [key for key, _ in root.items(start)] == sorted(key for key in keys if key >= start)


def test_a_reader_keeps_the_state_it_began_with() -> None:
    store = MemoryStore()
    with store.update() as root:
        root.create_bucket(b"b").put(b"k", b"1")

    with store.view() as reader:
        with store.update() as root:
            bucket = root.bucket(b"b")
            assert bucket is not None
            bucket.put(b"k", b"2")
            bucket.put(b"new", b"")
            root.put(b"more", b"")
        old = reader.bucket(b"b")
        assert old is not None
        assert list(old.items()) == [(b"k", b"1")]
        assert reader.get(b"more") is None


def test_a_second_writer_waits_for_the_first() -> None:
    store = MemoryStore()
    order: list[str] = []
    started = threading.Event()

    def second() -> None:
        started.set()
        with store.update() as root:
            order.append("second")
            assert root.get(b"k") == b"1"

    writer = threading.Thread(target=second)
    with store.update() as root:
        writer.start()
        assert started.wait(10)
        root.put(b"k", b"1")
        order.append("first")
    writer.join(10)

    assert order == ["first", "second"]


def test_a_read_transaction_changes_nothing() -> None:
    store = MemoryStore()
    with store.update() as root:
        root.create_bucket(b"b")

    with store.view() as root:
        for change in (
            lambda: root.put(b"k", b""),
            lambda: root.delete(b"k"),
            lambda: root.create_bucket(b"c"),
            lambda: root.create_bucket_if_not_exists(b"b"),
            lambda: root.delete_bucket(b"b"),
            root.next_sequence,
        ):
            with pytest.raises(FailedPrecondition):
                change()


@pytest.mark.parametrize("key", [b"", b"x" * (kv.MAX_KEY_SIZE + 1)])
def test_a_value_needs_a_key_of_1_to_32768_bytes(key: bytes) -> None:
    with MemoryStore().update() as root:
        root.put(b"x" * kv.MAX_KEY_SIZE, b"fits")

        with pytest.raises(InvalidArgument):
            root.put(key, b"")


def test_a_bucket_may_have_a_longer_name_but_not_none() -> None:
    with MemoryStore().update() as root:
        root.create_bucket(b"x" * 40_000).put(b"k", b"v")

        with pytest.raises(InvalidArgument):
            root.create_bucket(b"")


def test_an_empty_value_is_a_value() -> None:
    with MemoryStore().update() as root:
        root.put(b"k", b"")

        assert root.get(b"k") == b""
        assert list(root.items()) == [(b"k", b"")]


def test_two_ways_to_one_bucket_see_each_others_changes() -> None:
    store = MemoryStore()
    with store.update() as root:
        root.create_bucket(b"b")
    with store.update() as root:
        one, other = root.bucket(b"b"), root.bucket(b"b")
        assert one is not None
        assert other is not None
        one.put(b"k", b"v")

        assert other.get(b"k") == b"v"


def test_a_bucket_is_not_valid_after_its_transaction_or_its_deletion() -> None:
    store = MemoryStore()
    with store.update() as root:
        deleted = root.create_bucket(b"b").create_bucket(b"c")
        root.delete_bucket(b"b")
        with pytest.raises(AssertionError):
            deleted.put(b"k", b"")
    with pytest.raises(AssertionError):
        root.get(b"k")


def test_closing_waits_for_open_transactions_and_refuses_later_ones() -> None:
    store = MemoryStore()
    closer = threading.Thread(target=store.close)
    with store.update() as root:
        closer.start()
        root.put(b"k", b"v")
    closer.join(10)

    assert not closer.is_alive()
    store.close()
    with pytest.raises(FailedPrecondition), store.view():
        pass


def test_a_database_outlives_a_restart_but_is_open_only_once() -> None:
    factory, path = MemoryStoreFactory(), Path("/root/meta.db")
    store = factory.open(path)
    with store.update() as root:
        root.put(b"k", b"v")

    with pytest.raises(Unavailable):
        factory.open(path)

    store.close()
    with factory.open(path).view() as root:
        assert root.get(b"k") == b"v"
    with factory.open(Path("/other/meta.db")).view() as root:
        assert root.get(b"k") is None
