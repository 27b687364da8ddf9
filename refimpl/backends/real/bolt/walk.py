"""Going through every page and bucket of a state, sound or not.

The walk believes nothing and goes on behind what is damaged; it needs no more memory than the file has pages, and no
more steps than it has elements, whatever the pages say.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from refimpl.backends.real.bolt.format import BUCKET_HEADER, FIRST_PAGE, MAX_DEPTH, InvalidDatabase
from refimpl.backends.real.bolt.meta import Meta
from refimpl.backends.real.bolt.pages import Page
from refimpl.backends.real.bolt.tree import inline_page


@dataclass(frozen=True, slots=True)
class Found:
    """A sound page, or the page inside an inline bucket.

    Attributes:
        page: itself; its number is 0 in an inline bucket.
        used: its bytes that mean something.
        depth: levels above it in the bucket's tree.
    """

    page: Page
    used: int
    depth: int


class _Depth:
    """How deep the leaves of one bucket are; None before the first was seen."""

    __slots__ = ("leaves",)

    def __init__(self) -> None:
        self.leaves: int | None = None


class _Step(NamedTuple):
    """A page still to be visited, and between which keys its own have to be; None is no limit."""

    pgid: int
    bucket: _Depth
    depth: int
    low: bytes | None
    high: bytes | None


class Walk:
    """One walk over a state.

    Args:
        data: the file.
        meta: the state.
        report: called with what is wrong; may raise to end the walk.

    Attributes:
        used: every page that the state leads to, those of the free list and the meta pages excepted.
    """

    def __init__(self, data: mmap.mmap | bytes, meta: Meta, report: Callable[[InvalidDatabase], object]) -> None:
        self._data = data
        self._meta = meta
        self._report = report
        self.used: set[int] = set()

    def pages(self) -> Iterator[Found]:
        """All sound pages, each once."""
        todo = [_Step(self._meta.root, _Depth(), 0, None, None)]
        while todo:
            step = todo.pop()
            try:
                found = self._visit(step)
            except InvalidDatabase as error:
                self._report(error)
                continue
            yield found
            if not found.page.is_leaf:
                todo += self._children(step, found.page)
                continue
            for index in range(found.page.count):
                if not found.page.is_bucket(index):
                    continue
                try:
                    below = self._sub_bucket(found, index)
                except InvalidDatabase as error:
                    self._report(InvalidDatabase(f"element {index}: {error.reason}", step.pgid))
                    continue
                if isinstance(below, Found):
                    yield below
                else:
                    todo.append(below)

    def _visit(self, step: _Step) -> Found:
        meta, pgid = self._meta, step.pgid
        if not FIRST_PAGE <= pgid < meta.high_water:
            raise InvalidDatabase(f"out of bounds: the file has {meta.high_water} pages", pgid)
        if step.depth > MAX_DEPTH:
            raise InvalidDatabase(f"more than {MAX_DEPTH} levels deep", pgid)
        if pgid in self.used:
            raise InvalidDatabase("multiple references", pgid)
        self.used.add(pgid)
        page = Page(self._data, pgid * meta.page_size, pgid, meta.high_water - pgid, meta.page_size)
        used = page.verify()
        page.check_extent(used, meta.page_size)
        if page.has_rest(used):
            self._report(InvalidDatabase("its last element is followed by something", pgid))
        for number in range(pgid + 1, pgid + 1 + page.overflow):
            if number in self.used:
                self._report(InvalidDatabase("multiple references", number))
            self.used.add(number)
        self._check_keys(step, page)
        return Found(page, used, step.depth)

    def _check_keys(self, step: _Step, page: Page) -> None:
        """What is wrong here does not make the pages below wrong, so it is reported, not raised."""
        if page.is_leaf:
            if step.bucket.leaves is None:
                step.bucket.leaves = step.depth
            elif step.bucket.leaves != step.depth:
                message = f"a leaf {step.depth} levels deep, others {step.bucket.leaves}"
                self._report(InvalidDatabase(message, step.pgid))
        if not page.count:
            if step.depth:
                self._report(InvalidDatabase("no keys", step.pgid))
            return
        first, last = page.key(0), page.key(page.count - 1)
        if step.low is not None and first < step.low:
            self._report(InvalidDatabase(f"key {first!r} is before {step.low!r}, its page's first", step.pgid))
        if step.high is not None and last >= step.high:
            self._report(InvalidDatabase(f"key {last!r} is not before {step.high!r}, the next page's", step.pgid))

    @staticmethod
    def _children(step: _Step, page: Page) -> Iterator[_Step]:
        for index in range(page.count):
            high = page.key(index + 1) if index + 1 < page.count else step.high
            yield _Step(page.child(index), step.bucket, step.depth + 1, page.key(index), high)

    def _sub_bucket(self, found: Found, index: int) -> Found | _Step:
        """The page of an inline bucket, or the step to the root of another one."""
        value = found.page.value(index)
        if len(value) < BUCKET_HEADER.size:
            raise InvalidDatabase(f"a bucket header of {len(value)} bytes")
        root, _ = BUCKET_HEADER.unpack_from(value)
        if not root:
            page = inline_page(value, BUCKET_HEADER.size, self._meta.page_size)
            return Found(page, len(value) - BUCKET_HEADER.size, 0)
        if len(value) != BUCKET_HEADER.size:
            raise InvalidDatabase(f"a bucket header of {len(value)} bytes")
        return _Step(root, _Depth(), 0, None, None)


def reachable(data: mmap.mmap | bytes, meta: Meta) -> set[int]:
    """Every page in use.

    Raises:
        InvalidDatabase: the first damage on the way.
    """
    walk = Walk(data, meta, _stop)
    for _ in walk.pages():
        pass
    return walk.used


def _stop(error: InvalidDatabase) -> NoReturn:
    raise error
