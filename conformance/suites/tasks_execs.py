"""Tasks: further processes (TSK-051 to 061, TSK-065)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import time

import pytest

from conformance import clause
from conformance.suites._events import listen
from conformance.suites._tasks import (
    LASTING,
    SERVICE,
    Later,
    box,
    bundle,
    outputs,
    packed,
    process,
    soon,
    streams,
    together,
    told,
)
from refimpl.api import tasks_v1_pb2 as pb
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import TypedAny

TASKS = 'topic~="^/tasks/"'

A_SECOND = 1.0
"""How long a check looks whether a task survives."""


def _still_runs(found, seconds=A_SECOND):
    """Whether a task runs for some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found.status() is not Status.RUNNING:
                return False
        except ContainerdError:
            return False
        time.sleep(0.1)
    return True


@clause("TSK-051")
def test_an_exec_needs_an_id_that_is_one(box):
    """Rejects: ids that become paths, or one that may not be that of the task."""
    found = box(*LASTING)
    found.run()

    for bad in ("", "a/b", "../../x", "x" * 77, "-a", "a-", "a__b"):
        with pytest.raises(InvalidArgument):
            found.exec(bad, "true")
    for good in ("x" * 76, found.id, "A1.b_c-d"):
        found.exec(good, "true")
        assert found.status(good) is Status.CREATED
    with pytest.raises(NotFound):
        found.get("../../x")


@clause("TSK-052")
def test_an_exec_is_added_before_it_is_started(box, listen):
    """Rejects: a process that runs at once, or whose pid is that of somebody else."""
    ear = listen(TASKS)
    found = box(*LASTING)
    init = found.run()
    found.exec("e", "sh", "-c", "sleep 0.1; exit 5")

    state = found.get("e")
    assert (state.id, state.pid, state.status) == ("e", 0, Status.CREATED)
    assert (state.exit_status, state.exited_at) == (0, ZERO_TIME)
    assert found.pids() == [init]
    ear.until("/tasks/exec-added")
    assert [topic for topic, _ in told(ear)][-1] == "/tasks/exec-added"

    pid = found.start("e")
    assert pid not in (0, init)
    assert found.wait("e").status == 5
    state = found.get("e")
    assert (state.pid, state.status, state.exit_status) == (pid, Status.STOPPED, 5)


@clause("TSK-053")
def test_an_exec_id_is_taken_until_it_is_deleted(box):
    """Rejects: a process that is replaced, or an id that never becomes free."""
    found = box(*LASTING)
    found.run()
    found.exec("e", "sh", "-c", "exit 5")

    def taken():
        with pytest.raises(AlreadyExists):
            found.exec("e", "true")

    taken()
    found.start("e")
    found.wait("e")
    taken()
    assert found.delete_process("e").status == 5
    found.run_exec("e", "sh", "-c", "exit 6")
    assert found.wait("e").status == 6


@clause("TSK-053")
def test_one_of_several_execs_of_an_id_wins(box):
    """Rejects: a look at the table and an entry into it that are two steps."""
    found = box(*LASTING)
    found.run()

    outcomes = together(*[lambda: found.exec("dup", "true")] * 4)

    assert outcomes.count(None) == 1, outcomes
    assert len([o for o in outcomes if isinstance(o, AlreadyExists)]) == 3, outcomes


@clause("TSK-054")
def test_an_exec_may_run_before_init(box):
    """Rejects: a task that has to run first, or that begins to run with its exec."""
    found = box(*LASTING)
    pid = found.create()

    found.run_exec("e", "true")

    assert found.wait("e").status == 0
    assert found.status() is Status.CREATED
    assert found.start() == pid


@clause("TSK-054")
def test_a_paused_or_stopped_task_takes_no_exec(box):
    """Rejects: a call that hangs until the task goes on, or a process that has no init."""
    found = box(*LASTING)
    found.run()
    found.pause()
    with pytest.raises(Unknown):
        found.exec("e", "true")
    found.resume()
    with pytest.raises(NotFound):
        found.get("e")

    found.end()
    with pytest.raises(Unknown):
        found.exec("e", "true")


@clause("TSK-055")
def test_the_type_of_a_process_is_not_looked_at(box):
    """Rejects: one type url that everybody has to know."""
    found = box(*LASTING)
    found.run()
    spec = packed(process("sh", "-c", "exit 4"), "whatever")

    found.tasks.exec(soon(found.ctx), found.id, "e", spec, IO())
    found.start("e")

    assert found.wait("e").status == 4


@clause("TSK-055")
def test_a_process_that_does_not_parse_is_refused(box):
    """Rejects: a process that nobody can start."""
    found = box(*LASTING)
    found.run()

    with pytest.raises(Unknown):
        found.tasks.exec(soon(found.ctx), found.id, "e", TypedAny("", b"{"), IO())

    with pytest.raises(NotFound):
        found.get("e")


@clause("TSK-055", needs={"runc", "fifo"})
@pytest.mark.parametrize("terminal", [True, False])
def test_the_call_says_whether_there_is_a_terminal(box, streams, terminal):
    """Rejects: the word of the process over that of the call."""
    out = streams.pipe()
    found = box(*LASTING)
    found.run()
    io = IO(stdout=out.path, stderr="" if terminal else out.path, terminal=terminal)

    found.run_exec("e", "sh", "-c", "test -t 1; echo $?", io=io, terminal=not terminal)
    found.wait("e")

    assert out.rest().split() == [b"0" if terminal else b"1"]
    assert found.get("e").io.terminal is terminal


@clause("TSK-056")
def test_an_exec_without_a_process_harms_nothing(box):
    """Rejects: a task that dies of a field that is missing."""
    found = box(*LASTING)
    found.run()

    with pytest.raises(ContainerdError):
        found.tasks.exec(soon(found.ctx), found.id, "e", None, IO())

    assert _still_runs(found), "the task is lost"


@clause("TSK-057")
@pytest.mark.parametrize("lacking", ["program", "cwd"])
def test_an_exec_that_cannot_start_can_be_removed(box, listen, lacking):
    """Rejects: a process that is stuck, or a task that suffers."""
    ear = listen(TASKS)
    found = box(*LASTING)
    found.run()
    if lacking == "program":
        found.exec("e", "/no/such")
    else:
        found.exec("e", "true", cwd="/nope")

    with pytest.raises(Unknown, match="OCI runtime exec failed"):
        found.start("e")

    state = found.get("e")
    assert (state.status, state.pid) == (Status.CREATED, 0)
    end = found.wait("e")
    assert (end.status, end.exited_at) == (0, ZERO_TIME)
    found.delete_process("e")
    with pytest.raises(NotFound):
        found.get("e")
    assert found.status() is Status.RUNNING
    ear.until("/tasks/exec-added")
    assert [topic for topic, _ in told(ear)] == ["/tasks/create", "/tasks/start", "/tasks/exec-added"]


@clause("TSK-058")
def test_an_exec_is_started_once(box):
    """Rejects: a second run of the same process."""
    found = box(*LASTING)
    found.run()
    found.run_exec("running", *LASTING)
    found.run_exec("stopped", "sh", "-c", "exit 5")
    end = found.wait("stopped")

    for exec_id in ("running", "stopped"):
        with pytest.raises(Unknown):
            found.start(exec_id)

    assert found.status("running") is Status.RUNNING
    assert found.wait("stopped") == end


@clause("TSK-058")
def test_another_try_to_start_what_could_not_harms_nothing(box):
    """Rejects: a task that is lost with the second try."""
    found = box(*LASTING)
    found.run()
    found.exec("e", "/no/such")
    with pytest.raises(Unknown):
        found.start("e")

    with pytest.raises(ContainerdError):
        found.start("e")

    assert _still_runs(found), "the task is lost"


@clause("TSK-059")
def test_an_exec_that_has_not_started_takes_no_signal(box):
    """Rejects: a process that is not found though it is there."""
    found = box(*LASTING)
    found.run()
    found.exec("e", "sh", "-c", "exit 4")

    for number in (9, 0):
        with pytest.raises(FailedPrecondition):
            found.kill(number, "e")

    found.start("e")
    assert found.wait("e").status == 4


@clause("TSK-060")
def test_a_process_that_ended_or_never_began_can_be_deleted(box, listen):
    """Rejects: an event as if the task were deleted, or values that are not those of the end."""
    ear = listen(TASKS)
    found = box(*LASTING)
    found.run()
    pid = found.run_exec("e", *LASTING)
    found.exec("never", "true")

    with pytest.raises(Unknown):
        found.delete_process("e")
    assert found.status("e") is Status.RUNNING
    found.kill(9, "e")
    end = found.wait("e")
    gone = found.delete_process("e")
    assert (gone.pid, gone.status, gone.exited_at) == (pid, 137, end.exited_at)
    for exec_id in ("e", "nope"):
        with pytest.raises(NotFound):
            found.delete_process(exec_id)

    gone = found.delete_process("never")
    assert (gone.pid, gone.exited_at) == (0, ZERO_TIME)
    assert "/tasks/delete" not in [topic for topic, _ in told(ear)]


@clause("TSK-060", needs={"runc", "wire"})
def test_the_answer_names_the_process_that_was_deleted(box, wire):
    """Rejects: the id of the task, or none."""
    found = box(*LASTING)
    found.run()
    pid = found.run_exec("e", "sh", "-c", "exit 5")
    found.wait("e")

    request = pb.DeleteProcessRequest(container_id=found.id, exec_id="e")
    answer = wire.call(f"{SERVICE}/DeleteProcess", request, namespace=found.ctx.namespace)

    assert answer.code == "OK", answer.message
    assert (answer.messages[0].id, answer.messages[0].pid, answer.messages[0].exit_status) == ("e", pid, 5)


@clause("TSK-061")
def test_an_empty_exec_id_does_not_delete_init(box):
    """Rejects: half a task that is gone."""
    found = box(*LASTING)
    found.run()
    end = found.end()

    try:
        with pytest.raises((InvalidArgument, NotFound)):
            found.delete_process("")
        assert found.status() is Status.STOPPED
        assert found.delete().status == end.status
    finally:
        found.close()


@clause("TSK-065")
def test_processes_of_a_task_do_not_mix_up(box):
    """Rejects: exit statuses that go to whoever asks first."""
    found = box(*LASTING)
    found.run()

    def life(code):
        exec_id = f"e{code}"
        found.run_exec(exec_id, "sh", "-c", f"sleep 0.1; exit {code}")
        end = found.wait(exec_id)
        return end.status, found.delete_process(exec_id).status

    outcomes = together(*[lambda code=code: life(code) for code in range(8)])

    assert outcomes == [(code, code) for code in range(8)]
