"""Buckets: ``contract.kv.Bucket`` over a tree of pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from refimpl.backends.real.bolt.balance import rebalance, spill
from refimpl.backends.real.bolt.format import (
    BUCKET_FLAG,
    BUCKET_HEADER,
    EMPTY_BUCKET,
    MAX_VALUE_SIZE,
    InvalidDatabase,
)
from refimpl.backends.real.bolt.pages import Page
from refimpl.backends.real.bolt.tree import Tree, inline_page
from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound
from refimpl.contract.kv import MAX_KEY_SIZE

if TYPE_CHECKING:
    from refimpl.backends.real.bolt.transaction import Transaction


class BoltBucket:
    """A bucket inside its transaction.

    Args:
        transaction: whose state it shows.
        header: the bucket's value in its parent; for the root bucket, what one would be.
        parent: the bucket that it lies in; None for the root.
        name: its key there.

    Raises:
        InvalidDatabase: the header makes no sense.
    """

    __slots__ = ("_children", "_counted", "_gone", "_header", "_name", "_parent", "_sequence", "_tx", "tree")

    def __init__(
        self, transaction: Transaction, header: bytes, parent: BoltBucket | None = None, name: bytes = b""
    ) -> None:
        if len(header) < BUCKET_HEADER.size:
            raise InvalidDatabase(f"bucket {name!r} has a header of {len(header)} bytes")
        self._sequence: int
        root, self._sequence = BUCKET_HEADER.unpack_from(header)
        if root and len(header) != BUCKET_HEADER.size:
            raise InvalidDatabase(f"bucket {name!r} has its tree at page {root}, and {len(header)} bytes of header")
        inline = None if root else _inline_page(name, header, transaction.page_size)
        self.tree = Tree(transaction, root, inline)
        self._tx = transaction
        self._header = header
        self._parent = parent
        self._name = name
        self._counted = False
        self._gone = False
        # One object a bucket and transaction, so that two callers who walk to the same bucket see each other's changes.
        self._children: dict[bytes, BoltBucket] = {}

    def bucket(self, name: bytes) -> BoltBucket | None:
        """The bucket of that name; None if there is none (or a value has the name)."""
        self._check()
        child = self._children.get(name)
        if child is not None:
            return child
        found = self.tree.find(name)
        if found is None or not found[0].is_bucket(found[1]):
            return None
        child = BoltBucket(self._tx, found[0].value(found[1]), self, name)
        # An inline bucket that is only read has no pages of its own, and there may be very many.
        if self._tx.writable or child.tree.root:
            self._children[name] = child
        return child

    def create_bucket(self, name: bytes) -> BoltBucket:
        """Make a bucket; errors as ``contract.kv.Bucket.create_bucket``."""
        self._check_writable()
        if not name:
            raise InvalidArgument("bucket name required")
        found = self.tree.find(name)
        if found is not None:
            raise AlreadyExists("bucket") if found[0].is_bucket(found[1]) else InvalidArgument("incompatible value")
        self.tree.leaf_node(name).put(name, EMPTY_BUCKET, BUCKET_FLAG)
        child = self._children[name] = BoltBucket(self._tx, EMPTY_BUCKET, self, name)
        return child

    def create_bucket_if_not_exists(self, name: bytes) -> BoltBucket:
        """The bucket of that name, made if missing."""
        self._check_writable()
        return self.bucket(name) or self.create_bucket(name)

    def delete_bucket(self, name: bytes) -> None:
        """Remove a bucket and all in it; NotFound if there is none."""
        self._check_writable()
        child = self.bucket(name)
        if child is None:
            raise NotFound("bucket")
        # All that may find damage comes first: who catches that and goes on has a bucket that is whole, or none.
        node = self.tree.leaf_node(name)
        buckets, pages = [child], list[int]()
        # The list grows under the loop's feet.
        for bucket in buckets:
            buckets += bucket.sub_buckets()
            for page in bucket.tree.stored_pages():
                pages += range(page.pgid, page.pgid + page.overflow + 1)
        self._tx.free(pages)
        for bucket in buckets:
            bucket.detach()
        del self._children[name]
        node.remove(node.search(name))

    def sub_buckets(self) -> list[BoltBucket]:
        """The buckets in this one."""
        names = [key for key, leaf, index in self.tree.items() if leaf.is_bucket(index)]
        return [child for child in map(self.bucket, names) if child is not None]

    def get(self, key: bytes) -> bytes | None:
        """The value; None if there is none (or a bucket has the name)."""
        self._check()
        found = self.tree.find(key)
        return None if found is None or found[0].is_bucket(found[1]) else found[0].value(found[1])

    def put(self, key: bytes, value: bytes) -> None:
        """Set a value; errors as ``contract.kv.Bucket.put``, and InvalidArgument for one of more than 2 GiB - 2."""
        self._check_writable()
        if not key:
            raise InvalidArgument("key required")
        if len(key) > MAX_KEY_SIZE:
            raise InvalidArgument("key too large")
        if len(value) > MAX_VALUE_SIZE:
            raise InvalidArgument("value too large")
        found = self.tree.find(key)
        if found is not None and found[0].is_bucket(found[1]):
            raise InvalidArgument("incompatible value")
        self.tree.leaf_node(key).put(bytes(key), bytes(value))

    def delete(self, key: bytes) -> None:
        """Remove a value; what is not there is no error.

        Raises:
            InvalidArgument: the name belongs to a bucket.
        """
        self._check_writable()
        found = self.tree.find(key)
        if found is None:
            return
        if found[0].is_bucket(found[1]):
            raise InvalidArgument("incompatible value")
        self.tree.leaf_node(key).remove(found[1])

    def items(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes | None]]:
        """Keys from ``start`` on, in byte order, with their values; None marks a bucket."""
        self._check()
        for key, leaf, index in self.tree.items(start):
            yield key, None if leaf.is_bucket(index) else leaf.value(index)
            # What comes next may be another state's by now.
            self._check()

    @property
    def sequence(self) -> int:
        """The counter as it stands; 0 in a new bucket."""
        self._check()
        return self._sequence

    def next_sequence(self) -> int:
        """Count one up and answer with the new number."""
        self._check_writable()
        # The file has 64 bits for it, and bbolt counts on from 0.
        self._sequence = (self._sequence + 1) % 2**64
        self._counted = True
        return self._sequence

    def open_buckets(self) -> list[BoltBucket]:
        """This bucket and all below that the transaction has looked at, each behind the one that it lies in."""
        found: list[BoltBucket] = [self]
        # The list grows under the loop's feet: that makes the walk breadth first.
        for bucket in found:
            found += bucket._children.values()  # noqa: SLF001  # of the same class
        return found

    def store(self) -> None:
        """At commit, when all buckets below are done: write the tree, and its new place into the parent."""
        if not self.tree.nodes and not self._counted:
            return
        rebalance(self.tree)
        if self._parent is None:
            spill(self.tree)
            return
        if self.tree.is_small():
            node = self.tree.nodes[self.tree.root]
            self.tree.drop(node)
            value = BUCKET_HEADER.pack(0, self._sequence) + node.pack(0)
        else:
            # Without nodes only the counter has changed, and an inline page stays as it is.
            rest = self._header[BUCKET_HEADER.size :] if not self.tree.nodes else b""
            spill(self.tree)
            value = BUCKET_HEADER.pack(self.tree.root, self._sequence) + rest
        self._parent.tree.leaf_node(self._name).put(self._name, value, BUCKET_FLAG)

    def detach(self) -> None:
        """Make the bucket invalid: one that is gone must not come back through somebody who still has it."""
        self._gone = True

    def _check(self) -> None:
        assert self._tx.active, "a bucket is valid only inside its transaction"
        assert not self._gone, "a bucket is valid only while it exists"

    def _check_writable(self) -> None:
        self._check()
        self._tx.check_writable()


def _inline_page(name: bytes, header: bytes, page_size: int) -> Page:
    try:
        return inline_page(header, BUCKET_HEADER.size, page_size)
    except InvalidDatabase as error:
        # An inline page has no number of its own to be found by.
        raise InvalidDatabase(f"bucket {name!r}: {error.reason}") from error
