"""A task of the second runtime: what is asked of it is asked of its shim.

Clauses TSK-026 to TSK-091, SHM-052 to SHM-060.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from google.protobuf.empty_pb2 import Empty

from refimpl.api import task_v2_pb2 as pb
from refimpl.api.task_events import mount_messages
from refimpl.backends.real.runtime import translation
from refimpl.backends.real.runtime.shim import Shim
from refimpl.backends.real.runtime.translation import shim_errors
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument, NotFound, Unknown
from refimpl.contract.runtimes import IO, CreateOptions, Exit, Process, ProcessInfo, ProcessState
from refimpl.contract.types import TypedAny
from refimpl.ttrpc.client import Closed


class ShimProcess:
    """A ``contract.runtimes.Process``: init or an exec.

    Args:
        exec_id: empty for init.
    """

    def __init__(self, shim: Shim, exec_id: str = "") -> None:
        self._shim = shim
        self._exec_id = exec_id
        self._pid = 0  # as the shim said last

    @property
    def id(self) -> str:
        return self._exec_id or self._shim.bundle.id

    def state(self, ctx: CallContext) -> ProcessState:
        request = pb.StateRequest(id=self._shim.bundle.id, exec_id=self._exec_id)
        try:
            with shim_errors():
                told = self._shim.call(ctx, "State", request, pb.StateResponse)
        except Unknown as error:
            if isinstance(error.__cause__, Closed):
                # Its shim is gone, and so is it, even if that is not tidied up yet (SHM-088).
                raise NotFound(f"process {self.id}") from error
            raise
        self._pid = told.pid
        return translation.state(self.id, self._shim.bundle.id, told)

    def start(self, ctx: CallContext) -> int:
        request = pb.StartRequest(id=self._shim.bundle.id, exec_id=self._exec_id)
        with shim_errors():
            self._shim.call(ctx, "Start", request, pb.StartResponse)
        # Not the pid of that answer (SHM-053).
        return self.state(ctx).pid

    def kill(self, ctx: CallContext, signal: int, *, all: bool = False) -> None:
        request = pb.KillRequest(id=self._shim.bundle.id, exec_id=self._exec_id, signal=signal, all=all)
        with shim_errors():
            self._shim.call(ctx, "Kill", request, Empty)

    def resize(self, ctx: CallContext, width: int, height: int) -> None:
        request = pb.ResizePtyRequest(id=self._shim.bundle.id, exec_id=self._exec_id, width=width, height=height)
        with shim_errors():
            self._shim.call(ctx, "ResizePty", request, Empty)

    def close_io(self, ctx: CallContext) -> None:
        request = pb.CloseIORequest(id=self._shim.bundle.id, exec_id=self._exec_id, stdin=True)
        with shim_errors():
            self._shim.call(ctx, "CloseIO", request, Empty)

    def wait(self, ctx: CallContext) -> Exit:
        request = pb.WaitRequest(id=self._shim.bundle.id, exec_id=self._exec_id)
        with shim_errors():
            told = self._shim.call(ctx, "Wait", request, pb.WaitResponse)
        if not self._pid:
            # It was started since we asked last; the answer to Wait has no pid.
            with contextlib.suppress(ContainerdError):
                self.state(ctx)
        return Exit(self._pid, told.exit_status, translation.nanoseconds(told.exited_at))

    def delete(self, ctx: CallContext) -> Exit:
        request = pb.DeleteRequest(id=self._shim.bundle.id, exec_id=self._exec_id)
        with shim_errors():
            told = self._shim.call(ctx, "Delete", request, pb.DeleteResponse)
        return Exit(told.pid, told.exit_status, translation.nanoseconds(told.exited_at))


class ShimExec(ShimProcess):
    """An exec.

    Args:
        task: which remembers what must not be asked of its shim.
    """

    def __init__(self, task: ShimTask, shim: Shim, exec_id: str) -> None:
        super().__init__(shim, exec_id)
        self._task = task

    def start(self, ctx: CallContext) -> int:
        """See ``Process.start``; after a failure not again: runc's shim would take the whole task along (TSK-058)."""
        with self._task.starting(self.id):
            return super().start(ctx)

    def delete(self, ctx: CallContext) -> Exit:
        exit_ = super().delete(ctx)
        self._task.forget(self.id)
        return exit_


class ShimTask(ShimProcess):
    """A ``contract.runtimes.Task``.

    Args:
        forget: takes the task off the runtime's list.
    """

    def __init__(self, shim: Shim, forget: Callable[[ShimTask], object]) -> None:
        super().__init__(shim)
        self._forget_me = forget
        self._deleting = threading.Lock()
        self._failed: set[str] = set()

    @property
    def namespace(self) -> str:
        return self._shim.bundle.namespace

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def shim(self) -> Shim:
        """Who does it all."""
        return self._shim

    # --- its beginning and end

    def create(self, ctx: CallContext, options: CreateOptions, packed: TypedAny | None) -> None:
        """Have the shim make the container.

        Raises:
            ContainerdError: it refuses.
        """
        bundle = self._shim.bundle
        request = pb.CreateTaskRequest(
            id=bundle.id,
            bundle=str(bundle.path),
            rootfs=mount_messages(options.rootfs),
            terminal=options.io.terminal,
            stdin=options.io.stdin,
            stdout=options.io.stdout,
            stderr=options.io.stderr,
            checkpoint=options.checkpoint,
            options=translation.message(packed),
        )
        self._shim.call(ctx, "Create", request, pb.CreateTaskResponse)
        self._pid = self._shim.connect_task(ctx)

    def take_back(self, ctx: CallContext) -> None:
        """Have the shim forget a container that it could not make."""
        super().delete(ctx)

    def found(self, pid: int) -> None:
        """Take over a task of an earlier daemon."""
        self._pid = pid

    def delete(self, ctx: CallContext) -> Exit:
        """Forget the task, its shim and its bundle (SHM-054 to SHM-056)."""
        with self._deleting:
            if self._shim.cleaned.is_set():
                raise NotFound(f"task {self.id} not found", bare=True)
            try:
                exit_ = super().delete(ctx)
            except NotFound:
                # The clean-up tells of the end, because the shim did not.
                self._shim.shutdown()
                raise
            except ContainerdError as error:
                raise translation.as_seen(error, "failed to delete task: ") from error
            # The shim has told of the end: the clean-up must not do so again.
            self._forget_me(self)
            self._shim.shutdown()
            return exit_

    # --- execs

    def exec(self, ctx: CallContext, id: str, spec: TypedAny, io: IO) -> Process:
        request = pb.ExecProcessRequest(
            id=self.id,
            exec_id=id,
            terminal=io.terminal,
            stdin=io.stdin,
            stdout=io.stdout,
            stderr=io.stderr,
            spec=translation.message(spec),
        )
        with shim_errors():
            self._shim.call(ctx, "Exec", request, Empty)
        self.forget(id)
        return ShimExec(self, self._shim, id)

    def process(self, ctx: CallContext, id: str) -> Process:
        found = ShimExec(self, self._shim, id)
        found.state(ctx)
        return found

    @contextlib.contextmanager
    def starting(self, exec_id: str) -> Iterator[None]:
        """Around the start of an exec: one that failed is not tried again.

        Raises:
            Unknown: it has failed before.
        """
        if exec_id in self._failed:
            raise Unknown("cannot start a process that failed to start", bare=False)
        try:
            yield
        except Unknown:
            self._failed.add(exec_id)
            raise

    def forget(self, exec_id: str) -> None:
        """An exec was deleted; another one may take its id."""
        self._failed.discard(exec_id)

    # --- the whole

    def pause(self, ctx: CallContext) -> None:
        with shim_errors():
            self._shim.call(ctx, "Pause", pb.PauseRequest(id=self.id), Empty)

    def resume(self, ctx: CallContext) -> None:
        with shim_errors():
            self._shim.call(ctx, "Resume", pb.ResumeRequest(id=self.id), Empty)

    def pids(self, ctx: CallContext) -> Sequence[ProcessInfo]:
        with shim_errors():
            told = self._shim.call(ctx, "Pids", pb.PidsRequest(id=self.id), pb.PidsResponse)
        return translation.processes(told.processes)

    def checkpoint(self, ctx: CallContext, path: str, options: TypedAny | None) -> None:
        request = pb.CheckpointTaskRequest(id=self.id, path=path, options=translation.message(options))
        with shim_errors():
            self._shim.call(ctx, "Checkpoint", request, Empty)

    def update(self, ctx: CallContext, resources: TypedAny | None, annotations: Mapping[str, str]) -> None:
        if resources is None:
            # runc's shim would take the whole task along (TSK-074).
            raise InvalidArgument("an update needs resources")
        request = pb.UpdateTaskRequest(
            id=self.id, resources=translation.message(resources), annotations=dict(annotations)
        )
        with shim_errors():
            self._shim.call(ctx, "Update", request, Empty)

    def stats(self, ctx: CallContext) -> TypedAny:
        with shim_errors():
            told = self._shim.call(ctx, "Stats", pb.StatsRequest(id=self.id), pb.StatsResponse)
        if not told.HasField("stats"):
            raise NotFound(f"no metrics received for task {self.id}", bare=True)
        return translation.value(told.stats)
