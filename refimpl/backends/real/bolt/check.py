"""Looking at a file as a whole: is it sound, and what is in it?

Every page below the high water mark has to be a meta page, belong to the free list, be free, or be reached from the
root exactly once; and what is reached has to be in order (``pages.Page.verify``, ``walk``).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from refimpl.backends.real.bolt import freelist, meta
from refimpl.backends.real.bolt.file import File
from refimpl.backends.real.bolt.format import FIRST_PAGE, META, PAGE_HEADER, InvalidDatabase
from refimpl.backends.real.bolt.walk import Found, Walk


@dataclass(slots=True)
class Statistics:
    """What is in a file. Sizes are in bytes.

    Attributes:
        page_size: bytes of a page.
        file_size: length of the file; what lies behind the last page means nothing.
        txid: number of the last committed transaction.
        pages: pages in use or free, with the meta pages.
        free_pages: pages that the free list has; with none in the file, those that nothing leads to.
        freelist_pages: pages that the list itself takes; 0 if it is not in the file.
        branch_pages, leaf_pages: pages of trees, without overflow.
        overflow_pages: pages that continue one of these.
        buckets: all buckets, without the root.
        inline_buckets: of them, those inside their parent's leaf.
        keys: plain values.
        depth: levels of the highest tree.
        used: bytes of branch and leaf pages that mean something; inline buckets count with the page that they lie in.
    """

    page_size: int
    file_size: int
    txid: int
    pages: int
    free_pages: int = 0
    freelist_pages: int = 0
    branch_pages: int = 0
    leaf_pages: int = 0
    overflow_pages: int = 0
    buckets: int = 0
    inline_buckets: int = 0
    keys: int = 0
    depth: int = 0
    used: int = 0

    def count(self, found: Found) -> None:
        """Add a page to the sums."""
        page = found.page
        if page.is_leaf:
            buckets = sum(page.is_bucket(index) for index in range(page.count))
            self.buckets += buckets
            self.keys += page.count - buckets
        if not page.pgid:
            self.inline_buckets += 1
            return
        self.leaf_pages += page.is_leaf
        self.branch_pages += not page.is_leaf
        self.overflow_pages += page.overflow
        self.depth = max(self.depth, found.depth + 1)
        self.used += found.used


@dataclass(slots=True)
class Inspection:
    """The result of a check.

    Attributes:
        statistics: of all that could be read.
        problems: what is wrong; empty for a sound file.
    """

    statistics: Statistics
    problems: list[InvalidDatabase] = field(default_factory=list)


def inspect(path: Path, timeout: float = 0.0) -> Inspection:
    """Check a file that no writer has open.

    Args:
        path: the file. It is not changed.
        timeout: seconds to wait for its lock; 0 waits for ever.

    Raises:
        InvalidDatabase: not even a meta page is whole, so there is nothing to walk from.
        Unavailable: a writer has it open.
    """
    file = File(path, read_only=True)
    try:
        file.lock(timeout)
        state = meta.choose(file.read, file.size(), mmap.PAGESIZE)
        with file.map() as data:
            return inspect_state(data, state)
    finally:
        file.close()


def inspect_state(data: mmap.mmap | bytes, state: meta.Meta) -> Inspection:
    """Check what a meta page leads to.

    Args:
        data: the file.
        state: of a meta page in it.
    """
    found = Inspection(Statistics(state.page_size, len(data), state.txid, state.high_water))
    _check_metas(data, state, found)
    walk = Walk(data, state, found.problems.append)
    for page in walk.pages():
        found.statistics.count(page)
    whole = not found.problems
    if state.freelist == meta.NO_FREELIST:
        found.statistics.free_pages = state.high_water - FIRST_PAGE - len(walk.used)
        return found
    own, free = _read_freelist(data, state, found)
    found.statistics.freelist_pages, found.statistics.free_pages = len(own), len(free)
    _check_uses(walk.used, own, free, found)
    if whole:
        known = walk.used.union(own, free)
        lost = (page for page in range(FIRST_PAGE, state.high_water) if page not in known)
        found.problems += [InvalidDatabase("unreachable unfreed: neither in use nor free", page) for page in lost]
    return found


def _check_metas(data: mmap.mmap | bytes, state: meta.Meta, found: Inspection) -> None:
    for page in (0, 1):
        at = page * state.page_size
        number, flags = PAGE_HEADER.unpack_from(data, at)[:2]
        if (number, flags) != (page, META):
            found.problems.append(InvalidDatabase(f"it calls itself page {number} with flags {flags:#x}", page))
        try:
            meta.parse(data[at : at + meta.META_SIZE], page)
        except InvalidDatabase as error:
            found.problems.append(error if error.page is not None else InvalidDatabase(str(error), page))


def _read_freelist(data: mmap.mmap | bytes, state: meta.Meta, found: Inspection) -> tuple[range, list[int]]:
    """The pages that the free list takes, and those that it has."""
    try:
        own = freelist.place(data, state.freelist, state.high_water, state.page_size)
        stored = data[own.start * state.page_size : own.stop * state.page_size]
        return own, freelist.parse(stored, state.freelist, state.high_water)
    except InvalidDatabase as error:
        found.problems.append(error)
        return range(state.freelist, state.freelist + 1), []


def _check_uses(used: set[int], own: range, free: Iterable[int], found: Inspection) -> None:
    for page in own:
        if page in used:
            found.problems.append(InvalidDatabase("multiple references: the free list and a bucket", page))
    for page in free:
        if page in used or page in own:
            found.problems.append(InvalidDatabase("reachable freed: in use and in the free list", page))
