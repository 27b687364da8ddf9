"""The tree of pages that is one bucket: finding keys in it, and taking the way to one into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from refimpl.backends.real.bolt.format import HEADER_SIZE, InvalidDatabase
from refimpl.backends.real.bolt.nodes import Node
from refimpl.backends.real.bolt.pages import Elements, Page, child_index


class Pages(Protocol):
    """What a tree needs of its transaction."""

    page_size: int

    def page(self, pgid: int, owner: object, depth: int) -> tuple[Page, bool]:
        """A page of the state, and whether this is the first time that the transaction sees it.

        Args:
            owner: what leads there; a page that something else led to is damage.
            depth: levels above it.
        """
        ...

    def free(self, pages: Sequence[int]) -> None:
        """Give pages up at commit, all or, if damage shows, none of them."""
        ...

    def write(self, node: Node) -> int:
        """Have a node written at commit; gives its new page."""
        ...


class Tree:
    """One bucket's keys.

    Args:
        pages: the transaction.
        root: the page on top; 0 for a bucket that has none.
        inline: the page inside the bucket's value, if ``root`` is 0.

    Attributes:
        nodes: what was taken into memory, by the page that it came from. A node's ancestors are there too.
    """

    __slots__ = ("inline", "nodes", "pages", "root")

    def __init__(self, pages: Pages, root: int, inline: Page | None = None) -> None:
        self.pages = pages
        self.root = root
        self.inline = inline
        self.nodes: dict[int, Node] = {}

    def top(self) -> Elements:
        """The root of the tree."""
        node = self.nodes.get(self.root)
        if node is not None:
            return node
        if self.inline is not None:
            return self.inline
        page, _ = self.pages.page(self.root, (self, 0), 0)
        return page

    def below(self, branch: Elements, index: int) -> Elements:
        """The child of a branch.

        Raises:
            InvalidDatabase: its keys lie outside what the branch says.
        """
        node = self.nodes.get(branch.child(index))
        return node if node is not None else self._page_below(branch, index)

    def _page_below(self, branch: Elements, index: int) -> Page:
        page, new = self.pages.page(branch.child(index), (self, branch.pgid), branch.depth + 1)
        if not page.count:
            raise InvalidDatabase("no keys", page.pgid)
        if new:
            first, last = page.key(0), page.key(page.count - 1)
            if first < branch.key(index):
                raise InvalidDatabase(f"key {first!r} is before {branch.key(index)!r}, its page's first", page.pgid)
            if index + 1 < len(branch) and last >= branch.key(index + 1):
                raise InvalidDatabase(
                    f"key {last!r} is not before {branch.key(index + 1)!r}, the next page's", page.pgid
                )
        return page

    def leaf(self, key: bytes) -> Elements:
        """The leaf that has a key, if any has."""
        here = self.top()
        while not here.is_leaf:
            here = self.below(here, child_index(here, key))
        return here

    def find(self, key: bytes) -> tuple[Elements, int] | None:
        """The leaf that has a key, and where in it; None if none has."""
        leaf = self.leaf(key)
        index = leaf.search(key)
        return (leaf, index) if index < len(leaf) and leaf.key(index) == key else None

    def items(self, start: bytes = b"") -> Iterator[tuple[bytes, Elements, int]]:
        """Keys from ``start`` on, each with its leaf and where in it."""
        way: list[tuple[Elements, int]] = []
        here = self.top()
        while not here.is_leaf:
            index = child_index(here, start)
            way.append((here, index + 1))
            here = self.below(here, index)
        first = here.search(start)
        while True:
            for index in range(first, len(here)):
                yield here.key(index), here, index
            first = 0
            while way and way[-1][1] == len(way[-1][0]):
                way.pop()
            if not way:
                return
            branch, index = way.pop()
            way.append((branch, index + 1))
            here = self.below(branch, index)
            while not here.is_leaf:
                way.append((here, 1))
                here = self.below(here, 0)

    def node(self, elements: Elements) -> Node:
        """The form to change; ancestors first, please."""
        if isinstance(elements, Node):
            return elements
        assert isinstance(elements, Page)
        node = self.nodes[elements.pgid] = Node.of(elements)
        return node

    def leaf_node(self, key: bytes) -> Node:
        """The leaf that has a key or gets it, to change, with the way to it."""
        here = self.node(self.top())
        while not here.is_leaf:
            here = self.node(self.below(here, child_index(here, key)))
        return here

    def stored_pages(self) -> Iterator[Page]:
        """All pages of the tree as it was when the transaction began."""
        if not self.root:
            return
        page, _ = self.pages.page(self.root, (self, 0), 0)
        todo = [page]
        while todo:
            page = todo.pop()
            yield page
            if not page.is_leaf:
                todo += [self._page_below(page, index) for index in range(page.count)]

    def drop(self, node: Node) -> None:
        """Forget a node and give its page up."""
        self.nodes.pop(node.pgid, None)
        if node.pgid:
            self.pages.free(node.page_range())

    def is_small(self) -> bool:
        """Whether the bucket is to be stored inside its parent's leaf; asked after ``rebalance``."""
        top = self.nodes.get(self.root)
        return top is not None and top.is_leaf and top.size() <= self.pages.page_size // 4 and not top.has_buckets()


def inline_page(value: bytes, offset: int, page_size: int) -> Page:
    """The page inside the value of an inline bucket.

    Raises:
        InvalidDatabase: it is not a whole leaf without sub-buckets.
    """
    if len(value) < offset + HEADER_SIZE:
        raise InvalidDatabase(f"an inline bucket of {len(value)} bytes")
    page = Page(value, offset, 0, 0, page_size)
    if page.verify() != len(value) - offset:
        raise InvalidDatabase("an inline bucket with bytes behind its last value")
    if not page.is_leaf or any(page.is_bucket(index) for index in range(page.count)):
        raise InvalidDatabase("an inline bucket that is not a leaf of plain values")
    return page
