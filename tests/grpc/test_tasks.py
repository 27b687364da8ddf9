"""The wire in front of the tasks service: every field there and back, and a thousand calls that wait."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from refimpl.api import task_types_v1_pb2, types_pb2
from refimpl.api import tasks_v1_pb2 as pb
from refimpl.api.tasks_v1_pb2_grpc import TasksStub
from refimpl.contract.errors import Canceled, NotFound
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import IO, Exit, ProcessInfo, ProcessState, Status
from refimpl.contract.tasks import CreateTask, Metric
from refimpl.contract.times import SECOND, ZERO_TIME
from refimpl.contract.types import Descriptor, TypedAny
from refimpl.daemon.rpc import build
from refimpl.daemon.threads import LazyThreads
from refimpl.grpc.tasks import TasksFront
from tests.grpc.world import METADATA, refusal
from tests.services.fakes import Store

AT = 1_700_000_000 * SECOND + 5
NEVER = Timestamp(seconds=-62135596800)
STOPPED = ProcessState("e", "c", 9, Status.STOPPED, IO("in", "out", "err", terminal=True), 7, AT)


class Waiting(Store):
    """Waits last until the caller gives up."""

    def __init__(self, **answers: object) -> None:
        super().__init__(**answers)
        self.lock = threading.Lock()
        self.waiting = 0

    def wait(self, ctx: Any, container_id: str, exec_id: str = "") -> Exit:
        if container_id == "ended":
            return Exit(9, 7, AT)
        with self.lock:
            self.waiting += 1
        try:
            ctx.cancel.wait(240)
            raise Canceled
        finally:
            with self.lock:
                self.waiting -= 1


@pytest.fixture
def service() -> Waiting:
    return Waiting(
        create=5,
        start=6,
        delete=Exit(9, 7, AT),
        delete_process=Exit(0, 0, ZERO_TIME),
        get=STOPPED,
        list=[STOPPED, ProcessState("c", "c", 0, Status.UNKNOWN, IO(), exited_at=ZERO_TIME)],
        list_pids=[ProcessInfo(5), ProcessInfo(6, TypedAny("t", b"v"))],
        checkpoint=[Descriptor("m", "sha256:x", 3)],
        metrics=[Metric(AT, "c", TypedAny("t", b"v"))],
        update=NotFound("task c"),
    )


@pytest.fixture
def stub(service: Waiting) -> Iterator[TasksStub]:
    with tempfile.TemporaryDirectory(prefix="tasks-") as place:
        server, _ = build([TasksFront(service).register_grpc], LazyThreads(1024), 16 << 20, 16 << 20)
        server.add_insecure_port(f"unix:{place}/d.sock")
        server.start()
        try:
            with grpc.insecure_channel(f"unix:{place}/d.sock") as channel:
                yield TasksStub(channel)
        finally:
            server.stop(0).wait(10)


def asked(service: Waiting) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """The latest call, without its context."""
    name, (ctx, *args), keywords = service.calls[-1]
    assert ctx.namespace == "ns"
    return name, tuple(args), keywords


def test_a_create_carries_all_that_was_wished(stub: TasksStub, service: Waiting) -> None:
    request = pb.CreateTaskRequest(
        container_id="c",
        rootfs=[types_pb2.Mount(type="bind", source="/a", target="t", options=["ro"])],
        stdin="in",
        stdout="out",
        stderr="err",
        terminal=True,
        checkpoint=types_pb2.Descriptor(media_type="m", digest="d", size=3),
        options=ProtoAny(type_url="o", value=b"v"),
        runtime_path="/shim",
    )
    assert stub.Create(request, metadata=METADATA) == pb.CreateTaskResponse(container_id="c", pid=5)
    wish = CreateTask(
        "c",
        [Mount("bind", "/a", "t", ("ro",))],
        IO("in", "out", "err", terminal=True),
        Descriptor("m", "d", 3),
        TypedAny("o", b"v"),
        "/shim",
    )
    assert asked(service) == ("create", (wish,), {})
    stub.Create(pb.CreateTaskRequest(container_id="c"), metadata=METADATA)
    assert asked(service) == ("create", (CreateTask("c", []),), {}), "what is absent is None, not empty"


def test_a_process_is_told_without_its_container(stub: TasksStub, service: Waiting) -> None:
    stopped = task_types_v1_pb2.Process(
        id="e",
        pid=9,
        status=task_types_v1_pb2.STOPPED,
        stdin="in",
        stdout="out",
        stderr="err",
        terminal=True,
        exit_status=7,
        exited_at=Timestamp(seconds=AT // SECOND, nanos=5),
    )
    assert stub.Get(pb.GetRequest(container_id="c", exec_id="e"), metadata=METADATA).process == stopped
    assert asked(service) == ("get", ("c", "e"), {})
    unknown = task_types_v1_pb2.Process(id="c", exited_at=NEVER)
    listed = stub.List(pb.ListTasksRequest(filter="id==e"), metadata=METADATA)
    assert list(listed.tasks) == [stopped, unknown]


def test_every_status_has_its_number_on_the_wire() -> None:
    names = {status.value: status.name for status in Status}
    assert {value: name for name, value in task_types_v1_pb2.Status.items()} == names


def test_ends_are_told_with_times_that_are_never_absent(stub: TasksStub, service: Waiting) -> None:
    at = Timestamp(seconds=AT // SECOND, nanos=5)
    deleted = stub.Delete(pb.DeleteTaskRequest(container_id="c"), metadata=METADATA)
    assert deleted == pb.DeleteResponse(pid=9, exit_status=7, exited_at=at), "a task's id is not told"
    request = pb.DeleteProcessRequest(container_id="c", exec_id="e")
    assert stub.DeleteProcess(request, metadata=METADATA) == pb.DeleteResponse(id="e", exited_at=NEVER)
    waited = stub.Wait(pb.WaitRequest(container_id="ended"), metadata=METADATA)
    assert waited == pb.WaitResponse(exit_status=7, exited_at=at)


def test_every_other_call_reaches_the_service_as_it_was_made(stub: TasksStub, service: Waiting) -> None:
    assert stub.Start(pb.StartRequest(container_id="c", exec_id="e"), metadata=METADATA).pid == 6
    assert asked(service) == ("start", ("c", "e"), {})
    empties: list[tuple[str, Any, tuple[Any, ...]]] = [
        (
            "Kill",
            pb.KillRequest(container_id="c", exec_id="e", signal=9, all=True),
            ("kill", ("c", "e"), {"signal": 9, "all": True}),
        ),
        (
            "Exec",
            pb.ExecProcessRequest(container_id="c", exec_id="e", stdin="i", spec=ProtoAny(type_url="t", value=b"v")),
            ("exec", ("c", "e", TypedAny("t", b"v"), IO("i")), {}),
        ),
        ("Exec", pb.ExecProcessRequest(container_id="c"), ("exec", ("c", "", None, IO()), {})),
        (
            "ResizePty",
            pb.ResizePtyRequest(container_id="c", exec_id="e", width=91, height=31),
            ("resize_pty", ("c", "e"), {"width": 91, "height": 31}),
        ),
        ("CloseIO", pb.CloseIORequest(container_id="c", stdin=True), ("close_io", ("c", ""), {"stdin": True})),
        ("Pause", pb.PauseTaskRequest(container_id="c"), ("pause", ("c",), {})),
        ("Resume", pb.ResumeTaskRequest(container_id="c"), ("resume", ("c",), {})),
    ]
    for name, request, call in empties:
        assert getattr(stub, name)(request, metadata=METADATA) == Empty()
        assert asked(service) == call


def test_lists_of_other_things_are_told_in_order(stub: TasksStub, service: Waiting) -> None:
    pids = stub.ListPids(pb.ListPidsRequest(container_id="c"), metadata=METADATA)
    info = ProtoAny(type_url="t", value=b"v")
    assert list(pids.processes) == [
        task_types_v1_pb2.ProcessInfo(pid=5),
        task_types_v1_pb2.ProcessInfo(pid=6, info=info),
    ]
    request = pb.CheckpointTaskRequest(container_id="c", parent_checkpoint="p", options=info)
    written = stub.Checkpoint(request, metadata=METADATA)
    assert list(written.descriptors) == [types_pb2.Descriptor(media_type="m", digest="sha256:x", size=3)]
    assert asked(service) == ("checkpoint", ("c",), {"parent": "p", "options": TypedAny("t", b"v")})
    metrics = stub.Metrics(pb.MetricsRequest(filters=["id==c"]), metadata=METADATA)
    assert list(metrics.metrics) == [
        types_pb2.Metric(timestamp=Timestamp(seconds=AT // SECOND, nanos=5), id="c", data=info)
    ]
    assert asked(service) == ("metrics", (["id==c"],), {})


def test_an_error_is_a_status(stub: TasksStub, service: Waiting) -> None:
    request = pb.UpdateTaskRequest(container_id="c", resources=ProtoAny(type_url="t"), annotations={"a": "b"})
    with pytest.raises(grpc.RpcError) as caught:
        stub.Update(request, metadata=METADATA)
    assert refusal(caught.value) == (grpc.StatusCode.NOT_FOUND, "task c: not found")
    assert asked(service) == ("update", ("c", TypedAny("t"), {"a": "b"}), {})
    with pytest.raises(grpc.RpcError):
        stub.Update(pb.UpdateTaskRequest(container_id="c"), metadata=METADATA)
    assert asked(service) == ("update", ("c", None, {}), {})


def test_a_wait_that_is_given_up_ends_on_both_sides(stub: TasksStub, service: Waiting) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Wait(pb.WaitRequest(container_id="c"), metadata=METADATA, timeout=0.1)
    assert refusal(caught.value)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert until(lambda: service.waiting == 0)


def until(true: Any, seconds: float = 60) -> bool:
    """Whether something that other threads do has come about in time."""
    end, tick = time.monotonic() + seconds, threading.Event()
    while not true():
        if time.monotonic() > end:
            return False
        tick.wait(0.01)
    return True


@pytest.mark.slow
def test_a_thousand_waits_delay_nobody(stub: TasksStub, service: Waiting, caplog: pytest.LogCaptureFixture) -> None:
    waits = [stub.Wait.future(pb.WaitRequest(container_id="c"), metadata=METADATA, timeout=240) for _ in range(1000)]
    assert until(lambda: service.waiting == 1000)
    for _ in range(20):
        # Whoever waits holds a thread; the next call has one all the same.
        stub.Start(pb.StartRequest(container_id="c"), metadata=METADATA, timeout=60)
    assert service.waiting == 1000
    for wait in waits:
        wait.cancel()
    assert until(lambda: service.waiting == 0)
    assert not [record for record in caplog.records if record.exc_info], "giving up is no failure"
