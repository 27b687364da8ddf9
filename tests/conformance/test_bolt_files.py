"""The suite's own reader and writer of databases, against our engine: neither shares a line with the other."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from conformance.suites._bolt import NO_FREELIST, PAGE, Bucket, Damaged, checksum, current, meta, problems, read, write
from refimpl.backends.real.bolt import BoltStoreFactory
from refimpl.contract import kv


def _random_bucket(draw: random.Random, depth: int = 0) -> Bucket:
    bucket = Bucket(sequence=draw.choice([0, 1, 300]))
    for number in range(draw.randint(0, 12)):
        key = bytes(draw.choices(b"abc\x00\xff/", k=draw.randint(1, 6))) + str(number).encode()
        if depth < 4 and draw.random() < 0.4:
            bucket[key] = _random_bucket(draw, depth + 1)
        elif depth:
            bucket[key] = draw.randbytes(draw.choice([0, 1, 40, 900, 9000]))
    return bucket


def _of_engine(bucket: kv.Bucket, root: bool = True) -> Bucket:
    found = Bucket(sequence=0 if root else bucket.sequence)
    for key, value in bucket.items():
        child = bucket.bucket(key) if value is None else None
        found[key] = _of_engine(child, root=False) if child is not None else value or b""
    return found


def _into_engine(source: Bucket, target: kv.Bucket) -> None:
    for key, value in source.items():
        if isinstance(value, Bucket):
            _into_engine(value, target.create_bucket(key))
        else:
            target.put(key, value)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("freelist", [True, False])
def test_the_engine_reads_what_the_suite_writes(tmp_path: Path, seed: int, freelist: bool) -> None:
    tree = _random_bucket(random.Random(seed))
    tree.sequence = 0
    file = tmp_path / "meta.db"
    write(file, tree, freelist=freelist)
    assert problems(file) == []
    assert read(file) == tree
    store = BoltStoreFactory().open(file)
    try:
        with store.view() as root:
            assert _of_engine(root) == tree
        with store.update() as root:
            root.create_bucket(b"one more").put(b"key", b"value")
    finally:
        store.close()
    assert problems(file) == []
    assert read(file).value("one more", "key") == b"value"


@pytest.mark.parametrize("seed", range(12))
def test_the_suite_reads_what_the_engine_writes(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    file = tmp_path / "meta.db"
    store = BoltStoreFactory().open(file)
    try:
        for _ in range(6):
            tree = _random_bucket(draw)
            with store.update() as root:
                for key in [key for key, _ in root.items()]:
                    root.delete_bucket(key)
                _into_engine(tree, root)
            assert read(file) == tree
            assert problems(file) == []
    finally:
        store.close()


def test_many_keys_make_branches(tmp_path: Path) -> None:
    file = tmp_path / "meta.db"
    store = BoltStoreFactory().open(file)
    try:
        with store.update() as root:
            bucket = root.create_bucket(b"many")
            for number in range(3000):
                bucket.put(f"{number:08}".encode(), b"v" * 30)
    finally:
        store.close()
    assert len(read(file).bucket("many")) == 3000
    assert problems(file) == []


def test_damage_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "meta.db"
    write(file, Bucket({"a": Bucket({"k": "v" * 3000, "l": "w"}), "b": Bucket({"sub": Bucket({"x": "y"})})}))
    good = file.read_bytes()
    damages = {
        "of no kind": _changed(good, 3 * PAGE + 8, 0x40),
        "says that it is": _changed(good, 3 * PAGE, 9),
        "out of order": good.replace(b"k" + b"v" * 10, b"z" + b"v" * 10),
        "is lost": _meta_with(good, pgid=40),
        "is no free list": _changed(good, 2 * PAGE + 8, 2),
    }
    for text, damaged in damages.items():
        file.write_bytes(damaged)
        assert any(text in problem for problem in problems(file)), text
    file.write_bytes(_changed(_changed(good, 40, 1), PAGE + 40, 1))
    with pytest.raises(Damaged, match="no sound meta page"):
        read(file)
    file.write_bytes(good[: 3 * PAGE])
    with pytest.raises(Damaged):
        read(file)


def _changed(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def _meta_with(data: bytes, *, pgid: int) -> bytes:

    changed = bytearray(data)
    for page in (0, 1):
        at = page * PAGE
        changed[at + 56 : at + 64] = pgid.to_bytes(8, "little")
        changed[at + 72 : at + 80] = checksum(bytes(changed[at + 16 : at + 72])).to_bytes(8, "little")
    return bytes(changed)


def test_the_meta_pages_say_where_everything_is(tmp_path: Path) -> None:
    file = tmp_path / "meta.db"
    write(file, Bucket({"v1": Bucket({"version": b"\x06"})}), freelist=False)
    data = file.read_bytes()
    assert [meta(data, page).txid for page in (0, 1)] == [0, 1]
    assert (current(data).txid, current(data).freelist, len(data)) == (1, NO_FREELIST, 32768)
    write(file, Bucket(), version=3)
    assert meta(file.read_bytes(), 0).version == 3


def test_the_way_through_a_tree() -> None:
    tree = Bucket({"a": Bucket({"b": "c"})})
    assert (tree.at("a", "b"), tree.at("a", "b", "x"), tree.at("no")) == (b"c", None, None)
    with pytest.raises(AssertionError, match="no bucket a/b"):
        tree.bucket("a", "b")
    with pytest.raises(AssertionError, match="no value a"):
        tree.value("a")
