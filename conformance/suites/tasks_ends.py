"""Tasks: signals, and how processes end (TSK-036 to 045, TSK-062 to 064)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import signal
import time

import pytest

from conformance import clause
from conformance.suites._events import listen
from conformance.suites._tasks import (
    LASTING,
    LOOP,
    NAMESPACES,
    PATIENCE,
    SERVICE,
    Later,
    alive,
    box,
    bundle,
    eventually,
    given_up,
    outputs,
    soon,
    streams,
    told,
)
from refimpl.api import tasks_v1_pb2 as pb
from refimpl.contract.errors import (
    ContainerdError,
    NotFound,
    Unknown,
)
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.times import ZERO_TIME

TASKS = 'topic~="^/tasks/"'

SHARED_PIDS = tuple(kind for kind in NAMESPACES if kind != "pid")
"""A container whose processes are among those of the host."""

STUBBORN = "trap '' TERM; (while :; do sleep 0.1; done) & echo ready; while :; do sleep 0.1; done"
"""A shell and its child, both of which ignore SIGTERM."""


# ------------------------------------------------------------------------------------------------------------- kill


@clause("TSK-036")
def test_a_signal_is_sent_and_not_waited_for(box, streams):
    """Rejects: Kill that waits for an end, or signal 0 that ends."""
    out, source = streams.pipe(), streams.source()
    found = box("sh", "-c", "trap 'read word; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    found.run(io=IO(stdin=source, stdout=out.path, stderr=out.path))
    out.until(b"ready")

    found.kill(0)
    assert found.status() is Status.RUNNING
    with pytest.raises(NotFound):
        found.kill(9, "nope")
    found.kill(signal.SIGTERM)
    assert found.status() is Status.RUNNING, "the program ends when it is given a line"
    streams.write(source, b"now\n")
    assert found.wait().status == 3


@clause("TSK-036")
def test_a_signal_reaches_tasks_that_wait_or_are_paused(box):
    """Rejects: a Kill that works only in RUNNING."""
    found = box(*LASTING)
    found.create()
    found.kill(0)
    assert found.status() is Status.CREATED

    found.start()
    found.pause()
    found.kill(0)
    assert found.status() is Status.PAUSED


@clause("TSK-036")
def test_a_signal_for_an_exec_is_not_for_init(box):
    """Rejects: init that gets every signal."""
    found = box(*LASTING)
    found.run()
    found.run_exec("e", *LASTING)

    found.kill(9, "e")

    assert found.wait("e").status == 137
    assert found.status() is Status.RUNNING


@clause("TSK-037")
def test_who_has_ended_cannot_be_killed(box):
    """Rejects: a signal to nobody that is OK, or to whoever has the pid now."""
    found = box(*LASTING)
    found.run()
    found.run_exec("e", "true")
    found.wait("e")
    for number in (0, 9):
        with pytest.raises(NotFound):
            found.kill(number, "e")

    found.end()
    for number in (0, 9):
        with pytest.raises(NotFound):
            found.kill(number)


@clause("TSK-038")
def test_a_signal_that_does_not_exist_is_refused(box):
    """Rejects: numbers that are cut to a byte, or that end the process."""
    found = box(*LASTING)
    found.run()
    found.run_exec("e", *LASTING)

    for number, exec_id in ((65, "e"), (100, ""), (1000, ""), (256 + 9, "e"), (256 + 9, "")):
        with pytest.raises(Unknown):
            found.kill(number, exec_id)

    assert found.status() is Status.RUNNING
    assert found.status("e") is Status.RUNNING


@clause("TSK-039")
def test_a_signal_for_all_reaches_all(box, streams):
    """Rejects: a child that survives, or a signal that kills whoever ignores it."""
    out = streams.pipe()
    found = box("sh", "-c", STUBBORN, namespaces=SHARED_PIDS)
    found.run(io=outputs(out))
    out.until(b"ready")

    found.kill(signal.SIGTERM, all=True)
    # A second signal behind the first: by its answer the first was delivered.
    found.kill(0)
    assert found.status() is Status.RUNNING
    assert len(found.pids()) >= 2, "the child ignores SIGTERM too"

    found.kill(signal.SIGKILL, all=True)
    assert found.wait().status == 137
    # Whoever was killed is counted until somebody has taken notice of it.
    eventually(lambda: found.pids() == [], "somebody goes on")
    found.kill(signal.SIGKILL, all=True)


@clause("TSK-039")
def test_all_hear_of_a_signal_for_all(box, streams):
    """Rejects: all that is ignored: only init is told, and not its child."""
    out = streams.pipe()
    child = "(trap 'echo child; exit 0' USR1; echo one; while :; do sleep 0.1; done) &"
    found = box("sh", "-c", f"trap '' USR1; {child} echo two; while :; do sleep 0.1; done", namespaces=SHARED_PIDS)
    found.run(io=outputs(out))
    out.until(b"one")
    out.until(b"two")

    found.kill(signal.SIGUSR1)
    assert b"child" not in out.data
    found.kill(signal.SIGUSR1, all=True)
    out.until(b"child")
    assert found.status() is Status.RUNNING


@clause("TSK-039")
def test_a_signal_for_an_exec_is_for_it_alone(box):
    """Rejects: all that outweighs the exec id."""
    found = box(*LASTING)
    found.run()
    found.run_exec("e", *LASTING)
    found.run_exec("f", *LASTING)

    found.kill(9, "e", all=True)

    assert found.wait("e").status == 137
    assert found.status() is Status.RUNNING
    assert found.status("f") is Status.RUNNING


@clause("TSK-040")
def test_a_task_can_be_killed_before_it_starts(box, listen):
    """Rejects: a wait without an end, or a task that is started when it is dead."""
    ear = listen(TASKS)
    found = box(*LASTING)
    found.create()
    waiter = Later(found.wait)

    found.kill(signal.SIGKILL)

    assert waiter.result().status == 137
    assert found.status() is Status.STOPPED
    with pytest.raises(Unknown):
        found.start()
    assert found.delete().status == 137
    ear.until("/tasks/delete")
    assert [topic for topic, _ in told(ear)] == ["/tasks/create", "/tasks/exit", "/tasks/delete"]


# ------------------------------------------------------------------------------------------------------------- wait


@clause("TSK-041")
def test_an_exit_status_is_eight_bits(box):
    """Rejects: codes that are cut to seven bits, or are negative."""
    found = box(*LASTING)
    found.run()
    codes = (0, 1, 7, 126, 127, 255, 256)

    for code in codes:
        # A shell that computes by itself would hide the ninth bit from its own exit: the system cuts it.
        found.run_exec(f"e{code}", "sh", "-c", f"exit {code}")
    for code in codes:
        expected = code % 256
        assert found.wait(f"e{code}").status == expected, code
        assert found.get(f"e{code}").exit_status == expected, code
        assert found.delete_process(f"e{code}").status == expected, code


@clause("TSK-041")
def test_an_end_by_a_signal_is_128_and_its_number(box):
    """Rejects: negative numbers, or the plain number of the signal."""
    found = box(*LASTING)
    found.run()
    numbers = (1, 2, 9, 10, 11, 15, 64)

    for number in numbers:
        found.run_exec(f"e{number}", *LASTING)
    for number in numbers:
        found.kill(number, f"e{number}")
    assert {n: found.wait(f"e{n}").status for n in numbers} == {n: 128 + n for n in numbers}


@clause("TSK-041")
def test_everybody_tells_the_same_status(box, listen):
    """Rejects: a status that is another one in the event."""
    ear = listen(TASKS)
    found = box("sh", "-c", "exit 7")
    found.run()

    waited = found.wait().status
    got = found.get().exit_status
    ear.until("/tasks/exit")
    deleted = found.delete().status
    ear.until("/tasks/delete")

    messages = dict(told(ear))
    assert (waited, got, deleted) == (7, 7, 7)
    assert messages["/tasks/exit"].exit_status == messages["/tasks/delete"].exit_status == 7


@clause("TSK-042")
def test_the_time_of_an_end_is_the_same_everywhere(box, listen):
    """Rejects: a time that is taken anew for every answer."""
    ear = listen(TASKS)
    found = box("sh", "-c", "exit 0")
    found.create()
    assert found.get().exited_at == ZERO_TIME

    before = time.time_ns()
    found.start()
    waited = found.wait().exited_at
    after = time.time_ns()
    got = found.get().exited_at
    ear.until("/tasks/exit")
    deleted = found.delete().exited_at
    ear.until("/tasks/delete")

    messages = dict(told(ear))
    times = [messages[topic].exited_at.ToNanoseconds() for topic in ("/tasks/exit", "/tasks/delete")]
    assert [waited, got, deleted, *times] == [waited] * 5
    assert before <= waited <= after


@clause("TSK-042", needs={"runc", "wire"})
def test_the_time_of_an_end_is_there_before_the_end(box, wire):
    """Rejects: a field that is left out."""
    found = box(*LASTING)
    found.run()

    answer = wire.call(f"{SERVICE}/Get", pb.GetRequest(container_id=found.id), namespace=found.ctx.namespace)

    process = answer.messages[0].process
    assert process.HasField("exited_at")
    assert process.exited_at.seconds == -62135596800


@clause("TSK-043")
def test_all_who_wait_are_told(box):
    """Rejects: only the first of several, or none after the end."""
    found = box(*LASTING)
    pid = found.create()
    waiters = [Later(found.wait) for _ in range(3)]
    found.start()
    waiters += [Later(found.wait) for _ in range(2)]
    # None of them comes back by itself.
    assert found.status() is Status.RUNNING
    assert not any(waiter.done for waiter in waiters)

    found.kill()

    ends = [waiter.result() for waiter in waiters]
    assert found.status() is Status.STOPPED
    assert (ends[0].pid in (0, pid), ends[0].status) == (True, 137)
    assert ends == [ends[0]] * 5
    assert found.wait() == ends[0]


@clause("TSK-043")
def test_a_wait_for_what_has_not_started_is_a_wait(box):
    """Rejects: an answer for a process that did not run yet."""
    found = box(*LASTING)
    found.run()
    found.exec("e", "sh", "-c", "exit 6")
    waiter = Later(lambda: found.wait("e"))
    assert found.status("e") is Status.CREATED
    assert not waiter.done

    found.start("e")

    assert waiter.result().status == 6


@clause("TSK-044")
def test_a_wait_can_be_given_up(box):
    """Rejects: a wait that takes the others with it, or the process."""
    found = box(*LASTING)
    found.run()
    other = Later(found.wait)

    with given_up():
        found.wait(seconds=0.3)

    assert found.status() is Status.RUNNING
    assert not other.done
    found.kill(signal.SIGKILL)
    assert other.result().status == 137


@clause("TSK-045")
def test_who_waits_for_a_deleted_task_is_not_left_alone(box):
    """Rejects: exit status 0 of what never ran, or silence."""
    found = box(*LASTING)
    found.create()
    waiter = Later(lambda: found.wait(seconds=2))
    with given_up():
        found.wait(seconds=0.2)

    found.delete()

    outcome = waiter.outcome()
    assert isinstance(outcome, ContainerdError), f"it ended with {outcome}"


@clause("TSK-045")
def test_who_waits_for_a_deleted_exec_is_not_left_alone(box):
    """Rejects: exit status 0 of what never ran, or a wait that outlasts its deadline."""
    found = box(*LASTING)
    found.run()
    found.exec("e", "true")
    waiter = Later(lambda: found.wait("e", seconds=1.5))
    with given_up():
        found.wait("e", seconds=0.2)

    found.delete_process("e")

    outcome = waiter.outcome()
    assert isinstance(outcome, ContainerdError), f"it ended with {outcome}"


# ------------------------------------------------------------------------------------------------ others in the task


@clause("TSK-062")
def test_processes_end_with_init(box, streams):
    """Rejects: processes that outlive init, or that keep the task from being deleted."""
    out = streams.pipe()
    found = box(*LOOP)
    found.run(io=outputs(out))
    out.until(b"ready")
    found.run_exec("e", *LASTING)
    found.kill(signal.SIGTERM)

    assert found.wait().status == 3
    assert found.wait("e").status == 137
    state = found.get("e")
    assert (state.status, state.exit_status) == (Status.STOPPED, 137)

    assert found.delete().status == 3
    with pytest.raises(NotFound):
        found.get("e")


@clause("TSK-063")
def test_nobody_outlives_init_where_pids_are_shared(box, streams):
    """Rejects: orphans that go on when init is gone."""
    out = streams.pipe()
    found = box("sh", "-c", f"(sleep 300 &); {LOOP[-1]}", namespaces=SHARED_PIDS)
    found.run(io=outputs(out))
    out.until(b"ready")
    pids = found.pids()
    assert len(pids) >= 2

    found.kill(signal.SIGTERM)
    assert found.wait().status == 3
    # Whoever was killed is counted until somebody has taken notice of it.
    eventually(lambda: found.pids() == [], "an orphan goes on")


@clause("TSK-063", needs={"runc", "disk"})
def test_no_process_of_the_host_is_left(box, streams):
    """Rejects: processes that are only forgotten."""
    out = streams.pipe()
    found = box("sh", "-c", f"(sleep 300 &); {LOOP[-1]}", namespaces=SHARED_PIDS)
    found.run(io=outputs(out))
    out.until(b"ready")
    pids = found.pids()

    found.kill(signal.SIGTERM)
    found.wait()

    eventually(lambda: not any(map(alive, pids)), "the orphans did not end")


@clause("TSK-064")
def test_the_children_of_an_exec_do_not_hold_its_end(box):
    """Rejects: a wait for everybody in the process group."""
    found = box(*LASTING)
    found.run()
    found.run_exec("e", "sh", "-c", "(sleep 1000 &); exit 5")

    assert found.wait("e").status == 5

    assert len(found.pids()) == 2, "init and the child that is left"
