"""Tasks: how they are made, started, listed and forgotten (TSK-001 to 011, 030 to 034, 046 to 049, 066, 087 to 091).

Streams are in ``tasks_streams``, signals and ends in ``tasks_ends``, further processes in ``tasks_execs``, what is done
to a running task in ``tasks_limits``, checkpoints in ``tasks_checkpoints``, mounts in ``tasks_mounts``, and what stands
between the service and a shim in ``tasks_shims``.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from conformance import clause
from conformance.runc_state import HERE
from conformance.suites._events import listen
from conformance.suites._tasks import (
    LASTING,
    LOOP,
    PATIENCE,
    ROOT,
    RUNTIME,
    SERVICE,
    Later,
    alive,
    box,
    bundle,
    bundle_of,
    eventually,
    given_up,
    kind,
    outputs,
    packed,
    process,
    runc_options,
    shim_of,
    soon,
    streams,
    together,
    told,
)
from refimpl.api import tasks_v1_pb2 as pb
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.tasks import CreateTask
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import TypedAny

TASKS = 'topic~="^/tasks/"'


def _about(tasks, ctx, id):
    """Every call that names a container, but Create."""
    io, spec = IO(), packed(process("true"))
    return {
        "start": lambda: tasks.start(ctx, id),
        "delete": lambda: tasks.delete(ctx, id),
        "delete_process": lambda: tasks.delete_process(ctx, id, "e"),
        "get": lambda: tasks.get(ctx, id),
        "kill": lambda: tasks.kill(ctx, id, signal=9),
        "exec": lambda: tasks.exec(ctx, id, "e", spec, io),
        "resize_pty": lambda: tasks.resize_pty(ctx, id, width=80, height=25),
        "close_io": lambda: tasks.close_io(ctx, id, stdin=True),
        "pause": lambda: tasks.pause(ctx, id),
        "resume": lambda: tasks.resume(ctx, id),
        "list_pids": lambda: tasks.list_pids(ctx, id),
        "checkpoint": lambda: tasks.checkpoint(ctx, id),
        "update": lambda: tasks.update(ctx, id, TypedAny("", b"{}")),
        "wait": lambda: tasks.wait(ctx, id),
    }


# ------------------------------------------------------------------------------------------- namespaces, containers


@clause("TSK-001")
def test_a_call_without_a_namespace_is_refused(tasks):
    """Rejects: a namespace that is assumed where none was named, in whatever call."""
    nobody = soon(CallContext())
    calls = {
        "create": lambda: tasks.create(nobody, CreateTask("x")),
        "list": lambda: tasks.list(nobody),
        **_about(tasks, nobody, "x"),
    }

    assert {name: kind(call) for name, call in calls.items()} == dict.fromkeys(calls, FailedPrecondition)
    with pytest.raises(Unknown):
        tasks.metrics(nobody)


@clause("TSK-001")
def test_a_namespace_that_is_no_name_is_refused(tasks):
    """Rejects: names that are looked up before they are looked at."""
    for name in ("../x", "x" * 77):
        ctx = soon(CallContext(name))
        calls = {"create": lambda ctx=ctx: tasks.create(ctx, CreateTask("x")), **_about(tasks, ctx, "x")}
        assert {name: kind(call) for name, call in calls.items()} == dict.fromkeys(calls, InvalidArgument)


@clause("TSK-002")
@pytest.mark.parametrize("id", ["nope", ""])
def test_a_container_that_is_not_there_is_not_found(ctx, tasks, id):
    """Rejects: the empty id as a mistake of another kind, or a call that says nothing."""
    ctx = soon(ctx)
    calls = {"create": lambda: tasks.create(ctx, CreateTask(id)), **_about(tasks, ctx, id)}

    for name, call in calls.items():
        with pytest.raises(NotFound) as refused:
            call()
        assert ctx.namespace in str(refused.value), f"{name}: {refused.value}"
        assert id in str(refused.value), f"{name}: {refused.value}"
    assert list(tasks.metrics(ctx, [f"id=={id or 'nope'}"])) == []


@clause("TSK-003")
def test_a_container_without_a_task_is_told_from_one_with(ctx, box, tasks):
    """Rejects: a missing task as a wrong state, before the first task or after the last."""
    found = box(*LASTING)
    for moment in ("before", "after"):
        kinds = {name: kind(call) for name, call in _about(tasks, soon(ctx), found.id).items()}
        assert kinds == dict.fromkeys(kinds, NotFound), f"{moment} the task"
        if moment == "before":
            found.run()
            found.end()
            found.delete()


# ------------------------------------------------------------------------------------------------------------ create


@clause("TSK-004")
def test_create_makes_a_task_that_does_not_run_yet(box, streams):
    """Rejects: a program that is started by Create, or a waiting process without a pid."""
    out = streams.pipe()
    found = box("sh", "-c", "echo ran; sleep 1000")

    pid = found.create(io=outputs(out))
    state = found.get()

    assert pid > 0
    assert (state.id, state.pid, state.status) == (found.id, pid, Status.CREATED)
    assert (state.exit_status, state.exited_at) == (0, ZERO_TIME)
    assert found.pids() == [pid]
    assert out.data == b""

    found.start()
    out.until(b"ran")


@clause("TSK-004", needs={"runc", "disk"})
def test_the_pid_of_create_is_one_of_the_host(box):
    """Rejects: a pid as the container sees it."""
    assert alive(box(*LASTING).create())


@clause("TSK-005")
def test_a_container_has_one_task(box):
    """Rejects: a task that is replaced, in whatever state it is."""
    found = box(*LASTING)
    pid = found.create()

    def second():
        with pytest.raises(AlreadyExists):
            found.create()
        return found.get()

    assert (second().status, second().pid) == (Status.CREATED, pid)
    found.start()
    assert (second().status, second().pid) == (Status.RUNNING, pid)
    found.pause()
    assert (second().status, second().pid) == (Status.PAUSED, pid)
    found.resume()
    found.end()
    assert (second().status, second().pid) == (Status.STOPPED, pid)


@clause("TSK-006", needs={"runc"})
def test_one_of_several_creates_wins(box, listen):
    """Rejects: a loser's clean-up that takes away what the winner made."""
    found = box(*LASTING)

    outcomes = together(*[found.create] * 4)

    pids = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(pids) == 1, outcomes
    assert all(isinstance(o, (int, AlreadyExists, Unknown)) for o in outcomes), outcomes
    assert found.start() == pids[0]
    assert found.status() is Status.RUNNING
    assert found.end().status == 137
    found.delete()
    assert found.gone()


@clause("TSK-006", needs={"runc", "disk"})
def test_nothing_is_left_of_creates_that_lost(ctx, box, listen):
    """Rejects: directories of losers."""
    ear = listen(TASKS)
    found = box(*LASTING)

    together(*[found.create] * 4)
    folder = bundle_of(ear, found)
    assert folder.is_dir()

    found.start()
    found.end()
    found.delete()
    assert not folder.exists()


@clause("TSK-007", needs={"runc"})
def test_a_create_that_fails_leaves_no_task(box, listen, tasks):
    """Rejects: half a task that blocks its id."""
    ear = listen(TASKS)
    found = box("/no/such/program")

    with pytest.raises(Unknown):
        found.create()

    assert found.gone()
    assert tasks.list(soon(found.ctx)) == []
    assert told(ear) == []
    record = found.containers.get(found.ctx, found.id)
    found.containers.delete(found.ctx, found.id)
    again = box(*LASTING, id=record.id)
    assert again.run() > 0


@clause("TSK-007", needs={"shim", "disk"})
def test_a_create_that_fails_leaves_no_shim_and_no_directory(ctx, box, listen):
    """Rejects: a shim or a bundle that nobody owns."""
    ear = listen(TASKS)
    good, found = box(*LASTING), box(*LASTING)
    good.create()
    bundles = bundle_of(ear, good).parent

    with pytest.raises(Unknown):
        found.create(options=runc_options(binary_name="/no/such/runc"))

    assert found.gone()
    assert not (bundles / found.id).exists()
    eventually(lambda: not shim_of(ctx.namespace, found.id), "the shim did not end")
    assert found.create() > 0


@clause("TSK-008")
def test_the_complaint_of_the_oci_runtime_is_passed_on(box):
    """Rejects: "exit status 1"."""
    with pytest.raises(Unknown, match="/no/such/binary") as refused:
        box("/no/such/binary").create()
    assert "OCI runtime create failed" in str(refused.value)
    with pytest.raises(Unknown, match="invalid rootfs"):
        box("true", root="/no/such/rootfs").create()


@clause("TSK-008")
def test_the_complaint_about_a_further_process_is_passed_on(box):
    """Rejects: a message that does not say what is missing."""
    found = box(*LASTING)
    found.run()
    found.exec("e", "/no/such/binary")

    with pytest.raises(Unknown, match="/no/such/binary") as refused:
        found.start("e")
    assert "OCI runtime exec failed" in str(refused.value)


@clause("TSK-009")
def test_a_call_may_name_another_shim(box):
    """Rejects: a shim that is found by the record only."""
    _run_with(box(*LASTING, runtime="io.containerd.nosuch.v9"), RUNTIME)


@clause("TSK-009", needs={"shim"})
def test_a_call_may_give_the_path_of_a_shim(box):
    """Rejects: a path that is taken for a name."""
    _run_with(box(*LASTING, runtime="io.containerd.nosuch.v9"), _shim_path())


def _run_with(found, shim):
    """A task runs by another shim than that of its record, which does not change."""
    assert found.create(runtime_path=shim) == found.start()
    assert found.status() is Status.RUNNING
    assert found.containers.get(found.ctx, found.id).runtime.name == "io.containerd.nosuch.v9"


def _shim_path():
    for folder in os.environ.get("PATH", "").split(":"):
        if os.access(path := Path(folder, "containerd-shim-runc-v2"), os.X_OK):
            return str(path)
    raise AssertionError("the word `shim` is offered, so there is one")


@clause("TSK-010", needs={"runc"})
@pytest.mark.parametrize("type_url", ["containerd.runc.v1.CheckpointOptions", "foo.Bar"])
def test_options_of_another_type_are_refused(box, listen, type_url):
    """Rejects: options that only the shim looks at."""
    ear = listen(TASKS)
    found = box(*LASTING)

    with pytest.raises(Unknown):
        found.create(options=TypedAny(type_url, b""))

    assert found.gone()
    assert told(ear) == []
    assert found.create(options=runc_options()) > 0


@clause("TSK-010", needs={"runc", "disk"})
def test_options_are_looked_at_before_a_bundle_is_made(box, listen):
    """Rejects: a directory for a task that cannot be."""
    ear = listen(TASKS)
    good, found = box(*LASTING), box(*LASTING)
    good.create()
    bundles = bundle_of(ear, good).parent
    before = bundles.stat().st_mtime_ns

    with pytest.raises(Unknown):
        found.create(options=TypedAny("foo.Bar", b""))

    assert bundles.stat().st_mtime_ns == before, "something was made beside the bundles"


@clause("TSK-011")
def test_options_of_the_call_replace_those_of_the_record(box):
    """Rejects: two messages that are merged field by field."""
    found = box(*LASTING, options=runc_options(binary_name="/no/such/x"))

    with pytest.raises(Unknown, match="/no/such/x"):
        found.create()

    # The field is not set here: merged with the record's options it would be.
    assert found.create(options=runc_options(no_new_keyring=True)) > 0


# ------------------------------------------------------------------------------------------------------------- start


@clause("TSK-030")
def test_start_runs_the_process_that_create_made(box, streams):
    """Rejects: a pid that is none, or another process than the waiting one."""
    out = streams.pipe()
    found = box(*LOOP)
    pid = found.create(io=outputs(out))

    assert found.start() == pid

    state = found.get()
    assert (state.status, state.pid) == (Status.RUNNING, pid)
    out.until(b"ready")


@clause("TSK-031")
def test_a_task_is_started_once(box):
    """Rejects: a second start of what runs, of what is paused, or of what has ended."""
    found = box(*LASTING)
    pid = found.run()

    def again():
        with pytest.raises(Unknown):
            found.start()
        state = found.get()
        assert state.pid == pid
        return state.status

    assert again() is Status.RUNNING
    found.pause()
    assert again() is Status.PAUSED
    found.resume()
    end = found.end()
    assert again() is Status.STOPPED
    assert found.wait() == end


# -------------------------------------------------------------------------------------------------------------- list


@clause("TSK-032")
def test_list_shows_the_tasks_of_a_namespace(box, bundle, new_namespace, tasks):
    """Rejects: tasks of other namespaces, or further processes as tasks."""
    first, second = box(*LASTING), box(*LASTING)
    elsewhere = bundle(new_namespace(), LASTING)
    first.run()
    second.create()
    elsewhere.create()
    first.run_exec("e", *LASTING)

    listed = {state.id: state for state in tasks.list(soon(first.ctx))}

    assert set(listed) == {first.id, second.id}
    for found in (first, second):
        state, shown = found.get(), listed[found.id]
        assert (shown.pid, shown.status, shown.io) == (state.pid, state.status, state.io)
        assert (shown.exit_status, shown.exited_at) == (state.exit_status, state.exited_at)
    assert tasks.list(soon(CallContext("conform-never-made"))) == []


@clause("TSK-032", needs={"runc", "wire"})
def test_list_ignores_its_filter(box, wire):
    """Rejects: a filter that leaves out tasks."""
    first, second = box(*LASTING), box(*LASTING)
    first.create()
    second.create()

    request = pb.ListTasksRequest(filter=f"id=={first.id}")
    answer = wire.call(f"{SERVICE}/List", request, namespace=first.ctx.namespace)

    assert {task.id for task in answer.messages[0].tasks} == {first.id, second.id}


@clause("TSK-033")
def test_one_id_in_two_namespaces_is_two_tasks(bundle, new_namespace, tasks, unique, listen):
    """Rejects: a table of tasks by id alone, or the end of one that is told of the other."""
    id = unique("same")
    here, there = (bundle(new_namespace(), LASTING, id=id) for _ in range(2))
    ear = listen(TASKS, also=[found.ctx.namespace for found in (here, there)])

    pid = here.run()
    assert there.run() != pid
    there.end()
    there.delete()

    assert (here.status(), here.get().pid) == (Status.RUNNING, pid)
    assert there.gone()
    assert tasks.list(soon(there.ctx)) == []
    ear.until("/tasks/start", 2)
    ear.until("/tasks/delete")
    heard = {found: [each.topic for each in ear() if each.namespace == found.ctx.namespace] for found in (here, there)}
    assert heard[here] == ["/tasks/create", "/tasks/start"]
    assert heard[there] == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


@clause("TSK-034")
def test_a_task_outlives_its_record(box, tasks):
    """Rejects: a task that ends with its record, or cannot be reached when the record is back."""
    found = box(*LASTING)
    pid = found.run()
    record = found.containers.get(found.ctx, found.id)

    found.containers.delete(found.ctx, found.id)
    try:
        for call in (found.get, found.kill):
            with pytest.raises(NotFound):
                call()
        assert [state.id for state in tasks.list(soon(found.ctx))] == [found.id]
    finally:
        found.containers.create(found.ctx, Container(id=record.id, runtime=record.runtime, spec=record.spec))

    state = found.get()
    assert (state.pid, state.status) == (pid, Status.RUNNING)
    assert found.end().status == 137


# ------------------------------------------------------------------------------------------------------------ delete


@clause("TSK-046")
def test_delete_tells_how_it_ended_and_frees_the_id(box):
    """Rejects: a record that goes with its task, or a task that stays with its record."""
    found = box("sh", "-c", "exit 7")
    pid = found.create()
    found.exec("never", "true")
    found.start()
    end = found.wait()

    gone = found.delete()

    assert (gone.pid, gone.status, gone.exited_at) == (pid, 7, end.exited_at)
    assert found.gone()
    assert found.containers.get(found.ctx, found.id).id == found.id
    assert found.create() not in (0, pid)
    with pytest.raises(NotFound):
        found.get("never")


@clause("TSK-046", needs={"shim"})
def test_the_shim_ends_with_its_task(ctx, box):
    """Rejects: a shim that is left behind."""
    found = box("true")
    found.run()
    found.wait()
    assert shim_of(ctx.namespace, found.id)

    found.delete()

    eventually(lambda: not shim_of(ctx.namespace, found.id), "the shim did not end")


@clause("TSK-047")
def test_a_live_task_is_not_deleted(box, listen):
    """Rejects: Delete as a way to kill, or one that stops the monitoring."""
    ear = listen(TASKS)
    found = box(*LASTING)
    pid = found.run()

    def refused():
        with pytest.raises(Unknown):
            found.delete()
        state = found.get()
        assert state.pid == pid
        return state.status

    assert refused() is Status.RUNNING
    found.pause()
    assert refused() is Status.PAUSED
    found.resume()
    assert found.status() is Status.RUNNING
    assert len(found.tasks.metrics(soon(found.ctx), [f"id=={found.id}"])) == 1
    assert "/tasks/delete" not in [topic for topic, _ in told(ear)]


@clause("TSK-048")
def test_a_task_that_never_started_can_be_deleted(box, listen):
    """Rejects: a task that has to be started to be got rid of."""
    ear = listen(TASKS)
    found = box(*LASTING)
    pid = found.create()

    gone = found.delete()

    assert (gone.pid, gone.status, gone.exited_at) == (pid, 0, ZERO_TIME)
    assert found.gone()
    ear.until("/tasks/delete")
    topics = [topic for topic, _ in told(ear)]
    assert topics in (["/tasks/create", "/tasks/delete"], ["/tasks/create", "/tasks/exit", "/tasks/delete"])
    [message] = [message for topic, message in told(ear) if topic == "/tasks/delete"]
    assert (message.pid, message.exit_status) == (pid, 0)
    assert message.exited_at.seconds * 10**9 == ZERO_TIME


@clause("TSK-048", needs={"runc", "disk"})
def test_the_process_of_a_task_that_never_started_is_gone(box):
    """Rejects: a waiting process that nobody knows of."""
    found = box(*LASTING)
    pid = found.create()

    found.delete()

    eventually(lambda: not alive(pid), "the process did not end")


@clause("TSK-049")
def test_a_task_is_deleted_once(box):
    """Rejects: two callers that both believe to have deleted it."""
    found = box("true")
    found.run()
    found.wait()

    outcomes = together(*[found.delete] * 3)

    assert all(not isinstance(o, BaseException) or isinstance(o, (NotFound, Unknown)) for o in outcomes), outcomes
    assert len([o for o in outcomes if not isinstance(o, BaseException)]) <= 1, outcomes
    eventually(found.gone, "the task is still there")
    with pytest.raises(NotFound):
        found.delete()


# ---------------------------------------------------------------------------------------------- processes by name


@clause("TSK-066")
def test_a_process_that_is_not_there_is_not_found(ctx, box, tasks):
    """Rejects: init in the place of a process that nobody knows."""
    found = box(*LASTING)
    found.run()
    id, ctx = found.id, soon(ctx)
    calls = {
        "get": lambda: tasks.get(ctx, id, "nope"),
        "start": lambda: tasks.start(ctx, id, "nope"),
        "kill": lambda: tasks.kill(ctx, id, "nope", signal=9),
        "wait": lambda: tasks.wait(ctx, id, "nope"),
        "resize_pty": lambda: tasks.resize_pty(ctx, id, "nope", width=80, height=25),
        "close_io": lambda: tasks.close_io(ctx, id, "nope", stdin=True),
        "close_io without stdin": lambda: tasks.close_io(ctx, id, "nope", stdin=False),
        "delete_process": lambda: tasks.delete_process(ctx, id, "nope"),
    }

    assert {name: kind(call) for name, call in calls.items()} == dict.fromkeys(calls, NotFound)
    assert found.status() is Status.RUNNING


# ------------------------------------------------------------------------------------------------------- the daemon


@clause("TSK-087", needs={"shim"})
def test_a_task_is_gone_with_its_shim(ctx, box):
    """Rejects: a task that runs for ever, or a wait that never ends."""
    found = box(*LASTING)
    found.run()
    waiter = Later(found.wait)
    # By the end of a later wait the first one has reached the shim.
    with given_up():
        found.wait(seconds=1)

    for pid in shim_of(ctx.namespace, found.id):
        os.kill(pid, signal.SIGKILL)

    assert isinstance(waiter.outcome(), Unknown)
    eventually(found.gone, "the task is still there")
    # The daemon clears up behind the shim in its own time.
    eventually(lambda: _created(found), "the id did not become free")


def _created(found):
    try:
        return found.create() > 0
    except AlreadyExists:
        return False


@clause("TSK-088")
def test_tasks_are_there_after_a_restart(own, bundle):
    """Rejects: tasks of which a daemon knows only while it made them itself."""
    instance, ctx = own(), CallContext(HERE)
    created, running, ending = (
        bundle(ctx, arguments, on=instance, id=f"{name}-{os.getpid()}")
        for name, arguments in (("created", ("sh", "-c", "exit 4")), ("running", LASTING), ("ending", LASTING))
    )
    created.create()
    pid = running.run()
    running.run_exec("e", *LASTING)
    ending.run()

    instance.restart()
    for found in (created, running, ending):
        found.tasks, found.containers = instance.tasks, instance.containers

    assert (created.status(), running.status()) == (Status.CREATED, Status.RUNNING)
    created.start()
    assert created.wait().status == 4
    created.delete()
    waiter = Later(lambda: running.wait("e"))
    running.kill(exec_id="e")
    assert waiter.result().status == 137
    assert running.get().pid == pid
    assert running.end().status == 137
    assert running.delete().pid == pid
    ending.end()


@clause("TSK-088", needs={"runc", "restart", "disk"})
def test_what_ended_while_the_daemon_was_away_is_known(own, bundle):
    """Rejects: a status that is lost with the event that nobody heard."""
    instance, ctx = own(), CallContext(HERE)
    found = bundle(ctx, ("sh", "-c", "sleep 0.3; exit 9"), on=instance, id=f"meanwhile-{os.getpid()}")
    pid = found.run()

    # The daemon needs longer than the program to be there again: its end is seen by a shim alone.
    instance.restart()
    found.tasks, found.containers = instance.tasks, instance.containers
    eventually(lambda: not alive(pid), "the program did not end")

    if found.gone():
        return  # releases of 2.x remove it
    assert found.wait().status == 9
    assert found.status() is Status.STOPPED
    assert found.delete().status == 9


@clause("TSK-089")
def test_a_setting_that_cannot_be_applied_does_not_break_the_service(own):
    """Rejects: a plugin that does not load for a feature that nobody has."""
    section = '[plugins."io.containerd.service.v1.tasks-service"]\nrdt_config_file = "/no/such"\n'
    instance = own(section)

    assert instance.tasks.list(soon(CallContext("any"))) == []
    assert "RDT initialization failed" in instance.log()


@clause("TSK-090")
def test_both_faces_of_the_service_are_listed(ctx, introspection):
    """Rejects: a wire face that goes by the name of the service."""
    found = {plugin.uri: plugin for plugin in introspection.plugins(ctx, ["id~=tasks"])}

    service = found["io.containerd.service.v1.tasks-service"]
    face = found["io.containerd.grpc.v1.tasks"]
    assert service.init_err is None
    assert face.init_err is None
    assert face.requires[:1] == ("io.containerd.service.v1",)
    older = {f"io.containerd.{name}" for name in ("event.v1", "runtime.v1", "runtime.v2", "metadata.v1", "monitor.v1")}
    newer = {"event.v1", "runtime.v2", "metadata.v1", "monitor.task.v1", "warning.v1"}
    assert set(service.requires) in (older, {f"io.containerd.{name}" for name in newer})


# ------------------------------------------------------------------------------------------------------------ events


@clause("TSK-091")
def test_what_is_told_matches_what_was_called(box, listen, streams, tasks):
    """Rejects: events of calls that change nothing, or changes without an event."""
    ear, out, err = listen(TASKS), streams.pipe(), streams.pipe()
    found, io = box(*LASTING), IO(stdout=out.path, stderr=err.path)
    ctx = found.ctx
    pid = found.create(io=io)
    found.start()
    exec_pid = found.run_exec("e", "sh", "-c", "exit 5")
    found.wait("e")
    ear.until("/tasks/exit")
    found.delete_process("e")
    found.get()
    tasks.list(soon(ctx))
    found.pids()
    tasks.metrics(soon(ctx))
    tasks.resize_pty(soon(ctx), found.id, width=80, height=25)
    tasks.close_io(soon(ctx), found.id, stdin=True)
    found.update({"pids": {"limit": 50}})
    found.pause()
    found.resume()
    found.kill(0)
    end = found.end()
    ear.until("/tasks/exit", 2)
    found.delete()
    ear.until("/tasks/delete")

    events = told(ear)
    assert [topic.removeprefix("/tasks/") for topic, _ in events] == [
        "create", "start", "exec-added", "exec-started", "exit", "paused", "resumed", "exit", "delete",
    ]  # fmt: skip
    assert {message.container_id for _, message in events} == {found.id}
    create, start, _, exec_started, exec_exit, _, _, end_event, delete = (message for _, message in events)
    assert [(m.type, m.source, tuple(m.options)) for m in create.rootfs] == [(ROOT.type, ROOT.source, ROOT.options)]
    assert (create.io.stdin, create.io.stdout, create.io.stderr) == ("", out.path, err.path)
    assert create.io.terminal is False
    assert create.checkpoint == ""
    assert (create.pid, start.pid, exec_started.pid) == (pid, pid, exec_pid)
    assert (exec_exit.id, exec_exit.exit_status) == ("e", 5)
    assert (end_event.id, end_event.pid, end_event.exit_status) == (found.id, pid, end.status)
    assert (delete.pid, delete.exit_status) == (pid, end.status)
