"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading

from refimpl.contract.times import SECOND

EPOCH = 1_700_000_000 * SECOND
"""Where the clock starts (2023-11-14T22:13:20Z): after every real file's time, before any deadline."""


class FakeClock:
    """A ``contract.times.Clock`` whose time passes only in ``advance``.

    Args:
        start: first answer of ``now``, in nanoseconds since the Unix epoch.
    """

    def __init__(self, start: int = EPOCH) -> None:
        self._now = start
        self._elapsed = 0
        self._moved = threading.Condition()

    def now(self) -> int:
        """Wall time in nanoseconds since the Unix epoch."""
        with self._moved:
            return self._now

    def monotonic(self) -> float:
        """Seconds that ``advance`` has moved the clock by."""
        with self._moved:
            return self._elapsed / SECOND

    def advance(self, seconds: float) -> None:
        """Let time pass and wake those whose wait is over."""
        step = round(seconds * SECOND)
        with self._moved:
            self._now += step
            self._elapsed += step
            self._moved.notify_all()

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait for ``event``, at most ``seconds`` of this clock; True if the event is set.

        The event is looked at in real time, since whoever sets it does not know of this clock.
        """
        with self._moved:
            end = None if seconds is None else self._elapsed + round(seconds * SECOND)
            while not event.is_set() and (end is None or self._elapsed < end):
                self._moved.wait(0.01)
        return event.is_set()
