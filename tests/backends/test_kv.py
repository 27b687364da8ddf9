"""Every engine behaves as a map of maps would, with transactions that see one state and leave all or nothing."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refimpl.backends.fake.kv import MemoryStoreFactory
from refimpl.backends.real.bolt import BoltStoreFactory
from refimpl.contract import kv
from refimpl.contract.errors import FailedPrecondition, InvalidArgument, Unavailable
from tests.backends.kv_model import Model, RollBack, Step, accepts, apply, content

NAMES = st.sampled_from([b"a", b"b", b"c", b"\x00", b"\xff"])
PATHS = st.lists(NAMES, max_size=2)
STEPS = st.tuples(
    st.sampled_from(["put", "delete", "create", "make", "drop", "count"]), PATHS, NAMES, st.binary(max_size=3)
)


Open = Callable[[], AbstractContextManager[kv.Store]]


@pytest.fixture(params=["memory", "bolt"])
def factory(request: pytest.FixtureRequest) -> kv.StoreFactory:
    """Each engine."""
    return MemoryStoreFactory() if request.param == "memory" else BoltStoreFactory()


@pytest.fixture
def new_store(factory: kv.StoreFactory, tmp_path: Path) -> Open:
    """Gives an empty store each time that it is called."""
    numbers = itertools.count()

    @contextmanager
    def open_() -> Iterator[kv.Store]:
        path = tmp_path / str(next(numbers)) / "meta.db"
        opened = factory.open(path)
        try:
            yield opened
        finally:
            opened.close()
            # An example of many leaves no file behind.
            path.unlink(missing_ok=True)

    return open_


@pytest.fixture
def store(new_store: Open) -> Iterator[kv.Store]:
    """An empty store."""
    with new_store() as opened:
        yield opened


# The fixture gives a new store for each example.
EXAMPLES = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@EXAMPLES
@given(st.lists(st.tuples(st.lists(STEPS, max_size=8), st.booleans()), max_size=5))
def test_transactions_leave_what_a_plain_map_would_hold(
    new_store: Open, transactions: list[tuple[list[Step], bool]]
) -> None:
    with new_store() as store:
        model = Model()
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


@EXAMPLES
@given(st.sets(st.binary(min_size=1, max_size=3)), st.binary(max_size=3))
def test_items_begin_at_the_first_key_that_is_not_smaller(new_store: Open, keys: set[bytes], start: bytes) -> None:
    with new_store() as store, store.update() as root:
        for key in keys:
            root.put(key, key)

        assert [key for key, _ in root.items(start)] == sorted(key for key in keys if key >= start)


def test_a_reader_keeps_the_state_it_began_with(store: kv.Store) -> None:
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


def test_a_second_writer_waits_for_the_first(store: kv.Store) -> None:
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
        assert started.wait(60)
        root.put(b"k", b"1")
        order.append("first")
    writer.join(60)

    assert order == ["first", "second"]


def test_a_read_transaction_changes_nothing(store: kv.Store) -> None:
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
def test_a_value_needs_a_key_of_1_to_32768_bytes(store: kv.Store, key: bytes) -> None:
    with store.update() as root:
        root.put(b"x" * kv.MAX_KEY_SIZE, b"fits")

        with pytest.raises(InvalidArgument):
            root.put(key, b"")


def test_a_bucket_may_have_a_longer_name_but_not_none(store: kv.Store) -> None:
    with store.update() as root:
        root.create_bucket(b"x" * 40_000).put(b"k", b"v")

        with pytest.raises(InvalidArgument):
            root.create_bucket(b"")


def test_an_empty_value_is_a_value(store: kv.Store) -> None:
    with store.update() as root:
        root.put(b"k", b"")

        assert root.get(b"k") == b""
        assert list(root.items()) == [(b"k", b"")]


def test_two_ways_to_one_bucket_see_each_others_changes(store: kv.Store) -> None:
    with store.update() as root:
        root.create_bucket(b"b")
    with store.update() as root:
        one, other = root.bucket(b"b"), root.bucket(b"b")
        assert one is not None
        assert other is not None
        one.put(b"k", b"v")

        assert other.get(b"k") == b"v"


def test_a_bucket_is_not_valid_after_its_transaction_or_its_deletion(store: kv.Store) -> None:
    with store.update() as root:
        deleted = root.create_bucket(b"b").create_bucket(b"c")
        root.delete_bucket(b"b")
        with pytest.raises(AssertionError):
            deleted.put(b"k", b"")
    with pytest.raises(AssertionError):
        root.get(b"k")


def test_closing_waits_for_open_transactions_and_refuses_later_ones(store: kv.Store) -> None:
    closer = threading.Thread(target=store.close)
    with store.update() as root:
        closer.start()
        root.put(b"k", b"v")
    closer.join(60)

    assert not closer.is_alive()
    store.close()
    with pytest.raises(FailedPrecondition), store.view():
        pass


def test_a_database_outlives_a_restart_but_is_open_only_once(factory: kv.StoreFactory, tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    store = factory.open(path)
    with store.update() as root:
        root.put(b"k", b"v")

    with pytest.raises(Unavailable):
        factory.open(path, timeout=0.1)

    store.close()
    store = factory.open(path)
    with store.view() as root:
        assert root.get(b"k") == b"v"
    store.close()
    other = factory.open(tmp_path / "other" / "meta.db")
    with other.view() as root:
        assert root.get(b"k") is None
    other.close()
