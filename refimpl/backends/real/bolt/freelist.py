"""Which pages may be written to.

A commit never writes to a page of the state before it, since a crash brings that state back, nor to one that a reader
still sees. So a page that a transaction gave up is *pending* first, and becomes free when nobody can see it any more.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from refimpl.backends.real.bolt.format import (
    FIRST_PAGE,
    FREELIST,
    HEADER_SIZE,
    MAX_COUNT,
    PAGE_HEADER,
    InvalidDatabase,
)

_ID = struct.Struct("=Q")


class Pending(NamedTuple):
    """A page that was given up.

    Attributes:
        page: its number.
        since: the first transaction whose state had it; 0 if that was before the file was opened.
        until: the first transaction whose state is without it.
    """

    page: int
    since: int
    until: int


class Freelist:
    """The free pages of one state. A commit changes a copy, and the copy counts when the commit is done.

    Args:
        free: pages that may be written to, ascending.
        pending: pages that somebody may see.
        born: for pages allocated since the file was opened, the transaction that did it.
    """

    def __init__(self, free: list[int], pending: Sequence[Pending] = (), born: dict[int, int] | None = None) -> None:
        self.free = free
        self.pending = list(pending)
        self._born = born if born is not None else {}

    def copy(self, readers: Iterable[int]) -> Freelist:
        """The list for a commit to change; what no reader sees is free in it.

        Args:
            readers: the transactions whose states are being read. Readers that come later see the newest state, and no
                pending page belongs to that.
        """
        seen = sorted(set(readers))
        if not self.pending:
            return Freelist(self.free.copy(), (), self._born)
        kept: list[Pending] = []
        freed: list[int] = []
        for each in self.pending:
            at = bisect_left(seen, each.since)
            if at < len(seen) and seen[at] < each.until:
                kept.append(each)
            else:
                freed.append(each.page)
        return Freelist(sorted(self.free + freed), kept, self._born)

    def __contains__(self, page: int) -> bool:
        """Whether a page is free."""
        at = bisect_left(self.free, page)
        return at < len(self.free) and self.free[at] == page

    def __len__(self) -> int:
        """Free and pending pages."""
        return len(self.free) + len(self.pending)

    def allocate(self, count: int) -> int:
        """Take the first ``count`` free pages in a row; 0 if there is no such row."""
        free = self.free
        if count == 1:
            return free.pop(0) if free else 0
        row = 1
        for index in range(1, len(free)):
            row = row + 1 if free[index] == free[index - 1] + 1 else 1
            if row == count:
                start = index - count + 1
                page = free[start]
                del free[start : index + 1]
                return page
        return 0

    def release(self, pages: Iterable[int], txid: int) -> None:
        """Give up pages that the transaction ``txid`` has replaced or deleted.

        Raises:
            InvalidDatabase: one of them is free already, so it was in use twice.
        """
        for page in pages:
            if page in self:
                raise InvalidDatabase("reachable freed: it is in use and in the free list", page)
            self.pending.append(Pending(page, self._born.pop(page, 0), txid))

    def note_birth(self, pages: Iterable[int], txid: int) -> None:
        """Remember who allocated pages: readers of older states do not see them."""
        self._born.update(dict.fromkeys(pages, txid))

    def all(self) -> list[int]:
        """What the file has to say: all that the newest state does not use. After a crash nobody reads older ones."""
        return sorted([*self.free, *(each.page for each in self.pending)])


def packed_size(count: int) -> int:
    """Bytes that a list of that many pages takes."""
    return HEADER_SIZE + _ID.size * (count + (count >= MAX_COUNT))


def pack(pages: Sequence[int], pgid: int, overflow: int) -> bytes:
    """The free list page, without what fills its last page up."""
    count = len(pages)
    if count < MAX_COUNT:
        return PAGE_HEADER.pack(pgid, FREELIST, count, overflow) + struct.pack(f"={count}Q", *pages)
    return PAGE_HEADER.pack(pgid, FREELIST, MAX_COUNT, overflow) + struct.pack(f"={count + 1}Q", count, *pages)


def place(data: mmap.mmap | bytes, pgid: int, high_water: int, page_size: int) -> range:
    """The pages that a free list takes.

    Raises:
        InvalidDatabase: they are not all below the high water mark.
    """
    overflow: int = PAGE_HEADER.unpack_from(data, pgid * page_size)[3]
    if pgid + overflow >= high_water:
        raise InvalidDatabase(f"out of bounds: {overflow} further pages", pgid)
    return range(pgid, pgid + overflow + 1)


def parse(data: bytes, pgid: int, high_water: int) -> list[int]:
    """Read a free list.

    Args:
        data: the page and all its overflow.
        pgid: its number.
        high_water: pages of the file.

    Raises:
        InvalidDatabase: it is none, does not fit, or its numbers do not ascend or are not pages of the file.
    """
    number, flags, count, _ = PAGE_HEADER.unpack_from(data)
    if number != pgid or flags != FREELIST:
        raise InvalidDatabase(f"not a free list: it calls itself page {number} with flags {flags:#x}", pgid)
    start = HEADER_SIZE
    if count == MAX_COUNT:
        (count,) = _ID.unpack_from(data, start)
        start += _ID.size
    if start + count * _ID.size > len(data):
        raise InvalidDatabase(f"{count} page numbers do not fit into {len(data)} bytes", pgid)
    pages = list(struct.unpack_from(f"={count}Q", data, start))
    previous = FIRST_PAGE - 1
    for page in pages:
        if page <= previous:
            what = "already freed" if page == previous else f"comes after {previous} in the free list"
            raise InvalidDatabase(what, page)
        previous = page
    if previous >= high_water:
        raise InvalidDatabase(f"out of bounds: page {previous} of {high_water} is in the free list", pgid)
    return pages
