"""One transaction: the pages of the state that it shows, and what it does to them."""

from __future__ import annotations

from collections.abc import Sequence

from refimpl.backends.real.bolt.bucket import BoltBucket
from refimpl.backends.real.bolt.commit import Commit, State
from refimpl.backends.real.bolt.format import BUCKET_HEADER, FIRST_PAGE, MAX_DEPTH, InvalidDatabase
from refimpl.backends.real.bolt.meta import Meta
from refimpl.backends.real.bolt.nodes import Node
from refimpl.backends.real.bolt.pages import Page
from refimpl.contract.errors import FailedPrecondition


class Transaction:
    """A read or write transaction; a ``tree.Pages``.

    Args:
        state: of the store.
        meta: the state that it shows.
        writable: may change it.

    Attributes:
        root: the root bucket.
        active: neither committed nor rolled back.
    """

    def __init__(self, state: State, meta: Meta, *, writable: bool) -> None:
        self.writable = writable
        self.active = True
        self.page_size = meta.page_size
        self._state = state
        self._meta = meta
        # The transaction keeps its own: the store has a new one when the file has grown, and this shows all it needs.
        self._map = state.map
        self._pages: dict[int, Page] = {}
        # An ordered set.
        self._freed: dict[int, None] = {}
        self._commit: Commit | None = None
        self.root = BoltBucket(self, BUCKET_HEADER.pack(meta.root, meta.sequence))

    def check_writable(self) -> None:
        """Raise FailedPrecondition in a read transaction."""
        if not self.writable:
            raise FailedPrecondition("tx not writable")

    def page(self, pgid: int, owner: object, depth: int) -> tuple[Page, bool]:
        """A page of the state; see ``tree.Pages``.

        That each page has one owner keeps damage from leading round in circles, and a page in use twice from being
        taken for right by either user.

        Raises:
            InvalidDatabase: it is not a branch or leaf, not in order, or has another owner.
        """
        page = self._pages.get(pgid)
        if page is not None:
            if page.owner != owner:
                raise InvalidDatabase("multiple references", pgid)
            return page, False
        limit = self._meta.high_water
        if not FIRST_PAGE <= pgid < limit:
            raise InvalidDatabase(f"out of bounds: the file has {limit} pages", pgid)
        if depth > MAX_DEPTH:
            raise InvalidDatabase(f"more than {MAX_DEPTH} levels deep", pgid)
        page = Page(self._map, pgid * self.page_size, pgid, limit - pgid, self.page_size)
        if pgid in self._state.freelist:
            raise InvalidDatabase("reachable freed: it is in use and in the free list", pgid)
        if pgid not in self._state.verified:
            # Once while the file is open; lookups then rely on what was seen.
            page.check_extent(page.verify(), self.page_size)
            self._state.verified.add(pgid)
        page.owner, page.depth = owner, depth
        self._pages[pgid] = page
        return page, True

    def free(self, pages: Sequence[int]) -> None:
        """Give pages up at commit.

        Raises:
            InvalidDatabase: one of them is there twice, or was given up already; all stay as they were.
        """
        new = dict.fromkeys(pages)
        if len(new) != len(pages) or not self._freed.keys().isdisjoint(new):
            twice = next(page for page in pages if page in self._freed or pages.count(page) > 1)
            raise InvalidDatabase("multiple references: it is given up twice", twice)
        self._freed.update(new)

    def write(self, node: Node) -> int:
        """Have a node written at commit; gives its new page."""
        assert self._commit is not None, "buckets are stored by a commit"
        return self._commit.write(node)

    def commit(self) -> None:
        """Bring all changes to the disk; errors as ``Commit.finish``."""
        self.check_writable()
        self._commit = Commit(self._state, self._meta)
        for bucket in reversed(self.root.open_buckets()):
            bucket.store()
        self._commit.finish(self.root.tree.root, self.root.sequence, self._freed)
