"""The metadata database: transactions, schema version, and what a garbage collection has to know.

Everything above works on the ``v1`` bucket that a transaction gives. The database itself

* brings an older schema up to date when it is opened (MET-004 to 012),
* serialises writers, and lets a collection hold them all off (``gc_lock``),
* remembers which parts lost records since the last collection (MET-059),
* tells its observers after every change whether there is something to collect.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from refimpl.contract import kv
from refimpl.contract.times import Clock
from refimpl.metadata.buckets import SCHEMA
from refimpl.metadata.locks import SharedLock
from refimpl.metadata.migrations import migrate, needs_migration

_SNAPSHOTS = "snapshots/"


@dataclass(frozen=True, slots=True)
class Dirty:
    """Back ends that may hold what no record stands for any more.

    Attributes:
        content: a blob or an ingest lost its record.
        snapshotters: names of the snapshotters of which a snapshot lost its record.
    """

    content: bool = False
    snapshotters: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Transaction:
    """The open transaction of a thread. Marks count only when it is committed."""

    v1: kv.Bucket
    writable: bool
    marks: set[str] = field(default_factory=set)


class Database:
    """The ``v1`` bucket behind transactions that threads share safely.

    Transactions nest: whoever asks for one while the same thread has one open works in that one. So a content commit
    and the entry in its lease are one change, without either knowing about the other. An ``update`` inside a ``view``
    is a mistake of ours, since the view cannot see the change.

    Args:
        store: where the tree is kept; closed with the database.
        clock: what timestamps are taken from.
    """

    def __init__(self, store: kv.Store, clock: Clock) -> None:
        self.clock = clock
        self.gc_lock = SharedLock()
        """Held shared by every change, exclusively by a collection, from the mark to the end of the sweep."""
        self._store = store
        self._thread = threading.local()
        self._state = threading.Lock()
        self._pending: set[str] = set()
        self._observers: list[Callable[[bool], None]] = []
        self._open()

    @contextmanager
    def view(self) -> Iterator[kv.Bucket]:
        """A read transaction, which sees one state from begin to end (MET-027); gives ``v1``."""
        current = self._current
        if current is not None:
            yield current.v1
            return
        with self._store.view() as root, self._as_current(root, writable=False) as transaction:
            yield transaction.v1

    @contextmanager
    def update(self) -> Iterator[kv.Bucket]:
        """A write transaction; gives ``v1``. Commits at the end of the block; leaves no trace if that raises (MET-025).

        Observers are told after the commit, except for what a collection changes.
        """
        current = self._current
        if current is not None:
            assert current.writable, "a change inside a read transaction would not be seen by it"
            yield current.v1
            return
        collecting = self.gc_lock.exclusive_here
        with self.gc_lock.shared():
            with self._store.update() as root, self._as_current(root, writable=True) as transaction:
                yield transaction.v1
            with self._state:
                self._pending |= transaction.marks
                dirty, observers = bool(self._pending), tuple(self._observers)
            if not collecting:
                for observer in observers:
                    observer(dirty)

    def mark_dirty(self, resource: str) -> None:
        """Note in the open write transaction that a record of this type goes; counts only if it commits.

        Args:
            resource: ``content``, ``ingests``, ``snapshots/<snapshotter>``, or what has no back end (``images``,
                ``containers``, ``leases``).
        """
        current = self._current
        assert current is not None, "a deletion belongs into a transaction"
        assert current.writable, "a deletion belongs into a write transaction"
        current.marks.add(resource)

    @property
    def dirty(self) -> bool:
        """Whether anything was deleted since the last collection."""
        with self._state:
            return bool(self._pending)

    def take_dirty(self) -> Dirty:
        """Which back ends to clean; the marks are gone afterwards. For a collection, which holds ``gc_lock``."""
        with self._state:
            taken, self._pending = self._pending, set()
        return Dirty(
            content=not taken.isdisjoint({"content", "ingests"}),
            snapshotters=frozenset(mark.removeprefix(_SNAPSHOTS) for mark in taken if mark.startswith(_SNAPSHOTS)),
        )

    def on_mutation(self, callback: Callable[[bool], None]) -> None:
        """Have ``callback(dirty)`` called after every change that is not a collection's, by the thread that made it.

        ``dirty`` says whether anything was deleted since the last collection, not by this change alone (MET-059).
        """
        with self._state:
            self._observers.append(callback)

    def close(self) -> None:
        """Let go of the store. Idempotent."""
        self._store.close()

    @property
    def _current(self) -> _Transaction | None:
        return getattr(self._thread, "transaction", None)

    @contextmanager
    def _as_current(self, root: kv.Bucket, *, writable: bool) -> Iterator[_Transaction]:
        v1 = root.bucket(SCHEMA)
        assert v1 is not None, "made when the database was opened"
        self._thread.transaction = transaction = _Transaction(v1, writable)
        try:
            yield transaction
        finally:
            self._thread.transaction = None

    def _open(self) -> None:
        # Looked at before anything is written: opening an up-to-date database commits nothing (MET-005).
        with self._store.view() as root:
            outdated = needs_migration(root)
        if outdated:
            with self._store.update() as root:
                migrate(root)
