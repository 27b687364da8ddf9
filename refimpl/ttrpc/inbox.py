"""Where one reader leaves what arrives, and one call waits for it: as long as its context allows, and no longer."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue with an end. What was put before the end is still handed out; then the end is.

    Args:
        limit: most items that may wait; 0 for no limit.
    """

    def __init__(self, limit: int = 0) -> None:
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._limit = limit
        self._ended = False
        self._error: Exception | None = None

    def put(self, item: T) -> bool:
        """Leave an item; dropped after the end. False if there is no room for it. Never waits."""
        with self._changed:
            if self._ended:
                return True
            if self._limit and len(self._items) >= self._limit:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def end(self, error: Exception | None = None) -> None:
        """Nothing comes any more, because of ``error`` or because all has come. The first end counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
                self._changed.notify_all()

    def take(self, ctx: CallContext) -> T | None:
        """The next item; waits for it. None at a good end.

        Raises:
            Canceled, DeadlineExceeded: the caller of ``ctx`` waits no longer.
            Exception: the error with which it ended.
        """
        if ctx.cancel is not None:
            ctx.cancel.on_cancel(self._wake)
        try:
            with self._changed:
                while not (self._items or self._ended):
                    ctx.check()
                    # Real time, whatever clock plugins go by: a deadline is a promise to somebody outside.
                    left = None if ctx.deadline is None else max(0.0, ctx.deadline - time.monotonic())
                    if not self._changed.wait(left) and left is not None:
                        ctx.check()
                        raise DeadlineExceeded
                if self._items:
                    return self._items.popleft()
                if self._error is not None:
                    raise self._error
                return None
        finally:
            if ctx.cancel is not None:
                ctx.cancel.forget(self._wake)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
