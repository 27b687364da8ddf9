"""A ``contract.kv`` store in memory: the metadata database without a disk.

The tree is made of nodes that never change once their transaction is committed. A write transaction copies the nodes it
touches, from the root down (path copying), and puts the new root in place at the end; a reader keeps the root it began
with. So readers wait for nobody, and a rollback is to forget. Twin: ``refimpl.backends.real.bolt``.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from refimpl.contract.kv import MAX_KEY_SIZE


class _Node:
    """A bucket's content: its keys with their values or nodes, and its sequence."""

    __slots__ = ("entries", "order", "sequence")

    def __init__(self, entries: dict[bytes, bytes | _Node], sequence: int = 0) -> None:
        self.entries = entries
        self.sequence = sequence
        self.order: list[bytes] | None = None
        """The keys in byte order, kept until a key comes or goes. Readers may fill it at once: all get the same."""

    def sorted_keys(self) -> list[bytes]:
        order = self.order
        if order is None:
            order = self.order = sorted(self.entries)
        return order


class _Transaction:
    """What the buckets of one transaction share: whether they may change anything, and whether they are still valid."""

    __slots__ = ("active", "writable")

    def __init__(self, *, writable: bool) -> None:
        self.writable = writable
        self.active = True


class MemoryBucket:
    """A ``contract.kv.Bucket``: a cursor to a node, owned by one transaction."""

    def __init__(
        self, transaction: _Transaction, node: _Node, parent: MemoryBucket | None = None, name: bytes = b""
    ) -> None:
        self._transaction = transaction
        self.node = node
        self._parent = parent
        self._name = name
        self._own = False
        # One cursor a bucket and transaction, so that two callers who walk to the same bucket see each other's changes.
        self._children: dict[bytes, MemoryBucket] = {}

    def bucket(self, name: bytes) -> MemoryBucket | None:
        """The bucket of that name; None if there is none (or a value has the name)."""
        self._check()
        child = self._children.get(name)
        if child is None:
            node = self.node.entries.get(name)
            if not isinstance(node, _Node):
                return None
            child = self._children[name] = MemoryBucket(self._transaction, node, self, name)
        return child

    def create_bucket(self, name: bytes) -> MemoryBucket:
        """Make a bucket; errors as ``contract.kv.Bucket.create_bucket``."""
        self._check_writable()
        if not name:
            raise InvalidArgument("bucket name required")
        existing = self.node.entries.get(name)
        if isinstance(existing, _Node):
            raise AlreadyExists("bucket")
        if existing is not None:
            raise InvalidArgument("incompatible value")
        self.own_node().entries[name] = _Node({})
        self.node.order = None
        child = self.bucket(name)
        assert child is not None, "just made"
        return child

    def create_bucket_if_not_exists(self, name: bytes) -> MemoryBucket:
        """The bucket of that name, made if missing."""
        self._check_writable()
        return self.bucket(name) or self.create_bucket(name)

    def delete_bucket(self, name: bytes) -> None:
        """Remove a bucket and all in it; NotFound if there is none."""
        self._check_writable()
        if not isinstance(self.node.entries.get(name), _Node):
            raise NotFound("bucket")
        del self.own_node().entries[name]
        self.node.order = None
        child = self._children.pop(name, None)
        if child is not None:
            child.detach()

    def get(self, key: bytes) -> bytes | None:
        """The value; None if there is none (or a bucket has the name)."""
        self._check()
        value = self.node.entries.get(key)
        return value if isinstance(value, bytes) else None

    def put(self, key: bytes, value: bytes) -> None:
        """Set a value; errors as ``contract.kv.Bucket.put``."""
        self._check_writable()
        if not key:
            raise InvalidArgument("key required")
        if len(key) > MAX_KEY_SIZE:
            raise InvalidArgument("key too large")
        if isinstance(self.node.entries.get(key), _Node):
            raise InvalidArgument("incompatible value")
        node = self.own_node()
        if key not in node.entries:
            node.order = None
        node.entries[key] = bytes(value)

    def delete(self, key: bytes) -> None:
        """Remove a value; what is not there is no error.

        Raises:
            InvalidArgument: the name belongs to a bucket.
        """
        self._check_writable()
        value = self.node.entries.get(key)
        if value is None:
            return
        if isinstance(value, _Node):
            raise InvalidArgument("incompatible value")
        node = self.own_node()
        del node.entries[key]
        node.order = None

    def items(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes | None]]:
        """Keys from ``start`` on, in byte order, with their values; None marks a bucket."""
        self._check()
        entries, order = self.node.entries, self.node.sorted_keys()
        for index in range(bisect.bisect_left(order, start), len(order)):
            value = entries[order[index]]
            yield order[index], value if isinstance(value, bytes) else None

    @property
    def sequence(self) -> int:
        """The counter as it stands; 0 in a new bucket."""
        self._check()
        return self.node.sequence

    def next_sequence(self) -> int:
        """Count one up and answer with the new number."""
        self._check_writable()
        node = self.own_node()
        node.sequence += 1
        return node.sequence

    def own_node(self) -> _Node:
        """The node to write to: copied at the first change, together with the path to it."""
        if not self._own:
            order = self.node.order
            self.node = _Node(dict(self.node.entries), self.node.sequence)
            self.node.order = order
            self._own = True
            if self._parent is not None:
                self._parent.own_node().entries[self._name] = self.node
        return self.node

    def detach(self) -> None:
        """Make this cursor and those below invalid: a bucket that is gone must not come back through one of them."""
        self._transaction = _Transaction(writable=False)
        self._transaction.active = False
        for child in self._children.values():
            child.detach()

    def _check(self) -> None:
        assert self._transaction.active, "a bucket is valid only inside its transaction, and while it exists"

    def _check_writable(self) -> None:
        self._check()
        if not self._transaction.writable:
            raise FailedPrecondition("tx not writable")


class MemoryStore:
    """A ``contract.kv.Store`` in memory."""

    def __init__(self) -> None:
        self._root = _Node({})
        self._writer = threading.Lock()
        self._state = threading.Condition()
        self._open = 0
        self._closed = False

    @contextmanager
    def view(self) -> Iterator[MemoryBucket]:
        """A read transaction; gives the root bucket."""
        with self._transaction(writable=False) as transaction:
            yield MemoryBucket(transaction, self._root)

    @contextmanager
    def update(self) -> Iterator[MemoryBucket]:
        """A write transaction; gives the root bucket. Other writers wait for its end."""
        with self._writer, self._transaction(writable=True) as transaction:
            root = MemoryBucket(transaction, self._root)
            yield root
            self._root = root.node

    def close(self) -> None:
        """Wait for open transactions; later ones are refused. Idempotent."""
        with self._state:
            self._closed = True
            self._state.wait_for(lambda: not self._open)

    def reopened(self) -> MemoryStore:
        """A new store with the content of this one, which has to be closed.

        Raises:
            Unavailable: it is still open, as a file would be locked.
        """
        with self._state:
            if not self._closed:
                raise Unavailable("database is open")
        store = MemoryStore()
        store._root = self._root
        return store

    @contextmanager
    def _transaction(self, *, writable: bool) -> Iterator[_Transaction]:
        with self._state:
            if self._closed:
                raise FailedPrecondition("database not open")
            self._open += 1
        transaction = _Transaction(writable=writable)
        try:
            yield transaction
        finally:
            transaction.active = False
            with self._state:
                self._open -= 1
                self._state.notify_all()


class MemoryStoreFactory:
    """A ``contract.kv.StoreFactory`` whose databases outlive a restart of the daemon in the same process.

    They are kept by path, as a disk keeps files.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[Path, MemoryStore] = {}

    def open(self, path: Path, *, timeout: float = 0.0) -> MemoryStore:
        """Open the database that lives at ``path``, made if missing. Nobody waits here, whatever ``timeout``.

        Raises:
            Unavailable: it is open already, as a file would be locked.
        """
        with self._lock:
            closed = self._stores.get(path)
            store = self._stores[path] = MemoryStore() if closed is None else closed.reopened()
            return store
