"""Branch and leaf pages as they are read: where they lie, without a copy."""

from __future__ import annotations

import mmap
from bisect import bisect_left
from typing import Protocol

from refimpl.backends.real.bolt.format import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET_FLAG,
    ELEMENT_SIZE,
    HEADER_SIZE,
    KEY_PLACE,
    LEAF,
    LEAF_ELEMENT,
    MAX_COUNT,
    PAGE_HEADER,
    InvalidDatabase,
)


class Elements(Protocol):
    """What a page and its changed form have in common.

    Attributes:
        pgid: number of the page; 0 inside an inline bucket, and in a node that never had a page.
        depth: levels above it in its bucket's tree.
        is_leaf: values or sub-buckets; else children.
    """

    pgid: int
    depth: int
    is_leaf: bool

    def __len__(self) -> int: ...

    def key(self, index: int) -> bytes:
        """The key of an element."""
        ...

    def value(self, index: int) -> bytes:
        """The value of an element of a leaf."""
        ...

    def is_bucket(self, index: int) -> bool:
        """Whether that value is a bucket."""
        ...

    def child(self, index: int) -> int:
        """The page below an element of a branch."""
        ...

    def search(self, key: bytes) -> int:
        """The index of the first element whose key is not smaller."""
        ...


def child_index(branch: Elements, key: bytes) -> int:
    """The element of a branch whose child has the key, if any has."""
    index = branch.search(key)
    return index if index < len(branch) and branch.key(index) == key else max(index - 1, 0)


class Page:
    """A branch or leaf page inside the file's map, or inside the value of an inline bucket.

    Args:
        data: what holds it.
        base: where it begins there.
        pgid: the number that it must have.
        pages_left: how many pages of the file begin with it; 0 inside an inline bucket.
        page_size: bytes of a page.

    Attributes:
        count: number of elements.
        overflow: further pages that belong to it.
        owner: what led a transaction here; nothing else may (``transaction.Transaction.page``).

    Raises:
        InvalidDatabase: the header makes no sense.
    """

    __slots__ = ("_data", "_elements", "_end", "_keys", "count", "depth", "is_leaf", "overflow", "owner", "pgid")

    def __init__(self, data: mmap.mmap | bytes, base: int, pgid: int, pages_left: int, page_size: int) -> None:
        self.count: int
        self.overflow: int
        number, flags, count, overflow = PAGE_HEADER.unpack_from(data, base)
        if number != pgid:
            raise InvalidDatabase(f"it calls itself page {number}", pgid)
        if flags not in {LEAF, BRANCH}:
            raise InvalidDatabase(f"invalid type: {flags:#x}", pgid)
        if overflow and overflow >= pages_left:
            raise InvalidDatabase(f"out of bounds: {overflow} further pages", pgid)
        room = (overflow + 1) * page_size if pages_left else len(data) - base
        if count == MAX_COUNT or HEADER_SIZE + count * ELEMENT_SIZE > room:
            raise InvalidDatabase(f"{count} elements do not fit into {room} bytes", pgid)
        self._data = data
        self._elements = base + HEADER_SIZE
        self.is_leaf = flags == LEAF
        # The place of the key stands behind the flags of a leaf's element, and first in a branch's.
        self._keys = self._elements + 4 if self.is_leaf else self._elements
        self.pgid = pgid
        self.count = count
        self.overflow = overflow
        self._end = base + room
        self.depth = 0
        self.owner: object = None

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> bytes:
        at = index * ELEMENT_SIZE
        pos, size = KEY_PLACE.unpack_from(self._data, self._keys + at)
        start = self._elements + at + pos
        return self._data[start : start + size]

    def value(self, index: int) -> bytes:
        at = self._elements + index * ELEMENT_SIZE
        _, pos, ksize, vsize = LEAF_ELEMENT.unpack_from(self._data, at)
        start = at + pos + ksize
        return self._data[start : start + vsize]

    def is_bucket(self, index: int) -> bool:
        # The lowest bit of four bytes, in either byte order, is all that may be set.
        at = self._elements + index * ELEMENT_SIZE
        return self._data[at : at + 4] != b"\0\0\0\0"

    def child(self, index: int) -> int:
        pgid: int = BRANCH_ELEMENT.unpack_from(self._data, self._elements + index * ELEMENT_SIZE)[2]
        return pgid

    def search(self, key: bytes) -> int:
        return bisect_left(range(self.count), key, key=self.key)

    def columns(self) -> tuple[list[bytes], list[bytes], list[int]]:
        """Keys, values (of a leaf) and flags (of a leaf) or children (of a branch): a copy to change."""
        end = self._elements + self.count * ELEMENT_SIZE
        data, elements = self._data[end : self._end], self._data[self._elements : end]
        keys: list[bytes] = []
        values: list[bytes] = []
        numbers: list[int] = []
        at = 0
        if self.is_leaf:
            for flags, _, ksize, vsize in LEAF_ELEMENT.iter_unpack(elements):
                keys.append(data[at : (at := at + ksize)])
                values.append(data[at : (at := at + vsize)])
                numbers.append(flags)
        else:
            for _, ksize, child in BRANCH_ELEMENT.iter_unpack(elements):
                keys.append(data[at : (at := at + ksize)])
                numbers.append(child)
        return keys, values, numbers

    def check_extent(self, used: int, page_size: int) -> None:
        """Refuse overflow that ``used`` bytes do not need, or lack: it would be freed with the page.

        Raises:
            InvalidDatabase: it is one of the two.
        """
        # Old releases took one page more for what filled its last page to the end.
        if self.overflow not in {(used - 1) // page_size, used // page_size}:
            raise InvalidDatabase(f"{used} bytes in {self.overflow + 1} pages", self.pgid)

    def has_rest(self, used: int) -> bool:
        """Whether something is behind ``used`` bytes. Writers leave zeros there, so the last value was longer."""
        rest = self._data[self._elements - HEADER_SIZE + used : self._end]
        return bool(rest.strip(b"\0"))

    def verify(self) -> int:
        """Look at the whole page: elements in order, data packed, all of it inside.

        Returns:
            Bytes in use, the header included.

        Raises:
            InvalidDatabase: naming the element that is wrong.
        """
        if not self.is_leaf and not self.count:
            raise InvalidDatabase("a branch without children", self.pgid)
        end = self._elements + self.count * ELEMENT_SIZE
        elements = self._data[self._elements : end]
        if not self.count and self._data[end : min(end + ELEMENT_SIZE, self._end)].strip(b"\0"):
            raise InvalidDatabase("no elements, but something where the first would be", self.pgid)
        previous = b""
        start = at = end
        if self.is_leaf:
            rows = LEAF_ELEMENT.iter_unpack(elements)
        else:
            rows = ((0, pos, ksize, 0) for pos, ksize, _ in BRANCH_ELEMENT.iter_unpack(elements))
        for index, (flags, pos, ksize, vsize) in enumerate(rows):
            if flags & ~BUCKET_FLAG:
                raise InvalidDatabase(f"element {index} has the flags {flags:#x}", self.pgid)
            at = self._elements + index * ELEMENT_SIZE + pos
            if at != start:
                raise InvalidDatabase(f"element {index} has its data {at - start} bytes off", self.pgid)
            start = at + ksize + vsize
            if start > self._end:
                raise InvalidDatabase(f"element {index} is {start - self._end} bytes too long", self.pgid)
            key = self._data[at : at + ksize]
            if key <= previous and (index or not key):
                why = f"key {key!r} follows {previous!r}" if index else "an empty key"
                raise InvalidDatabase(f"element {index}: {why}", self.pgid)
            previous = key
        used: int = start - self._elements + HEADER_SIZE
        return used
