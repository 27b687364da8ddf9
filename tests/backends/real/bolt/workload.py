"""Random transactions that make trees split, merge, nest and overflow, and what a plain map says they leave."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from refimpl.backends.real.bolt.check import Inspection, inspect_state
from refimpl.backends.real.bolt.file import File
from refimpl.backends.real.bolt.meta import choose
from refimpl.backends.real.bolt.store import BoltStore
from refimpl.contract import kv
from tests.backends.kv_model import Model, RollBack, Step, accepts, apply

_BUCKETS = [b"a", b"b", b"c"]
_NAMES = [b"key-%03d" % number for number in range(300)]
_SIZES = [0, 1, 1, 20, 20, 20, 200, 200, 900, 5000]
_GROWING = ["put"] * 12 + ["make"] * 3 + ["delete"] * 3 + ["drop", "count"]
_SHRINKING = ["put"] * 3 + ["delete"] * 14 + ["drop"] * 2 + ["count"]


@contextmanager
def opened(path: Path, **options: bool) -> Iterator[BoltStore]:
    """A store that is closed at the end, and gives up soon where the file is locked."""
    store = BoltStore(File(path), timeout=0.5, **options)
    try:
        yield store
    finally:
        store.close()


def steps(random: Random, model: Model, count: int, *, grow: bool) -> list[Step]:
    """Changes of keys and buckets, most of them where something is."""
    chosen: list[Step] = []
    for _ in range(count):
        path = [random.choice(_BUCKETS)]
        while random.random() < 0.4:
            path.append(random.choice(_BUCKETS))
        step = random.choice(_GROWING if grow else _SHRINKING)
        name = random.choice(_BUCKETS if step in {"make", "drop"} else _NAMES)
        if not grow and step == "delete":
            there = [key for key, value in (model.bucket(path) or {}).items() if isinstance(value, bytes)]
            name = random.choice(there) if there else name
        chosen += [("make", path[:depth], path[depth], b"") for depth in range(len(path)) if grow]
        chosen.append((step, path, name, random.randbytes(random.choice(_SIZES))))
    return chosen


def transact(store: kv.Store, model: Model, changes: list[Step], *, keep: bool = True) -> Model:
    """Do the steps in one transaction; gives what the store has to hold afterwards."""
    trial = Model(copy.deepcopy(model.tree), dict(model.sequences))
    with suppress(RollBack), store.update() as root:
        for step in changes:
            assert accepts(functools.partial(apply, root), step) == accepts(trial.apply, step), step
        if not keep:
            raise RollBack
    return trial if keep else model


def inspected(path: Path) -> Inspection:
    """The check of a file, whoever has it open."""
    data = path.read_bytes()
    return inspect_state(data, choose(lambda offset, length: data[offset : offset + length], len(data), 4096))
