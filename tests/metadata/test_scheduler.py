"""When garbage is collected (refimpl.metadata.pacing), and by whom (refimpl.metadata.scheduler)."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.backends.fake.clock import FakeClock
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, DeadlineExceeded, Unavailable, Unknown
from refimpl.contract.gc import CollectionStats, GarbageScheduler
from refimpl.kernel import Configuration, Duration, Kernel, Registration
from refimpl.kernel.config import Section
from refimpl.metadata import scheduler as scheduler_plugin
from refimpl.metadata.pacing import FIRST_INTERVAL, SHORTEST_PAUSE, Limits, Pacing
from refimpl.metadata.scheduler import Scheduler, SchedulerConfig, limits

CTX = CallContext()
SECONDS = 60
"""Longest that another thread may take."""
SLOW = 1e-6
"""A pause threshold with which an interval takes minutes."""


def _running(limits: Limits, pause: float = 0.01) -> Pacing:
    """A pacing at second 10, right behind its first collection."""
    pacing = Pacing(limits, 9.0)
    pacing.begin()
    pacing.finished(10.0, pause)
    return pacing


class TestPacing:
    def test_the_first_collection_comes_after_the_start_up_delay_whatever_happened(self) -> None:
        assert Pacing(Limits(startup_delay=3), 100).due_at == 103

    def test_a_deletion_does_not_hasten_the_first_collection(self) -> None:
        pacing = Pacing(Limits(startup_delay=3), 100)
        pacing.mutated(100.1, dirty=True)
        assert pacing.due_at == 103

    def test_without_a_start_up_delay_the_first_one_waits_for_a_reason_and_then_comes_at_once(self) -> None:
        pacing = Pacing(Limits(startup_delay=0), 100)
        assert pacing.due_at is None
        pacing.mutated(101, dirty=False)
        assert pacing.due_at is None
        pacing.mutated(102, dirty=True)
        assert pacing.due_at == 102

    def test_without_a_start_up_delay_enough_changes_are_a_reason(self) -> None:
        pacing = Pacing(Limits(startup_delay=0, mutation_threshold=2), 100)
        pacing.mutated(101, dirty=False)
        assert pacing.due_at is None
        pacing.mutated(102, dirty=False)
        assert pacing.due_at == 102

    def test_a_deletion_waits_for_the_end_of_the_interval(self) -> None:
        pacing = _running(Limits(pause_threshold=0.02), pause=0.01)
        assert pacing.due_at is None
        pacing.mutated(10.1, dirty=True)
        assert pacing.due_at == pytest.approx(10 + 0.01 / 0.02 - 0.01)

    def test_the_interval_follows_the_average_pause(self) -> None:
        pacing = _running(Limits(pause_threshold=0.5), pause=0.1)
        pacing.begin()
        pacing.finished(20.0, 0.3)
        pacing.mutated(20.0, dirty=True)
        assert pacing.due_at == pytest.approx(20 + 0.2 / 0.5 - 0.2)

    def test_without_a_pause_threshold_the_interval_is_a_second(self) -> None:
        pacing = _running(Limits(pause_threshold=0), pause=5)
        pacing.mutated(10.0, dirty=True)
        assert pacing.due_at == 10 + FIRST_INTERVAL

    def test_a_pause_too_short_to_measure_still_makes_an_interval(self) -> None:
        pacing = _running(Limits(pause_threshold=SLOW), pause=0)
        pacing.mutated(10.0, dirty=True)
        assert pacing.due_at == pytest.approx(10 + SHORTEST_PAUSE / SLOW, rel=0.01)

    def test_when_nothing_happens_nothing_is_due_and_intervals_start_anew(self) -> None:
        pacing = _running(Limits(pause_threshold=0))
        assert pacing.due_at is None
        pacing.mutated(15.5, dirty=False)
        assert pacing.due_at is None
        pacing.mutated(17.25, dirty=True)
        assert pacing.due_at == 18

    def test_an_interval_that_ends_with_too_few_changes_starts_anew(self) -> None:
        pacing = _running(Limits(pause_threshold=0, mutation_threshold=3))
        pacing.mutated(10.5, dirty=False)
        pacing.mutated(11.5, dirty=False)
        assert pacing.due_at is None
        pacing.mutated(11.6, dirty=False)
        assert pacing.due_at == 12

    def test_a_mutation_threshold_of_0_never_counts(self) -> None:
        pacing = _running(Limits(mutation_threshold=0))
        for _ in range(500):
            pacing.mutated(10.1, dirty=False)
        assert pacing.due_at is None

    def test_deletions_up_to_their_threshold_do_not_wait_for_the_interval(self) -> None:
        pacing = _running(Limits(pause_threshold=SLOW, deletion_threshold=3, schedule_delay=0.5))
        for _ in range(2):
            pacing.mutated(11.0, dirty=True)
        assert pacing.due_at is not None
        assert pacing.due_at > 1000
        pacing.mutated(12.0, dirty=True)
        assert pacing.due_at == 12.5

    def test_a_request_waits_for_the_schedule_delay_alone(self) -> None:
        pacing = _running(Limits(pause_threshold=SLOW, schedule_delay=2))
        pacing.requested(11.0)
        pacing.requested(12.0)
        assert pacing.due_at == 13, "the second one shares the collection of the first"

    def test_a_request_does_not_put_off_what_is_due_earlier(self) -> None:
        pacing = _running(Limits(pause_threshold=0, schedule_delay=2))
        pacing.requested(10.5)
        assert pacing.due_at == 11

    def test_a_request_comes_before_the_start_up_delay(self) -> None:
        pacing = Pacing(Limits(startup_delay=10), 100)
        pacing.requested(101)
        assert pacing.due_at == 101

    def test_what_happens_during_a_collection_counts_for_the_next(self) -> None:
        pacing = _running(Limits(pause_threshold=SLOW))
        pacing.begin()
        pacing.requested(10.5)
        pacing.finished(11.0, 0.01)
        assert pacing.due_at == 11.0
        pacing.begin()
        pacing.mutated(11.5, dirty=True)
        pacing.finished(12.0, 0.01)
        assert pacing.due_at is not None
        assert pacing.due_at > 1000

    def test_a_failure_is_tried_again_each_time_a_second_later(self) -> None:
        pacing = Pacing(Limits(startup_delay=0.1), 0)
        now, distances = 0.1, []
        for _ in range(4):
            assert pacing.due_at == pytest.approx(now)
            pacing.begin()
            pacing.failed(now)
            assert pacing.due_at is not None
            distances.append(pacing.due_at - now)
            now = pacing.due_at
        assert distances == pytest.approx([1, 2, 3, 4])

    def test_a_request_after_a_failure_does_not_wait_for_the_next_attempt(self) -> None:
        pacing = _running(Limits())
        pacing.begin()
        pacing.failed(20)
        pacing.requested(20.1)
        assert pacing.due_at == 20.1

    @given(
        st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["change", "delete", "request"])), max_size=30),
        st.floats(0, 0.5),
        st.integers(0, 4),
        st.integers(0, 4),
    )
    def test_what_is_due_never_lies_before_the_last_event_and_requests_are_never_late(
        self, events: list[tuple[float, str]], pause: float, deletions: int, mutations: int
    ) -> None:
        pacing = _running(Limits(pause, deletions, mutations, schedule_delay=0.5))
        now = 10.0
        for step, kind in events:
            now += step
            if pacing.due_at is not None and pacing.due_at <= now:
                pacing.begin()
                pacing.finished(now, 0.001)
            if kind == "request":
                pacing.requested(now)
            else:
                pacing.mutated(now, dirty=kind == "delete")
            if pacing.due_at is not None:
                assert pacing.due_at >= now
            if kind == "request":
                assert pacing.due_at is not None
                assert pacing.due_at <= now + 0.5


class HandClock(FakeClock):
    """A clock that tells the test how long the scheduler is going to wait, before it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: queue.Queue[float | None] = queue.Queue()

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        end = None if seconds is None else self.monotonic() + seconds
        self.waits.put(seconds)
        while not event.is_set() and (end is None or self.monotonic() < end):
            event.wait(0.002)
        return event.is_set()

    def next_wait(self) -> float | None:
        """What the scheduler waits for next."""
        return self.waits.get(timeout=SECONDS)

    def pass_waits_until(self, seconds: float | None) -> None:
        """Skip waits that were ended early, up to one of this length."""
        while True:
            wait = self.next_wait()
            if wait == seconds or (wait is not None and wait == pytest.approx(seconds)):
                return


class ScriptedSource:
    """A database that only counts collections, and fails when told to."""

    def __init__(self) -> None:
        self.callback: Callable[[bool], None] = lambda _dirty: None
        self.collections: queue.Queue[float] = queue.Queue()
        self.failures: list[Exception] = []
        self.during: Callable[[], None] = lambda: None

    def on_mutation(self, callback: Callable[[bool], None]) -> None:
        self.callback = callback

    def collect(self, ctx: CallContext) -> CollectionStats:
        self.during()
        self.collections.put(time.monotonic())
        if self.failures:
            raise self.failures.pop()
        return CollectionStats(0.001, {"content": self.collections.qsize()})


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
def make(clock: HandClock, source: ScriptedSource) -> Iterator[Callable[[Limits], Scheduler]]:
    made: list[Scheduler] = []

    def start(limits: Limits) -> Scheduler:
        scheduler = Scheduler(source, limits, clock, logging.getLogger("test.scheduler"))
        scheduler.start()
        made.append(scheduler)
        return scheduler

    yield start
    for scheduler in made:
        scheduler.close()


class TestScheduler:
    def test_it_is_what_the_contract_calls_a_scheduler(self, make: Callable[[Limits], Scheduler]) -> None:
        scheduler: GarbageScheduler = make(Limits())
        scheduler.close()

    def test_it_collects_once_after_the_start_and_then_rests(
        self, make: Callable[[Limits], Scheduler], clock: HandClock, source: ScriptedSource
    ) -> None:
        make(Limits(startup_delay=3))
        assert clock.next_wait() == 3
        clock.advance(2.5)
        assert source.collections.empty()
        clock.advance(0.5)
        assert clock.next_wait() is None
        assert source.collections.qsize() == 1

    def test_a_deletion_is_collected_when_the_interval_ends(
        self, make: Callable[[Limits], Scheduler], clock: HandClock, source: ScriptedSource
    ) -> None:
        make(Limits(pause_threshold=0, startup_delay=1))
        assert clock.next_wait() == 1
        clock.advance(1)
        assert clock.next_wait() is None
        source.callback(False)
        source.callback(True)
        assert clock.next_wait() == FIRST_INTERVAL
        clock.advance(FIRST_INTERVAL)
        assert clock.next_wait() is None
        assert source.collections.qsize() == 2

    def test_who_waits_gets_the_result_of_a_collection_that_started_after_the_call(
        self, make: Callable[[Limits], Scheduler], clock: HandClock, source: ScriptedSource
    ) -> None:
        scheduler = make(Limits(pause_threshold=SLOW, startup_delay=0))
        assert clock.next_wait() is None
        second: list[CollectionStats] = []
        entered, leave = threading.Event(), threading.Event()

        def during() -> None:
            source.during = lambda: None
            entered.set()
            assert leave.wait(SECONDS)

        source.during = during
        first = threading.Thread(target=scheduler.schedule_and_wait, args=(CTX,))
        first.start()
        assert entered.wait(SECONDS)
        late = threading.Thread(target=lambda: second.append(scheduler.schedule_and_wait(CTX)))
        late.start()
        while scheduler._pacing.due_at is None or not scheduler._waiters:
            late.join(0.001)
        leave.set()
        for thread in (first, late):
            thread.join(SECONDS)
        assert second == [CollectionStats(0.001, {"content": 2})]

    def test_many_who_wait_share_a_collection(
        self, make: Callable[[Limits], Scheduler], clock: HandClock, source: ScriptedSource
    ) -> None:
        scheduler = make(Limits(pause_threshold=SLOW, schedule_delay=2, startup_delay=0))
        threads = [threading.Thread(target=scheduler.schedule_and_wait, args=(CTX,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        while len(scheduler._waiters) < 5:
            threads[0].join(0.001)
        clock.pass_waits_until(2)
        clock.advance(2)
        for thread in threads:
            thread.join(SECONDS)
        assert source.collections.qsize() == 1

    def test_a_failure_reaches_who_waits_and_is_tried_again(
        self,
        make: Callable[[Limits], Scheduler],
        clock: HandClock,
        source: ScriptedSource,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        source.failures = [ValueError("a record that cannot be read")]
        scheduler = make(Limits(startup_delay=0))
        # Otherwise the call could wake it a second time, when it waits for the next attempt already.
        assert clock.next_wait() is None
        with pytest.raises(Unknown, match=r"^gc failed$"):
            scheduler.schedule_and_wait(CTX)
        assert "garbage collection failed" in caplog.text
        clock.pass_waits_until(1)
        clock.advance(1)
        assert clock.next_wait() is None
        assert source.collections.qsize() == 2

    def test_a_caller_that_gives_up_does_not_stop_the_collection(
        self, make: Callable[[Limits], Scheduler], clock: HandClock, source: ScriptedSource
    ) -> None:
        scheduler = make(Limits(schedule_delay=5, startup_delay=0))
        with pytest.raises(DeadlineExceeded):
            scheduler.schedule_and_wait(CallContext(deadline=time.monotonic() + 0.01))
        token = CancelToken()
        threading.Timer(0.01, token.cancel).start()
        with pytest.raises(Canceled):
            scheduler.schedule_and_wait(CallContext(cancel=token))
        assert source.collections.empty()
        clock.pass_waits_until(5)
        clock.advance(5)
        source.collections.get(timeout=SECONDS)

    def test_a_call_that_is_cancelled_already_is_told_so(self, make: Callable[[Limits], Scheduler]) -> None:
        token = CancelToken()
        token.cancel()
        with pytest.raises(Canceled):
            make(Limits(schedule_delay=5, startup_delay=0)).schedule_and_wait(CallContext(cancel=token))

    def test_closing_lets_nobody_wait_for_ever(self, make: Callable[[Limits], Scheduler]) -> None:
        scheduler = make(Limits(schedule_delay=5, startup_delay=0))
        outcome: list[Exception] = []

        def wait() -> None:
            try:
                scheduler.schedule_and_wait(CTX)
            except Unknown as err:
                outcome.append(err)

        thread = threading.Thread(target=wait)
        thread.start()
        while not scheduler._waiters:
            thread.join(0.001)
        scheduler.close()
        thread.join(SECONDS)
        assert [str(err) for err in outcome] == ["gc failed"]
        scheduler.close()
        with pytest.raises(Unavailable):
            scheduler.schedule_and_wait(CTX)

    def test_closing_waits_for_a_running_collection(
        self, make: Callable[[Limits], Scheduler], source: ScriptedSource
    ) -> None:
        entered, leave = threading.Event(), threading.Event()

        def during() -> None:
            entered.set()
            assert leave.wait(SECONDS)

        source.during = during
        scheduler = make(Limits(startup_delay=0))
        waiting = threading.Thread(target=scheduler.schedule_and_wait, args=(CTX,))
        waiting.start()
        assert entered.wait(SECONDS)
        closing = threading.Thread(target=scheduler.close)
        closing.start()
        closing.join(0.05)
        assert closing.is_alive()
        leave.set()
        for thread in (closing, waiting):
            thread.join(SECONDS)
        assert not closing.is_alive()
        assert source.collections.qsize() == 1


class TestConfiguration:
    def test_defaults_are_those_of_containerd(self) -> None:
        assert limits(SchedulerConfig()) == Limits(0.02, 0, 100, 0.0, 0.1) == Limits()

    def test_what_is_out_of_bounds_is_brought_back(self) -> None:
        negative = SchedulerConfig(-1.0, -3, -5, Duration(-5), Duration(-1))
        assert limits(negative) == Limits(0.0, -3, 0, 0.0, 0.0)
        assert limits(SchedulerConfig(pause_threshold=0.9)).pause_threshold == 0.5

    @pytest.mark.parametrize(
        "section, exports",
        [
            ({}, ("0.02", "0", "100", "0s")),
            ({"pause_threshold": -1.0, "schedule_delay": "1m30s"}, ("0", "0", "100", "1m30s")),
            ({"pause_threshold": 0.9, "mutation_threshold": -5}, ("0.5", "0", "0", "0s")),
            ({"pause_threshold": 0.000001, "deletion_threshold": -3}, ("1e-06", "-3", "100", "0s")),
            ({"schedule_delay": "-5s", "startup_delay": "-1s"}, ("0.02", "0", "100", "0s")),
        ],
    )
    def test_the_settings_in_force_are_exported(
        self, tmp_path: Path, source: ScriptedSource, section: dict[str, object], exports: tuple[str, ...]
    ) -> None:
        registrations = [
            Registration("io.containerd.metadata.v1", "bolt", init=lambda _ic: source),
            *scheduler_plugin.refimpl_registrations(),
        ]
        uri = "io.containerd.gc.v1.scheduler"
        configuration = Configuration(plugins={uri: Section(section)})
        kernel = Kernel(registrations, root=tmp_path, state=tmp_path, configuration=configuration, clock=HandClock())
        try:
            plugin = kernel.boot()[uri]
            assert plugin.error is None
            assert plugin.registration.requires == ("io.containerd.metadata.v1",)
            names = ("PauseThreshold", "DeletionThreshold", "MutationThreshold", "ScheduleDelay")
            assert plugin.exports == dict(zip(names, exports, strict=True))
        finally:
            kernel.close()
        assert list(tmp_path.iterdir()) == []
