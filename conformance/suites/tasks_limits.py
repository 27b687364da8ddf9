"""Tasks: what is done to those that run, and what they use (TSK-067 to 076)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from conformance import clause
from conformance.suites._events import listen
from conformance.suites._tasks import (
    LASTING,
    RUNTIME,
    Later,
    box,
    bundle,
    eventually,
    given_up,
    kind,
    outputs,
    soon,
    streams,
    told,
)
from refimpl.api import cgroups_v1_pb2, cgroups_v2_pb2, runc_v1_pb2
from refimpl.contract.errors import AlreadyExists, Unknown
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.times import SECOND

TASKS = 'topic~="^/tasks/"'

COUNTING = ("sh", "-c", "(while :; do echo child; sleep 0.02; done) & while :; do echo init; sleep 0.02; done")
"""Init and a child that can both be seen to run."""


_METRICS: dict[str, Any] = {
    "io.containerd.cgroups.v1.Metrics": cgroups_v1_pb2.Metrics,
    "io.containerd.cgroups.v2.Metrics": cgroups_v2_pb2.Metrics,
}


# --------------------------------------------------------------------------------------------------- pause, resume


@clause("TSK-067")
def test_a_paused_task_stands_still(box, listen, streams):
    """Rejects: a pause of init alone, or one that is only a word."""
    ear, out = listen(TASKS), streams.pipe()
    found = box(*COUNTING)
    found.run(io=outputs(out))
    out.until(b"init")
    out.until(b"child")

    found.pause()
    assert found.status() is Status.PAUSED
    # What was on its way may still come, on a busy machine for a while.
    eventually(lambda: _silent(out), "somebody goes on: silence")
    before = out.data

    found.resume()
    assert found.status() is Status.RUNNING
    eventually(lambda: out.data.count(b"init") > before.count(b"init"), "init does not go on")
    eventually(lambda: out.data.count(b"child") > before.count(b"child"), "the child does not go on")
    ear.until("/tasks/resumed")
    topics = [topic for topic, _ in told(ear)]
    assert topics == ["/tasks/create", "/tasks/start", "/tasks/paused", "/tasks/resumed"]


def _silent(out):
    """Whether nothing comes for fifty times as long as there is between two words."""
    before = out.data
    time.sleep(1)
    return out.data == before


@clause("TSK-068")
def test_pause_and_resume_belong_to_their_states(box, listen):
    """Rejects: a second pause that is counted, or a resume of what runs."""
    ear = listen(TASKS)
    found = box(*LASTING)

    def refused(*calls):
        state = found.status()
        for call in calls:
            with pytest.raises(Unknown):
                call()
            assert found.status() is state

    found.create()
    refused(found.pause, found.resume)
    found.start()
    refused(found.resume)
    found.pause()
    refused(found.pause)
    found.resume()
    found.end()
    refused(found.pause, found.resume)
    ear.until("/tasks/exit")
    assert [topic.removeprefix("/tasks/") for topic, _ in told(ear)] == ["create", "start", "paused", "resumed", "exit"]


@clause("TSK-069")
def test_a_paused_task_can_be_looked_at(box, tasks):
    """Rejects: calls that hang until the task goes on."""
    found = box(*LASTING)
    pid = found.run()
    found.pause()
    ctx, id = found.ctx, found.id

    assert found.get().pid == pid
    assert [state.status for state in tasks.list(soon(ctx))] == [Status.PAUSED]
    assert found.pids() == [pid]
    tasks.resize_pty(soon(ctx), id, width=80, height=25)
    tasks.close_io(soon(ctx), id, stdin=True)
    found.update({"pids": {"limit": 50}})
    assert [metric.id for metric in tasks.metrics(soon(ctx))] == [id]
    found.kill(0)
    assert found.status() is Status.PAUSED


@clause("TSK-069")
def test_a_paused_task_takes_nothing_new(box):
    """Rejects: processes that begin in a frozen task, or a task that thaws by itself."""
    found = box(*LASTING)
    pid = found.run()
    found.pause()

    with given_up():
        found.wait(seconds=0.5)
    for call in (found.start, lambda: found.exec("e", "true"), found.pause, found.delete):
        with pytest.raises(Unknown):
            call()
    with pytest.raises(AlreadyExists):
        found.create()

    state = found.get()
    assert (state.status, state.pid) == (Status.PAUSED, pid)


@clause("TSK-070", needs={"runc", "cgroup-v1"})
def test_the_processes_of_a_paused_task_are_paused(box):
    """Rejects: processes that seem to run, or die while they are frozen."""
    found = box(*LASTING)
    found.run()
    found.run_exec("e", *LASTING)
    found.pause()

    assert found.status("e") is Status.PAUSED
    found.kill(9, "e")
    with given_up():
        found.wait("e", seconds=0.5)
    found.resume()
    assert found.wait("e").status == 137


@clause("TSK-071")
def test_a_paused_task_can_be_killed(box):
    """Rejects: a task that hangs for ever, frozen and dead."""
    found = box(*LASTING)
    found.run()
    found.pause()

    found.kill(signal.SIGKILL)

    assert found.wait().status == 137
    assert found.status() is Status.STOPPED
    with pytest.raises(Unknown):
        found.resume()
    found.delete()


# ------------------------------------------------------------------------------------------------------ processes


@clause("TSK-072")
def test_all_processes_of_a_task_are_listed(box, streams, tasks):
    """Rejects: children that are left out, details at a process that is no exec, or an error at the end."""
    out = streams.pipe()
    found = box("sh", "-c", "sleep 1000 & echo ready; wait")
    init = found.create(io=outputs(out))
    assert found.pids() == [init]
    found.start()
    out.until(b"ready")
    exec_pid = found.run_exec("c", *LASTING)

    infos = {info.pid: info.info for info in tasks.list_pids(soon(found.ctx), found.id)}
    assert len(infos) == 3, sorted(infos)
    assert infos.pop(init) is None
    details = infos.pop(exec_pid)
    assert details is not None
    assert details.type_url.rpartition("/")[2] == "containerd.runc.v1.ProcessDetails"
    assert runc_v1_pb2.ProcessDetails.FromString(details.value).exec_id == "c"
    assert list(infos.values()) == [None]

    found.end()
    # Whoever was killed is counted until somebody has taken notice of it.
    eventually(lambda: found.pids() == [], "somebody is left")


# --------------------------------------------------------------------------------------------------------- update


@clause("TSK-073")
def test_limits_change_while_a_task_lives(box, listen):
    """Rejects: a type that has to be named, states in which it fails, or an event."""
    ear = listen(TASKS)
    found = box(*LASTING)
    found.create()
    found.update({"pids": {"limit": 60}})
    found.start()
    found.update({"pids": {"limit": 50}}, "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources")
    found.update(b"{}", "x")
    found.pause()
    found.update({"pids": {"limit": 40}})
    found.resume()

    found.end()
    with pytest.raises(Unknown):
        found.update({"pids": {"limit": 30}})

    ear.until("/tasks/exit")
    topics = [topic.removeprefix("/tasks/") for topic, _ in told(ear)]
    assert topics == ["create", "start", "paused", "resumed", "exit"]


@clause("TSK-073")
def test_limits_that_make_no_sense_are_refused(box):
    """Rejects: an OK for what was not applied."""
    found = box(*LASTING)
    found.run()

    for bad in (b"{", b'{"memory": {"limit": -2}}'):
        with pytest.raises(Unknown):
            found.update(bad)

    assert found.status() is Status.RUNNING


@clause("TSK-073")
def test_a_new_limit_can_be_read_from_the_metrics(box):
    """Rejects: an OK after which nothing has changed."""
    found = box(*LASTING)
    found.run()

    found.update({"pids": {"limit": 50}})

    assert _pids_limit(found) == 50


def _pids_limit(found):
    """The limit of processes that a task's statistics tell, in either version."""
    [metric] = found.tasks.metrics(soon(found.ctx), [f"id=={found.id}"])
    kind = metric.data.type_url.rpartition("/")[2]
    message = _METRICS[kind].FromString(metric.data.value)
    return message.pids.limit


@clause("TSK-074")
def test_an_update_of_nothing_harms_nothing(box):
    """Rejects: a task that dies of a field that is missing."""
    found = box(*LASTING)
    found.run()

    kind(lambda: found.tasks.update(soon(found.ctx), found.id, None))

    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert not found.gone(), "the task is lost"
        assert found.status() is Status.RUNNING
        time.sleep(0.1)


# -------------------------------------------------------------------------------------------------------- metrics


@clause("TSK-075")
def test_metrics_are_those_of_the_tasks_that_match(ctx, bundle, new_namespace, tasks):
    """Rejects: filters that all have to hold, or fields that nobody can see."""
    for id in ("m1", "m2"):
        bundle(ctx, LASTING, id=id).create()
    bundle(new_namespace(), LASTING, id="m3").create()

    def chosen(*filters):
        return sorted(metric.id for metric in tasks.metrics(soon(ctx), filters))

    assert chosen() == ["m1", "m2"]
    assert chosen("") == ["m1", "m2"]
    assert chosen("id==m1") == ["m1"]
    assert chosen("id==m1", "id==m2") == ["m1", "m2"]
    assert chosen("id!=m1") == ["m2"]
    assert chosen("id~=^m") == ["m1", "m2"]
    assert chosen("id==m1,namespace==zzz") == []
    assert chosen(f"namespace=={ctx.namespace}") == ["m1", "m2"]
    assert chosen(f"runtime=={RUNTIME}") == []
    assert chosen("runtime!=x") == ["m1", "m2"]
    assert chosen("labels.a!=b") == ["m1", "m2"]
    with pytest.raises(Unknown):
        chosen("bad filter")


@clause("TSK-076")
def test_a_task_has_metrics_until_it_is_deleted(box, tasks):
    """Rejects: tasks that are dropped when they stop, or a time that is another one."""
    found = box(*LASTING)

    def entry():
        before = time.time_ns()
        [metric] = tasks.metrics(soon(found.ctx))
        assert metric.id == found.id
        assert before - SECOND <= metric.timestamp <= time.time_ns() + SECOND
        return metric.data.type_url.rpartition("/")[2]

    found.create()
    kinds = {entry()}
    found.start()
    kinds.add(entry())
    found.pause()
    kinds.add(entry())
    found.resume()
    found.end()
    kinds.add(entry())
    found.delete()

    assert tasks.metrics(soon(found.ctx)) == []
    assert kinds in ({"io.containerd.cgroups.v1.Metrics"}, {"io.containerd.cgroups.v2.Metrics"})


@clause("TSK-076", needs={"runc", "cgroup-v1|cgroup-v2"})
def test_metrics_are_of_the_version_of_the_host(box, subject, tasks):
    """Rejects: a type that does not fit the host."""
    found = box(*LASTING)
    found.create()

    [metric] = tasks.metrics(soon(found.ctx))

    version = "v1" if "cgroup-v1" in subject.offers else "v2"
    assert metric.data.type_url.rpartition("/")[2] == f"io.containerd.cgroups.{version}.Metrics"
