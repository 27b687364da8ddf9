"""Bytes: the file that containerd 1.6.20 makes at its first start, meta pages, and free lists."""

from __future__ import annotations

import mmap
import struct

import pytest

from refimpl.backends.real.bolt import InvalidDatabase, freelist
from refimpl.backends.real.bolt.check import inspect_state
from refimpl.backends.real.bolt.format import FREELIST, MAX_COUNT
from refimpl.backends.real.bolt.freelist import Freelist, Pending
from refimpl.backends.real.bolt.meta import META_SIZE, Meta, choose, fnv1a, parse
from refimpl.backends.real.bolt.nodes import Node
from tests.backends.real.bolt.workload import opened

FIRST_START = {
    0x0000: "00 00 00 00 00 00 00 00  04 00 00 00 00 00 00 00"
    "ed da 0c ed 02 00 00 00  00 10 00 00 00 00 00 00"
    "04 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00"
    "05 00 00 00 00 00 00 00  06 00 00 00 00 00 00 00"
    "02 00 00 00 00 00 00 00  6e 33 1b 2c 7a 6d f9 ee",
    0x1000: "01 00 00 00 00 00 00 00  04 00 00 00 00 00 00 00"
    "ed da 0c ed 02 00 00 00  00 10 00 00 00 00 00 00"
    "03 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00"
    "02 00 00 00 00 00 00 00  04 00 00 00 00 00 00 00"
    "01 00 00 00 00 00 00 00  0f 48 79 51 1a 35 4c 26",
    0x4000: "04 00 00 00 00 00 00 00  02 00 01 00 00 00 00 00"
    "01 00 00 00 10 00 00 00  02 00 00 00 38 00 00 00"
    "76 31"
    "00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00"
    "00 00 00 00 00 00 00 00  02 00 01 00 00 00 00 00"
    "00 00 00 00 10 00 00 00  07 00 00 00 01 00 00 00"
    "76 65 72 73 69 6f 6e 06",
    0x5000: "05 00 00 00 00 00 00 00  10 00 02 00 00 00 00 00 02 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00",
}
"""What containerd wrote, by offset; pages 2 and 3 are an empty free list and an empty leaf."""

META = Meta(page_size=4096, root=4, sequence=0, freelist=5, high_water=6, txid=2)

pytestmark = pytest.mark.skipif(struct.pack("=H", 1) != struct.pack("<H", 1), reason="the example is little-endian")


def first_start() -> bytes:
    data = bytearray(0x8000)
    for offset, text in FIRST_START.items():
        page = bytes.fromhex(text)
        data[offset : offset + len(page)] = page
    data[0x2000:0x2010] = struct.pack("=QHHI", 2, 0x10, 0, 0)
    data[0x3000:0x3010] = struct.pack("=QHHI", 3, 0x02, 0, 0)
    return bytes(data)


def test_the_file_of_containerds_first_start_is_read() -> None:
    data = first_start()
    meta = choose(lambda offset, length: data[offset : offset + length], len(data), 4096)
    assert meta == META
    found = inspect_state(data, meta)
    assert found.problems == []
    assert (found.statistics.buckets, found.statistics.keys, found.statistics.free_pages) == (1, 1, 2)


def test_our_first_transaction_writes_the_same_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """To the last byte: places of pages, lengths, sums."""
    if mmap.PAGESIZE != 4096:
        pytest.skip("the example has pages of 4096 bytes")
    path = tmp_path_factory.mktemp("first") / "meta.db"
    with opened(path) as store, store.update() as root:
        root.create_bucket(b"v1").put(b"version", b"\x06")
    assert path.read_bytes() == first_start()


def test_the_sum_is_fnv1a() -> None:
    assert fnv1a(b"") == 0xCBF29CE484222325
    assert fnv1a(b"a") == 0xAF63DC4C8601EC8C
    assert fnv1a(b"foobar") == 0x85944171F73967E8


def test_a_meta_page_comes_back() -> None:
    page = META.pack()
    assert len(page) == 4096
    assert parse(page, 0) == META


@pytest.mark.parametrize("offset", range(16, META_SIZE))
def test_every_byte_of_a_meta_page_counts(offset: int) -> None:
    page = bytearray(META.pack())
    page[offset] ^= 0x10
    with pytest.raises(InvalidDatabase):
        parse(bytes(page), 0)


def test_a_sum_of_zero_is_no_sum() -> None:
    page = bytearray(META.pack())
    page[META_SIZE - 8 : META_SIZE] = bytes(8)
    with pytest.raises(InvalidDatabase, match="checksum error"):
        parse(bytes(page), 0)


@pytest.mark.parametrize("page_size", [1024, 4096, 16384, 65536])
def test_the_page_size_is_the_files_own_even_if_only_the_second_meta_page_is_whole(page_size: int) -> None:
    metas = [Meta(page_size, 3, 0, 2, 4, txid) for txid in (6, 7)]
    data = b"".join(meta.pack() for meta in metas) + bytes(4 * page_size)
    assert choose(lambda offset, length: data[offset : offset + length], len(data), 4096) == metas[1]
    data = bytes(page_size) + data[page_size:]
    assert choose(lambda offset, length: data[offset : offset + length], len(data), 4096) == metas[1]


@pytest.mark.parametrize("count", [0, 1, 510, MAX_COUNT - 1, MAX_COUNT, MAX_COUNT + 1])
def test_a_free_list_of_any_length_comes_back(count: int) -> None:
    pages = list(range(10, 10 + count))
    packed = freelist.pack(pages, 5, 0)
    assert len(packed) == freelist.packed_size(count)
    assert freelist.parse(packed, 5, 10 + count) == pages
    assert struct.unpack_from("=HH", packed, 8) == (FREELIST, min(count, MAX_COUNT))


def test_the_first_free_pages_in_a_row_are_taken() -> None:
    free = Freelist([3, 5, 6, 8, 9, 10, 12])
    assert free.allocate(3) == 8
    assert free.allocate(2) == 5
    assert free.allocate(2) == 0
    assert [free.allocate(1) for _ in range(3)] == [3, 12, 0]


@pytest.mark.parametrize(
    "readers, free",
    [([], [7, 8, 9]), ([4], [8, 9]), ([5], [7, 9]), ([6], [7, 8]), ([2, 7], [8, 9]), ([9], [7, 8, 9]), ([4, 5, 6], [])],
)
def test_a_page_is_free_when_no_reader_sees_a_state_that_has_it(readers: list[int], free: list[int]) -> None:
    pending = [Pending(7, 0, 5), Pending(8, 5, 6), Pending(9, 6, 7)]
    assert Freelist([], pending).copy(readers).free == free


def test_a_free_page_cannot_be_given_up() -> None:
    with pytest.raises(InvalidDatabase, match="page 5: reachable freed"):
        Freelist([4, 5]).release([5], 9)


def test_a_node_is_split_into_half_full_pages_that_have_all_its_keys() -> None:
    node = Node(is_leaf=True)
    for number in range(400):
        node.put(b"%04d" % number, bytes(number))
    parts = list(node.split(4096))
    assert [key for part in parts for key in part.keys] == node.keys
    assert all(len(part) >= 2 and part.size() <= 4096 for part in parts)
    assert all(part.size() > 1024 for part in parts[:-1])


def test_few_keys_stay_together_however_large() -> None:
    node = Node(is_leaf=True)
    for number in range(4):
        node.put(b"%d" % number, bytes(10_000))
    assert list(node.split(4096)) == [node]
    node.put(b"4", bytes(10_000))
    assert [len(part) for part in node.split(4096)] == [2, 3]
