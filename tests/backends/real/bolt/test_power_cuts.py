"""After a power cut at any moment the file has the last acknowledged transaction, or the one after it, and is sound."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from refimpl.backends.real.bolt.check import inspect_state
from refimpl.backends.real.bolt.file import File
from refimpl.backends.real.bolt.format import InvalidDatabase
from refimpl.backends.real.bolt.meta import Meta, choose
from refimpl.backends.real.bolt.store import BoltStore
from refimpl.contract.errors import FailedPrecondition
from tests.backends.kv_model import Model, content
from tests.backends.real.bolt.power import Acknowledge, RecordedFile, Write, cuts
from tests.backends.real.bolt.workload import inspected, opened, steps, transact

METAS = 2 * mmap.PAGESIZE
"""Where the meta pages end."""


def state_of(image: bytes) -> Meta:
    return choose(lambda offset, length: image[offset : offset + length], len(image), mmap.PAGESIZE)


def record(path: Path, random: Random, transactions: int, **options: bool) -> tuple[RecordedFile, dict[int, Model]]:
    """A run from an empty directory on; gives its file, and what each transaction left."""
    file = RecordedFile(path, forgetful=options.get("forgetful", False))
    store = BoltStore(file, timeout=0.5, sync_freelist=options.get("sync_freelist", True))
    states = {1: Model()}
    try:
        for number in range(transactions):
            states[number + 2] = transact(
                store, states[number + 1], steps(random, states[number + 1], random.randrange(25), grow=number % 9 < 6)
            )
            file.events.append(Acknowledge(number + 2))
    finally:
        store.close()
    return file, states


def problems(image: bytes, acknowledged: int, states: dict[int, Model], scratch: Path) -> list[object]:
    """What is wrong with what the disk holds."""
    try:
        meta = state_of(image)
        found: list[object] = [*inspect_state(image, meta).problems]
        if not acknowledged <= meta.txid <= acknowledged + 1:
            found.append(f"transaction {meta.txid} where {acknowledged} was acknowledged")
        scratch.write_bytes(image)
        store = BoltStore(File(scratch, read_only=True), timeout=0.5)
        try:
            with store.view() as root:
                expected = states[meta.txid]
                if content(root) != (expected.tree, expected.sequences):
                    found.append(f"the content is not that of transaction {meta.txid}")
        finally:
            store.close()
    except InvalidDatabase as error:
        return [error]
    return found


@pytest.mark.parametrize("sync_freelist", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_a_power_cut_leaves_one_of_two_states(tmp_path: Path, seed: int, sync_freelist: bool) -> None:
    random = Random(seed)
    file, states = record(tmp_path / "meta.db", random, 10, sync_freelist=sync_freelist)
    seen: set[int] = set()
    images = 0
    for cut in cuts(b"", file.events):
        if not cut.acknowledged:
            continue
        for image in cut.images(random):
            assert problems(image, cut.acknowledged, states, tmp_path / "cut.db") == []
            seen.add(state_of(image).txid - cut.acknowledged)
            images += 1
    assert seen == {0, 1}, "cuts before and after the meta page were among them"
    assert images > 100


def test_a_power_cut_while_a_database_is_made_is_repaired_by_the_next_opening(tmp_path: Path) -> None:
    random = Random(0)
    file, _ = record(tmp_path / "meta.db", random, 0)
    path = tmp_path / "cut.db"
    for cut in cuts(b"", file.events):
        for image in cut.images(random):
            path.write_bytes(image)
            with opened(path) as store:
                with store.view() as root:
                    assert list(root.items()) == []
                with store.update() as root:
                    root.put(b"k", b"v")
            assert inspected(path).problems == []


def test_the_daemon_goes_on_after_a_power_cut(tmp_path: Path) -> None:
    random = Random(3)
    file, states = record(tmp_path / "meta.db", random, 10)
    path = tmp_path / "cut.db"
    every = [cut for cut in cuts(b"", file.events) if cut.acknowledged > 2]
    for cut in random.sample(every, 12):
        image = random.choice(list(cut.images(random)))
        model = states[state_of(image).txid]
        path.write_bytes(image)
        for _ in range(3):
            with opened(path) as store:
                model = transact(store, model, steps(random, model, 15, grow=True))
                with store.view() as root:
                    assert content(root) == (model.tree, model.sequences)
            assert inspected(path).problems == []


def test_an_engine_that_does_not_wait_for_the_disk_is_found_out(tmp_path: Path) -> None:
    """The search for bad states is able to find some."""
    random = Random(0)
    file, states = record(tmp_path / "meta.db", random, 6, forgetful=True)
    found = [
        problem
        for cut in cuts(b"", file.events)
        if cut.acknowledged
        for image in cut.images(random)
        for problem in problems(image, cut.acknowledged, states, tmp_path / "cut.db")
    ]
    assert found


class Full(RecordedFile):
    """A disk that refuses some calls.

    Args:
        refuse: asked with ``write`` and its offset, or ``sync`` and the offset of the write before.
    """

    def __init__(self, path: Path, refuse: Callable[[str, int], bool]) -> None:
        super().__init__(path)
        self._refuse = refuse

    def write(self, data: bytes, offset: int) -> None:
        if self._refuse("write", offset):
            raise OSError(28, "No space left on device")
        super().write(data, offset)

    def sync(self) -> None:
        written = [event.offset for event in self.events if isinstance(event, Write)]
        if self._refuse("sync", written[-1]):
            raise OSError(5, "Input/output error")
        super().sync()


def test_a_full_disk_costs_the_transaction_and_nothing_else(tmp_path: Path) -> None:
    full = False
    store = BoltStore(Full(tmp_path / "meta.db", lambda what, offset: full and what == "write" and offset >= METAS))
    with store.update() as root:
        root.put(b"k", b"before")
    full = True
    with pytest.raises(OSError, match="No space"), store.update() as root:
        root.put(b"k", bytes(50_000))
    with store.view() as root:
        assert root.get(b"k") == b"before"
    full = False
    with store.update() as root:
        assert root.get(b"k") == b"before"
        root.put(b"k", b"after")
    store.close()
    assert inspected(tmp_path / "meta.db").problems == []


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_commit_that_fails_at_its_meta_page_ends_writing_but_not_reading(tmp_path: Path, call: str) -> None:
    """Which state the disk has is unknown then, so a page of either must not be written to."""
    broken = False
    store = BoltStore(Full(tmp_path / "meta.db", lambda what, offset: broken and what == call and offset < METAS))
    with store.update() as root:
        root.put(b"k", b"before")
    broken = True
    with pytest.raises(OSError, match=r"No space|Input/output"), store.update() as root:
        root.put(b"k", b"perhaps")
    broken = False
    with pytest.raises(FailedPrecondition, match="open the database again"), store.update():
        pass
    with store.view() as root:
        assert root.get(b"k") == b"before"
    store.close()
    with opened(tmp_path / "meta.db") as again, again.update() as root:
        assert root.get(b"k") in {b"before", b"perhaps"}
        root.put(b"k", b"after")
    assert inspected(tmp_path / "meta.db").problems == []
