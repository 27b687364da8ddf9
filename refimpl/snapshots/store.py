"""The database file of one snapshotter: opened by the first call, held until the snapshotter is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from refimpl.contract import kv
from refimpl.contract.errors import FailedPrecondition
from refimpl.contract.times import Clock
from refimpl.snapshots.records import Records


class RecordStore:
    """The records of one snapshotter, in transactions.

    A plugin that is never used makes no database (SNX-005).

    Args:
        opener: opens the database, or makes it.
        clock: the time of changes.
    """

    def __init__(self, opener: Callable[[], kv.Store], clock: Clock) -> None:
        self._opener = opener
        self._clock = clock
        self._lock = threading.Lock()
        self._store: kv.Store | None = None
        self._closed = False

    def _opened(self) -> kv.Store:
        # Asked again and again without the lock: a reference is read whole.
        if self._store is not None:
            return self._store
        with self._lock:
            if self._closed:
                raise FailedPrecondition("database not open")
            if self._store is None:
                self._store = self._opener()
            return self._store

    @contextmanager
    def view(self) -> Iterator[Records]:
        """A read transaction: one state, and nobody waits."""
        with self._opened().view() as root:
            yield Records(root, self._clock)

    @contextmanager
    def update(self) -> Iterator[Records]:
        """A write transaction, one at a time: what the block changed is taken back if it raises."""
        with self._opened().update() as root:
            yield Records(root, self._clock)

    def close(self) -> None:
        """Wait for open transactions and let go of the file. Idempotent."""
        with self._lock:
            store, self._store, self._closed = self._store, None, True
        if store is not None:
            store.close()
