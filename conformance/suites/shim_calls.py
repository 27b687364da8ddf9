"""Shims, the calls: what each method of the Task service answers and does (SHM-046 to 051, 060 to 070)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as Packed

from conformance import clause
from conformance.shim import processes
from conformance.shim.bundle import shell
from conformance.shim.task import SERVICES
from conformance.shim.waiting import until
from conformance.suites._shim import (
    FOREVER,
    OCI,
    SHIM,
    died,
    refused,
    shim,
)
from refimpl.api import runc_v1_pb2, typeurl
from refimpl.api import task_types_v1_pb2 as types
from refimpl.api import task_v2_pb2 as pb
from refimpl.contract.errors import ContainerdError, DeadlineExceeded, NotFound, Unimplemented, Unknown

ZERO_SECONDS = -62135596800
"""Seconds of Go's zero time."""

BEFORE_CREATE = {
    "State": lambda id: pb.StateRequest(id=id),
    "Start": lambda id: pb.StartRequest(id=id),
    "Pids": lambda id: pb.PidsRequest(id=id),
    "Delete": lambda id: pb.DeleteRequest(id=id),
    "Stats": lambda id: pb.StatsRequest(id=id),
    "Wait": lambda id: pb.WaitRequest(id=id),
    "Kill": lambda id: pb.KillRequest(id=id, signal=9),
    "CloseIO": lambda id: pb.CloseIORequest(id=id, stdin=True),
    "ResizePty": lambda id: pb.ResizePtyRequest(id=id, width=1, height=1),
    "Update": lambda id: pb.UpdateTaskRequest(id=id, resources=Packed(type_url="x", value=b"{}")),
    "Exec": lambda id: pb.ExecProcessRequest(id=id, exec_id="e", spec=Packed(type_url="x", value=b"{}")),
    "Checkpoint": lambda id: pb.CheckpointTaskRequest(id=id, path="/nowhere"),
    "Pause": lambda id: pb.PauseRequest(id=id),
    "Resume": lambda id: pb.ResumeRequest(id=id),
}


@clause("SHM-046", needs=SHIM)
def test_a_shim_serves_one_version_of_the_task_service(shim):
    """Rejects: UNKNOWN for a method or a service that is not there, which reads like a failure of the task."""
    task = shim.shim().task
    other = next(name for name in SERVICES if name != task.service)
    request = pb.ConnectRequest(id="")

    assert task.raw(task.service, "Connect", request)
    for service, method, name in (
        (other, "Connect", other), (task.service, "Nope", "Nope"), ("foo.Bar", "Connect", "foo.Bar"),
    ):  # fmt: skip
        error = refused(task.raw, service, method, request)
        assert isinstance(error, Unimplemented), f"{service}/{method}: {error!r}"
        assert name in str(error)


@clause("SHM-047", needs=SHIM)
@pytest.mark.parametrize("method", BEFORE_CREATE)
def test_a_container_that_was_not_created_is_not_found(shim, method):
    """Rejects: a crash on a container that is not there; an answer made up for it."""
    container = shim.shim()

    error = refused(container.task.call, method, BEFORE_CREATE[method](container.id))

    assert isinstance(error, NotFound), repr(error)
    assert container.task.connect("").shim_pid in shim.shim_processes()


@clause("SHM-047", "SHM-051", needs=SHIM)
@pytest.mark.parametrize("named", [True, False], ids=["own id", "no id"])
def test_connect_answers_before_there_is_a_container(shim, named):
    """Rejects: NOT_FOUND, which the daemon would take for a dead shim; the pid of the start command."""
    container = shim.shim()

    answer = container.task.connect(container.id if named else "")

    assert [answer.shim_pid] == shim.shim_processes()
    assert answer.task_pid == 0


@clause("SHM-048", "SHM-074", needs=SHIM)
def test_the_namespace_is_that_of_the_command_line(shim):
    """Rejects: a namespace that has to come with each call, which 1.6's daemon does not send."""
    container = shim.running(shell("exit 3"))
    container.wait()
    container.delete()

    shim.events.wait(container.id, 4)

    assert {one.namespace for one in shim.events.of(container.id)} == {shim.namespace}


@clause("SHM-048", needs=SHIM)
def test_the_namespace_of_a_call_changes_nothing(shim):
    """Rejects: a shim that works in whatever namespace a call names."""
    container = shim.created()

    container.task.call("Start", pb.StartRequest(id=container.id), namespace="somebody-elses")

    shim.events.wait_for(container.id, "start")
    assert {one.namespace for one in shim.events.of(container.id)} == {shim.namespace}


@clause("SHM-050", needs=SHIM)
def test_a_time_limit_on_wait_makes_up_no_exit(shim):
    """Rejects: an exit status of 0 when the time is over."""
    container = shim.running()

    with pytest.raises(DeadlineExceeded):
        container.wait(seconds=0.3)

    assert container.state().status == types.RUNNING


@clause("SHM-051", needs=SHIM)
def test_connect_tells_the_pids_of_shim_and_init(shim):
    """Rejects: the pid of the start command, which is gone."""
    container = shim.created()

    answer = container.task.connect(container.id)

    assert (answer.shim_pid, answer.task_pid) == (processes.parent(container.pid), container.pid)


@clause("SHM-060", needs=SHIM)
def test_state_tells_all_of_a_process_from_create_to_exit(shim):
    """Rejects: an exit time before the exit that clients read as 1970; a state that lags behind the exit."""
    container = shim.shim(shell("exit 7"))
    out = container.bundle.fifo("out")
    container.create(stdout=str(out.path), stderr=str(out.path))

    created = container.state()
    container.start()
    waited = container.wait()
    stopped = container.state()

    assert (created.id, created.bundle, created.pid) == (container.id, str(container.bundle.path), container.pid)
    assert (created.status, created.exit_status, created.exited_at.seconds) == (types.CREATED, 0, ZERO_SECONDS)
    assert (created.stdin, created.stdout, created.stderr, created.terminal) == (
        "",
        str(out.path),
        str(out.path),
        False,
    )
    assert (stopped.status, stopped.exit_status) == (types.STOPPED, 7)
    assert stopped.exited_at == waited.exited_at


@clause("SHM-060", needs=SHIM)
def test_the_state_of_an_exec_goes_by_its_own_id(shim):
    """Rejects: the init's state for every process of the container."""
    container = shim.running()
    container.task.exec(container.id, "e", ["/bin/sleep", "100"])

    created = container.state("e")
    pid = container.start("e")
    running = container.state("e")

    assert (created.id, created.pid, created.status) == ("e", 0, types.CREATED)
    assert (running.id, running.pid, running.status) == ("e", pid, types.RUNNING)
    assert container.state().pid == container.pid != pid


@clause("SHM-060", needs=SHIM)
def test_a_running_container_can_be_paused_and_goes_on(shim):
    """Rejects: a state of running while nothing runs, and a pause that nobody can end."""
    container = shim.running()

    container.task.pause(container.id)
    paused = container.state().status
    container.task.resume(container.id)

    assert (paused, container.state().status) == (types.PAUSED, types.RUNNING)


@clause("SHM-060", needs=SHIM)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_gives_the_exit_status_of_shells(shim, number):
    """Rejects: the bare number of the signal, a negative one, or 255."""
    container = shim.running()
    # sleep leaves signals at their defaults, but as the first of a pid namespace it is deaf to all but SIGKILL.
    container.exec("e", FOREVER)

    container.kill(number, "e")

    assert container.wait("e").exit_status == 128 + number
    assert container.state("e").exit_status == 128 + number
    assert container.delete("e").exit_status == 128 + number


@clause("SHM-060", needs=SHIM)
def test_wait_delete_and_the_event_tell_of_one_exit(shim):
    """Rejects: an exit time that is taken anew by everybody who asks."""
    container = shim.running(shell("exit 5"))

    waited = container.wait()
    again = container.wait()
    deleted = container.delete()
    shim.events.wait_for(container.id, "delete")
    told = [one.event for one in shim.events.of(container.id) if one.topic in ("/tasks/exit", "/tasks/delete")]

    seen = [(one.exit_status, one.exited_at) for one in (waited, again, deleted, *told)]
    assert seen == [(5, waited.exited_at)] * 5
    assert [one.pid for one in (deleted, *told)] == [container.pid] * 3


@clause("SHM-061", needs=SHIM)
def test_a_second_create_leaves_the_first_container_alone(shim):
    """Rejects: a second container under the id of the first, whose pid is lost."""
    container = shim.created()

    error = refused(container.task.create, container.id, container.bundle.path, shim.rootfs)

    assert error is not None, "two containers of one id"
    assert container.task.connect(container.id).task_pid == container.pid
    assert container.start() == container.pid
    assert container.state().status == types.RUNNING


@clause("SHM-063", needs=SHIM)
@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize("started", [False, True], ids=["created", "running"])
def test_shutdown_does_nothing_while_there_is_a_container(shim, now, started):
    """Rejects: a shutdown that takes containers along, because it was to be quick."""
    container = shim.running() if started else shim.created()
    pid = container.shim_pid

    container.task.shutdown(container.id, now=now)
    time.sleep(0.3)

    assert container.task.connect(container.id).shim_pid == pid
    assert processes.alive(container.pid)


@clause("SHM-063", needs=SHIM)
def test_shutdown_ends_an_empty_shim_and_its_socket(shim):
    """Rejects: a shim that stays for ever, a socket file that stays, a connection that stays open."""
    container = shim.running()
    pid = container.shim_pid
    container.end()

    container.shutdown()

    assert until(lambda: not processes.alive(pid)), "the shim still runs"
    assert not Path(container.address.removeprefix("unix://")).exists(), "its socket file is still there"
    assert until(lambda: container.task.closed), "the connection is still open"


@clause("SHM-064", needs=SHIM)
def test_the_files_of_a_bundle_outlive_the_container(shim):
    """Rejects: a shim that removes the bundle, over which the daemon's own clean-up stumbles."""
    container = shim.running()
    pid = container.shim_pid
    before = set(container.bundle.listing())
    container.end()
    container.shutdown()
    assert died(pid)

    left = set(container.bundle.listing())

    assert {"config.json", "rootfs", "work", "log"} <= left
    # What belongs to the serving process may go with it.
    assert before - left <= {"address", "shim.pid"}, f"gone: {before - left}"
    assert processes.mounts_below(container.bundle.path) == [], "the root file system is still mounted"


@clause("SHM-064", needs=SHIM)
def test_a_deleted_container_is_forgotten(shim):
    """Rejects: a second answer for a container that the first one said was gone."""
    container = shim.running()
    container.end()

    for call in (container.delete, container.state, container.kill):
        assert isinstance(refused(call), NotFound), f"{call.__name__} after Delete"
    assert container.task.connect(container.id).task_pid == 0


@clause("SHM-065", needs=OCI)
def test_options_and_pids_are_kept_in_the_bundle(shim):
    """Rejects: files of execs that stay for ever, options that a delete command cannot find."""
    root = shim.top / "oci"
    options = typeurl.pack(runc_v1_pb2.Options(binary_name="runc", root=str(root)))
    container = shim.created(options=options)
    container.start()
    path = container.bundle.path
    pid = container.exec("xx", FOREVER)

    assert json.loads((path / "options.json").read_text()) == {"binary_name": "runc", "root": str(root)}
    assert (path / "runtime").read_text() == "runc"
    assert (path / "init.pid").read_text() == str(container.pid)
    assert (path / "xx.pid").read_text() == str(pid)
    container.kill(signal.SIGKILL, "xx")
    container.wait("xx")
    container.delete("xx")
    assert not (path / "xx.pid").exists()


@clause("SHM-066", needs=OCI)
def test_the_oci_runtime_keeps_its_state_by_namespace(shim):
    """Rejects: one directory for all, where the ids of two namespaces meet."""
    root = shim.top / "oci"
    plain = shim.created()
    placed = shim.created(options=typeurl.pack(runc_v1_pb2.Options(root=str(root))))

    assert (Path("/run/containerd/runc") / shim.namespace / plain.id).is_dir()
    assert (root / shim.namespace / placed.id).is_dir()


@clause("SHM-067", needs=SHIM)
def test_an_oci_runtime_that_is_not_there_fails_the_create(shim):
    """Rejects: another runtime in the place of the one that was asked for."""
    container = shim.shim()

    with pytest.raises(Unknown, match="/no/such/runc") as caught:
        container.create(typeurl.pack(runc_v1_pb2.Options(binary_name="/no/such/runc")))

    assert "OCI runtime create failed" in str(caught.value)
    assert processes.mounts_below(container.bundle.path) == []


@clause("SHM-067", needs=OCI)
def test_options_choose_the_oci_runtime(shim):
    """Rejects: runc, whatever the options say."""
    wrapper, record = shim.top / "my-runc", shim.top / "used"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {record}\nexec runc "$@"\n')
    wrapper.chmod(0o755)

    container = shim.created(options=typeurl.pack(runc_v1_pb2.Options(binary_name=str(wrapper))))
    container.start()

    used = record.read_text()
    assert " create " in used
    assert " start " in used


@clause("SHM-068", needs=SHIM)
def test_metrics_are_of_the_hosts_version_of_cgroups(shim):
    """Rejects: metrics of version 1 on every host."""
    container = shim.created()
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()

    stats = container.task.stats(container.id)

    assert stats.type_url == f"io.containerd.cgroups.v{2 if unified else 1}.Metrics"


@clause("SHM-069", needs=SHIM)
@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param(lambda id: ("Exec", pb.ExecProcessRequest(id=id, exec_id="e")), id="exec without a process"),
        pytest.param(lambda id: ("Update", pb.UpdateTaskRequest(id=id)), id="update without resources"),
    ],
)
def test_a_request_that_lacks_its_payload_does_no_harm(shim, request_of):
    """Rejects: a shim that falls over a field that is not there, and its containers with it."""
    container = shim.running()
    pid = container.shim_pid

    error = refused(container.task.call, *request_of(container.id))
    time.sleep(0.2)

    assert error is not None
    assert processes.alive(pid), "the shim died of it"
    assert container.state().status == types.RUNNING


@clause("SHM-070", needs=SHIM)
def test_an_exec_that_failed_can_be_started_again_without_harm(shim):
    """Rejects: a second start that ends the shim and its containers."""
    container = shim.running()
    pid = container.shim_pid
    container.task.exec(container.id, "e", ["/no/such/program"])

    first = refused(container.start, "e")
    second = refused(container.start, "e")
    time.sleep(0.2)

    assert isinstance(first, ContainerdError)
    assert isinstance(second, ContainerdError)
    assert processes.alive(pid), "the shim died of it"
    assert container.state().status == types.RUNNING
