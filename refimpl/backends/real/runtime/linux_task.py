"""A task of the first runtime: what is asked of it is asked of its shim, and told by the daemon.

One shim serves one container, so there is one table of ids in it: that of the task is init (RT1-014). What the task's
control groups say is read here. Clauses RT1-010 to RT1-016, RT1-020, RT1-024 to RT1-026, RT1-030.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from google.protobuf.empty_pb2 import Empty

from refimpl.api import cgroups_v1_pb2, typeurl
from refimpl.api import shim_v1_pb2 as pb
from refimpl.api.task_events import Teller, mount_messages
from refimpl.backends.real.cgroups.mounted import v1_directories
from refimpl.backends.real.cgroups.oom import on_oom
from refimpl.backends.real.runtime import translation
from refimpl.backends.real.runtime.linux_shim import LinuxShim
from refimpl.backends.real.runtime.translation import shim_errors
from refimpl.backends.real.runtime.watcher import Watcher
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound, Unknown
from refimpl.contract.runtimes import IO, CreateOptions, Exit, Process, ProcessInfo, ProcessState
from refimpl.contract.types import TypedAny
from refimpl.linux.cgroup_v1 import fill
from refimpl.ttrpc.client import Closed

log = logging.getLogger("refimpl.runtime")


class LinuxProcess:
    """A ``contract.runtimes.Process``: init or an exec.

    Args:
        id: the task's for init.
    """

    def __init__(self, shim: LinuxShim, teller: Teller, id: str) -> None:
        self._shim = shim
        self._teller = teller
        self._id = id
        self._pid = 0  # as the shim said last

    @property
    def id(self) -> str:
        return self._id

    def state(self, ctx: CallContext) -> ProcessState:
        try:
            with shim_errors():
                told = self._shim.call(ctx, "State", pb.StateRequest(id=self._id), pb.StateResponse)
        except Unknown as error:
            if isinstance(error.__cause__, Closed):
                raise NotFound(f"process {self._id}") from error
            raise
        self._pid = told.pid
        return translation.state(self._id, self._shim.bundle.id, told)

    def start(self, ctx: CallContext) -> int:
        with shim_errors():
            told = self._shim.call(ctx, "Start", pb.StartRequest(id=self._id), pb.StartResponse)
        self._pid = told.pid
        self._started()
        return self._pid

    def _started(self) -> None:
        self._teller.exec_started(self._id, self._pid)

    def kill(self, ctx: CallContext, signal: int, *, all: bool = False) -> None:
        with shim_errors():
            self._shim.call(ctx, "Kill", pb.KillRequest(id=self._id, signal=signal, all=all), Empty)

    def resize(self, ctx: CallContext, width: int, height: int) -> None:
        with shim_errors():
            self._shim.call(ctx, "ResizePty", pb.ResizePtyRequest(id=self._id, width=width, height=height), Empty)

    def close_io(self, ctx: CallContext) -> None:
        with shim_errors():
            self._shim.call(ctx, "CloseIO", pb.CloseIORequest(id=self._id, stdin=True), Empty)

    def wait(self, ctx: CallContext) -> Exit:
        with shim_errors():
            told = self._shim.call(ctx, "Wait", pb.WaitRequest(id=self._id), pb.WaitResponse)
        return Exit(self._pid, told.exit_status, translation.nanoseconds(told.exited_at))

    def delete(self, ctx: CallContext) -> Exit:
        # The shim refuses it for init (RT1-014).
        with shim_errors():
            told = self._shim.call(ctx, "DeleteProcess", pb.DeleteProcessRequest(id=self._id), pb.DeleteResponse)
        return Exit(told.pid, told.exit_status, translation.nanoseconds(told.exited_at))


class LinuxTask(LinuxProcess):
    """A ``contract.runtimes.Task`` that leaves it to the monitor to tell of kills (``OOMSource``).

    Args:
        remove: takes the task off the runtime's list and removes its bundle.
    """

    def __init__(self, shim: LinuxShim, teller: Teller, watcher: Watcher, remove: Callable[[LinuxTask], None]) -> None:
        super().__init__(shim, teller, shim.bundle.id)
        self._watcher = watcher
        self._remove = remove
        self._groups: Mapping[str, Path] = {}
        self._deleting = threading.Lock()
        self._deleted = False

    @property
    def namespace(self) -> str:
        return self._shim.bundle.namespace

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def shim(self) -> LinuxShim:
        """Who does it all."""
        return self._shim

    # --- its beginning and end

    def create(self, ctx: CallContext, options: CreateOptions, oci_runtime: str) -> None:
        """Have the shim make the container, and tell of it.

        Raises:
            ContainerdError: it refuses, or there are no control groups of version 1 (RT1-029).
        """
        io, bundle = options.io, self._shim.bundle
        request = pb.CreateTaskRequest(
            id=bundle.id,
            bundle=str(bundle.path),
            runtime=oci_runtime,
            rootfs=mount_messages(options.rootfs),
            terminal=io.terminal,
            stdin=io.stdin,
            stdout=io.stdout,
            stderr=io.stderr,
            checkpoint=options.checkpoint,
            options=translation.message(options.task_options),
        )
        with shim_errors():
            self._pid = self._shim.call(ctx, "Create", request, pb.CreateTaskResponse).pid
        self._find_groups()

    def tell_created(self, options: CreateOptions) -> None:
        """Tell that it was created."""
        bundle = str(self._shim.bundle.path)
        self._teller.created(bundle, options.rootfs, options.io, options.checkpoint, self._pid)

    def found(self, pid: int) -> None:
        """Take over a task of an earlier daemon; one that has ended may have no groups any more."""
        self._pid = pid
        try:
            self._find_groups()
        except Unknown as error:
            log.debug("no cgroup of a task", extra={"fields": {"id": self.id, "error": error}})

    def _find_groups(self) -> None:
        if self._pid:  # a checkpoint that is to be restored has no process yet
            self._groups = v1_directories(self._pid)

    def start(self, ctx: CallContext) -> int:
        pid = super().start(ctx)
        if not self._groups:
            self.found(pid)
        return pid

    def _started(self) -> None:
        self._teller.started(self._pid)

    def delete(self, ctx: CallContext) -> Exit:
        """Forget the task, its shim and its bundle, and tell of it (RT1-020)."""
        with self._deleting:
            if self._deleted:
                raise NotFound(f"task {self.id} not found", bare=True)
            with shim_errors():
                told = self._shim.call(ctx, "Delete", Empty(), pb.DeleteResponse)
            self._deleted = True
        exit_ = Exit(told.pid, told.exit_status, translation.nanoseconds(told.exited_at))
        self._remove(self)
        self._teller.deleted(exit_)
        return exit_

    # --- execs

    def exec(self, ctx: CallContext, id: str, spec: TypedAny, io: IO) -> Process:
        request = pb.ExecProcessRequest(
            id=id,
            terminal=io.terminal,
            stdin=io.stdin,
            stdout=io.stdout,
            stderr=io.stderr,
            spec=translation.message(spec),
        )
        with shim_errors():
            self._shim.call(ctx, "Exec", request, Empty)
        return LinuxProcess(self._shim, self._teller, id)

    def process(self, ctx: CallContext, id: str) -> Process:
        found = LinuxProcess(self._shim, self._teller, id)
        found.state(ctx)
        return found

    # --- the whole

    def pause(self, ctx: CallContext) -> None:
        with shim_errors():
            self._shim.call(ctx, "Pause", Empty(), Empty)
        self._teller.paused()

    def resume(self, ctx: CallContext) -> None:
        with shim_errors():
            self._shim.call(ctx, "Resume", Empty(), Empty)
        self._teller.resumed()

    def pids(self, ctx: CallContext) -> Sequence[ProcessInfo]:
        with shim_errors():
            told = self._shim.call(ctx, "ListPids", pb.ListPidsRequest(id=self.id), pb.ListPidsResponse)
        return translation.processes(told.processes)

    def checkpoint(self, ctx: CallContext, path: str, options: TypedAny | None) -> None:
        request = pb.CheckpointTaskRequest(path=path, options=translation.message(options))
        with shim_errors():
            self._shim.call(ctx, "Checkpoint", request, Empty)
        self._teller.checkpointed()

    def update(self, ctx: CallContext, resources: TypedAny | None, annotations: Mapping[str, str]) -> None:
        if resources is None:
            # The shim would take the whole task along (TSK-074).
            raise InvalidArgument("an update needs resources")
        with shim_errors():
            self._shim.call(ctx, "Update", pb.UpdateTaskRequest(resources=translation.message(resources)), Empty)

    def stats(self, ctx: CallContext) -> TypedAny:
        ctx.check()
        if not self._groups:
            raise NotFound("cgroup does not exist")
        metrics = cgroups_v1_pb2.Metrics()
        fill(metrics, {controller: str(group) for controller, group in self._groups.items()})
        packed = typeurl.pack(metrics)
        return TypedAny(packed.type_url, packed.value)

    def on_oom(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called when a process of the task is killed for want of memory (MON-016)."""
        memory = self._groups.get("memory")
        if memory is None:
            return _nothing
        try:
            return on_oom(self._watcher, memory, callback)
        except OSError as error:
            # It has ended, and its group is gone.
            log.debug("no OOM events of a task", extra={"fields": {"id": self.id, "error": error}})
            return _nothing


def _nothing() -> None:
    """There was nothing to take back."""
