"""Tasks over gRPC: a ``contract.tasks.TaskService`` (containerd.services.tasks.v1)."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence

from google.protobuf.message import Message

from refimpl.api import task_types_v1_pb2
from refimpl.api import tasks_v1_pb2 as pb
from refimpl.api.tasks_v1_pb2_grpc import TasksStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.contract.context import CallContext
from refimpl.contract.runtimes import IO, Exit, ProcessInfo, ProcessState, Status
from refimpl.contract.tasks import CreateTask, Metric
from refimpl.contract.types import Descriptor, TypedAny

WAITING = 3600.0
"""Seconds that a wait for a process may take when its context has no deadline."""

RUNTIME = 50.0
"""Seconds on top of an ordinary call for what starts or ends processes: a shim has to start first."""


class RemoteTasks:
    """The tasks of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = TasksStub(connection.channel)

    def create(self, ctx: CallContext, task: CreateTask) -> int:
        """Make a container's task."""
        question = pb.CreateTaskRequest(
            container_id=task.container_id,
            rootfs=convert.mounts_to_wire(task.rootfs),
            stdin=task.io.stdin,
            stdout=task.io.stdout,
            stderr=task.io.stderr,
            terminal=task.io.terminal,
            checkpoint=convert.descriptor_to_wire(task.checkpoint) if task.checkpoint is not None else None,
            options=convert.any_to_wire(task.options),
            runtime_path=task.runtime_path,
        )
        return self._connection.unary(ctx, self._stub.Create, question, allowance=RUNTIME).pid

    def start(self, ctx: CallContext, container_id: str, exec_id: str = "") -> int:
        """Start a process."""
        question = pb.StartRequest(container_id=container_id, exec_id=exec_id)
        return self._connection.unary(ctx, self._stub.Start, question, allowance=RUNTIME).pid

    def delete(self, ctx: CallContext, container_id: str) -> Exit:
        """Forget a task."""
        question = pb.DeleteTaskRequest(container_id=container_id)
        return _deleted(self._connection.unary(ctx, self._stub.Delete, question, allowance=RUNTIME))

    def delete_process(self, ctx: CallContext, container_id: str, exec_id: str) -> Exit:
        """Forget an exec."""
        question = pb.DeleteProcessRequest(container_id=container_id, exec_id=exec_id)
        return _deleted(self._connection.unary(ctx, self._stub.DeleteProcess, question, allowance=RUNTIME))

    def get(self, ctx: CallContext, container_id: str, exec_id: str = "") -> ProcessState:
        """A process as of now."""
        question = pb.GetRequest(container_id=container_id, exec_id=exec_id)
        answer = self._connection.unary(ctx, self._stub.Get, question)
        return _state(convert.present(answer, "process", answer.process))

    def list(self, ctx: CallContext) -> builtins.list[ProcessState]:
        """The init processes of all tasks."""
        answer = self._connection.unary(ctx, self._stub.List, pb.ListTasksRequest())
        return [_state(task) for task in answer.tasks]

    def kill(self, ctx: CallContext, container_id: str, exec_id: str = "", *, signal: int, all: bool = False) -> None:
        """Send a signal."""
        question = pb.KillRequest(container_id=container_id, exec_id=exec_id, signal=signal, all=all)
        self._connection.unary(ctx, self._stub.Kill, question)

    def exec(self, ctx: CallContext, container_id: str, exec_id: str, spec: TypedAny | None, io: IO) -> None:
        """Add a process to a running task."""
        question = pb.ExecProcessRequest(
            container_id=container_id,
            exec_id=exec_id,
            stdin=io.stdin,
            stdout=io.stdout,
            stderr=io.stderr,
            terminal=io.terminal,
            spec=convert.any_to_wire(spec),
        )
        self._connection.unary(ctx, self._stub.Exec, question)

    def resize_pty(self, ctx: CallContext, container_id: str, exec_id: str = "", *, width: int, height: int) -> None:
        """Set the size of a terminal."""
        question = pb.ResizePtyRequest(container_id=container_id, exec_id=exec_id, width=width, height=height)
        self._connection.unary(ctx, self._stub.ResizePty, question)

    def close_io(self, ctx: CallContext, container_id: str, exec_id: str = "", *, stdin: bool) -> None:
        """Let a standard input end."""
        question = pb.CloseIORequest(container_id=container_id, exec_id=exec_id, stdin=stdin)
        self._connection.unary(ctx, self._stub.CloseIO, question)

    def pause(self, ctx: CallContext, container_id: str) -> None:
        """Freeze a task."""
        self._connection.unary(ctx, self._stub.Pause, pb.PauseTaskRequest(container_id=container_id))

    def resume(self, ctx: CallContext, container_id: str) -> None:
        """Let a task go on."""
        self._connection.unary(ctx, self._stub.Resume, pb.ResumeTaskRequest(container_id=container_id))

    def list_pids(self, ctx: CallContext, container_id: str) -> builtins.list[ProcessInfo]:
        """All processes of a task."""
        answer = self._connection.unary(ctx, self._stub.ListPids, pb.ListPidsRequest(container_id=container_id))
        return [
            ProcessInfo(each.pid, convert.any_from_wire(each.info) if each.HasField("info") else None)
            for each in answer.processes
        ]

    def checkpoint(
        self, ctx: CallContext, container_id: str, *, parent: str = "", options: TypedAny | None = None
    ) -> builtins.list[Descriptor]:
        """Write a task's state into the content store."""
        question = pb.CheckpointTaskRequest(
            container_id=container_id, parent_checkpoint=parent, options=convert.any_to_wire(options)
        )
        answer = self._connection.unary(ctx, self._stub.Checkpoint, question, allowance=RUNTIME)
        return [convert.descriptor_from_wire(each) for each in answer.descriptors]

    def update(
        self,
        ctx: CallContext,
        container_id: str,
        resources: TypedAny | None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Change a task's limits."""
        question = pb.UpdateTaskRequest(
            container_id=container_id, resources=convert.any_to_wire(resources), annotations=annotations
        )
        self._connection.unary(ctx, self._stub.Update, question)

    def metrics(self, ctx: CallContext, filters: Sequence[str] = ()) -> builtins.list[Metric]:
        """What the cgroups say."""
        answer = self._connection.unary(ctx, self._stub.Metrics, pb.MetricsRequest(filters=filters))
        return [
            Metric(convert.time_from_wire(each, "timestamp"), each.id, convert.any_from_wire(each.data))
            for each in answer.metrics
        ]

    def wait(self, ctx: CallContext, container_id: str, exec_id: str = "") -> Exit:
        """Wait for the end of a process; the answer does not carry its pid, which is 0 here."""
        question = pb.WaitRequest(container_id=container_id, exec_id=exec_id)
        answer = self._connection.unary(ctx, self._stub.Wait, question, allowance=WAITING)
        return Exit(0, answer.exit_status, convert.time_from_wire(answer, "exited_at"))


def _deleted(answer: pb.DeleteResponse) -> Exit:
    return Exit(answer.pid, answer.exit_status, convert.time_from_wire(answer, "exited_at"))


def _state(process: task_types_v1_pb2.Process) -> ProcessState:
    message: Message = process
    return ProcessState(
        id=process.id,
        container_id=process.container_id,
        pid=process.pid,
        status=Status(process.status),
        io=IO(process.stdin, process.stdout, process.stderr, process.terminal),
        exit_status=process.exit_status,
        exited_at=convert.time_from_wire(message, "exited_at"),
    )
