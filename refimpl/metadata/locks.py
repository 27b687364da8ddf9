"""A lock that many may share or one may have to itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """Shared by any number of threads, or exclusive to one.

    Who waits for it exclusively goes before those who come later to share it, so a stream of changes cannot put a
    collection off for ever. A thread that has it in either way gets it shared again at once; asking for it exclusively
    while sharing it would wait for oneself, and is a mistake of ours.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._sharing: dict[int, int] = {}
        self._owner: int | None = None
        self._waiting = 0

    @property
    def exclusive_here(self) -> bool:
        """Whether this thread has the lock to itself."""
        return self._owner == threading.get_ident()

    @property
    def waiting(self) -> bool:
        """Whether a thread waits to have the lock to itself."""
        return self._waiting > 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with others."""
        me = threading.get_ident()
        with self._condition:
            if me not in self._sharing and self._owner != me:
                self._condition.wait_for(lambda: self._owner is None and not self._waiting)
            self._sharing[me] = self._sharing.get(me, 0) + 1
        try:
            yield
        finally:
            with self._condition:
                self._sharing[me] -= 1
                if not self._sharing[me]:
                    del self._sharing[me]
                    self._condition.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock alone."""
        me = threading.get_ident()
        with self._condition:
            assert me not in self._sharing, "a thread would wait for itself"
            assert self._owner != me, "a thread would wait for itself"
            self._waiting += 1
            try:
                self._condition.wait_for(lambda: self._owner is None and not self._sharing)
                self._owner = me
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            with self._condition:
                self._owner = None
                self._condition.notify_all()
