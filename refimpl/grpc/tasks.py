"""io.containerd.grpc.v1.tasks: the wire in front of tasks-service. It keeps nothing. Clauses TSK-001 to 091.

A ``Wait`` holds its thread until the process ends or the caller gives up.
"""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import task_types_v1_pb2, types_pb2
from refimpl.api import tasks_v1_pb2 as pb
from refimpl.api import tasks_v1_pb2_grpc as wire
from refimpl.contract.context import CallContext
from refimpl.contract.runtimes import IO, Exit, ProcessInfo, ProcessState
from refimpl.contract.tasks import CreateTask, Metric, TaskService
from refimpl.grpc import convert
from refimpl.grpc.calls import unary
from refimpl.grpc.fronts import service
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE


class TasksFront(wire.TasksServicer):
    """containerd.services.tasks.v1.Tasks."""

    def __init__(self, tasks: TaskService) -> None:
        self._tasks = tasks

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_TasksServicer_to_server(self, server)

    @unary
    def Create(self, request: pb.CreateTaskRequest, ctx: CallContext) -> pb.CreateTaskResponse:
        """Make a container's task (TSK-004)."""
        wish = CreateTask(
            request.container_id,
            rootfs=convert.mounts_from(request.rootfs),
            io=_io(request),
            checkpoint=convert.descriptor_from(request.checkpoint) if request.HasField("checkpoint") else None,
            options=convert.any_from(request.options) if request.HasField("options") else None,
            runtime_path=request.runtime_path,
        )
        return pb.CreateTaskResponse(container_id=request.container_id, pid=self._tasks.create(ctx, wish))

    @unary
    def Start(self, request: pb.StartRequest, ctx: CallContext) -> pb.StartResponse:
        """Start a process (TSK-030)."""
        return pb.StartResponse(pid=self._tasks.start(ctx, request.container_id, request.exec_id))

    @unary
    def Delete(self, request: pb.DeleteTaskRequest, ctx: CallContext) -> pb.DeleteResponse:
        """Forget a task (TSK-046)."""
        return _deleted(self._tasks.delete(ctx, request.container_id), "")

    @unary
    def DeleteProcess(self, request: pb.DeleteProcessRequest, ctx: CallContext) -> pb.DeleteResponse:
        """Forget an exec (TSK-060)."""
        return _deleted(self._tasks.delete_process(ctx, request.container_id, request.exec_id), request.exec_id)

    @unary
    def Get(self, request: pb.GetRequest, ctx: CallContext) -> pb.GetResponse:
        """A process as of now (TSK-016)."""
        return pb.GetResponse(process=_process(self._tasks.get(ctx, request.container_id, request.exec_id)))

    @unary
    def List(self, request: pb.ListTasksRequest, ctx: CallContext) -> pb.ListTasksResponse:
        """All tasks of the namespace; the filter is not looked at (TSK-032)."""
        return pb.ListTasksResponse(tasks=map(_process, self._tasks.list(ctx)))

    @unary
    def Kill(self, request: pb.KillRequest, ctx: CallContext) -> Empty:
        """Send a signal (TSK-036)."""
        self._tasks.kill(ctx, request.container_id, request.exec_id, signal=request.signal, all=request.all)
        return Empty()

    @unary
    def Exec(self, request: pb.ExecProcessRequest, ctx: CallContext) -> Empty:
        """Add a process to a task (TSK-052)."""
        spec = convert.any_from(request.spec) if request.HasField("spec") else None
        self._tasks.exec(ctx, request.container_id, request.exec_id, spec, _io(request))
        return Empty()

    @unary
    def ResizePty(self, request: pb.ResizePtyRequest, ctx: CallContext) -> Empty:
        """Set the size of a terminal (TSK-027)."""
        size = {"width": request.width, "height": request.height}
        self._tasks.resize_pty(ctx, request.container_id, request.exec_id, **size)
        return Empty()

    @unary
    def CloseIO(self, request: pb.CloseIORequest, ctx: CallContext) -> Empty:
        """Let standard input end (TSK-018)."""
        self._tasks.close_io(ctx, request.container_id, request.exec_id, stdin=request.stdin)
        return Empty()

    @unary
    def Pause(self, request: pb.PauseTaskRequest, ctx: CallContext) -> Empty:
        """Freeze a task (TSK-067)."""
        self._tasks.pause(ctx, request.container_id)
        return Empty()

    @unary
    def Resume(self, request: pb.ResumeTaskRequest, ctx: CallContext) -> Empty:
        """Let it go on (TSK-067)."""
        self._tasks.resume(ctx, request.container_id)
        return Empty()

    @unary
    def ListPids(self, request: pb.ListPidsRequest, ctx: CallContext) -> pb.ListPidsResponse:
        """All processes of a task (TSK-072)."""
        return pb.ListPidsResponse(processes=map(_process_info, self._tasks.list_pids(ctx, request.container_id)))

    @unary
    def Checkpoint(self, request: pb.CheckpointTaskRequest, ctx: CallContext) -> pb.CheckpointTaskResponse:
        """Write a task's state into the content store (TSK-079)."""
        options = convert.any_from(request.options) if request.HasField("options") else None
        written = self._tasks.checkpoint(ctx, request.container_id, parent=request.parent_checkpoint, options=options)
        return pb.CheckpointTaskResponse(descriptors=map(convert.descriptor_to, written))

    @unary
    def Update(self, request: pb.UpdateTaskRequest, ctx: CallContext) -> Empty:
        """Change a task's limits (TSK-073)."""
        resources = convert.any_from(request.resources) if request.HasField("resources") else None
        self._tasks.update(ctx, request.container_id, resources, dict(request.annotations))
        return Empty()

    @unary
    def Metrics(self, request: pb.MetricsRequest, ctx: CallContext) -> pb.MetricsResponse:
        """What the cgroups say (TSK-075)."""
        return pb.MetricsResponse(metrics=map(_metric, self._tasks.metrics(ctx, list(request.filters))))

    @unary
    def Wait(self, request: pb.WaitRequest, ctx: CallContext) -> pb.WaitResponse:
        """Wait for the end of a process (TSK-043)."""
        ended = self._tasks.wait(ctx, request.container_id, request.exec_id)
        return pb.WaitResponse(exit_status=ended.status, exited_at=convert.time_to(ended.exited_at))


def _io(request: pb.CreateTaskRequest | pb.ExecProcessRequest) -> IO:
    return IO(request.stdin, request.stdout, request.stderr, request.terminal)


def _deleted(ended: Exit, id: str) -> pb.DeleteResponse:
    """The id is an exec's; that of a task is not told."""
    return pb.DeleteResponse(id=id, pid=ended.pid, exit_status=ended.status, exited_at=convert.time_to(ended.exited_at))


def _process(state: ProcessState) -> task_types_v1_pb2.Process:
    """A process to the wire. Which container it belongs to is not told: 1.6 leaves that field empty."""
    return task_types_v1_pb2.Process(
        id=state.id,
        pid=state.pid,
        status=task_types_v1_pb2.Status.ValueType(state.status.value),
        stdin=state.io.stdin,
        stdout=state.io.stdout,
        stderr=state.io.stderr,
        terminal=state.io.terminal,
        exit_status=state.exit_status,
        exited_at=convert.time_to(state.exited_at),
    )


def _process_info(info: ProcessInfo) -> task_types_v1_pb2.ProcessInfo:
    return task_types_v1_pb2.ProcessInfo(pid=info.pid, info=None if info.info is None else convert.any_to(info.info))


def _metric(metric: Metric) -> types_pb2.Metric:
    return types_pb2.Metric(timestamp=convert.time_to(metric.timestamp), id=metric.id, data=convert.any_to(metric.data))


def init(ic: InitContext) -> TasksFront:
    """Stand before the service."""
    return TasksFront(service(ic, "tasks"))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "tasks", init=init, requires=(SERVICE,))]
