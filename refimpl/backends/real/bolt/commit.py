"""The end of a write transaction: places for its pages, and the order in which they reach the disk.

All new pages go to places that the state before does not use; then a wait for the disk, the meta page, and another
wait. A crash before the meta page is there leaves the state before; after it, the new one (MET-024).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from refimpl.backends.real.bolt import freelist as freelists
from refimpl.backends.real.bolt.file import File
from refimpl.backends.real.bolt.format import InvalidDatabase
from refimpl.backends.real.bolt.freelist import Freelist
from refimpl.backends.real.bolt.meta import NO_FREELIST, Meta
from refimpl.backends.real.bolt.nodes import Node

_SMALLEST_FILE = 32 << 10
_LARGE_FILE = 16 << 20


class State(Protocol):
    """What the transactions of one store share.

    Attributes:
        map: the file as it is.
        verified: pages that were looked at as a whole since the file was opened, or written by us.
        freelist: of the newest state; empty if the file is only read.
        freelist_pages: how many pages it takes in the file.
        sync_freelist: whether it is to be written there.
    """

    file: File
    map: mmap.mmap
    verified: set[int]
    freelist: Freelist
    freelist_pages: int
    sync_freelist: bool

    def readers(self) -> Iterable[int]:
        """The states that open read transactions show."""
        ...

    def publish(self, meta: Meta, freelist: Freelist, freelist_pages: int) -> None:
        """Make a committed state the newest."""
        ...

    def give_up(self) -> None:
        """Refuse writers from now on: which state the file has is unknown."""
        ...


class Commit:
    """One commit on its way.

    Args:
        state: of the store; it does not change before all is on the disk.
        before: the state that the transaction began with.
    """

    def __init__(self, state: State, before: Meta) -> None:
        self._state = state
        self._before = before
        self._page_size = before.page_size
        self._freelist = state.freelist.copy(state.readers())
        self._high_water = before.high_water
        self._allocated: list[int] = []
        self._images: dict[int, bytes] = {}
        """The bytes of new pages by number, whole pages each."""

    def write(self, node: Node) -> int:
        """Have a node written; gives its new page."""
        pages = self._page_count(node.size())
        pgid = self._allocate(pages)
        self._images[pgid] = self._filled(node.pack(pgid, pages - 1), pages)
        return pgid

    def finish(self, root: int, sequence: int, freed: Mapping[int, object]) -> None:
        """Bring everything to the disk.

        Args:
            root: the new root page of the root bucket.
            sequence: of the root bucket.
            freed: pages that the new state is without.

        Raises:
            InvalidDatabase: damage came to light. As after OSError, the file still has the state before.
            OSError: the disk refused.
        """
        state, before, txid = self._state, self._before, self._before.txid + 1
        self._freelist.release([*freed, *self._old_freelist(freed)], txid)
        trees = list(self._images)
        freelist, freelist_pages = self._write_freelist() if state.sync_freelist else (NO_FREELIST, 0)
        meta = replace(before, root=root, sequence=sequence, freelist=freelist, high_water=self._high_water, txid=txid)
        self._write_pages()
        try:
            state.file.write(meta.pack(), meta.page * self._page_size)
            state.file.sync()
            self._freelist.note_birth(self._allocated, txid)
            state.verified.difference_update(self._allocated)
            state.verified.update(trees)
            state.publish(meta, self._freelist, freelist_pages)
        except BaseException:
            # Nobody knows which of the two states the disk has, so neither's pages may be written to again.
            state.give_up()
            raise

    def _old_freelist(self, freed: Mapping[int, object]) -> range:
        """The pages of the free list in the file."""
        first = self._before.freelist
        if first == NO_FREELIST:
            return range(0)
        pages = range(first, first + self._state.freelist_pages)
        for page in pages:
            if page in freed:
                raise InvalidDatabase("multiple references: the free list and a bucket", page)
        return pages

    def _write_freelist(self) -> tuple[int, int]:
        """The free list's new page, and how many it takes."""
        # Counted before its own pages are taken, which can only make it shorter.
        pages = self._page_count(freelists.packed_size(len(self._freelist)))
        pgid = self._allocate(pages)
        self._images[pgid] = self._filled(freelists.pack(self._freelist.all(), pgid, pages - 1), pages)
        return pgid, pages

    def _page_count(self, size: int) -> int:
        return (size + self._page_size - 1) // self._page_size

    def _filled(self, image: bytes, pages: int) -> bytes:
        return image.ljust(pages * self._page_size, b"\0")

    def _allocate(self, count: int) -> int:
        pgid = self._freelist.allocate(count)
        if not pgid:
            pgid = self._high_water
            self._high_water += count
        self._allocated.extend(range(pgid, pgid + count))
        return pgid

    def _write_pages(self) -> None:
        file, needed = self._state.file, self._high_water * self._page_size
        if needed > file.size():
            file.grow(grown_size(needed, self._page_size))
        for offset, data in self._runs():
            file.write(data, offset)
        file.sync()

    def _runs(self) -> Iterable[tuple[int, bytes]]:
        """The new pages in ascending order with their offsets, neighbours joined: fewer calls to the system."""
        run: list[bytes] = []
        start = end = 0
        for pgid in sorted(self._images):
            if run and pgid != end:
                yield start * self._page_size, b"".join(run)
                run = []
            if not run:
                start = end = pgid
            run.append(self._images[pgid])
            end += len(run[-1]) // self._page_size
        yield start * self._page_size, b"".join(run)


def grown_size(needed: int, page_size: int) -> int:
    """A length for a file that has become too short: twice as long while it is small, later 16 MiB more than needed.

    Args:
        needed: bytes of all its pages.
        page_size: bytes of a page; the length is a whole number of them.
    """
    grown = _SMALLEST_FILE
    while grown < needed and grown < _LARGE_FILE:
        grown *= 2
    return -(-max(grown, needed + _LARGE_FILE * (needed > _LARGE_FILE)) // page_size) * page_size
