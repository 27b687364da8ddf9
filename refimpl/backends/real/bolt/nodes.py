"""Branch and leaf pages as they are changed: lists in memory, split and written at commit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from refimpl.backends.real.bolt.format import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET_FLAG,
    ELEMENT_SIZE,
    HEADER_SIZE,
    LEAF,
    LEAF_ELEMENT,
    MAX_COUNT,
    PAGE_HEADER,
)
from refimpl.backends.real.bolt.pages import Page

_MIN_KEYS_PER_PAGE = 2
_SPLIT_ABOVE_KEYS = 4


class Node:
    """A page taken into memory to be changed; a ``pages.Elements``.

    Attributes:
        pgid: the page it came from, which is free after the commit; 0 if there is none.
        pages: how many pages that one takes.
        keys: in order.
        values: of a leaf, one for each key.
        flags: of a leaf, one for each key.
        children: of a branch, one page for each key.
        shrunk: it lost keys, and may have to be merged.
    """

    __slots__ = ("children", "depth", "flags", "is_leaf", "keys", "pages", "pgid", "shrunk", "values")

    def __init__(self, *, is_leaf: bool, pgid: int = 0, pages: int = 0, depth: int = 0) -> None:
        self.is_leaf = is_leaf
        self.pgid = pgid
        self.pages = pages
        self.depth = depth
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.flags: list[int] = []
        self.children: list[int] = []
        self.shrunk = False

    @classmethod
    def of(cls, page: Page) -> Node:
        """A copy of a page."""
        node = cls(is_leaf=page.is_leaf, pgid=page.pgid, pages=page.overflow + 1 if page.pgid else 0, depth=page.depth)
        node.keys, node.values, numbers = page.columns()
        if page.is_leaf:
            node.flags = numbers
        else:
            node.children = numbers
        return node

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> bytes:
        return self.keys[index]

    def value(self, index: int) -> bytes:
        return self.values[index]

    def is_bucket(self, index: int) -> bool:
        return self.flags[index] != 0

    def child(self, index: int) -> int:
        return self.children[index]

    def search(self, key: bytes) -> int:
        return bisect_left(self.keys, key)

    def put(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set an element of a leaf."""
        index = bisect_left(self.keys, key)
        if index < len(self.keys) and self.keys[index] == key:
            self.values[index], self.flags[index] = value, flags
        else:
            self.keys.insert(index, key)
            self.values.insert(index, value)
            self.flags.insert(index, flags)

    def remove(self, index: int) -> None:
        """Take an element out."""
        for column in (self.keys, self.values, self.flags, self.children):
            del column[index : index + 1]
        self.shrunk = True

    def absorb(self, right: Node) -> None:
        """Take all elements of the node to the right."""
        self.keys += right.keys
        self.values += right.values
        self.flags += right.flags
        self.children += right.children
        self.shrunk = True

    def page_range(self) -> range:
        """The pages that it came from."""
        return range(self.pgid, self.pgid + self.pages)

    def size(self) -> int:
        """Bytes that it takes as a page."""
        return HEADER_SIZE + len(self.keys) * ELEMENT_SIZE + sum(map(len, self.keys)) + sum(map(len, self.values))

    def has_buckets(self) -> bool:
        """Whether a value is a bucket."""
        return BUCKET_FLAG in self.flags

    def is_underfull(self, page_size: int) -> bool:
        """Whether so little is left that it should be merged with a neighbour."""
        least = 1 if self.is_leaf else _MIN_KEYS_PER_PAGE
        return len(self.keys) <= least or self.size() <= page_size // 4

    def split(self, page_size: int) -> Iterator[Node]:
        """The node in parts that fit into a page; itself if it fits, or has so few keys that they stay together.

        Each part but the last is half full, so that what comes next finds room.
        """
        sizes = [ELEMENT_SIZE + len(key) for key in self.keys]
        if self.is_leaf:
            sizes = [size + len(value) for size, value in zip(sizes, self.values, strict=True)]
        rest = HEADER_SIZE + sum(sizes)
        start, count = 0, len(sizes)
        while count - start > _SPLIT_ABOVE_KEYS and (rest > page_size or count - start >= MAX_COUNT):
            end, filled = start, HEADER_SIZE
            while end < count - _MIN_KEYS_PER_PAGE:
                full = filled + sizes[end] > page_size // 2 or end - start == MAX_COUNT - 1
                if full and end - start >= _MIN_KEYS_PER_PAGE:
                    break
                filled += sizes[end]
                end += 1
            yield self._part(start, end)
            rest -= filled - HEADER_SIZE
            start = end
        yield self._part(start, count) if start else self

    def _part(self, start: int, end: int) -> Node:
        part = Node(is_leaf=self.is_leaf)
        for column in ("keys", "values", "flags", "children"):
            setattr(part, column, getattr(self, column)[start:end])
        return part

    def pack(self, pgid: int, overflow: int = 0) -> bytes:
        """The page's bytes, without what fills its last page up."""
        count = len(self.keys)
        elements: list[bytes] = []
        data: list[bytes] = []
        pos = count * ELEMENT_SIZE
        if self.is_leaf:
            for key, value, flags in zip(self.keys, self.values, self.flags, strict=True):
                elements.append(LEAF_ELEMENT.pack(flags, pos, len(key), len(value)))
                data += (key, value)
                pos += len(key) + len(value) - ELEMENT_SIZE
        else:
            for key, child in zip(self.keys, self.children, strict=True):
                elements.append(BRANCH_ELEMENT.pack(pos, len(key), child))
                data.append(key)
                pos += len(key) - ELEMENT_SIZE
        header = PAGE_HEADER.pack(pgid, LEAF if self.is_leaf else BRANCH, count, overflow)
        return b"".join((header, *elements, *data))
