"""Events, what is told of tasks: by their shims, and by the daemon in their name (EVT-033 to 039, EVT-041, EVT-042).

Each check has a daemon of its own: a task that is left behind would outlive the run.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Packed

from conformance import clause, runc_state
from conformance.runc_state import HERE, THERE
from conformance.suites._events import PATIENCE, Ear, opened
from conformance.wire import Wire
from refimpl.api import task_types_v1_pb2, types_pb2
from refimpl.api import tasks_v1_pb2 as pb
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.types import TypedAny

SERVICE = "containerd.services.tasks.v1.Tasks"
SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"

ROOT = types_pb2.Mount(type="bind", source="/", options=["bind", "ro"])
"""The host's own programs, read-only: a root file system that needs no image."""

LASTING = ("sleep", "1000")

LITTLE_MEMORY = 16 << 20
"""Bytes in which a shell can start, and not much more."""


def _process(*arguments: str) -> dict[str, Any]:
    return {
        "args": list(arguments),
        "cwd": "/",
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": True,
    }


class Tasks:
    """The tasks of one daemon, through raw calls.

    Args:
        instance: the daemon.
    """

    def __init__(self, instance: Any) -> None:
        self._instance = instance
        self._wire = Wire(instance.address)
        self._made: list[tuple[str, str]] = []
        self._ears: list[Ear] = []

    def call(self, method: str, request: Any, *, ns: str = HERE) -> Any:
        """One call that has to succeed; its answer."""
        answer = self._wire.call(f"{SERVICE}/{method}", request, namespace=ns)
        assert answer.ok, f"{method}: {answer.code}: {answer.message}"
        return answer.messages[0]

    def refused(self, method: str, request: Any, *, ns: str = HERE) -> None:
        """One call that has to fail."""
        answer = self._wire.call(f"{SERVICE}/{method}", request, namespace=ns)
        assert not answer.ok, f"{method} succeeded"

    def listen(self, *namespaces: str) -> Ear:
        """An ear for what is told of tasks."""
        ctx = CallContext(HERE)
        names = frozenset(namespaces or (HERE,))
        ear = Ear(self._instance.events, ['topic~="^/tasks/"'], caller=CallContext(), speaker=ctx, namespaces=names)
        self._ears.append(ear)
        return ear

    def create(self, id: str, *arguments: str, ns: str = HERE, memory: int = 0, **fields: Any) -> Any:
        """A container and its task, not started; answers with the answer."""
        linux: dict[str, Any] = {
            "cgroupsPath": f"/{Path(self._instance.address).parent.name}-{ns}-{id}",
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
        }
        if memory:
            linux["resources"] = {"memory": {"limit": memory}}
        spec = {
            "ociVersion": "1.0.2",
            "process": _process(*arguments),
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": linux,
        }
        runtime = RuntimeInfo("io.containerd.runc.v2")
        record = Container(id=id, runtime=runtime, spec=TypedAny(SPEC, json.dumps(spec).encode()))
        self._instance.containers.create(CallContext(ns), record)
        self._made.append((ns, id))
        self._instance.expect_shim(ns, id)
        return self.call("Create", pb.CreateTaskRequest(container_id=id, rootfs=[ROOT], **fields), ns=ns)

    def start(self, id: str, exec_id: str = "", *, ns: str = HERE) -> int:
        """Start a process; its pid."""
        pid: int = self.call("Start", pb.StartRequest(container_id=id, exec_id=exec_id), ns=ns).pid
        return pid

    def run(self, id: str, *arguments: str, **options: Any) -> int:
        """Create and start a task; its pid."""
        self.create(id, *arguments, **options)
        return self.start(id, ns=options.get("ns", HERE))

    def exec(self, id: str, exec_id: str, *arguments: str) -> None:
        """Add a process to a task."""
        spec = Packed(type_url=PROCESS, value=json.dumps(_process(*arguments)).encode())
        self.call("Exec", pb.ExecProcessRequest(container_id=id, exec_id=exec_id, spec=spec))

    def kill(self, id: str, *, ns: str = HERE) -> None:
        """Kill a task's init process."""
        self.call("Kill", pb.KillRequest(container_id=id, signal=signal.SIGKILL), ns=ns)

    def close(self) -> None:
        """End and remove every task, whatever became of it."""
        for ear in self._ears:
            ear.close()
        for ns, id in self._made:
            request = pb.KillRequest(container_id=id, signal=signal.SIGKILL, all=True)
            self._wire.call(f"{SERVICE}/Kill", request, namespace=ns)
            self._wire.call(f"{SERVICE}/Wait", pb.WaitRequest(container_id=id), namespace=ns, timeout=PATIENCE)
            self._wire.call(f"{SERVICE}/Delete", pb.DeleteTaskRequest(container_id=id), namespace=ns)
        self._wire.close()
        for ns in {ns for ns, _ in self._made}:
            runc_state.forget(ns)


@pytest.fixture
def raw_tasks(own: Any) -> Iterator[Tasks]:
    """The tasks of a daemon of the check's own; all are ended afterwards."""
    found = Tasks(own())
    yield found
    found.close()


@contextmanager
def _read(fifo: str) -> Iterator[None]:
    """A fifo that is open at its other end: a shim waits for that."""
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield
    finally:
        os.close(reader)


def _told(envelopes, *topics):
    """Topic and message of each, or of those of some topics."""
    return [(each.topic, opened(each)) for each in envelopes if not topics or each.topic in topics]


@clause("EVT-033")
def test_the_creation_of_a_task_is_told(raw_tasks, tmp_path):
    """Rejects: mounts, streams or the pid left out of what is told."""
    told = raw_tasks.listen()
    out, err = str(tmp_path / "out"), str(tmp_path / "err")

    plain = raw_tasks.create("plain", "true")
    with _read(out), _read(err):
        piped = raw_tasks.create("piped", "true", stdout=out, stderr=err)

    first, second = (message for _, message in _told(told.until("/tasks/create", 2), "/tasks/create"))
    for message, answer in ((first, plain), (second, piped)):
        assert (message.container_id, message.pid) == (answer.container_id, answer.pid)
        assert list(message.rootfs) == [ROOT]
        assert message.checkpoint == ""
        assert message.HasField("io")
        assert Path(message.bundle).is_absolute()
        assert Path(message.bundle).name == answer.container_id
    assert (first.io.stdout, first.io.stderr) == ("", "")
    assert (second.io.stdin, second.io.stdout, second.io.stderr, second.io.terminal) == ("", out, err, False)


@clause("EVT-034")
def test_the_start_of_a_task_is_told_once(raw_tasks):
    """Rejects: another start told for a process that joins the task."""
    told = raw_tasks.listen()

    pid = raw_tasks.run("t", *LASTING)
    raw_tasks.exec("t", "e", "true")
    raw_tasks.start("t", "e")
    told.until("/tasks/exit")

    ((_, message),) = _told(told(), "/tasks/start")
    assert (message.container_id, message.pid) == ("t", pid)


@clause("EVT-035")
def test_a_process_that_joins_is_told_twice(raw_tasks):
    """Rejects: one event for both steps, or the id of the process in another field."""
    told = raw_tasks.listen()
    raw_tasks.run("t", *LASTING)

    raw_tasks.exec("t", "e", *LASTING)
    pid = raw_tasks.start("t", "e")

    told.until("/tasks/exec-started")
    # Heard from the beginning on: who comes later may still hear of the start, which a shim tells in its own time.
    (_, (start, _), (added, one), (started, other)) = _told(told())
    assert start == "/tasks/start"
    assert (added, one.container_id, one.exec_id) == ("/tasks/exec-added", "t", "e")
    assert (started, other.container_id, other.exec_id, other.pid) == ("/tasks/exec-started", "t", "e", pid)


@clause("EVT-036")
def test_the_end_of_each_process_is_told(raw_tasks):
    """Rejects: an end without the id of who ended, a status that is none, or ends that are told twice."""
    told = raw_tasks.listen()

    init = raw_tasks.run("t", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")
    pids = {}
    for number, exec_id in enumerate(("e", "t")):
        raw_tasks.exec("t", exec_id, "sh", "-c", "exit 5")
        pids[exec_id] = raw_tasks.start("t", exec_id)
        told.until("/tasks/exit", number + 1)
    raw_tasks.call("Kill", pb.KillRequest(container_id="t", signal=signal.SIGTERM))
    told.until("/tasks/exit", 3)

    ends = [message for _, message in _told(told(), "/tasks/exit")]
    assert [(end.container_id, end.id, end.pid, end.exit_status) for end in ends] == [
        ("t", "e", pids["e"], 5), ("t", "t", pids["t"], 5), ("t", "t", init, 3),
    ]  # fmt: skip
    assert all(end.exited_at.seconds > 0 for end in ends)


@clause("EVT-037")
def test_the_removal_of_a_task_is_told_and_that_of_a_process_is_not(raw_tasks):
    """Rejects: an event for each process, or values that are not those of the answer."""
    told = raw_tasks.listen()

    raw_tasks.run("t", *LASTING)
    raw_tasks.exec("t", "e", "true")
    raw_tasks.start("t", "e")
    told.until("/tasks/exit")
    raw_tasks.call("DeleteProcess", pb.DeleteProcessRequest(container_id="t", exec_id="e"))
    raw_tasks.kill("t")
    told.until("/tasks/exit", 2)
    answer = raw_tasks.call("Delete", pb.DeleteTaskRequest(container_id="t"))

    ((_, message),) = _told(told.until("/tasks/delete"), "/tasks/delete")
    assert (message.container_id, message.id) == ("t", "")
    assert (message.pid, message.exit_status, message.exited_at) == (answer.pid, answer.exit_status, answer.exited_at)
    assert message.exit_status == 128 + signal.SIGKILL


@clause("EVT-038")
def test_a_pause_and_its_end_are_told(raw_tasks):
    """Rejects: an event for a pause that was refused."""
    raw_tasks.run("t", *LASTING)
    raw_tasks.create("created", *LASTING)
    told = raw_tasks.listen()

    raw_tasks.call("Pause", pb.PauseTaskRequest(container_id="t"))
    raw_tasks.refused("Pause", pb.PauseTaskRequest(container_id="nope"))
    raw_tasks.refused("Pause", pb.PauseTaskRequest(container_id="created"))
    raw_tasks.call("Resume", pb.ResumeTaskRequest(container_id="t"))

    told.until("/tasks/resumed")
    # Of these two only: the creation is told by a shim in its own time, and may still be under way.
    assert [(topic, message.container_id) for topic, message in _told(told(), "/tasks/paused", "/tasks/resumed")] == [
        ("/tasks/paused", "t"),
        ("/tasks/resumed", "t"),
    ]


@clause("EVT-038")
def test_a_lack_of_memory_is_told(raw_tasks):
    """Rejects: a process that is killed for its memory, and only its status to tell of it."""
    told = raw_tasks.listen()

    raw_tasks.run("t", *LASTING, memory=LITTLE_MEMORY)
    # All that a shell remembers grows without an end. It joins what runs: the shim looks out for it by now.
    raw_tasks.exec("t", "greedy", "sh", "-c", "v=12345678; while :; do v=$v$v; done")
    raw_tasks.start("t", "greedy")

    assert {message.container_id for _, message in _told(told.until("/tasks/oom"), "/tasks/oom")} == {"t"}


@clause("EVT-041")
def test_who_hears_of_an_end_finds_the_task_stopped(raw_tasks):
    """Rejects: an end that is told before the task is known to be over."""
    told = raw_tasks.listen()

    for number in range(3):
        id = f"t{number}"
        raw_tasks.run(id, "sh", "-c", f"exit {number + 3}")
        (*_, (_, message)) = _told(told.until("/tasks/exit", number + 1), "/tasks/exit")
        process = raw_tasks.call("Get", pb.GetRequest(container_id=id)).process
        assert (message.container_id, message.exit_status) == (id, number + 3)
        assert (process.status, process.exit_status) == (task_types_v1_pb2.STOPPED, number + 3)


@clause("EVT-042", needs={"runc", "shim"})
def test_tasks_are_told_in_their_own_namespace(raw_tasks):
    """Rejects: a namespace that is lost when the daemon speaks for a shim that died."""
    told = raw_tasks.listen(HERE, THERE, "default", "")

    raw_tasks.run("mine", *LASTING)
    pid = raw_tasks.run("theirs", *LASTING, ns=THERE)
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    told.until("/tasks/delete")
    raw_tasks.kill("mine")
    told.until("/tasks/exit", 2)

    assert {(opened(each).container_id, each.namespace) for each in told()} == {("mine", HERE), ("theirs", THERE)}
