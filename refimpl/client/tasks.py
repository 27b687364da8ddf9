"""Tasks over gRPC: a ``contract.tasks.TaskService`` (containerd.services.tasks.v1)."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import replace

from refimpl.api import task_types_v1_pb2
from refimpl.api import tasks_v1_pb2 as pb
from refimpl.api.tasks_v1_pb2_grpc import TasksStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.contract.context import CallContext
from refimpl.contract.runtimes import IO, Exit, ProcessInfo, ProcessState, Status
from refimpl.contract.tasks import CreateTask, Metric
from refimpl.contract.types import Descriptor, TypedAny

PATIENCE = 24 * 3600.0
"""Seconds that a wait gets on top of an ordinary call when its context has no deadline: processes live long."""

RUNTIME_SECONDS = 30.0
"""Seconds that a call gets on top of an ordinary one if a runtime starts programs in it."""

_STATUSES = {status.value: status for status in Status}


class RemoteTasks:
    """The tasks of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = TasksStub(connection.channel)

    def create(self, ctx: CallContext, task: CreateTask) -> int:
        """Make a container's task; answers with the pid of init."""
        question = pb.CreateTaskRequest(
            container_id=task.container_id,
            rootfs=convert.mounts_to_wire(task.rootfs),
            checkpoint=None if task.checkpoint is None else convert.descriptor_to_wire(task.checkpoint),
            options=convert.any_to_wire(task.options),
            runtime_path=task.runtime_path,
        )
        _put_io(question, task.io)
        return self._connection.unary(ctx, self._stub.Create, question, allowance=RUNTIME_SECONDS).pid

    def start(self, ctx: CallContext, container_id: str, exec_id: str = "") -> int:
        """Start a process; answers with its pid."""
        question = pb.StartRequest(container_id=container_id, exec_id=exec_id)
        return self._connection.unary(ctx, self._stub.Start, question, allowance=RUNTIME_SECONDS).pid

    def delete(self, ctx: CallContext, container_id: str) -> Exit:
        """Forget a task that has ended or never started."""
        question = pb.DeleteTaskRequest(container_id=container_id)
        return _deleted(self._connection.unary(ctx, self._stub.Delete, question, allowance=RUNTIME_SECONDS))

    def delete_process(self, ctx: CallContext, container_id: str, exec_id: str) -> Exit:
        """Forget an exec that has ended or never started."""
        question = pb.DeleteProcessRequest(container_id=container_id, exec_id=exec_id)
        return _deleted(self._connection.unary(ctx, self._stub.DeleteProcess, question, allowance=RUNTIME_SECONDS))

    def get(self, ctx: CallContext, container_id: str, exec_id: str = "") -> ProcessState:
        """A process as of now."""
        answer = self._connection.unary(ctx, self._stub.Get, pb.GetRequest(container_id=container_id, exec_id=exec_id))
        state = _state(convert.present(answer, "process", answer.process))
        # 1.6 does not tell what the caller knows.
        return replace(state, container_id=container_id)

    def list(self, ctx: CallContext) -> builtins.list[ProcessState]:
        """The init processes of all tasks."""
        return [
            _state(process) for process in self._connection.unary(ctx, self._stub.List, pb.ListTasksRequest()).tasks
        ]

    def kill(self, ctx: CallContext, container_id: str, exec_id: str = "", *, signal: int, all: bool = False) -> None:
        """Send a signal."""
        question = pb.KillRequest(container_id=container_id, exec_id=exec_id, signal=signal, all=all)
        self._connection.unary(ctx, self._stub.Kill, question)

    def exec(self, ctx: CallContext, container_id: str, exec_id: str, spec: TypedAny | None, io: IO) -> None:
        """Add a process to a task, not yet started."""
        question = pb.ExecProcessRequest(container_id=container_id, exec_id=exec_id, spec=convert.any_to_wire(spec))
        _put_io(question, io)
        self._connection.unary(ctx, self._stub.Exec, question)

    def resize_pty(self, ctx: CallContext, container_id: str, exec_id: str = "", *, width: int, height: int) -> None:
        """Set the size of a process's terminal."""
        question = pb.ResizePtyRequest(container_id=container_id, exec_id=exec_id, width=width, height=height)
        self._connection.unary(ctx, self._stub.ResizePty, question)

    def close_io(self, ctx: CallContext, container_id: str, exec_id: str = "", *, stdin: bool) -> None:
        """Let a process's standard input end, if ``stdin``."""
        question = pb.CloseIORequest(container_id=container_id, exec_id=exec_id, stdin=stdin)
        self._connection.unary(ctx, self._stub.CloseIO, question)

    def pause(self, ctx: CallContext, container_id: str) -> None:
        """Freeze all processes of a task."""
        self._connection.unary(ctx, self._stub.Pause, pb.PauseTaskRequest(container_id=container_id))

    def resume(self, ctx: CallContext, container_id: str) -> None:
        """Let them go on."""
        self._connection.unary(ctx, self._stub.Resume, pb.ResumeTaskRequest(container_id=container_id))

    def list_pids(self, ctx: CallContext, container_id: str) -> builtins.list[ProcessInfo]:
        """All processes of a task."""
        answer = self._connection.unary(ctx, self._stub.ListPids, pb.ListPidsRequest(container_id=container_id))
        return [
            ProcessInfo(process.pid, convert.any_from_wire(process.info) if process.HasField("info") else None)
            for process in answer.processes
        ]

    def checkpoint(
        self, ctx: CallContext, container_id: str, *, parent: str = "", options: TypedAny | None = None
    ) -> builtins.list[Descriptor]:
        """Write a task's state into the content store; answers with what was written."""
        question = pb.CheckpointTaskRequest(
            container_id=container_id, parent_checkpoint=parent, options=convert.any_to_wire(options)
        )
        answer = self._connection.unary(ctx, self._stub.Checkpoint, question, allowance=RUNTIME_SECONDS)
        return [convert.descriptor_from_wire(descriptor) for descriptor in answer.descriptors]

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
        """What the cgroups say of the tasks for which any filter holds."""
        answer = self._connection.unary(ctx, self._stub.Metrics, pb.MetricsRequest(filters=filters))
        return [
            Metric(convert.time_from_wire(metric, "timestamp"), metric.id, convert.any_from_wire(metric.data))
            for metric in answer.metrics
        ]

    def wait(self, ctx: CallContext, container_id: str, exec_id: str = "") -> Exit:
        """Wait for the end of a process; the wire does not tell its pid, which is 0 here."""
        question = pb.WaitRequest(container_id=container_id, exec_id=exec_id)
        answer = self._connection.unary(ctx, self._stub.Wait, question, allowance=PATIENCE)
        return Exit(0, answer.exit_status, convert.time_from_wire(answer, "exited_at"))


def _put_io(question: pb.CreateTaskRequest | pb.ExecProcessRequest, io: IO) -> None:
    question.stdin, question.stdout, question.stderr, question.terminal = io.stdin, io.stdout, io.stderr, io.terminal


def _deleted(answer: pb.DeleteResponse) -> Exit:
    return Exit(answer.pid, answer.exit_status, convert.time_from_wire(answer, "exited_at"))


def _state(message: task_types_v1_pb2.Process) -> ProcessState:
    return ProcessState(
        id=message.id,
        container_id=message.container_id or message.id,
        pid=message.pid,
        # A status from the future is one that we do not know.
        status=_STATUSES.get(message.status, Status.UNKNOWN),
        io=IO(message.stdin, message.stdout, message.stderr, message.terminal),
        exit_status=message.exit_status,
        exited_at=convert.time_from_wire(message, "exited_at"),
    )
