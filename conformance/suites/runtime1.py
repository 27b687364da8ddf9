"""The first runtime, as clients see it through the tasks service (RT1-001 to 004, 010 to 030)."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from conformance import clause
from conformance.runc_state import HERE
from conformance.suites._events import opened
from conformance.suites._linux import NAME, SECOND, bundle, linux, listen
from conformance.suites._tasks import (
    LASTING,
    LOOP,
    Later,
    eventually,
    outputs,
    packed,
    soon,
    streams,
)
from refimpl.api import cgroups_v1_pb2, linux_runc_pb2, runc_v1_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, ContainerdError, InvalidArgument, NotFound, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import TypedAny

__all__ = ["bundle", "linux", "listen", "streams"]

METRICS = "io.containerd.cgroups.v1.Metrics"

LITTLE_MEMORY = 12 << 20
"""Bytes in which a shell can start, and not much more."""

GREEDY = "v=12345678; while :; do v=$v$v; done"
"""A script that remembers more and more."""


def details(info):
    """What a runtime tells of one process."""
    return TypedAny(info.DESCRIPTOR.full_name, info.SerializeToString())


def told(ear):
    """Topics and messages up to now."""
    return [(each.topic, opened(each)) for each in ear()]


def folder_of(told):
    """The directory with the bundle that an event names, as mounts."""
    bundle = next(opened(each).bundle for each in told if each.topic == "/tasks/create")
    return [Mount("bind", bundle.rpartition("/")[0], options=("bind", "ro"))]


def has_it(introspection, ctx):
    """Whether the daemon has this runtime: 2.x has not."""
    return bool(introspection.plugins(ctx, ["type==io.containerd.runtime.v1"]))


# ------------------------------------------------------------------------------------------------- which runtime


@clause("RT1-001", needs={"runc", "cgroup-v1", "events"})
def test_only_the_full_name_of_the_plugin_means_this_runtime(linux, introspection, ctx, listen):
    """Rejects: the name taken for that of a shim, or every name that begins alike taken for this runtime."""
    if not has_it(introspection, ctx):
        with pytest.raises(Unknown, match="containerd-shim-v1-linux"):
            linux("true").create()
        return
    ear = listen()

    linux("true", id="first").create()
    linux("true", id="second", runtime="io.containerd.runc.v2").create()
    for name in (f"{NAME}x", "io.containerd.runtime.v1", "linux"):
        with pytest.raises(ContainerdError):
            linux("true", runtime=name).create()

    ear.until("/tasks/create", 2)
    bundles = {m.container_id: m.bundle.split("/")[-3:] for topic, m in told(ear) if topic == "/tasks/create"}
    assert bundles == {
        "first": [NAME, ctx.namespace, "first"],
        "second": [SECOND, ctx.namespace, "second"],
    }


@clause("RT1-002")
def test_the_runtime_is_introduced(introspection, ctx):
    """Rejects: a runtime without its platform, or one whose needs are told differently."""
    plugins = introspection.plugins(ctx, ["type==io.containerd.runtime.v1"])
    if not plugins:
        pytest.skip("2.x has no such runtime")
    (plugin,) = plugins

    assert (plugin.uri, plugin.init_err) == (NAME, None)
    assert sorted(plugin.requires) == ["io.containerd.event.v1", "io.containerd.metadata.v1"]
    assert [platform.os for platform in plugin.platforms] == ["linux"]
    assert all(platform.architecture for platform in plugin.platforms)


@clause("RT1-003", needs={"runc", "cgroup-v1", "config"})
def test_the_oci_runtime_is_that_of_the_settings_or_of_the_options(own, bundle):
    """Rejects: a setting that is read and not used, or that wins over the options of a container."""
    instance = own(config=f'version = 2\n[plugins."{NAME}"]\n  runtime = "/no/such/oci-runtime"\n')
    ctx = CallContext(HERE)

    with pytest.raises(Unknown, match="/no/such/oci-runtime"):
        bundle(ctx, LASTING, runtime=NAME, on=instance).create()

    options = details(linux_runc_pb2.RuncOptions(runtime="runc"))
    box = bundle(ctx, LASTING, runtime=NAME, options=options, on=instance)
    box.run()
    assert box.status() is Status.RUNNING


@clause("RT1-004", needs={"runc", "cgroup-v1", "events", "mount"})
def test_a_bundle_is_not_that_of_the_second_runtime(linux, listen, mounted):
    """Rejects: the files of the second runtime's bundles, and bundles that everybody may enter."""
    ear = listen()
    box = linux(*LASTING)
    box.create()

    with mounted(folder_of(ear.until("/tasks/create"))) as fs:
        names = set(fs.listdir(f"/{box.id}"))
        assert names >= {"config.json", "rootfs", "init.pid"}
        assert names & {"work", "shim-binary-path", "options.json", "log"} == set()
        assert int(fs.read(f"/{box.id}/init.pid")) == box.get().pid
        assert json.loads(fs.read(f"/{box.id}/config.json"))["process"]["args"] == list(LASTING)
        modes = [oct(fs.lstat(path).mode) for path in (f"/{box.id}", f"/{box.id}/rootfs", "/")]
    assert modes == ["0o700", "0o711", "0o711"]


# ------------------------------------------------------------------------------------------------- events


@clause("RT1-010", needs={"runc", "cgroup-v1", "events"})
def test_each_step_is_told_once_and_an_added_process_not(linux, listen):
    """Rejects: events that only the shims of the second runtime have, or that both daemon and shim tell."""
    ear = listen()
    box = linux(*LASTING)

    box.run()
    box.exec("e", "true")
    box.start("e")
    box.wait("e")
    # A shim tells of an end in its own time, and is killed with its task.
    ear.until("/tasks/exit", 1)
    box.delete_process("e")
    box.pause()
    box.resume()
    box.kill()
    box.wait()
    ear.until("/tasks/exit", 2)
    box.delete()

    topics = [topic for topic, _ in told(ear)]
    assert sorted(topics) == sorted(
        f"/tasks/{name}"
        for name in ("create", "start", "exec-started", "paused", "resumed", "exit", "exit", "delete")
    )  # fmt: skip
    assert topics[:3] == ["/tasks/create", "/tasks/start", "/tasks/exec-started"]
    assert sorted(m.id for topic, m in told(ear) if topic == "/tasks/exit") == sorted(["e", box.id])


@clause("RT1-011", needs={"runc", "cgroup-v1", "events"})
def test_the_end_of_a_task_may_be_told_after_its_removal(linux, listen):
    """Rejects: a removal that is told before the creation, or twice."""
    ear = listen()
    box = linux(*LASTING)

    box.create()
    box.delete()

    ear.until("/tasks/delete")
    topics = [topic for topic, _ in told(ear) if topic != "/tasks/exit"]
    assert topics == ["/tasks/create", "/tasks/delete"]


# ------------------------------------------------------------------------------------------------- life


@clause("RT1-012", needs={"runc", "cgroup-v1"})
def test_a_task_lives_as_in_the_second_runtime(linux, streams, ctx):
    """Rejects: another order of states, or a state that is not the one told."""
    out = streams.pipe()
    box = linux(*LOOP)

    pid = box.create(io=outputs(out))
    assert (box.status(), box.get().pid) == (Status.CREATED, pid)
    assert box.start() == pid
    out.until(b"ready")
    assert box.status() is Status.RUNNING
    assert [(task.id, task.pid) for task in box.tasks.list(ctx)] == [(box.id, pid)]
    assert pid in box.pids()
    box.pause()
    assert box.status() is Status.PAUSED
    box.resume()
    assert box.status() is Status.RUNNING
    waiter = Later(box.wait)
    box.kill(15)
    assert waiter.result().status == 3
    assert (box.status(), box.get().exit_status) == (Status.STOPPED, 3)
    end = box.delete()
    assert (end.pid, end.status) == (pid, 3)
    assert box.gone()
    assert box.tasks.list(ctx) == []


@clause("RT1-012", needs={"runc", "cgroup-v1"})
def test_what_a_task_cannot_do_now_is_unknown(linux):
    """Rejects: the more fitting kinds, by which no client of 1.6 goes; a creation that replaces another."""
    box = linux(*LASTING)

    with pytest.raises(NotFound):
        box.start()
    box.create()
    with pytest.raises(AlreadyExists):
        box.create()
    box.start()
    wrong = [box.start, box.resume, box.delete]
    for call in wrong:
        with pytest.raises(Unknown):
            call()
    box.pause()
    with pytest.raises(Unknown):
        box.pause()
    box.resume()
    box.end()
    with pytest.raises(NotFound):
        box.kill()
    box.delete()
    for call in (box.get, box.delete, box.kill, box.start, box.wait):
        with pytest.raises(NotFound):
            call()


@clause("RT1-013", needs={"runc", "cgroup-v1"})
def test_a_failed_creation_says_what_the_oci_runtime_says(linux):
    """Rejects: no word of what was wrong."""
    with pytest.raises(Unknown) as caught:
        linux("/no/such/program").create()

    text = str(caught.value)
    assert "/no/such/program" in text
    # Without the prefix of the second runtime in 1.6; nobody may rely on either.
    assert text.removeprefix("failed to create shim task: ").startswith("OCI runtime create failed")


@clause("RT1-014", needs={"runc", "cgroup-v1"})
def test_the_id_of_the_task_is_one_of_the_ids_of_its_processes(linux):
    """Rejects: a process that is named like the task, as the second runtime allows it."""
    box = linux(*LASTING)
    pid = box.run()

    box.exec("e1", "true")
    with pytest.raises(AlreadyExists):
        box.exec("e1", "true")
    with pytest.raises(AlreadyExists):
        box.exec(box.id, "true")
    with pytest.raises(InvalidArgument):
        box.delete_process(box.id)
    with pytest.raises(NotFound):
        box.delete_process("")
    assert (box.get(box.id).pid, box.status(box.id)) == (pid, Status.RUNNING)


@clause("RT1-015", needs={"runc", "cgroup-v1"})
def test_the_end_of_a_process_is_known_to_who_deletes_it(linux):
    """Rejects: a time that is lost for everybody."""
    box = linux(*LASTING)
    box.run()
    before = time.time_ns()
    box.run_exec("e", *LASTING)
    box.kill(exec_id="e")
    waited = box.wait("e")

    state = box.get("e")
    assert (state.status, state.exit_status) == (Status.STOPPED, 137)
    # The zero time in 1.6.
    assert state.exited_at in {ZERO_TIME, waited.exited_at}
    end = box.delete_process("e")
    assert (end.status, end.exited_at) == (137, waited.exited_at)
    assert before - 10**9 <= end.exited_at <= time.time_ns() + 10**9


@clause("RT1-016", needs={"runc", "cgroup-v1"})
def test_init_is_described_among_the_processes(linux, ctx):
    """Rejects: details in the type of the second runtime, or none of init."""
    box = linux("sh", "-c", "sleep 1000 & wait")
    pid = box.run()
    exec_pid = box.run_exec("e1", *LASTING)
    eventually(lambda: len(box.pids()) == 3, "three processes")

    found = {info.pid: info.info for info in box.tasks.list_pids(soon(ctx), box.id)}

    assert found.pop(pid) == details(linux_runc_pb2.ProcessDetails(exec_id=box.id))
    assert found.pop(exec_pid) == details(linux_runc_pb2.ProcessDetails(exec_id="e1"))
    assert list(found.values()) == [None]


# ------------------------------------------------------------------------------------------------- creation


@clause("RT1-017", needs={"runc", "cgroup-v1"})
def test_options_of_other_runtimes_are_refused(linux):
    """Rejects: options that are passed over because nobody knows their type."""
    of_second = details(runc_v1_pb2.Options(binary_name="runc"))

    odd = linux(*LASTING, options=of_second)
    with pytest.raises(Unknown):
        odd.create()
    plain = linux(*LASTING)
    with pytest.raises(Unknown):
        plain.create(options=of_second)

    assert odd.gone()
    assert plain.gone()
    plain.create(options=details(linux_runc_pb2.CreateOptions(no_new_keyring=True)))
    own = linux(*LASTING, options=details(linux_runc_pb2.RuncOptions(runtime="runc")))
    own.run()
    assert own.status() is Status.RUNNING


@clause("RT1-018", needs={"runc", "cgroup-v1"})
def test_after_a_failed_creation_there_is_no_task(linux, listen, ctx):
    """Rejects: half a task that keeps its id."""
    ear = listen()

    unmountable = linux(*LASTING)
    with pytest.raises(Unknown):
        unmountable.create(rootfs=[Mount("bind", "/no/such", options=("bind", "ro"))])
    unrunnable = linux("/no/such")
    with pytest.raises(Unknown):
        unrunnable.create()

    assert unmountable.gone()
    assert unrunnable.gone()
    assert unmountable.tasks.list(ctx) == []
    assert [topic for topic, _ in told(ear) if topic == "/tasks/create"] == []
    unmountable.run()
    assert unmountable.status() is Status.RUNNING


@clause("RT1-019", needs={"runc", "cgroup-v1"})
def test_output_goes_where_the_uri_says(linux, streams):
    """Rejects: one stream of two, or another scheme that is taken for a file."""
    log = streams.folder / "log"
    log.write_text("before\n")
    streams.folder.chmod(0o777)
    uri = f"file://{log}"
    # It goes on: 1.6 closes the file of both with the stream that ends first.
    box = linux("sh", "-c", "echo out; echo err >&2; exec sleep 1000")

    box.run(io=IO(stdout=uri, stderr=uri))
    eventually(lambda: len(log.read_text().splitlines()) == 3, "both streams in the file")
    assert sorted(log.read_text().splitlines()) == ["before", "err", "out"]

    refused = linux(*LASTING)
    with pytest.raises(Unknown, match="unknown STDIO scheme"):
        refused.create(io=IO(stdout=f"npipe://{streams.folder}/x"))
    assert refused.gone()


@clause("RT1-019", needs={"runc", "cgroup-v1", "events", "mount"})
def test_the_root_file_system_stays_as_long_as_the_task(linux, listen, mounted):
    """Rejects: a file system that is taken away when the program ends."""
    ear = listen()
    box, other = linux("true"), linux(*LASTING)

    box.run()
    other.create()
    box.wait()

    (below,) = folder_of(ear.until("/tasks/create"))
    with mounted([replace(below, options=("rbind", "ro"))]) as fs:
        assert fs.listdir(f"/{box.id}/rootfs") != []
    box.delete()
    with mounted([below]) as fs:
        assert not fs.exists(f"/{box.id}")


@clause("RT1-020", needs={"runc", "cgroup-v1", "events"})
def test_the_removal_of_a_task_is_told_with_its_end(linux, listen):
    """Rejects: a removal that nobody hears of, or without the values of the answer."""
    box = linux("sh", "-c", "exit 4")
    box.run()
    box.wait()
    ear = listen()

    end = box.delete()

    ear.until("/tasks/delete")
    (message,) = [m for topic, m in told(ear) if topic == "/tasks/delete"]
    assert (message.container_id, message.pid, message.exit_status) == (box.id, end.pid, end.status) == (
        box.id, end.pid, 4,
    )  # fmt: skip


@clause("RT1-018", "RT1-020", needs={"runc", "cgroup-v1", "events", "mount"})
def test_no_bundle_outlives_its_task(linux, listen, mounted):
    """Rejects: what a failed creation or a task that is over leaves behind."""
    ear = listen()
    lasting, over = linux(*LASTING), linux("true")

    lasting.create()
    with pytest.raises(Unknown):
        linux("/no/such").create()
    with pytest.raises(Unknown):
        linux(*LASTING).create(rootfs=[Mount("bind", "/no/such", options=("bind", "ro"))])
    over.run()
    over.wait()
    over.delete()

    with mounted(folder_of(ear.until("/tasks/create"))) as fs:
        assert fs.listdir("/") == [lasting.id]


@clause("RT1-022", needs={"runc", "cgroup-v1", "restart"})
def test_tasks_and_their_processes_are_there_after_a_restart(own, bundle):
    """Rejects: processes that are forgotten, or an end that is."""
    instance, ctx = own(), CallContext(HERE)
    lives, over = bundle(ctx, LASTING, runtime=NAME, on=instance), bundle(ctx, ["false"], runtime=NAME, on=instance)
    pid, _ = lives.run(), over.run()
    exec_pid = lives.run_exec("e", *LASTING)
    over.wait()

    instance.restart()
    for box in (lives, over):
        box.tasks, box.containers = instance.tasks, instance.containers

    assert (lives.status(), lives.get().pid) == (Status.RUNNING, pid)
    assert (lives.status("e"), lives.get("e").pid) == (Status.RUNNING, exec_pid)
    assert (over.status(), over.wait().status) == (Status.STOPPED, 1)


# ------------------------------------------------------------------------------------------------- both runtimes


@clause("RT1-023", needs={"runc", "cgroup-v1"})
def test_the_tasks_of_both_runtimes_are_in_one_list(linux, ctx):
    """Rejects: a list of one runtime only."""
    first, second = linux(*LASTING), linux(*LASTING, runtime="io.containerd.runc.v2")
    pids = {first.id: first.run(), second.id: second.run()}

    assert {task.id: task.pid for task in first.tasks.list(ctx)} == pids
    metrics = first.tasks.metrics(soon(ctx))
    assert {metric.id: metric.data.type_url for metric in metrics} == dict.fromkeys(pids, METRICS)


@clause("RT1-024", needs={"runc", "cgroup-v1", "events"})
def test_a_lack_of_memory_is_told_of_this_runtime_too(linux, listen, ctx):
    """Rejects: OOM events of the second runtime's shims only."""
    ear = listen()
    box = linux(*LASTING, resources={"memory": {"limit": LITTLE_MEMORY}})

    box.create()
    (metric,) = box.tasks.metrics(soon(ctx))
    assert metric.data.type_url == METRICS
    assert cgroups_v1_pb2.Metrics.FromString(metric.data.value).memory.usage.limit == LITTLE_MEMORY
    box.start()
    # Joins what runs: it is looked out for by now.
    box.run_exec("greedy", "sh", "-c", GREEDY)

    ear.until("/tasks/oom")
    assert {m.container_id for topic, m in told(ear) if topic == "/tasks/oom"} == {box.id}


@clause("RT1-026", needs={"runc", "cgroup-v1"})
def test_a_process_without_a_spec_is_refused_and_the_task_lives(linux, ctx):
    """Rejects: a shim that dies of what is not there, and the task with it."""
    box = linux(*LASTING)
    pid = box.run()

    with pytest.raises(ContainerdError):
        box.tasks.exec(soon(ctx), box.id, "e", None, IO())

    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        assert (box.status(), box.get().pid) == (Status.RUNNING, pid)
        time.sleep(0.05)


@clause("RT1-030", needs={"runc", "cgroup-v1"})
def test_new_limits_count_at_once(linux, ctx):
    """Rejects: an update that is answered and changes nothing."""
    box = linux(*LASTING)
    box.run()

    resources = packed({"pids": {"limit": 33}}, "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources")
    box.tasks.update(soon(ctx), box.id, resources, {"some.annotation": "ignored"})

    (metric,) = box.tasks.metrics(soon(ctx))
    assert cgroups_v1_pb2.Metrics.FromString(metric.data.value).pids.limit == 33
