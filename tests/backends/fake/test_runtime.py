"""Fake tasks: the table of states, events in order, and what is refused in runc's words (TSK, SHM, RT1)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as PackedAny

from refimpl.api import linux_runc_pb2, runc_v1_pb2, typeurl
from refimpl.backends.fake import processes
from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.runtime_dialect import FIRST, SECOND
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import (
    Canceled,
    ContainerdError,
    DeadlineExceeded,
    InvalidArgument,
    Unknown,
)
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import IO, Process, Runtime, Status, Task
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import TypedAny
from tests.backends.fake.containers import CTX, NAMESPACE, SECONDS, Client, World, in_time, living, until

RUNC_FAILED = "runc did not terminate successfully: exit status 1"


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.end()


def packed(message: Any) -> TypedAny:
    value = typeurl.pack(message)
    return TypedAny(value.type_url, value.value)


def refusal(call: Callable[[], object]) -> str:
    """Kind and text of an error, or ok."""
    try:
        call()
    except ContainerdError as error:
        return f"{type(error).__name__} {error}"
    return "ok"


def test_the_life_of_a_task(world: World) -> None:
    task = world.create("c", ["sh", "-c", "exit 7"])
    created = task.state(CTX)
    assert (created.status, created.pid, created.exit_status, created.exited_at) == (
        Status.CREATED,
        task.pid,
        0,
        ZERO_TIME,
    )

    assert task.start(CTX) == task.pid
    exit_ = task.wait(in_time())

    assert (exit_.pid, exit_.status) == (task.pid, 7)
    stopped = task.state(CTX)
    assert (stopped.status, stopped.exit_status, stopped.exited_at) == (Status.STOPPED, 7, exit_.exited_at)
    assert world.runtime.delete(CTX, "c") == exit_
    assert world.topics() == ["create", "start", "exit", "delete"]
    assert world.runtime.tasks(CTX) == []
    assert world.host.mounts.entries() == []
    assert not world.host.fs.exists(f"/run/{SECOND.uri}/{NAMESPACE}/c")
    assert world.host.cgroups.find("/tests/c") is None
    assert living(world.host) == []


def test_events_carry_what_the_calls_said(world: World) -> None:
    task = world.run("c", ["sh", "-c", "exit 3"])
    exit_ = task.wait(in_time())
    world.runtime.delete(CTX, "c")

    create, start, ended, deleted = (event for _, event in world.heard())

    bundle = f"/run/{SECOND.uri}/{NAMESPACE}/c"
    mount = {"type": "bind", "source": "/image", "options": ["rbind", "rw"]}
    assert create == {"container_id": "c", "bundle": bundle, "rootfs": [mount], "io": {}, "pid": exit_.pid}
    assert start == {"container_id": "c", "pid": exit_.pid}
    when = ended["exited_at"]
    assert ended == {"container_id": "c", "id": "c", "pid": exit_.pid, "exit_status": 3, "exited_at": when}
    assert deleted == {"container_id": "c", "pid": exit_.pid, "exit_status": 3, "exited_at": when}


STATES = {
    "created": {
        "start": "ok",
        "pause": "Unknown cannot pause task in created state: unknown",
        "resume": "Unknown cannot resume task in created state: unknown",
        "checkpoint": "Unknown cannot checkpoint a task in created state: unknown",
    },
    "running": {
        "start": "Unknown cannot start a running process: unknown",
        "resume": "Unknown cannot resume a running process: unknown",
        "delete": "Unknown failed to delete task: cannot delete a running process: unknown",
        "kill 0": "ok",
        "kill 65": "Unknown unknown error after kill: runc did not terminate successfully: exit status 1: "
        "unable to signal init: invalid argument\n: unknown",
        "update": "ok",
        "pause": "ok",
    },
    "paused": {
        "start": "Unknown cannot start a paused process: unknown",
        "pause": "Unknown cannot pause a paused container: unknown",
        "exec": "Unknown cannot exec in a paused state: unknown",
        "delete": "Unknown failed to delete task: cannot delete a paused process: unknown",
        "kill 0": "ok",
        "resize": "ok",
        "close": "ok",
        "update": "ok",
        "resume": "ok",
    },
    "stopped": {
        "start": "Unknown cannot start a stopped process: unknown",
        "pause": "Unknown cannot pause a stopped container: unknown",
        "resume": "Unknown cannot resume a stopped container: unknown",
        "checkpoint": "Unknown cannot checkpoint a stopped container: unknown",
        "exec": "Unknown cannot exec in a stopped state: unknown",
        "update": "Unknown cannot update a stopped container: unknown",
        "kill 9": "NotFound process already finished: not found",
        "kill 0": "NotFound process already finished: not found",
        "kill all": "ok",
        "resize": "ok",
        "close": "ok",
        "delete": "ok",
    },
}


def operation(world: World, task: Task, name: str) -> Callable[[], object]:
    limits = TypedAny(typeurl.OCI_LINUX_RESOURCES, b'{"pids": {"limit": 44}}')
    return {
        "start": lambda: task.start(CTX),
        "pause": lambda: task.pause(CTX),
        "resume": lambda: task.resume(CTX),
        "checkpoint": lambda: task.checkpoint(CTX, "/x", None),
        "exec": lambda: world.exec(task, "e", ["true"]),
        "update": lambda: task.update(CTX, limits, {}),
        "kill 0": lambda: task.kill(CTX, 0),
        "kill 9": lambda: task.kill(CTX, 9),
        "kill 65": lambda: task.kill(CTX, 65),
        "kill all": lambda: task.kill(CTX, 9, all=True),
        "resize": lambda: task.resize(CTX, 80, 24),
        "close": lambda: task.close_io(CTX),
        "delete": lambda: world.runtime.delete(CTX, "c"),
    }[name]


@pytest.mark.parametrize("state, name", [(state, name) for state, names in STATES.items() for name in names])
def test_each_call_in_each_state(world: World, state: str, name: str) -> None:
    task = world.create("c", ["sleep", "1000"])
    if state != "created":
        task.start(CTX)
    if state == "paused":
        task.pause(CTX)
    if state == "stopped":
        task.kill(CTX, 9)
        task.wait(in_time())

    assert refusal(operation(world, task, name)) == STATES[state][name]


CREATE_FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "missing program": ({"args": ["nope"]}, 'exec: "nope": executable file not found in $PATH: unknown'),
    "missing file": ({"args": ["/no/such"]}, 'exec: "/no/such": stat /no/such: no such file or directory: unknown'),
    "directory": ({"args": ["/etc"]}, 'exec: "/etc": permission denied: unknown'),
    "no args": ({"args": []}, "runc create failed: args must not be empty: unknown"),
    "relative cwd": ({"process": {"cwd": "x"}}, "runc create failed: Cwd must be an absolute path: unknown"),
    "cwd is a file": (
        {"process": {"cwd": "/etc/passwd"}},
        "error during container init: mkdir /etc/passwd: not a directory: unknown",
    ),
    "no root": ({"root": None}, "runc create failed: root must be specified: unknown"),
    "root is missing": (
        {"root": {"path": "/nowhere"}},
        "runc create failed: invalid rootfs: stat /nowhere: no such file or directory: unknown",
    ),
    "too little memory": (
        {"linux": {"resources": {"memory": {"limit": 1000}}}},
        (
            "error setting cgroup config for procHooks process: unable to set memory limit to 1000 "
            "(current usage: 2211840, peak usage: 2211840): unknown"
        ),
    ),
    "mount of nothing": (
        {"mounts": [{"destination": "/x", "type": "bind", "source": "/nowhere", "options": ["rbind"]}]},
        'error mounting "/nowhere" to rootfs at "/x": no such file or directory: unknown',
    ),
    "second root mount": (
        {"rootfs": [Mount("bind", "/image", options=("rbind",)), Mount("nosuchfs", "x")]},
        "failed to mount rootfs component &{nosuchfs x []}: no such device: unknown",
    ),
    "OCI runtime": (
        {"task_options": packed(runc_v1_pb2.Options(binary_name="nosuchrunc"))},
        'no such file or directory): exec: "nosuchrunc": executable file not found in $PATH: unknown',
    ),
}


@pytest.mark.parametrize("case", CREATE_FAILURES)
def test_a_create_that_fails_says_why_and_leaves_nothing(world: World, case: str) -> None:
    more, text = CREATE_FAILURES[case]

    with pytest.raises(Unknown) as refused:
        world.create("c", **{"args": ["sleep", "1"], **more})

    assert str(refused.value).startswith("failed to create shim task: ")
    assert str(refused.value).endswith(text)
    assert world.heard() == []
    assert world.host.mounts.entries() == []
    assert living(world.host) == []
    assert world.host.cgroups.find("/tests/c") is None
    world.create("c", ["sleep", "1"])


@pytest.mark.parametrize(
    "runtime, text",
    [
        (
            "io.containerd.nope.v9",
            'runtime "io.containerd.nope.v9" binary not installed "containerd-shim-nope-v9": file does not exist',
        ),
        ("nodots", "invalid runtime name nodots, correct runtime name should be either format like"),
        ("/nosuch/shim", "invalid custom binary path: stat /nosuch/shim: no such file or directory"),
    ],
)
def test_a_runtime_without_a_shim_is_refused(world: World, runtime: str, text: str) -> None:
    with pytest.raises(Unknown) as refused:
        world.create("c", ["true"], runtime=runtime)

    assert f"failed to start shim: failed to resolve runtime path: {text}" in str(refused.value)
    assert not world.host.fs.exists(f"/run/{SECOND.uri}/{NAMESPACE}/c")


@pytest.mark.parametrize(
    "value, text",
    [
        (b"nojson", "invalid character 'o' in literal null (expecting 'u')"),
        (b"", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b"[]", "json: cannot unmarshal array into Go value of type specs.Spec"),
        (b"{} x", "invalid character 'x' after top-level value"),
    ],
)
def test_a_spec_that_is_not_json_is_refused_in_go_s_words(world: World, value: bytes, text: str) -> None:
    options = world.options(["true"])
    broken = type(options)(TypedAny(typeurl.OCI_SPEC, value), options.rootfs, runtime=options.runtime)

    with pytest.raises(Unknown) as refused:
        world.runtime.create(CTX, "c", broken)

    assert str(refused.value) == f"failed to start shim: {text}"


def test_a_root_directory_with_files_of_its_own_keeps_the_bundle(world: World) -> None:
    """Without mounts runc makes /dev in the bundle's own directory, and nobody wipes that (SHM-030)."""
    with pytest.raises(Unknown, match="stat /bin/sh: no such file or directory"):
        world.create("c", ["/bin/sh"], rootfs=[])

    assert "file exists" in refusal(lambda: world.create("c", ["/bin/sh"]))


def test_one_task_per_container_and_namespace(world: World) -> None:
    world.create("c", ["sleep", "1"])
    other = CallContext("other")

    assert refusal(lambda: world.create("c", ["sleep", "1"])) == "AlreadyExists task c: already exists"
    world.runtime.create(other, "c", world.options(["sleep", "1"]))

    assert len(world.runtime.tasks(CTX)) == len(world.runtime.tasks(other)) == 1
    assert len(world.runtime.tasks(CTX, everywhere=True)) == 2
    assert refusal(lambda: world.runtime.get(CTX, "d")) == "NotFound task d not found"


def test_of_many_creates_at_once_one_succeeds(world: World) -> None:
    answers: list[str] = []

    def create() -> None:
        answers.append(refusal(lambda: world.create("c", ["sleep", "1"])))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    assert sorted(answers) == ["AlreadyExists task c: already exists"] * 7 + ["ok"]


def test_the_rootfs_is_written_to_and_stays_mounted_until_delete(world: World) -> None:
    task = world.run("c", ["sh", "-c", "echo x > /tmp/new; cat /dev/null; echo y > /dev/null"])
    assert task.wait(in_time()).status == 0

    assert world.host.fs.read("/image/tmp/new") == b"x\n"
    assert [entry.target for entry in world.host.mounts.entries()] == [f"/run/{SECOND.uri}/{NAMESPACE}/c/rootfs"]
    world.runtime.delete(CTX, "c")
    assert world.host.mounts.entries() == []


def test_mounts_of_the_spec_and_a_read_only_root(world: World) -> None:
    world.host.fs.makedirs("/data")
    world.host.fs.write("/data/f", b"d\n")
    mounts = [
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "type": "bind", "source": "/data", "options": ["rbind", "ro"]},
        {"destination": "/etc/f", "type": "bind", "source": "/data/f", "options": ["bind"]},
    ]
    script = "cat /data/f /etc/f; touch /x; touch /data/x; echo y > /dev/y; cat /dev/y; exit 5"
    root = {"path": "rootfs", "readonly": True}
    task = world.run("c", ["sh", "-c", script], mounts=mounts, root=root, io=IO())

    assert task.wait(in_time()).status == 5
    world.runtime.delete(CTX, "c")
    assert world.host.fs.read("/image/etc/f") == b"", "runc leaves the mount point"
    assert not world.host.fs.exists("/image/x")
    assert not world.host.fs.exists("/data/x")
    assert world.host.mounts.entries() == []


def test_a_created_task_can_be_killed_and_deleted(world: World) -> None:
    for signal, status in ((9, 137), (15, 2)):
        task = world.create("c", ["sleep", "1000"])
        task.kill(CTX, signal)
        assert task.wait(in_time()).status == status
        assert refusal(lambda task=task: task.start(CTX)) == "Unknown cannot start a stopped process: unknown"  # type: ignore[misc]
        assert world.runtime.delete(CTX, "c").status == status
    world.heard()

    task = world.create("c", ["sleep", "1000"])
    exit_ = world.runtime.delete(CTX, "c")

    assert (exit_.pid, exit_.status, exit_.exited_at) == (task.pid, 0, ZERO_TIME)
    told = [(topic, event.get("exit_status", 0)) for topic, event in world.heard()]
    assert told == [("/tasks/create", 0), ("/tasks/exit", 137), ("/tasks/delete", 0)]
    assert living(world.host) == []


def test_waiters_get_the_same_answer_or_give_up(world: World) -> None:
    task = world.run("c", ["sleep", "1000"])
    token = CancelToken()
    answers: list[str] = []

    def wait(ctx: CallContext) -> None:
        answers.append(refusal(lambda: task.wait(ctx)))

    threads = [threading.Thread(target=wait, args=(ctx,)) for ctx in (CallContext(NAMESPACE, cancel=token), CTX, CTX)]
    for thread in threads:
        thread.start()
    token.cancel()
    threads[0].join(SECONDS)
    assert [answer.split()[0] for answer in answers] == ["Canceled"]
    with pytest.raises(DeadlineExceeded):
        task.wait(CallContext(NAMESPACE, deadline=time.monotonic() + 0.02))
    with pytest.raises(Canceled):
        task.wait(CallContext(NAMESPACE, cancel=token))

    task.kill(CTX, 9)
    for thread in threads[1:]:
        thread.join(SECONDS)

    assert answers[1:] == ["ok", "ok"]
    assert task.wait(CTX).status == 137


def test_whoever_waits_for_a_task_that_is_deleted_gets_an_error(world: World) -> None:
    task = world.create("c", ["true"])
    exec_ = world.exec(task, "e", ["true"])
    answers: list[str] = []

    def wait(process: Process) -> None:
        answers.append(refusal(lambda: process.wait(in_time())))

    threads = [threading.Thread(target=wait, args=(process,)) for process in (task, exec_)]
    for thread in threads:
        thread.start()
    until(lambda: all(p.part.ending._waiters for p in (task, exec_)))  # type: ignore[attr-defined]
    world.runtime.delete(CTX, "c")
    for thread in threads:
        thread.join(SECONDS)

    assert answers == ["Unknown ttrpc: closed: unknown"] * 2


def test_of_many_deletes_at_once_one_succeeds(world: World) -> None:
    task = world.run("c", ["true"])
    task.wait(in_time())
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(refusal(lambda: world.runtime.delete(CTX, "c"))))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    assert sorted(answers) == ["NotFound task c not found"] * 5 + ["ok"]
    assert world.topics() == ["create", "start", "exit", "delete"]


def test_the_life_of_an_exec(world: World) -> None:
    task = world.run("c", ["sleep", "1000"])
    exec_ = world.exec(task, "e", ["sh", "-c", "exit 5"])
    before = exec_.state(CTX)
    assert (before.id, before.container_id, before.pid, before.status) == ("e", "c", 0, Status.CREATED)
    assert refusal(lambda: exec_.kill(CTX, 0)) == "FailedPrecondition process not created: failed precondition"
    assert refusal(lambda: world.exec(task, "e", ["true"])) == "AlreadyExists id e: already exists"

    pid = exec_.start(CTX)
    exit_ = exec_.wait(in_time())

    assert (exit_.pid, exit_.status) == (pid, 5)
    assert exec_.state(CTX).exited_at == exit_.exited_at
    assert refusal(lambda: exec_.start(CTX)) == "Unknown cannot start a stopped process: unknown"
    assert refusal(lambda: exec_.kill(CTX, 9)) == "NotFound process already finished: not found"
    assert refusal(lambda: exec_.resize(CTX, 1, 1)) == "Unknown cannot resize a stopped container: unknown"
    exec_.close_io(CTX)
    assert exec_.delete(CTX) == exit_
    assert refusal(lambda: task.process(CTX, "e")) == "NotFound process does not exist e: not found"
    assert refusal(lambda: exec_.state(CTX)) == "NotFound process does not exist e: not found"
    assert world.topics() == ["create", "start", "exec-added", "exec-started", "exit"]
    world.exec(task, "e", ["true"])


def test_execs_of_a_created_task_run_and_those_of_a_running_one_end_with_it(world: World) -> None:
    task = world.create("c", ["sleep", "1000"])
    first, second = world.exec(task, "a", ["sh", "-c", "exit 3"]), world.exec(task, "b", ["sleep", "1000"])
    first.start(CTX)
    assert first.wait(in_time()).status == 3
    second.start(CTX)
    task.start(CTX)
    assert refusal(lambda: second.delete(CTX)) == "Unknown cannot delete a running process: unknown"
    world.heard()

    task.kill(CTX, 9)
    task.wait(in_time())

    assert second.state(CTX).exit_status == 137
    assert [(topic, event["id"]) for topic, event in world.heard()] == [("/tasks/exit", "b"), ("/tasks/exit", "c")]
    world.runtime.delete(CTX, "c")


def test_killing_a_created_task_with_a_running_exec_does_not_hang(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long it would hang.
    monkeypatch.setattr(processes, "_NAMESPACE_END_SECONDS", 4 * SECONDS)
    task = world.create("c", ["sleep", "1000"])
    exec_ = world.exec(task, "e", ["sleep", "1000"])
    exec_.start(CTX)
    begun = time.monotonic()

    task.kill(CTX, 9)

    assert exec_.wait(in_time()).status == task.wait(in_time()).status == 137
    assert time.monotonic() - begun < 2 * SECONDS


@pytest.mark.parametrize(
    "args, process, text",
    [
        (["nope"], {}, 'unable to start container process: exec: "nope": executable file not found in $PATH'),
        (["true"], {"cwd": "/nodir"}, 'chdir to cwd ("/nodir") set in config.json failed: no such file or directory'),
        ([], {}, "args must not be empty"),
        (["true"], {"cwd": ""}, "Cwd property must not be empty"),
    ],
)
def test_an_exec_that_cannot_start_stays_created(
    world: World, args: list[str], process: dict[str, Any], text: str
) -> None:
    task = world.run("c", ["sleep", "1000"])
    exec_ = world.exec(task, "e", args, **process)

    with pytest.raises(Unknown) as refused:
        exec_.start(CTX)

    assert str(refused.value).startswith("OCI runtime exec failed: exec failed: ")
    assert text in str(refused.value)
    assert exec_.state(CTX).status is Status.CREATED
    assert (exec_.wait(CTX).status, exec_.wait(CTX).exited_at) == (0, ZERO_TIME)
    assert "failed to start" in refusal(lambda: exec_.start(CTX))
    exec_.delete(CTX)
    assert world.topics() == ["create", "start", "exec-added"]
    assert task.state(CTX).status is Status.RUNNING


@pytest.mark.parametrize(
    "id, spec, kind, text",
    [
        ("../x", b"{}", InvalidArgument, 'invalid exec id ../x: identifier "../x" must match'),
        ("e", b"", InvalidArgument, "an exec needs a spec"),
        ("e", b"nope", Unknown, "invalid character 'o' in literal null (expecting 'u')"),
    ],
)
def test_an_exec_that_is_none_is_refused(
    world: World, id: str, spec: bytes, kind: type[ContainerdError], text: str
) -> None:
    task = world.run("c", ["sleep", "1000"])

    with pytest.raises(kind) as refused:
        task.exec(CTX, id, TypedAny("", spec), IO())

    assert text in str(refused.value)
    assert world.topics() == ["create", "start"]


def test_pause_stops_everything_and_a_kill_9_ends_it(world: World) -> None:
    task = world.run("c", ["sleep", "1000"])
    exec_ = world.exec(task, "e", ["sleep", "1000"])
    exec_.start(CTX)
    waiting = world.exec(task, "w", ["true"])

    task.pause(CTX)
    assert [p.state(CTX).status for p in (task, exec_, waiting)] == [Status.PAUSED] * 3
    exec_.kill(CTX, 15)
    assert exec_.part.exit is None  # type: ignore[attr-defined]
    assert "cannot exec in a paused container" in refusal(lambda: waiting.start(CTX))
    task.resume(CTX)
    assert exec_.wait(in_time()).status == 143
    task.pause(CTX)
    task.kill(CTX, 9)

    assert task.wait(in_time()).status == 137
    assert task.state(CTX).status is Status.STOPPED
    told = [topic for topic in world.topics() if topic in {"paused", "resumed", "exit"}]
    assert told == ["paused", "resumed", "exit", "paused", "exit"]


def test_pids_are_those_of_the_cgroup_and_execs_are_named(world: World) -> None:
    task = world.run("c", ["sh", "-c", "sleep 1000 & exec sleep 1000"])
    exec_ = world.exec(task, "e", ["sleep", "1000"])
    pid = exec_.start(CTX)
    until(lambda: len(task.pids(CTX)) == 3)

    infos = {info.pid: info.info for info in task.pids(CTX)}

    assert infos[task.pid] is None
    assert infos[pid] == packed(runc_v1_pb2.ProcessDetails(exec_id="e"))
    task.kill(CTX, 15, all=True)
    assert exec_.wait(in_time()).status == 143
    task.kill(CTX, 9)
    task.wait(in_time())
    assert list(task.pids(CTX)) == []


def test_without_a_pid_namespace_the_rest_is_killed_when_init_ends(world: World) -> None:
    task = world.run("c", ["sh", "-c", "sleep 1000 & exit 3"], linux={"namespaces": []})

    assert task.wait(in_time()).status == 3
    until(lambda: not task.pids(CTX))

    other = world.run("d", ["sleep", "1000"], linux={"namespaces": []})
    other.kill(CTX, 15)
    assert other.wait(in_time()).status == 143, "no first of a namespace, so default actions count"


@pytest.mark.parametrize(
    "resources, text",
    [
        (b"{", "Unknown unexpected end of JSON input: unknown"),
        (b"", "InvalidArgument an update needs resources: invalid argument"),
        (
            b'{"cpu": {"shares": 1}}',
            f"Unknown {RUNC_FAILED}: the minimum allowed cpu-shares is 2\n: unknown",
        ),
    ],
)
def test_a_bad_update_is_refused(world: World, resources: bytes, text: str) -> None:
    task = world.run("c", ["sleep", "1000"])

    assert refusal(lambda: task.update(CTX, TypedAny("", resources), {})) == text
    assert task.state(CTX).status is Status.RUNNING


def test_statistics_follow_the_host_s_cgroup_version() -> None:
    limits = {"resources": {"pids": {"limit": 77}, "memory": {"limit": 64 << 20}}}
    for version in (1, 2):
        name = f"io.containerd.cgroups.v{version}.Metrics"
        world = World(cgroups=version)
        task = world.run("c", ["sleep", "1000"], linux=limits)
        stats = task.stats(CTX)
        metrics: Any = typeurl.unpack(PackedAny(type_url=stats.type_url, value=stats.value))

        assert stats.type_url == name
        assert (metrics.pids.current, metrics.pids.limit) == (1, 77)
        limit = metrics.memory.usage.limit if version == 1 else metrics.memory.usage_limit
        assert limit == 64 << 20
        world.end()


def test_out_of_memory_is_told_before_the_exit(world: World) -> None:
    limits = {"resources": {"memory": {"limit": 20 << 20}}}
    task = world.run("c", ["sh", "-c", "allocate 30M; echo; exit 4"], linux=limits)

    assert task.wait(in_time()).status == 4
    assert world.topics() == ["create", "start", "oom", "exit"]


def test_tasks_outlive_the_daemon() -> None:
    world = World(FakeClock())
    task = world.run("c", ["sleep", "1000"])
    world.start()

    again = world.runtime.get(CTX, "c")
    again.kill(CTX, 9)

    assert again.pid == task.pid
    assert again.wait(in_time()).status == 137
    world.runtime.delete(CTX, "c")
    assert world.topics() == ["exit", "delete"]


def test_a_restore_is_created_without_a_process(world: World) -> None:
    task = world.create("c", ["true"], checkpoint="/checkpoint")

    assert (task.pid, task.state(CTX).status) == (0, Status.CREATED)
    assert refusal(lambda: world.exec(task, "e", ["true"])) == "Unknown cannot exec in a created state: unknown"
    assert refusal(lambda: task.kill(CTX, 9)).startswith("NotFound")
    assert refusal(lambda: task.pids(CTX)).startswith("Unknown")
    assert refusal(lambda: task.stats(CTX)).startswith("NotFound")
    assert "no criu" in refusal(lambda: task.start(CTX))
    world.runtime.delete(CTX, "c")


# --- the first runtime


@pytest.fixture
def first() -> Iterator[World]:
    world = World(dialect=FIRST)
    yield world
    world.end()


def test_the_first_runtime_tells_no_exec_added_and_describes_init(first: World) -> None:
    task = first.run("c", ["sleep", "1000"])
    exec_ = first.exec(task, "e", ["sh", "-c", "exit 3"])
    exec_.start(CTX)
    exec_.wait(in_time())

    assert first.topics() == ["create", "start", "exec-started", "exit"]
    assert exec_.state(CTX).exited_at == ZERO_TIME
    assert task.pids(CTX)[0].info == packed(linux_runc_pb2.ProcessDetails(exec_id="c"))


def test_in_the_first_runtime_init_is_in_the_table_of_execs(first: World) -> None:
    task = first.run("c", ["sleep", "1000"])

    assert refusal(lambda: first.exec(task, "c", ["true"])) == "AlreadyExists id c: already exists"
    init = task.process(CTX, "c")
    assert init.state(CTX) == task.state(CTX)
    assert refusal(lambda: init.delete(CTX)).startswith("InvalidArgument")
    assert refusal(lambda: task.process(CTX, "x")) == "NotFound process x does not exist: not found"
    assert refusal(lambda: first.runtime.delete(CTX, "c")) == "Unknown cannot delete a running process: unknown"


def test_the_first_runtime_checks_its_options(first: World) -> None:
    wrong = packed(runc_v1_pb2.Options())

    assert (
        refusal(lambda: first.create("c", ["true"], runtime_options=wrong)) == "Unknown invalid runtime options format"
    )
    told = "Unknown invalid task create option for io.containerd.runtime.v1.linux"
    assert refusal(lambda: first.create("c", ["true"], task_options=wrong)) == told
    assert (
        refusal(lambda: first.create("c", ["true"], task_options=TypedAny("a.B")))
        == "Unknown type with url a.B: not found"
    )
    first.create("c", ["true"], runtime_options=packed(linux_runc_pb2.RuncOptions(runtime="runc")))


def test_the_first_runtime_needs_cgroup_v1() -> None:
    world = World(dialect=FIRST, cgroups=2)

    assert refusal(lambda: world.create("c", ["true"])) == "Unknown cgroups: cgroup mountpoint does not exist: unknown"


def test_a_hundred_tasks_run_at_once(world: World) -> None:
    tasks = [world.run(f"c{number}", ["sh", "-c", "sleep 0.05; exit 3"]) for number in range(100)]

    assert {task.wait(in_time()).status for task in tasks} == {3}
    for task in tasks:
        world.runtime.delete(CTX, task.id)

    assert living(world.host) == []
    assert world.host.mounts.entries() == []
    assert world.host.cgroups.root.memory == 0
    assert world.topics().count("delete") == 100


def test_an_exec_gets_its_own_streams(world: World, tmp_path: Any) -> None:
    client = Client(tmp_path, stdin=True)
    task = world.run("c", ["sleep", "1000"])
    exec_ = world.exec(task, "e", ["cat"], client.io, env=["A=1"])
    exec_.start(CTX)
    client.type(b"hello")
    client.read_until(b"hello")
    client.close_stdin()
    exec_.close_io(CTX)

    assert exec_.wait(in_time()).status == 0
    client.close()


def test_the_fake_runtime_fits_the_contract(world: World) -> None:
    runtime: Runtime = world.runtime

    assert runtime.id == SECOND.uri
