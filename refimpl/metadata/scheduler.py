"""io.containerd.gc.v1.scheduler: decides when to collect garbage, and does it on a thread of its own.

Listens to the metadata database's changes; the rules are in ``refimpl.metadata.pacing``. Keeps nothing on disk.
Clauses GC-001 to 003, GC-030 to 038, GC-044, LEA-008 to 010. Backend-neutral: real and fake stores are collected alike.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded, Unavailable, Unknown
from refimpl.contract.gc import CollectionStats, Collector
from refimpl.contract.times import SECOND, Clock
from refimpl.kernel import Duration, InitContext, Registration, hookimpl
from refimpl.metadata.pacing import Limits, Pacing

_MAX_PAUSE_THRESHOLD = 0.5
_NO_DELAY = Duration()
_STARTUP_DELAY = Duration.parse("100ms")


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """The section ``[plugins."io.containerd.gc.v1.scheduler"]`` with containerd's defaults (GC-001).

    Attributes:
        pause_threshold: share of time that collections may hold up changes, 0.0 to 0.5.
        deletion_threshold: deletions after which a collection does not wait for the next interval; 0 for never.
        mutation_threshold: changes after which one runs although nothing was deleted; 0 for never.
        schedule_delay: from a request to the collection.
        startup_delay: from the start to the first collection; 0 for none.
    """

    pause_threshold: float = 0.02
    deletion_threshold: int = 0
    mutation_threshold: int = 100
    schedule_delay: Duration = _NO_DELAY
    startup_delay: Duration = _STARTUP_DELAY


class Source(Collector, Protocol):
    """A database that collects and tells of its changes."""

    def on_mutation(self, callback: Callable[[bool], None]) -> None:
        """Have ``callback(dirty)`` called after each change."""
        ...


class _Waiter:
    """Somebody who waits for a collection: its end, and how it went."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._finished = False
        self._stats: CollectionStats | None = None

    def finish(self, stats: CollectionStats | None) -> None:
        """Wake the one who waits; None for a collection that failed."""
        self._stats, self._finished = stats, True
        self._wake.set()

    def wait(self, ctx: CallContext) -> CollectionStats:
        """Wait for the end of the collection, or of the caller's patience; errors as ``schedule_and_wait``."""
        if ctx.cancel is not None:
            ctx.cancel.on_cancel(self._wake.set)
        try:
            # Real time, whatever clock collections go by: the caller's deadline is a promise to somebody outside.
            self._wake.wait(None if ctx.deadline is None else max(0.0, ctx.deadline - time.monotonic()))
        finally:
            if ctx.cancel is not None:
                ctx.cancel.forget(self._wake.set)
        if not self._finished:
            ctx.check()
            raise DeadlineExceeded
        if self._stats is None:
            raise Unknown("gc failed")
        return self._stats


class Scheduler:
    """A ``contract.gc.GarbageScheduler``. ``start`` it once; ``close`` it before the database.

    Args:
        clock: whose time delays and intervals are counted in.
    """

    def __init__(self, source: Source, limits: Limits, clock: Clock, log: logging.Logger) -> None:
        self._source = source
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._pacing = Pacing(limits, clock.monotonic())
        self._waiters: list[_Waiter] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="refimpl-gc-scheduler", daemon=True)
        source.on_mutation(self._mutated)

    def start(self) -> None:
        """Begin to collect."""
        self._thread.start()

    def schedule_and_wait(self, ctx: CallContext) -> CollectionStats:
        """Have a collection done that starts after this call, and wait for its end (GC-038).

        Raises:
            Canceled, DeadlineExceeded: the caller gave up; the collection happens all the same (LEA-010).
            Unavailable: the scheduler is closed.
            Unknown: the collection failed (GC-044).
        """
        waiter = _Waiter()
        with self._lock:
            if self._closed:
                raise Unavailable("garbage collection scheduler is closed")
            self._waiters.append(waiter)
            self._pacing.requested(self._clock.monotonic())
        self._wake.set()
        return waiter.wait(ctx)

    def close(self) -> None:
        """Stop; a running collection is waited for, and who waits for the next one hears that it failed. Idempotent."""
        with self._lock:
            self._closed = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.finish(None)
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _mutated(self, dirty: bool) -> None:  # the shape of the database's callback
        with self._lock:
            before = self._pacing.due_at
            self._pacing.mutated(self._clock.monotonic(), dirty=dirty)
            changed = self._pacing.due_at != before
        # Most changes change nothing here: they must not cost a switch of threads each.
        if changed:
            self._wake.set()

    def _run(self) -> None:
        while True:
            # Cleared before looking: what happens after the look sets it again, and the wait ends at once.
            self._wake.clear()
            with self._lock:
                if self._closed:
                    return
                due_at = self._pacing.due_at
                left = None if due_at is None else due_at - self._clock.monotonic()
                waiters: list[_Waiter] = []
                if left is not None and left <= 0:
                    self._pacing.begin()
                    waiters, self._waiters = self._waiters, []
            if left is not None and left <= 0:
                self._collect(waiters)
            else:
                self._clock.wait(self._wake, left)

    def _collect(self, waiters: list[_Waiter]) -> None:
        stats = None
        try:
            stats = self._source.collect(CallContext())
        except Exception as err:  # noqa: BLE001  # whatever a record or a store did: the loop must outlive it (GC-044)
            self._log.error("garbage collection failed", extra={"fields": {"error": err}})
        else:
            pause = Duration(round(stats.elapsed * SECOND))
            self._log.debug("garbage collected", extra={"fields": {"d": pause, "removed": stats.removed}})
        with self._lock:
            if stats is None:
                self._pacing.failed(self._clock.monotonic())
            else:
                self._pacing.finished(self._clock.monotonic(), stats.elapsed)
        for waiter in waiters:
            waiter.finish(stats)


def limits(config: SchedulerConfig) -> Limits:
    """The settings in force: what is out of bounds is brought to the nearest bound (GC-002)."""
    return Limits(
        pause_threshold=min(max(config.pause_threshold, 0.0), _MAX_PAUSE_THRESHOLD),
        deletion_threshold=config.deletion_threshold,
        mutation_threshold=max(config.mutation_threshold, 0),
        schedule_delay=max(config.schedule_delay.seconds, 0.0),
        startup_delay=max(config.startup_delay.seconds, 0.0),
    )


def init(ic: InitContext) -> Scheduler:
    """Start to schedule collections of the metadata database."""
    source: Source = ic.get("io.containerd.metadata.v1")
    config: SchedulerConfig = ic.config
    effective = limits(config)
    ic.exports["PauseThreshold"] = f"{effective.pause_threshold!r}".removesuffix(".0")
    ic.exports["DeletionThreshold"] = str(effective.deletion_threshold)
    ic.exports["MutationThreshold"] = str(effective.mutation_threshold)
    ic.exports["ScheduleDelay"] = str(max(config.schedule_delay, _NO_DELAY))
    scheduler = Scheduler(source, effective, ic.clock, ic.log)
    scheduler.start()
    return scheduler


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """Contribute the scheduler."""
    return [
        Registration(
            "io.containerd.gc.v1",
            "scheduler",
            init=init,
            requires=("io.containerd.metadata.v1",),
            config=SchedulerConfig,
        )
    ]
