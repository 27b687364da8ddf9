"""The store on a file: large random transactions, readers beside a writer, locks, growth, and first opening."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from pathlib import Path
from random import Random

import pytest

from refimpl.backends.real.bolt import BoltStoreFactory, InvalidDatabase
from refimpl.backends.real.bolt import freelist as freelists
from refimpl.backends.real.bolt.commit import grown_size
from refimpl.backends.real.bolt.file import File
from refimpl.backends.real.bolt.meta import META_SIZE, NO_FREELIST, Meta, choose
from refimpl.backends.real.bolt.nodes import Node
from refimpl.backends.real.bolt.store import BoltStore
from refimpl.contract.errors import FailedPrecondition, InvalidArgument, Unavailable
from tests.backends.kv_model import Model, content
from tests.backends.real.bolt.workload import inspected, opened, steps, transact

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meta.db"


@pytest.mark.parametrize("sync_freelist", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_random_transactions_leave_what_a_plain_map_would_hold_in_a_sound_file(
    path: Path, seed: int, sync_freelist: bool
) -> None:
    random, model = Random(seed), Model()
    for session in range(6):
        with opened(path, sync_freelist=sync_freelist) as store:
            for _ in range(15):
                changes = steps(random, model, random.randrange(40), grow=session % 3 != 2)
                model = transact(store, model, changes, keep=random.random() > 0.1)
                assert inspected(path).problems == []
            with store.view() as root:
                assert content(root) == (model.tree, model.sequences)
    statistics = inspected(path).statistics
    assert bool(statistics.freelist_pages) == sync_freelist
    with opened(path) as store, store.view() as root:
        assert content(root) == (model.tree, model.sequences)
    assert statistics.depth > 1
    assert statistics.overflow_pages
    assert statistics.inline_buckets
    assert statistics.inline_buckets < statistics.buckets


def _empty(page_size: int, sequence: int = 0) -> bytes:
    """A database without a key, as a machine with pages of that size makes it."""
    metas = [Meta(page_size, 3, sequence, 2, 4, txid).pack() for txid in (0, 1)]
    pages = [*metas, freelists.pack((), 2, 0), Node(is_leaf=True).pack(3)]
    return b"".join(page.ljust(page_size, b"\0") for page in pages)


@pytest.mark.parametrize("page_size", [1024, 8192, 16384, 65536])
def test_a_database_from_a_machine_with_other_pages_is_worked_on_with_those(path: Path, page_size: int) -> None:
    path.write_bytes(_empty(page_size))
    random, model = Random(page_size), Model()
    for session in range(4):
        with opened(path) as store:
            for _ in range(10):
                changes = steps(random, model, random.randrange(40), grow=session != 2)
                model = transact(store, model, changes, keep=random.random() > 0.1)
            with store.view() as root:
                assert content(root) == (model.tree, model.sequences)
        found = inspected(path)
        assert found.problems == []
        assert found.statistics.page_size == page_size


def test_a_sequence_that_has_come_to_its_end_begins_anew(path: Path) -> None:
    path.write_bytes(_empty(PAGE, sequence=2**64 - 2))
    with opened(path) as store, store.update() as root:
        assert [root.next_sequence() for _ in range(3)] == [2**64 - 1, 0, 1]
    with opened(path) as store, store.view() as root:
        assert root.sequence == 1


def test_what_is_emptied_comes_back_as_free_pages(path: Path) -> None:
    with opened(path) as store:
        for round_ in range(4):
            with store.update() as root:
                bucket = root.create_bucket_if_not_exists(b"b")
                for number in range(2000):
                    bucket.put(b"%05d" % number, b"x" * 50)
            size = path.stat().st_size
            with store.update() as root:
                bucket = root.bucket(b"b") or pytest.fail("gone")
                for number in range(2000):
                    bucket.delete(b"%05d" % number)
            found = inspected(path)
            assert found.problems == []
            assert found.statistics.inline_buckets == 1, "an empty bucket needs no page"
            assert found.statistics.leaf_pages == 1
            if round_ > 1:
                assert path.stat().st_size == size, "and the pages are used again"


def test_a_tree_of_three_levels_shrinks_level_by_level(path: Path) -> None:
    random = Random(2)
    keys = [b"%0200d" % random.randrange(10**9) for _ in range(3000)]
    left = dict.fromkeys(keys, b"v")
    depths = []
    with opened(path) as store:
        with store.update() as root:
            bucket = root.create_bucket(b"b")
            for key in keys:
                bucket.put(key, b"v")
        while left:
            found = inspected(path)
            assert found.problems == []
            depths.append(found.statistics.depth)
            with store.update() as root:
                bucket = root.bucket(b"b") or pytest.fail("gone")
                assert dict(bucket.items()) == left
                # Some from everywhere, and all from a place.
                start = random.choice(sorted(left))
                for key in [*random.sample(sorted(left), len(left) // 8), *sorted(left)[:80]]:
                    bucket.delete(key)
                    left.pop(key, None)
                for key in [key for key in left if key >= start][: len(left) // 3]:
                    bucket.delete(key)
                    del left[key]
    assert inspected(path).problems == []
    assert depths == sorted(depths, reverse=True)
    assert set(depths) >= {3, 2}


def test_a_free_list_may_take_several_pages(path: Path) -> None:
    with opened(path) as store:
        with store.update() as root:
            root.put(b"k", bytes(1200 * PAGE))
        with store.update() as root:
            root.delete(b"k")
    statistics = inspected(path).statistics
    assert statistics.free_pages > 1200
    assert statistics.freelist_pages > 1
    with opened(path) as store:
        with store.update() as root:
            root.put(b"k", bytes(1000 * PAGE))
        assert inspected(path).problems == []
    assert inspected(path).statistics.pages == statistics.pages, "found room in one piece"


def test_readers_keep_their_states_while_pages_are_used_again(path: Path) -> None:
    random, model = Random(1), Model()
    with opened(path) as store:
        readers = []
        for number in range(40):
            model = transact(store, model, steps(random, model, 30, grow=number < 25))
            if number % 7 == 0:
                context = store.view()
                readers.append((context, context.__enter__(), model))
            if number % 11 == 10:
                readers.pop(random.randrange(len(readers)))[0].__exit__(None, None, None)
            for _, root, state in readers:
                assert content(root) == (state.tree, state.sequences)
        for context, _, _ in readers:
            context.__exit__(None, None, None)
        pending = len(store.freelist.pending)
        with store.update():
            pass
        assert len(store.freelist.pending) < pending, "what nobody sees any more is free at the next commit"


def test_a_reader_of_an_old_state_holds_only_the_pages_of_that_state(path: Path) -> None:
    with opened(path) as store:
        with store.update() as root:
            root.create_bucket(b"b")
        with store.view() as old:
            for number in range(50):
                with store.update() as root:
                    (root.bucket(b"b") or pytest.fail("gone")).put(b"k", b"%d" % number)
            assert (old.bucket(b"b") or pytest.fail("gone")).get(b"k") is None
            assert len(store.freelist.pending) < 10


def test_many_readers_and_a_writer_in_threads(path: Path) -> None:
    """Every reader finds the same number under all keys, however often the writer changes them together."""
    keys = [b"%04d" % number for number in range(300)]
    failures: list[object] = []
    done = threading.Event()

    def read(store: BoltStore) -> None:
        while not done.is_set():
            with store.view() as root:
                bucket = root.bucket(b"b")
                assert bucket is not None
                values = {value for _, value in bucket.items()}
                if len(values) != 1:
                    failures.append(values)

    with opened(path) as store:
        with store.update() as root:
            bucket = root.create_bucket(b"b")
            for key in keys:
                bucket.put(key, b"0" * 100)
        threads = [threading.Thread(target=read, args=(store,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(40):
                with store.update() as root:
                    bucket = root.bucket(b"b") or pytest.fail("gone")
                    for key in keys:
                        bucket.put(key, b"%d" % (number % 10) * 100)
        finally:
            done.set()
            for thread in threads:
                thread.join(60)
    assert failures == []
    assert inspected(path).problems == []


def test_a_writer_keeps_everybody_out_and_readers_keep_writers_out(path: Path) -> None:
    with opened(path), path.open("rb") as other:
        for how in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, how | fcntl.LOCK_NB)
        with pytest.raises(Unavailable, match=r"^timeout$"):
            BoltStore(File(path, read_only=True), timeout=0.01)
    readers = [BoltStore(File(path, read_only=True), timeout=0.01) for _ in range(2)]
    with pytest.raises(Unavailable, match=r"^timeout$"):
        BoltStore(File(path), timeout=0.1)
    for reader in readers:
        reader.close()
    BoltStore(File(path), timeout=0.01).close()


def test_who_waits_for_the_lock_gets_it_when_it_is_free(path: Path) -> None:
    first = BoltStore(File(path))
    opening = threading.Event()
    got: list[BoltStore] = []

    def wait() -> None:
        opening.set()
        got.append(BoltStore(File(path)))

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert opening.wait(60)
    assert got == []
    first.close()
    waiter.join(60)
    assert len(got) == 1
    got[0].close()


def test_the_lock_goes_with_the_store_even_if_old_maps_are_still_there(path: Path) -> None:
    with opened(path) as store:
        old = store.map
        with store.update() as root:
            root.create_bucket(b"b").put(b"k", bytes(100_000))
        assert store.map is not old
    BoltStore(File(path), timeout=0.01).close()
    assert not old.closed


def test_a_read_only_store_changes_nothing(path: Path) -> None:
    with opened(path) as store, store.update() as root:
        root.put(b"k", b"v")
    before = path.read_bytes()
    store = BoltStore(File(path, read_only=True))
    with store.view() as root:
        assert root.get(b"k") == b"v"
    with pytest.raises(FailedPrecondition, match="read-only"), store.update():
        pass
    store.close()
    assert path.read_bytes() == before


def test_a_missing_file_is_made_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "io.containerd.metadata.v1.bolt" / "meta.db"
    mask = os.umask(0o022)
    try:
        BoltStoreFactory().open(path).close()
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711
    assert path.stat().st_size == 4 * PAGE


def test_the_file_is_extended_as_bbolt_does() -> None:
    sizes = [grown_size(needed, 4096) for needed in (4096 * 5, 32 << 10, (32 << 10) + 4096, 100_000, 9 << 20)]
    assert sizes == [32 << 10, 32 << 10, 64 << 10, 128 << 10, 16 << 20]
    assert grown_size((16 << 20) + 4096, 4096) == (32 << 20) + 4096


def test_a_commit_advances_the_transaction_number_by_one_and_anything_else_does_not(path: Path) -> None:
    def txid() -> int:
        data = path.read_bytes()
        return choose(lambda offset, length: data[offset : offset + length], len(data), PAGE).txid

    with opened(path) as store:
        assert txid() == 1
        with store.update() as root:
            root.create_bucket(b"b")
        assert txid() == 2
        with store.view():
            pass
        with pytest.raises(InvalidArgument), store.update() as root:
            root.create_bucket(b"c").put(b"", b"")
        assert txid() == 2
        with store.update():
            pass
        assert txid() == 3


@pytest.mark.parametrize("written", [b"", bytes(4 * PAGE)], ids=["nothing", "only its length"])
def test_a_creation_that_was_cut_short_is_done_again(path: Path, written: bytes) -> None:
    path.write_bytes(written)
    with opened(path) as store, store.update() as root:
        root.put(b"k", b"v")
    assert inspected(path).problems == []


def test_zeros_with_anything_else_in_them_are_no_creation_cut_short(path: Path) -> None:
    data = bytearray(4 * PAGE)
    data[3 * PAGE + 600] = 1
    path.write_bytes(data)
    with pytest.raises(InvalidDatabase, match=r"^invalid database$"), opened(path):
        pass
    assert path.read_bytes() == data


def test_a_file_without_a_free_list_gets_one_when_it_is_opened_with_it(path: Path) -> None:
    with opened(path, sync_freelist=False) as store, store.update() as root:
        root.create_bucket(b"b").put(b"k", bytes(50_000))
    with opened(path, sync_freelist=False) as store, store.update() as root:
        root.delete_bucket(b"b")

    def freelist() -> int:
        data = path.read_bytes()
        return choose(lambda offset, length: data[offset : offset + length], len(data), PAGE).freelist

    assert freelist() == NO_FREELIST
    free = inspected(path).statistics.free_pages
    with opened(path):
        assert freelist() != NO_FREELIST
    assert inspected(path).problems == []
    assert inspected(path).statistics.free_pages >= free - 1


def test_one_damaged_meta_page_is_survived(path: Path) -> None:
    """The newer one brings the state before back, the older one costs nothing (MET-020)."""
    with opened(path) as store:
        for number in range(3):
            with store.update() as root:
                root.put(b"%d" % number, b"")
    sound = path.read_bytes()
    newest = choose(lambda offset, length: sound[offset : offset + length], len(sound), PAGE).txid % 2
    for page, expected in ((newest, [b"0", b"1"]), (1 - newest, [b"0", b"1", b"2"])):
        data = bytearray(sound)
        data[page * PAGE + META_SIZE - 20] ^= 1
        path.write_bytes(data)
        with opened(path) as store, store.view() as root:
            assert [key for key, _ in root.items()] == expected


@pytest.mark.parametrize("depth", [300])
def test_buckets_may_lie_deep_in_each_other(path: Path, depth: int) -> None:
    with opened(path) as store:
        with store.update() as root:
            bucket = root.create_bucket(b"b")
            for _ in range(depth):
                bucket = bucket.create_bucket(b"b")
        with store.update() as root:
            found = root.bucket(b"b")
            for _ in range(depth):
                assert found is not None
                found = found.bucket(b"b")
            assert found is not None
            found.put(b"k", b"v")
        assert inspected(path).problems == []
        with store.update() as root:
            root.delete_bucket(b"b")
        assert inspected(path).statistics.buckets == 0
