"""Tasks through the client: against our own front over a runtime without programs, and against the real containerd."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.shim.waiting import until
from refimpl.api import runc_v1_pb2, typeurl
from refimpl.backends.fake.clock import EPOCH, FakeClock
from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.scratch import FakeScratch
from refimpl.client import Client
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import AlreadyExists, Canceled, DeadlineExceeded, InvalidArgument, NotFound, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import IO, Exit, ProcessInfo, ProcessState, Status
from refimpl.contract.tasks import CreateTask, Metric, TaskService
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import TypedAny
from refimpl.daemon.rpc import build
from refimpl.daemon.threads import LazyThreads
from refimpl.grpc.tasks import TasksFront
from refimpl.services.tasks import TasksService
from refimpl.services.tasks_checkpoints import Checkpoints
from refimpl.services.tasks_runtimes import Runtimes, Unwatched
from tests.acceptance import daemons
from tests.client.signals import catches
from tests.services.fakes import Store
from tests.services.tiny_runtime import EXITED_AT, METRICS, TinyRuntime

CTX = CallContext(namespace="ns")
SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
RUNC = "io.containerd.runc.v2"


@pytest.fixture
def runtime() -> TinyRuntime:
    return TinyRuntime()


@pytest.fixture
def tasks(runtime: TinyRuntime) -> Iterator[TaskService]:
    """The client's side of a tasks service on a socket."""
    clock = FakeClock()
    containers = Store(get=Container("c", runtime=RuntimeInfo(RUNC), spec=TypedAny(SPEC_TYPE, b"{}")))
    checkpoints = Checkpoints(Store(), FakeScratch(FakeHost(clock)), clock)
    log = logging.getLogger("test.tasks")
    service = TasksService(containers, Runtimes({}, runtime), Unwatched(), checkpoints, clock, log)
    with tempfile.TemporaryDirectory(prefix="tasks-") as place:
        server, _ = build([TasksFront(service).register_grpc], LazyThreads(16), 16 << 20, 16 << 20)
        server.add_insecure_port(f"unix:{place}/d.sock")
        server.start()
        try:
            with Client(f"{place}/d.sock") as client:
                yield client.tasks
        finally:
            server.stop(0).wait(10)


def test_a_task_comes_through_the_wire_as_it_is(tasks: TaskService, runtime: TinyRuntime) -> None:
    io = IO("in", "out", "err", terminal=True)
    pid = tasks.create(CTX, CreateTask("c", [Mount("bind", "/a", options=("ro",))], io, runtime_path="/shim"))
    task = runtime.made["ns", "c"]
    assert task.options.rootfs == [Mount("bind", "/a", options=("ro",))]
    assert (task.options.io, task.options.runtime_path, task.options.task_options) == (io, "/shim", None)
    created = ProcessState("c", "c", pid, Status.CREATED, io, exited_at=ZERO_TIME)
    assert tasks.get(CTX, "c") == created
    assert tasks.list(CTX) == [created]
    with pytest.raises(AlreadyExists, match=r"^task c: already exists$"):
        tasks.create(CTX, CreateTask("c"))
    assert tasks.start(CTX, "c") == pid
    tasks.pause(CTX, "c")
    assert tasks.get(CTX, "c").status is Status.PAUSED
    tasks.resume(CTX, "c")
    assert tasks.list_pids(CTX, "c") == [*task.pids(CTX)]
    assert tasks.metrics(CTX, ["id==c"]) == [Metric(EPOCH, "c", METRICS)]
    assert tasks.metrics(CTX, ["id==d"]) == []
    tasks.update(CTX, "c", TypedAny("t", b"v"), {"a": "b"})
    tasks.resize_pty(CTX, "c", width=91, height=31)
    tasks.close_io(CTX, "c", stdin=True)
    tasks.kill(CTX, "c", signal=9, all=True)
    assert task.done == [
        ("update", TypedAny("t", b"v"), {"a": "b"}),
        ("resize", 91, 31),
        ("close_io",),
        ("kill", 9, True),
    ]
    assert tasks.wait(CTX, "c") == Exit(0, 137, EXITED_AT)
    assert tasks.delete(CTX, "c") == Exit(pid, 137, EXITED_AT)
    with pytest.raises(NotFound, match=r"^task c not found$"):
        tasks.delete(CTX, "c")


def test_an_exec_comes_through_the_wire_as_it_is(tasks: TaskService, runtime: TinyRuntime) -> None:
    tasks.create(CTX, CreateTask("c"))
    tasks.exec(CTX, "c", "e", TypedAny("t", b"{}"), IO(stdout="/out"))
    assert tasks.get(CTX, "c", "e") == ProcessState("e", "c", 0, Status.CREATED, IO(stdout="/out"), exited_at=ZERO_TIME)
    assert tasks.start(CTX, "c", "e") > 0
    runtime.made["ns", "c"].execs["e"].finish(5)
    assert tasks.wait(CTX, "c", "e").status == 5
    assert tasks.delete_process(CTX, "c", "e").status == 5
    with pytest.raises(InvalidArgument, match=r"^exec id cannot be empty$"):
        tasks.exec(CTX, "c", "", None, IO())
    with pytest.raises(NotFound, match=r"^process does not exist nope: not found$"):
        tasks.get(CTX, "c", "nope")


def test_a_checkpoint_that_stays_in_its_directory_answers_nothing(tasks: TaskService, runtime: TinyRuntime) -> None:
    tasks.create(CTX, CreateTask("c"))
    packed = typeurl.pack(runc_v1_pb2.CheckpointOptions(image_path="/image"))
    options = TypedAny(packed.type_url, packed.value)
    assert tasks.checkpoint(CTX, "c", options=options) == []
    assert runtime.made["ns", "c"].done == [("checkpoint", "/image", options)]


def test_a_wait_ends_when_the_caller_gives_up(tasks: TaskService) -> None:
    tasks.create(CTX, CreateTask("c"))
    tasks.start(CTX, "c")
    with pytest.raises(DeadlineExceeded):
        tasks.wait(CallContext("ns", deadline=time.monotonic() + 0.1), "c")
    token = CancelToken()
    threading.Timer(0.1, token.cancel).start()
    with pytest.raises(Canceled):
        tasks.wait(CallContext("ns", cancel=token), "c")


@pytest.mark.root
@pytest.mark.debian("containerd", "runc", "busybox")
def test_a_real_container_lives_and_ends(tmp_path: Path) -> None:
    """Against containerd and runc: what the client makes of their answers."""
    # runc's state and control groups are the machine's: nobody else has this one.
    ctx = CallContext(namespace=f"tasks-{uuid.uuid4().hex[:12]}")
    root = tmp_path / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "proc").mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin" / "sh")
    process: dict[str, object] = {
        "args": ["/bin/sh", "-c", "trap 'exit 3' TERM; while true; do sleep 0.1; done"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
    }
    spec = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(root)},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc")],
            "cgroupsPath": f"/{ctx.namespace}",
        },
    }
    with tempfile.TemporaryDirectory(prefix="tasks-", dir="/tmp") as place:
        daemon = daemons.containerd(Path(place) / "d")
        try:
            daemon.start()
            with Client(str(daemon.socket), timeout=60.0) as client:
                packed = TypedAny(SPEC_TYPE, json.dumps(spec).encode())
                client.containers.create(ctx, Container("c", runtime=RuntimeInfo(RUNC), spec=packed))
                live(ctx, client.tasks, process)
        finally:
            daemon.end()


def live(ctx: CallContext, tasks: TaskService, process: dict[str, object]) -> None:
    pid = tasks.create(ctx, CreateTask("c"))
    try:
        assert tasks.get(ctx, "c") == ProcessState("c", "c", pid, Status.CREATED, IO(), exited_at=ZERO_TIME)
        assert tasks.start(ctx, "c") == pid
        assert [state.status for state in tasks.list(ctx)] == [Status.RUNNING]
        assert ProcessInfo(pid) in tasks.list_pids(ctx, "c")
        spec = TypedAny("x", json.dumps(process | {"args": ["/bin/sh", "-c", "exit 5"]}).encode())
        tasks.exec(ctx, "c", "e", spec, IO())
        assert tasks.get(ctx, "c", "e").status is Status.CREATED
        assert tasks.start(ctx, "c", "e") > 0
        assert tasks.wait(ctx, "c", "e").status == 5
        assert tasks.delete_process(ctx, "c", "e").status == 5
        (metric,) = tasks.metrics(ctx)
        assert metric.data.type_url.startswith("io.containerd.cgroups.v")
        with pytest.raises(Unknown, match="cannot delete a running process"):
            tasks.delete(ctx, "c")
        assert until(lambda: catches(pid, 15), 30.0)
        tasks.kill(ctx, "c", signal=15)
        ended = tasks.wait(ctx, "c")
        assert ended.status == 3
        assert tasks.get(ctx, "c").exited_at == ended.exited_at
    finally:
        tasks.kill(ctx, "c", signal=9, all=True)
        assert tasks.wait(ctx, "c").exited_at > ZERO_TIME
        assert tasks.delete(ctx, "c").pid == pid
