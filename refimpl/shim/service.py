"""containerd.task.v2.Task: what the daemon asks of a shim, by the id of a container (SHM-046 to SHM-070)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty

from refimpl.api import task_types_v1_pb2 as types
from refimpl.api import task_v2_pb2 as pb
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, DeadlineExceeded, NotFound, Unavailable
from refimpl.shim.container import DRAIN_SECONDS, PAUSED, Container
from refimpl.shim.creating import Maker
from refimpl.shim.events import set_time
from refimpl.shim.execs import Exec
from refimpl.shim.process import CREATED, RUNNING, STOPPED, Process
from refimpl.shim.stdio import Stdio

NAME = "containerd.task.v2.Task"

_STATUS = {CREATED: types.CREATED, RUNNING: types.RUNNING, STOPPED: types.STOPPED, PAUSED: types.PAUSED}


class Method:
    """A unary method; see ``refimpl.ttrpc.methods.UnaryMethod``."""

    def __init__(self, request: type[Any], handler: Callable[[CallContext, Any], Any]) -> None:
        self.request, self.handler = request, handler


class TaskService:
    """The service.

    Args:
        maker: makes containers.
        on_shutdown: called, once, when a shutdown was asked for and there is no container.
    """

    def __init__(self, maker: Maker, on_shutdown: Callable[[], None]) -> None:
        self._maker = maker
        self._on_shutdown = on_shutdown
        self._lock = threading.Lock()
        # None stands for one that is being made.
        self._containers: dict[str, Container | None] = {}
        self._ending = False
        # A shutdown came while the only container was being made.
        self._asked = False

    @property
    def ending(self) -> bool:
        """Whether a shutdown was asked for and will come."""
        with self._lock:
            return self._ending

    def methods(self) -> Mapping[str, Method]:
        """All methods by name."""
        return {
            "State": Method(pb.StateRequest, self.state),
            "Create": Method(pb.CreateTaskRequest, self.create),
            "Start": Method(pb.StartRequest, self.start),
            "Delete": Method(pb.DeleteRequest, self.delete),
            "Pids": Method(pb.PidsRequest, self.pids),
            "Pause": Method(pb.PauseRequest, self.pause),
            "Resume": Method(pb.ResumeRequest, self.resume),
            "Checkpoint": Method(pb.CheckpointTaskRequest, self.checkpoint),
            "Kill": Method(pb.KillRequest, self.kill),
            "Exec": Method(pb.ExecProcessRequest, self.exec),
            "ResizePty": Method(pb.ResizePtyRequest, self.resize_pty),
            "CloseIO": Method(pb.CloseIORequest, self.close_io),
            "Update": Method(pb.UpdateTaskRequest, self.update),
            "Wait": Method(pb.WaitRequest, self.wait),
            "Stats": Method(pb.StatsRequest, self.stats),
            "Connect": Method(pb.ConnectRequest, self.connect),
            "Shutdown": Method(pb.ShutdownRequest, self.shutdown),
        }

    def _container(self, id: str) -> Container:
        with self._lock:
            found = self._containers.get(id)
        if found is None:
            raise NotFound("container not created")
        return found

    def _process(self, request: Any) -> tuple[Container, Process]:
        container = self._container(request.id)
        return container, container.execs.get(request.exec_id) if request.exec_id else container.init

    # --- the life of a container

    def create(self, ctx: CallContext, request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        """Make a container; see ``creating``."""
        with self._lock:
            if self._ending:
                raise Unavailable("the shim is shutting down")
            if request.id in self._containers:
                raise AlreadyExists(f"container {request.id}")
            self._containers[request.id] = None
            self._asked = False
        made = None
        try:
            made = self._maker.create(ctx, request)
            if ctx.deadline is not None and time.monotonic() >= ctx.deadline:
                # The daemon has given up and cleaned up: nobody would ever ask for this container.
                late, made = made, None
                late.delete()
                raise DeadlineExceeded
        finally:
            with self._lock:
                if made is None:
                    del self._containers[request.id]
                else:
                    self._containers[request.id] = made
                last = self._asked and not self._containers
                if last:
                    self._ending = True
            if last:
                self._on_shutdown()
        return pb.CreateTaskResponse(pid=made.init.pid)

    def start(self, ctx: CallContext, request: pb.StartRequest) -> pb.StartResponse:
        """Run init or an exec."""
        container, process = self._process(request)
        pid = container.execs.start(ctx, process) if isinstance(process, Exec) else container.start(ctx)
        return pb.StartResponse(pid=pid)

    def delete(self, _ctx: CallContext, request: pb.DeleteRequest) -> pb.DeleteResponse:
        """Forget an exec, or the container with all its execs."""
        container, process = self._process(request)
        if isinstance(process, Exec):
            container.execs.delete(process, DRAIN_SECONDS)
        else:
            container.delete()
            with self._lock:
                del self._containers[request.id]
        ended = process.exit
        answer = pb.DeleteResponse(pid=process.pid, exit_status=ended.status if ended else 0)
        set_time(answer.exited_at, ended.at if ended else None)
        return answer

    def pause(self, _ctx: CallContext, request: pb.PauseRequest) -> Empty:
        """Freeze a container."""
        self._container(request.id).pause()
        return Empty()

    def resume(self, _ctx: CallContext, request: pb.ResumeRequest) -> Empty:
        """Let it go on."""
        self._container(request.id).resume()
        return Empty()

    def update(self, _ctx: CallContext, request: pb.UpdateTaskRequest) -> Empty:
        """Change its limits."""
        self._container(request.id).update(request.resources.value)
        return Empty()

    def checkpoint(self, _ctx: CallContext, request: pb.CheckpointTaskRequest) -> Empty:
        """Write down its processes."""
        container = self._container(request.id)
        # As with metrics below: most shims are never asked.
        from refimpl.shim.checkpoints import checkpoint  # noqa: PLC0415

        checkpoint(container, request.path, request.options.type_url, request.options.value)
        return Empty()

    # --- processes

    def exec(self, _ctx: CallContext, request: pb.ExecProcessRequest) -> Empty:
        """Add an exec."""
        container = self._container(request.id)
        stdio = Stdio(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        container.execs.add(request.exec_id, stdio, request.spec.value)
        return Empty()

    def kill(self, _ctx: CallContext, request: pb.KillRequest) -> Empty:
        """Send a signal to an exec, to init, or to all."""
        container, process = self._process(request)
        if isinstance(process, Exec):
            container.execs.kill(process, request.signal)
        else:
            container.kill(request.signal, all=request.all)
        return Empty()

    def wait(self, ctx: CallContext, request: pb.WaitRequest) -> pb.WaitResponse:
        """Wait for the end of a process."""
        _, process = self._process(request)
        ended = process.wait(ctx)
        answer = pb.WaitResponse(exit_status=ended.status)
        set_time(answer.exited_at, ended.at)
        return answer

    def resize_pty(self, _ctx: CallContext, request: pb.ResizePtyRequest) -> Empty:
        """Set the size of a terminal."""
        container, process = self._process(request)
        if isinstance(process, Exec):
            container.execs.resize(process, request.width, request.height)
        else:
            process.resize(request.width, request.height)
        return Empty()

    def close_io(self, _ctx: CallContext, request: pb.CloseIORequest) -> Empty:
        """Let an input end."""
        _, process = self._process(request)
        if request.stdin:
            process.close_input()
        return Empty()

    # --- looking

    def state(self, _ctx: CallContext, request: pb.StateRequest) -> pb.StateResponse:
        """How a process is."""
        container, process = self._process(request)
        status = process.status
        if status == RUNNING and container.status == PAUSED:
            status = PAUSED
        stdio, ended = process.stdio, process.exit
        answer = pb.StateResponse(
            id=process.id, bundle=container.bundle, pid=process.pid, status=_STATUS[status],
            stdin=stdio.stdin, stdout=stdio.stdout, stderr=stdio.stderr, terminal=stdio.terminal,
            exit_status=ended.status if ended else 0,
        )  # fmt: skip
        set_time(answer.exited_at, ended.at if ended else None)
        return answer

    def pids(self, _ctx: CallContext, request: pb.PidsRequest) -> pb.PidsResponse:
        """All processes of a container; those of execs say so."""
        container = self._container(request.id)
        from refimpl.api.runc_v1_pb2 import ProcessDetails  # noqa: PLC0415  # as above

        execs = {each.pid: each.id for each in container.execs.all() if each.pid}
        answer = pb.PidsResponse()
        for pid in container.pids():
            entry = answer.processes.add(pid=pid)
            if pid in execs:
                entry.info.type_url = ProcessDetails.DESCRIPTOR.full_name
                entry.info.value = ProcessDetails(exec_id=execs[pid]).SerializeToString()
        return answer

    def stats(self, _ctx: CallContext, request: pb.StatsRequest) -> pb.StatsResponse:
        """What a container uses, in the form of the host's cgroup version."""
        cgroup = self._container(request.id).cgroup
        # Loaded by those who are asked: half a megabyte that most shims do without.
        found: Any
        if cgroup.version == 1:
            from refimpl.api.cgroups_v1_pb2 import Metrics  # noqa: PLC0415
            from refimpl.linux.cgroup_v1 import fill  # noqa: PLC0415

            found = Metrics()
            fill(found, cgroup.paths)
        else:
            from refimpl.shim import metrics_v2  # noqa: PLC0415

            found = metrics_v2.metrics(cgroup)
        answer = pb.StatsResponse()
        answer.stats.type_url, answer.stats.value = found.DESCRIPTOR.full_name, found.SerializeToString()
        return answer

    def connect(self, _ctx: CallContext, request: pb.ConnectRequest) -> pb.ConnectResponse:
        """The pids of this process and of a container's init; 0 for a container that is not there."""
        with self._lock:
            container = self._containers.get(request.id)
        return pb.ConnectResponse(shim_pid=os.getpid(), task_pid=container.init.pid if container else 0)

    def shutdown(self, _ctx: CallContext, _request: pb.ShutdownRequest) -> Empty:
        """End the shim, if it has no container; ``now`` changes nothing about that (SHM-063).

        One that is being made may fail yet: then this is the end all the same.
        """
        with self._lock:
            first = not self._containers and not self._ending
            self._ending = self._ending or first
            self._asked = not any(self._containers.values())
        if first:
            self._on_shutdown()
        return Empty()
