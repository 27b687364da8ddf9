"""Pacing: when the next collection is due. A state machine without threads: every rule can be tested by numbers.

After each collection the clock runs to the end of an *interval*, chosen so that collections hold up changes for at most
``pause_threshold`` of all time (GC-032). What is worth a collection by then (GC-032 to 036):

* a deletion that has not been collected,
* ``mutation_threshold`` changes since the last one,
* a request, which does not wait for the interval but only for ``schedule_delay`` (GC-037, GC-038);
  ``deletion_threshold`` deletions do not wait for it either.

Nothing of this: the interval starts anew, as often as needed (GC-033). The first collection comes ``startup_delay``
after the start whatever happened (GC-030), or, without that delay, as soon as it is worth it (GC-031).

All times are seconds on a monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_INTERVAL = 1.0
"""Until a pause was measured, and for ever if ``pause_threshold`` is 0."""

SHORTEST_PAUSE = 0.0001
"""What a pause counts at least: one too short to measure must not make an interval of nothing."""

RETRY = 1.0
"""What a failure adds to the distance of the next attempt (GC-044)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The scheduler's settings in force: within their bounds (GC-002), delays in seconds.

    Attributes:
        pause_threshold: share of time that collections may take, 0 to 0.5.
        deletion_threshold: deletions that are not left waiting for the interval; 0 or less for any number.
        mutation_threshold: changes that are worth a collection; 0 for none.
    """

    pause_threshold: float = 0.02
    deletion_threshold: int = 0
    mutation_threshold: int = 100
    schedule_delay: float = 0.0
    startup_delay: float = 0.1


class Pacing:
    """The state between collections. Not thread-safe: the scheduler locks.

    Args:
        now: when the daemon started.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._interval = FIRST_INTERVAL
        self._next: float | None = now + limits.startup_delay if limits.startup_delay > 0 else None
        self._planned = now
        self._last: float | None = None
        self._collections = 0
        self._paused = 0.0
        self._requested = False
        self._deletions = 0
        self._mutations = 0

    def mutated(self, now: float, *, dirty: bool) -> None:
        """A change was made; ``dirty`` if a deletion, by this change or before, waits for a collection (GC-036)."""
        self._roll(now)
        self._mutations += 1
        self._deletions += dirty
        limits = self._limits
        if (limits.deletion_threshold > 0 and self._deletions >= limits.deletion_threshold) or (
            self._next is None and (self._many_mutations or (limits.deletion_threshold <= 0 and self._deletions))
        ):
            self._hurry(now)

    def requested(self, now: float) -> None:
        """Somebody waits for a collection."""
        self._roll(now)
        self._requested = True
        self._hurry(now)

    @property
    def due_at(self) -> float | None:
        """When to collect; None: not before something happens."""
        return self._next if self._worth_it else None

    def begin(self) -> None:
        """A collection starts: what happens from here on counts for the next one."""
        self._planned = self._next if self._next is not None else self._planned
        self._requested = False
        self._deletions = self._mutations = 0

    def finished(self, now: float, pause: float) -> None:
        """The collection is done; it held up changes for ``pause`` seconds."""
        self._collections += 1
        self._paused += max(pause, SHORTEST_PAUSE)
        if self._limits.pause_threshold > 0:
            average = self._paused / self._collections
            self._interval = average / self._limits.pause_threshold - average
        self._last = now
        self._next = now + self._interval
        if self._requested:
            self._hurry(now)

    def failed(self, now: float) -> None:
        """The collection failed: try again, each time a second later than before (GC-044)."""
        distance = max(0.0, self._planned - self._last) if self._last is not None else 0.0
        self._last = now
        self._next = now + distance + RETRY
        asked_meanwhile, self._requested = self._requested, True
        if asked_meanwhile:
            self._hurry(now)

    @property
    def _many_mutations(self) -> bool:
        return 0 < self._limits.mutation_threshold <= self._mutations

    @property
    def _worth_it(self) -> bool:
        return self._last is None or self._requested or self._deletions > 0 or self._many_mutations

    def _hurry(self, now: float) -> None:
        soon = now + self._limits.schedule_delay
        self._next = soon if self._next is None else min(self._next, soon)

    def _roll(self, now: float) -> None:
        """Let the intervals pass that ended with nothing to do since anybody looked."""
        if self._next is not None and self._next < now and not self._worth_it:
            self._next += math.ceil((now - self._next) / self._interval) * self._interval
