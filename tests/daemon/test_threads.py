"""Threads that come when they are needed and go when they are not."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from refimpl.daemon.threads import LazyThreads

WAIT = 60.0


def test_no_thread_is_made_before_there_is_work() -> None:
    assert LazyThreads(1000).threads == 0


def test_answers_and_errors_reach_whoever_asked() -> None:
    pool = LazyThreads(4)
    assert pool.submit(lambda a, b: a + b, 1, b=2).result(WAIT) == 3
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(WAIT)


def test_a_free_thread_is_used_again() -> None:
    pool = LazyThreads(100)
    idle = threading.Event()
    for _ in range(20):
        name = pool.submit(lambda: threading.current_thread().name).result(WAIT)
        assert name == "call-1"
        # The thread is free a moment after its answer is there; wait for that, not for a time.
        while not idle.is_set():
            with pool._condition:
                if pool._idle == 1:
                    break
    assert pool.threads == 1


def test_calls_that_wait_do_not_hold_up_others() -> None:
    pool, gate = LazyThreads(1000), threading.Event()
    waiting = [pool.submit(gate.wait, WAIT) for _ in range(200)]
    assert pool.submit(lambda: "through").result(WAIT) == "through"
    gate.set()
    assert all(future.result(WAIT) for future in waiting)


def test_there_are_never_more_than_the_limit_and_the_rest_waits_in_order() -> None:
    pool, gate = LazyThreads(2), threading.Event()
    order: list[int] = []
    held = [pool.submit(gate.wait, WAIT) for _ in range(2)]
    later = [pool.submit(order.append, number) for number in range(10)]
    assert pool.threads == 2
    assert not any(future.done() for future in later)
    gate.set()
    assert all(future.result(WAIT) for future in held)
    assert [future.result(WAIT) for future in later] == [None] * 10
    assert sorted(order) == list(range(10))


def test_an_idle_thread_goes() -> None:
    pool = LazyThreads(4, idle_seconds=0.01)
    worker = pool.submit(threading.current_thread).result(WAIT)
    worker.join(WAIT)
    assert not worker.is_alive()
    assert pool.threads == 0
    assert pool.submit(lambda: 1).result(WAIT) == 1, "and comes back"


def test_whoever_wants_to_can_wait_for_the_threads_after_the_end() -> None:
    pool, free = LazyThreads(2), threading.Event()
    worker = pool.submit(lambda: (free.wait(WAIT), threading.current_thread())[1])

    pool.shutdown()
    assert not pool.join(0.01)
    free.set()
    assert pool.join(WAIT)
    assert not worker.result(0).is_alive()


def test_threads_do_not_keep_the_process_alive() -> None:
    assert LazyThreads(1).submit(threading.current_thread).result(WAIT).daemon


def test_a_pool_that_is_shut_down_takes_no_work() -> None:
    pool = LazyThreads(1)
    worker = pool.submit(threading.current_thread).result(WAIT)
    pool.shutdown()
    worker.join(WAIT)
    with pytest.raises(RuntimeError):
        pool.submit(lambda: 1)


def test_waiting_work_can_be_cancelled_at_the_end() -> None:
    pool, gate, begun = LazyThreads(1), threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return gate.wait(WAIT)

    held = pool.submit(hold)
    later = pool.submit(lambda: 1)
    assert begun.wait(WAIT)
    pool.shutdown(cancel_futures=True)
    gate.set()
    assert held.result(WAIT)
    with pytest.raises(CancelledError):
        later.result(WAIT)
