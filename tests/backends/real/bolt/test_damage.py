"""Damaged files: whatever is done with them ends, with the right data or with an error that says what is wrong.

What the format cannot show is left out of the comparison: the bytes of keys and values, sequences, the size of the last
value on a page, and the one bit that says whether a value is a bucket.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from refimpl.backends.real.bolt import InvalidDatabase
from refimpl.backends.real.bolt import freelist as freelists
from refimpl.backends.real.bolt.check import inspect
from refimpl.backends.real.bolt.file import File
from refimpl.backends.real.bolt.format import BUCKET_FLAG, BUCKET_HEADER
from refimpl.backends.real.bolt.meta import META_SIZE, NO_FREELIST, Meta, choose
from refimpl.backends.real.bolt.nodes import Node
from refimpl.backends.real.bolt.store import BoltStore
from refimpl.contract import kv
from tests.backends.kv_model import Model, Refused, apply
from tests.backends.real.bolt.workload import opened, steps, transact

PAGE = mmap.PAGESIZE
STEPS = 100_000
"""More than any sound file here has elements."""


def shape(root: kv.Bucket) -> list[tuple[int, int, int]]:
    """Every key in the order of a walk: how deep, how long, and how long its value; -1 for a bucket.

    Ends with an assertion if there is no end.
    """
    found: list[tuple[int, int, int]] = []
    todo: list[tuple[int, kv.Bucket]] = [(0, root)]
    while todo:
        depth, bucket = todo.pop()
        for key, value in bucket.items():
            found.append((depth, len(key), -1 if value is None else len(value)))
            assert len(found) < STEPS, "the walk does not end"
            if value is None:
                below = bucket.bucket(key)
                assert below is not None
                todo.append((depth + 1, below))
    return found


def read(path: Path) -> list[tuple[int, int, int]]:
    store = BoltStore(File(path, read_only=True), timeout=0.5)
    try:
        with store.view() as root:
            return shape(root)
    finally:
        store.close()


def check(path: Path) -> list[InvalidDatabase]:
    try:
        return inspect(path, 0.5).problems
    except InvalidDatabase as error:
        return [error]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with trees of two levels, overflow pages, nested and inline buckets and free pages."""
    path = tmp_path_factory.mktemp("sound") / "meta.db"
    random, model = Random(5), Model()
    with opened(path) as store:
        for number in range(12):
            model = transact(store, model, steps(random, model, 40, grow=number % 5 < 4))
    statistics = inspect(path).statistics
    assert min(statistics.branch_pages, statistics.overflow_pages, statistics.inline_buckets, statistics.free_pages) > 2
    size = statistics.pages * PAGE
    return path.read_bytes()[:size]


@pytest.fixture(scope="module")
def states(sound: bytes, tmp_path_factory: pytest.TempPathFactory) -> list[list[tuple[int, int, int]]]:
    """What the file holds, and what it held one transaction before."""
    path = tmp_path_factory.mktemp("states") / "meta.db"
    path.write_bytes(sound)
    newest = read(path)
    current = choose(lambda offset, length: sound[offset : offset + length], len(sound), PAGE).page
    path.write_bytes(_overwritten(sound, current * PAGE, bytes(META_SIZE)))
    return [newest, read(path)]


def _overwritten(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


def _flip_a_bit(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data))
    return _overwritten(data, at, bytes([data[at] ^ 1 << random.randrange(8)]))


def _flip_in_a_header(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) // PAGE) * PAGE + random.randrange(80)
    return _overwritten(data, at, bytes([data[at] ^ 1 << random.randrange(8)]))


def _overwrite_a_byte_of_elements(data: bytes, random: Random) -> bytes:
    at = random.randrange(2, len(data) // PAGE) * PAGE + random.randrange(16, 600)
    return _overwritten(data, at, random.randbytes(1))


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.choice([random.randrange(len(data)), random.randrange(len(data) // PAGE) * PAGE])]


def _overwrite_a_block(data: bytes, random: Random) -> bytes:
    size = random.choice([16, 512, PAGE])
    at = random.randrange(len(data) - size) // size * size
    return _overwritten(data, at, random.choice([bytes(size), b"\xff" * size, random.randbytes(size)]))


def _copy_a_page(data: bytes, random: Random) -> bytes:
    source, target = (random.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    return _overwritten(data, target, data[source : source + PAGE])


DAMAGE: list[Callable[[bytes, Random], bytes]] = [
    _flip_a_bit,
    _flip_in_a_header,
    _overwrite_a_byte_of_elements,
    _truncate,
    _overwrite_a_block,
    _copy_a_page,
]


def differs_beyond_proof(found: list[tuple[int, int, int]], expected: list[tuple[int, int, int]]) -> bool:
    """Whether the two differ in one size, or in one bucket that became a plain value and took all below with it."""
    if len(found) == len(expected):
        return sum(one != other for one, other in zip(found, expected, strict=True)) == 1
    return sum(size < 0 for *_, size in found) < sum(size < 0 for *_, size in expected)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__.strip("_"))
def test_random_damage_is_found_or_does_no_harm(
    tmp_path: Path, sound: bytes, states: list[list[tuple[int, int, int]]], damage: Callable[[bytes, Random], bytes]
) -> None:
    path = tmp_path / "meta.db"
    refused = 0
    for seed in range(70):
        random = Random(f"{damage.__name__} {seed}")
        path.write_bytes(damage(sound, random))
        problems = check(path)
        try:
            found = read(path)
        except InvalidDatabase:
            refused += 1
            assert problems, f"{seed}: the check saw less than a reader"
        else:
            assert found in states or differs_beyond_proof(found, states[0]), f"{seed}: wrong data taken for right"
        _write_to(path, random)
    assert refused or damage is _flip_a_bit


def _write_to(path: Path, random: Random) -> None:
    """Transactions on the damaged file end as such on any other, or with the error that says what is wrong."""
    model = Model({name: {} for name in (b"a", b"b", b"c")})
    with suppress(InvalidDatabase), opened(path) as store:
        for _ in range(2):
            with store.update() as root:
                for step in steps(random, model, 10, grow=random.random() < 0.5):
                    with suppress(Refused):
                        apply(root, *step)


# Damage that no accident makes: pages that are sound one by one and lead anywhere together.


def leaf(**values: bytes | int) -> Node:
    """A leaf; a number is a sub-bucket with its root at that page."""
    node = Node(is_leaf=True)
    for key, value in sorted(values.items()):
        bucket = isinstance(value, int)
        node.put(key.encode(), BUCKET_HEADER.pack(value, 0) if isinstance(value, int) else value, BUCKET_FLAG * bucket)
    return node


def branch(**children: int) -> Node:
    node = Node(is_leaf=False)
    node.keys = [key.encode() for key in sorted(children)]
    node.children = [children[key] for key in sorted(children)]
    return node


def image(*pages: Node | bytes, free: list[int] | None = None, **meta: Any) -> bytes:
    """A file: the free list is page 2, the root bucket's page 3."""
    high_water = 3 + len(pages)
    values: dict[str, Any] = {
        "page_size": PAGE, "root": 3, "sequence": 0, "freelist": 2, "high_water": high_water, "txid": 7, **meta
    }  # fmt: skip
    parts = [Meta(**{**values, "txid": values["txid"] + page}).pack() for page in (1, 0)]
    parts.append(freelists.pack(free or [], 2, 0))
    parts += [page if isinstance(page, bytes) else page.pack(number) for number, page in enumerate(pages, 3)]
    return b"".join(part.ljust(PAGE, b"\0") for part in parts)


CRAFTED: dict[str, tuple[bytes, str]] = {
    "a bucket inside itself": (image(leaf(a=4), leaf(b=4)), "multiple references"),
    "a bucket that is the root": (image(leaf(a=3)), "multiple references"),
    "two buckets with one page": (image(leaf(a=4, b=4), leaf(k=b"v")), "multiple references"),
    "buckets that double at each level": (
        image(*(leaf(a=number + 1, b=number + 1) for number in range(3, 60)), leaf(k=b"v")),
        "multiple references",
    ),
    "a branch below itself": (image(branch(a=3, b=4), leaf(b=b"v")), "multiple references"),
    "a chain of branches with one child": (
        image(*(branch(a=number + 1) for number in range(3, 400)), leaf(a=b"v")),
        "levels deep",
    ),
    "a branch without children": (image(branch()), "a branch without children"),
    "a child that begins too early": (image(branch(b=4, c=5), leaf(a=b""), leaf(c=b"")), "is before"),
    "a child that ends too late": (image(branch(a=4, b=5), leaf(a=b"", c=b""), leaf(d=b"")), "is not before"),
    "an empty child": (image(branch(a=4, b=5), leaf(a=b""), leaf()), "no keys"),
    "a page in use and free": (image(leaf(a=4), leaf(k=b"v"), free=[4]), "reachable freed"),
    "a page behind the end": (image(leaf(a=9)), "out of bounds"),
    "a meta page as a bucket": (image(leaf(a=1)), "out of bounds"),
    "the free list as a bucket": (image(leaf(a=2)), "invalid type"),
    "a free list behind the end": (image(leaf(), freelist=9), "the free list is said to be page 9 of 4"),
    "a root behind the end": (image(leaf(), root=4), "the root is said to be page 4 of 4"),
    "a root among the meta pages": (image(leaf(), root=1), "the root is said to be page 1"),
    "more pages than the file has": (image(leaf(), high_water=1 << 40), "file size too small"),
    "no page size": (image(leaf(), page_size=0), "no page has 0 bytes"),
    "a free page behind the end": (image(leaf(), free=[9]), "in the free list"),
    "a free list that does not ascend": (image(leaf(), leaf(), free=[5, 4]), "comes after 5"),
    "a page freed twice": (image(leaf(), leaf(), free=[4, 4]), "already freed"),
    "the free list in itself": (image(leaf(), free=[2]), "reachable freed"),
    "a leaf in place of the free list": (image(leaf(), leaf(), freelist=4), "not a free list"),
    "keys out of order": (
        image(leaf(a=b"", b=b"").pack(3).replace(b"ab", b"ba")),
        "follows",
    ),
    "a key twice": (image(leaf(a=b"", b=b"").pack(3).replace(b"ab", b"aa")), "follows"),
    "a gap in the data": (
        image(leaf(a=b"").pack(3)[:20] + struct.pack("=I", 17) + b"\1\0\0\0\0\0\0\0\0a"),
        "1 bytes off",
    ),
    "unknown flags": (image(leaf(a=b"").pack(3).replace(b"\0\0\0\0\x10", b"\2\0\0\0\x10")), "has the flags 0x2"),
    "a key that is too long": (image(leaf(a=b"").pack(3)[:24] + b"\0\x20\0\0\0\0\0\0a"), "too long"),
    "more elements than fit": (image(struct.pack("=QHHI", 3, 2, 5000, 0)), "do not fit"),
    "overflow to behind the end": (image(struct.pack("=QHHI", 3, 2, 0, 7)), "out of bounds"),
    "overflow that nothing needs": (image(struct.pack("=QHHI", 3, 2, 0, 1), b""), "16 bytes in 2 pages"),
}


@pytest.mark.parametrize("data, message", CRAFTED.values(), ids=CRAFTED)
def test_crafted_damage_is_refused_with_a_reason(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(data)

    with pytest.raises(InvalidDatabase, match=message):
        read(path)

    assert any(message in str(problem) for problem in check(path))
    _write_to(path, Random(0))


def inline(*parts: bytes) -> Node:
    node = Node(is_leaf=True)
    node.put(b"a", b"".join(parts), BUCKET_FLAG)
    return node


@pytest.mark.parametrize(
    "node, message",
    [
        (inline(b"\0" * 8), "a header of 8 bytes"),
        (inline(BUCKET_HEADER.pack(0, 0)), "an inline bucket of 16 bytes"),
        (inline(BUCKET_HEADER.pack(4, 0), b"x"), "its tree at page 4, and 17 bytes"),
        (inline(BUCKET_HEADER.pack(0, 0), leaf(k=b"v").pack(0), b"x"), "behind its last value"),
        (inline(BUCKET_HEADER.pack(0, 0), leaf(k=4).pack(0)), "not a leaf of plain values"),
        (inline(BUCKET_HEADER.pack(0, 0), leaf(k=b"v").pack(5)), "calls itself page 5"),
        (inline(BUCKET_HEADER.pack(0, 0), leaf(k=b"v").pack(0, 3)), "out of bounds"),
        (inline(BUCKET_HEADER.pack(0, 0), leaf(k=b"v").pack(0)[:-1]), "too long"),
    ],
)
def test_a_damaged_bucket_header_or_inline_bucket_is_refused(tmp_path: Path, node: Node, message: str) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(image(node, leaf(k=b"v")))

    with pytest.raises(InvalidDatabase, match=message):
        read(path)
    assert any(problem.page == 3 for problem in inspect(path, 0.5).problems)


def test_what_is_damaged_does_not_spoil_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(image(leaf(a=4, b=5), b"\xff" * PAGE, leaf(k=b"v")))
    store = BoltStore(File(path, read_only=True), timeout=0.5)
    with store.view() as root:
        sound = root.bucket(b"b")
        assert sound is not None
        assert sound.get(b"k") == b"v"
        damaged = root.bucket(b"a")
        assert damaged is not None
        with pytest.raises(InvalidDatabase, match="page 4"):
            damaged.get(b"k")
    store.close()


def test_a_deletion_that_meets_damage_changes_nothing_even_if_the_transaction_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(image(leaf(a=4, b=6), leaf(c=5, d=9), leaf(k=b"v"), leaf(k=b"v")))
    with opened(path) as store, store.update() as root:
        with pytest.raises(InvalidDatabase, match="page 9"):
            root.delete_bucket(b"a")
        other = root.bucket(b"b")
        assert other is not None
        other.put(b"more", b"")
    with opened(path) as store, store.view() as root:
        assert [key for key, _ in root.items()] == [b"a", b"b"]
    assert [problem.page for problem in inspect(path, 0.5).problems] == [9]


def _refusals() -> Iterator[tuple[str, bytes, str]]:
    good = image(leaf(a=4), leaf(k=b"v"))
    random = Random(0)
    yield "random bytes", random.randbytes(32768), "invalid database"
    yield "text", b"some text, no database\n" * 600, "invalid database"
    yield "the first 100 bytes", good[:100], "invalid database"
    yield "the first page", good[:PAGE], "file size too small"
    flipped = bytearray(good)
    for page in (0, 1):
        flipped[page * PAGE + 40] ^= 1
    yield "both meta pages damaged", bytes(flipped), "checksum error"


@pytest.mark.parametrize("what, data, message", list(_refusals()))
def test_the_texts_of_a_refusal_are_those_of_bbolt(tmp_path: Path, what: str, data: bytes, message: str) -> None:
    """And the file stays as it was (MET-019, DMN-053)."""
    path = tmp_path / "meta.db"
    path.write_bytes(data)
    with pytest.raises(InvalidDatabase) as caught, opened(path):
        pass
    assert str(caught.value) == message
    assert path.read_bytes() == data


def test_another_version_of_the_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refimpl.backends.real.bolt.meta.VERSION", 3)
    data = image(leaf())
    monkeypatch.undo()
    path = tmp_path / "meta.db"
    path.write_bytes(data)
    with pytest.raises(InvalidDatabase, match=r"^version mismatch$"):
        read(path)


def test_a_file_without_a_free_list_is_walked_and_refused_if_damaged(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(image(leaf(a=4), leaf(k=4), freelist=NO_FREELIST))
    with pytest.raises(InvalidDatabase, match="page 4: multiple references"), opened(path):
        pass
