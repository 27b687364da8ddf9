"""Shims, what they publish: which events, in which order, how often, and through which trouble (SHM-071 to 080)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import threading
import time

import pytest

from conformance import clause, patience
from conformance.shim import processes
from conformance.shim.bundle import shell
from conformance.shim.waiting import until
from conformance.suites._shim import (
    FOREVER,
    KILLED,
    OCI,
    SHIM,
    died,
    finished,
    refused,
    shim,
)
from refimpl.contract.errors import ContainerdError, Unavailable

WHOLE = ["create", "start", "exit", "delete"]
"""The life of a task that was started."""

GREEDY = "v=12345678; while :; do v=$v$v; done"
"""A script that remembers more and more."""

ROUNDS = 5
"""Times that a race is run: the wrong order shows in most rounds of a shim that does not keep it."""

LIMIT = 5.0
"""Seconds that a shim gives the taking of one event (SHM-074)."""

TRIES = 3
"""Times that a check is made which a busy machine may spoil, by a lateness that nobody here can see or prevent."""

TRUE = ("/bin/true",)


def settled(shim, id, count):
    """The topics of a task, once there are that many and then no more come."""
    shim.events.wait(id, count)
    time.sleep(0.15)
    return shim.events.topics(id)


@clause("SHM-071", needs=SHIM)
def test_a_process_that_ends_at_once_has_its_events_in_order(shim):
    """Rejects: the exit, from whoever reaps, before the start that is still being answered; an event told twice."""
    for _ in range(ROUNDS):
        container = shim.running(TRUE)
        container.wait()
        # Debian's first runc shim answers the wait before it has told of the exit: a deletion might overtake that.
        shim.events.wait_for(container.id, "exit")
        container.delete()
        assert settled(shim, container.id, 4) == WHOLE


@clause("SHM-071", needs=SHIM)
def test_the_exit_is_told_once_however_often_one_waits_and_kills(shim):
    """Rejects: one exit event for each who asks about the exit."""
    container = shim.running()
    waits = [shim.later(container.wait) for _ in range(3)]
    container.kill()
    assert [wait.result(10).exit_status for wait in waits] == [KILLED] * 3
    refused(container.kill)
    container.wait()
    container.state()

    assert settled(shim, container.id, 3) == WHOLE[:3]
    container.delete()
    assert settled(shim, container.id, 4) == WHOLE


@clause("SHM-071", needs=SHIM)
def test_a_task_that_never_ran_has_no_start_event(shim):
    """Rejects: a start event that belongs to the creation."""
    container = shim.created()
    container.kill()
    container.wait()
    container.delete()

    topics = settled(shim, container.id, 3)

    assert topics[0] == "create"
    assert topics[-1] == "delete"
    assert "start" not in topics


@clause("SHM-071", needs=SHIM)
def test_the_exit_event_is_not_there_before_start_is_answered(shim):
    """Rejects: an exit whose pid nobody has been told yet."""
    early = []
    for _ in range(TRIES):
        container = shim.created(TRUE)

        container.start()
        answered = time.time_ns()

        shim.events.wait_for(container.id, "exit")
        start, exited = (
            next(one for one in shim.events.of(container.id) if one.topic == t) for t in ("/tasks/start", "/tasks/exit")
        )
        assert start.event.pid == exited.event.pid == container.pid
        assert exited.timestamp >= start.timestamp
        # Forwarding takes time: what came much earlier than the answer was sent before the start was done, unless this
        # process had to wait for its turn to see the answer.
        early.append(answered - exited.at)
        if early[-1] < 20_000_000:
            return
    raise AssertionError(f"the exit came {early} ns before the answer")


@clause("SHM-072", needs=SHIM)
def test_an_exec_has_its_events_in_order(shim):
    """Rejects: the exit before the start, and a delete event for an exec."""
    container = shim.running()
    for number in range(ROUNDS):
        container.exec(f"e{number}", TRUE)
        container.wait(f"e{number}")
        container.delete(f"e{number}")

    for number in range(ROUNDS):
        topics = shim.events.wait(container.id, 3, f"e{number}")
        assert topics == ["exec-added", "exec-started", "exit"]
    assert settled(shim, container.id, 0).count("exit") == ROUNDS
    assert "delete" not in shim.events.topics(container.id)


@clause("SHM-072", needs=SHIM)
def test_an_exec_that_cannot_start_has_no_events_of_a_life(shim):
    """Rejects: an exit event for what never ran."""
    container = shim.running()
    container.task.exec(container.id, "e", ["/no/such/program"])

    assert isinstance(refused(container.start, "e"), ContainerdError)
    shim.events.wait_for(container.id, "exec-added", "e")
    time.sleep(0.2)

    assert shim.events.topics(container.id, "e") == ["exec-added"]


@clause("SHM-073", needs=SHIM)
def test_execs_end_before_their_container(shim):
    """Rejects: the exit of the init first, after which nobody expects anything of the task."""
    container = shim.running()
    for number in range(3):
        container.exec(f"e{number}", FOREVER)

    container.kill(all=False)
    container.wait()

    shim.events.wait_for(container.id, "exit", container.id)
    exits = [one for one in shim.events.of(container.id) if one.topic == "/tasks/exit"]
    assert [one.process for one in exits][-1] == container.id
    assert sorted((one.process, one.event.exit_status) for one in exits[:-1]) == [(f"e{n}", KILLED) for n in range(3)]


@clause("SHM-074", needs=SHIM)
def test_an_event_is_forwarded_over_ttrpc(shim):
    """Rejects: the publish binary, a gRPC socket, a call without limit, an envelope without time or namespace."""
    before = time.time_ns()
    container = shim.created()

    assert shim.events.wait(container.id, 1) == ["create"]

    (found,) = shim.events.of(container.id)
    assert found.namespace == found.sent_namespace == shim.namespace
    assert found.type_url == "containerd.events.TaskCreate"
    assert before <= found.timestamp <= time.time_ns()
    # What is left when it is looked at, on a busy machine.
    assert 0.0 < found.left <= LIMIT
    assert (found.event.pid, found.event.bundle) == (container.pid, str(container.bundle.path))
    assert not shim.publish_record.exists(), "the publish binary was run"


@clause("SHM-075", needs=SHIM)
@pytest.mark.parametrize("server", ["silent", "missing"])
def test_calls_do_not_wait_for_the_events(shim, server):
    """Rejects: a start that waits until its event was taken."""
    free = threading.Event()
    if server == "missing":
        shim.events.stop()
    else:
        shim.events.refuse = lambda _event: free.wait(3 * patience.SECONDS)
    container = shim.shim(TRUE)

    try:
        begun = time.monotonic()
        container.create()
        container.start()
        container.wait()
        container.delete()

        # Each of three calls would wait for the limit of its event at least.
        assert time.monotonic() - begun < 3 * LIMIT
    finally:
        free.set()


@clause("SHM-076", needs=SHIM)
def test_events_wait_for_a_daemon_that_is_away(shim):
    """Rejects: events that are lost while the daemon restarts; events that come in another order afterwards."""
    came: list[str] = []
    for _ in range(TRIES):
        shim.events.stop()
        container = finished(shim, TRUE)
        ended = time.time_ns()
        time.sleep(1.5)

        shim.events.start()

        came = shim.events.wait(container.id, 4, seconds=patience.SECONDS + sum(range(6)))
        assert sorted(came) == sorted(WHOLE)
        first = next(one for one in shim.events.of(container.id) if one.topic == "/tasks/create")
        assert first.timestamp < ended, "the time is that of the event, not that of its delivery"
        # The real shims try each event again by its own clock: on a machine so busy that seconds lie between the first
        # event and the last, those of one task may be tried again in another order.
        if came == WHOLE:
            return
    raise AssertionError(f"they came as {came}")


@clause("SHM-077", needs=SHIM)
def test_an_event_that_was_refused_comes_again(shim):
    """Rejects: an error taken for a receipt; a receipt taken for an error."""

    def refuse(_event):
        if len(shim.events.received) == 1:
            raise Unavailable("not now")

    shim.events.refuse = refuse
    container = shim.created()

    assert shim.events.wait(container.id, 1) == ["create"]
    time.sleep(1.3)
    assert [one.accepted for one in shim.events.received] == [False, True], "told once, and once more until it is taken"


@clause("SHM-078", needs=SHIM)
def test_a_lost_connection_costs_no_event(shim):
    """Rejects: a shim that never dials again."""
    topics: list[str] = []
    for _ in range(TRIES):
        container = shim.created()
        assert shim.events.wait(container.id, 1) == ["create"]
        shim.events.stop()
        shim.events.start()

        container.start()
        container.end()

        until(lambda: set(shim.events.topics(container.id)) == set(WHOLE))  # noqa: B023  # looked at in this turn only
        topics = shim.events.topics(container.id)
        # The receipt for the first may have been on its way when the connection went: then it is told again.
        assert sorted(topics) in (sorted(WHOLE), sorted(["create", *WHOLE]))
        # A shim that has not noticed yet sends the next event into the old connection, and again a second later.
        if topics in (WHOLE, ["create", *WHOLE]):
            return
    raise AssertionError(f"they came as {topics}")


@clause("SHM-079", needs=SHIM)
@pytest.mark.parametrize("seconds", [0.0, 0.3], ids=["quick daemon", "slow daemon"])
def test_the_last_event_is_out_before_the_shim_is_gone(shim, seconds):
    """Rejects: a process that ends with events still in its hands."""
    # With a slow daemon all events wait in the shim when it is told to end: no luck of timing then hides the loss.
    shim.events.refuse = (lambda _event: time.sleep(seconds)) if seconds else None
    for _ in range(1 if seconds else ROUNDS):
        container = shim.running(TRUE)
        pid = container.shim_pid
        container.wait()
        container.delete()
        container.shutdown()
        assert died(pid)
        # All of them; in which order is another matter (SHM-071).
        assert sorted(shim.events.wait(container.id, len(WHOLE))) == sorted(WHOLE)


@clause("SHM-080", needs=OCI)
def test_a_killing_for_want_of_memory_is_told(shim):
    """Rejects: silence while the init itself survives."""
    container = shim.running(FOREVER, memory=12 << 20)

    # Not before the answer to the start: only then does the shim look out for it.
    container.exec("greedy", shell(GREEDY))

    assert "oom" in shim.events.wait_for(container.id, "oom")
    assert "exit" not in shim.events.topics(container.id, container.id)
