"""io.containerd.service.v1.tasks-service: tasks over both runtimes.

It finds a container's runtime by the name in its record (``io.containerd.runtime.v1.linux`` is the first runtime's,
every other name the second's, which knows shims by name), asks that runtime, and keeps nothing itself. What happens to
a task is told by its runtime, not here. Clauses TSK-001 to 091, RT1-001, RT1-023. There is one for both worlds.
"""

from __future__ import annotations

import builtins
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from refimpl.contract import filters as filter_language
from refimpl.contract.containers import Container, ContainerStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, ContainerdError, InvalidArgument, NotFound, Unknown
from refimpl.contract.identifiers import validate_identifier
from refimpl.contract.mounts import ClientMounts
from refimpl.contract.runtimes import (
    IO,
    CreateOptions,
    Exit,
    Process,
    ProcessInfo,
    ProcessState,
    Runtime,
    Status,
    Task,
    TaskMonitor,
)
from refimpl.contract.scratch import Scratch
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.tasks import CreateTask, Metric
from refimpl.contract.times import ZERO_TIME, Clock
from refimpl.contract.types import Descriptor, TypedAny
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import EVENT, METADATA, MONITOR, RUNTIME_V1, RUNTIME_V2, SERVICE
from refimpl.services.tasks_checkpoints import LINUX_V1, Checkpoints, image_path, restore_path
from refimpl.services.tasks_runtimes import Runtimes, first_runtimes, task_monitor, watch

_STATE_TIMEOUT = "io.containerd.timeout.task.state"
_DEFAULT_STATE_SECONDS = 2.0
_RUNC_V1 = "io.containerd.runc.v1"
_RUNC_V2 = "io.containerd.runc.v2"


@dataclass(frozen=True, slots=True)
class Config:
    """The plugin's section.

    Attributes:
        rdt_config_file: classes of cache and memory bandwidth for Intel RDT; whatever becomes of it, the service works
            (TSK-089).
    """

    rdt_config_file: str = ""


class TasksService:
    """A ``contract.tasks.TaskService``.

    Args:
        state_seconds: how long a runtime may take to tell the state of a process; 0 for as long as the caller waits.
        hidden: snapshotters whose mounts clients are not told (``contract.mounts.ClientMounts``): a container with a
            snapshot gets its mounts here. None where clients know them and pass them on.
    """

    def __init__(
        self,
        containers: ContainerStore,
        runtimes: Runtimes,
        monitor: TaskMonitor,
        checkpoints: Checkpoints,
        clock: Clock,
        log: logging.Logger,
        state_seconds: float = _DEFAULT_STATE_SECONDS,
        hidden: Mapping[str, Snapshotter] | None = None,
    ) -> None:
        self._containers = containers
        self._runtimes = runtimes
        self._monitor = monitor
        self._checkpoints = checkpoints
        self._clock = clock
        self._log = log
        self._state_seconds = state_seconds
        self._hidden = hidden

    def create(self, ctx: CallContext, task: CreateTask) -> int:
        """Make the container's task in its runtime, and have it watched.

        Raises:
            NotFound: no such container (TSK-002).
            AlreadyExists: it has a task (TSK-005).
            Unknown: options or a checkpoint that cannot be used (TSK-010, TSK-083), or what the runtime says (TSK-008).
        """
        container = self._containers.get(ctx, task.container_id)
        if self._hidden is not None and container.snapshot_key and not task.rootfs:
            mounts = self._hidden[container.snapshotter].mounts(ctx, container.snapshot_key)
            task = replace(task, rootfs=mounts)
        name = container.runtime.name
        checkpoint, unpacked = restore_path(name, task.options), ""
        if not checkpoint and task.checkpoint is not None:
            checkpoint = unpacked = self._checkpoints.unpack(ctx, task.checkpoint)
        self._warn_of(name)
        runtime = self._runtimes.of(container)
        try:
            _require_no_task(ctx, runtime, container.id)
            made = runtime.create(ctx, container.id, _options(container, task, checkpoint))
        except Exception:
            if unpacked:
                self._checkpoints.drop(unpacked)
            raise
        try:
            watch(ctx, self._monitor, runtime, made, {"runtime": name})
        except Exception as error:
            raise Unknown(f"monitor task: {error}") from error
        return made.pid

    def start(self, ctx: CallContext, container_id: str, exec_id: str = "") -> int:
        """Start a process (TSK-030, TSK-057)."""
        return self._process(ctx, container_id, exec_id).start(ctx)

    def delete(self, ctx: CallContext, container_id: str) -> Exit:
        """Forget a task that has ended or never started; one that lives stays watched (TSK-046, TSK-047)."""
        container = self._containers.get(ctx, container_id)
        runtime, task = self._runtimes.of(container), self._runtimes.task_of(ctx, container)
        # Before the task is gone: a new one with its id may be watched a moment later.
        self._monitor.stop(task)
        try:
            return runtime.delete(ctx, container_id)
        except ContainerdError:
            watch(ctx, self._monitor, runtime, task, {"runtime": container.runtime.name})
            raise

    def delete_process(self, ctx: CallContext, container_id: str, exec_id: str) -> Exit:
        """Forget an exec that has ended or never started (TSK-060).

        Raises:
            NotFound: no such exec; none has the empty id, which to containerd is init, half of it (TSK-061).
        """
        task = self._task(ctx, container_id)
        if not exec_id:
            raise NotFound("process  does not exist")
        return task.process(ctx, exec_id).delete(ctx)

    def get(self, ctx: CallContext, container_id: str, exec_id: str = "") -> ProcessState:
        """A process as of now; one whose runtime does not answer has the status UNKNOWN (TSK-035)."""
        return self._state(ctx, container_id, self._process(ctx, container_id, exec_id))

    def list(self, ctx: CallContext) -> builtins.list[ProcessState]:
        """The init processes of all tasks (TSK-032); those that went away meanwhile are left out."""
        ctx.require_namespace()
        states = []
        for task in self._runtimes.tasks(ctx):
            try:
                states.append(self._state(ctx, task.id, task))
            except NotFound:
                continue
        return states

    def kill(self, ctx: CallContext, container_id: str, exec_id: str = "", *, signal: int, all: bool = False) -> None:
        """Send a signal (TSK-036 to 040, TSK-059)."""
        self._process(ctx, container_id, exec_id).kill(ctx, signal, all=all)

    def exec(self, ctx: CallContext, container_id: str, exec_id: str, spec: TypedAny | None, io: IO) -> None:
        """Add a process to a task, not yet started (TSK-052).

        Raises:
            InvalidArgument: not a valid exec id (TSK-051), or no spec, by which containerd loses the task (TSK-056).
        """
        if not exec_id:
            raise InvalidArgument("exec id cannot be empty", bare=True)
        container = self._containers.get(ctx, container_id)
        task = self._runtimes.task_of(ctx, container)
        try:
            validate_identifier(exec_id)
        except InvalidArgument as error:
            # The first runtime does not say which.
            shown = "" if container.runtime.name == LINUX_V1 else f" {exec_id}"
            raise InvalidArgument(f"invalid exec id{shown}: {error.message}") from error
        if spec is None:
            raise InvalidArgument(f"exec {exec_id} has no process spec")
        task.exec(ctx, exec_id, spec, io)

    def resize_pty(self, ctx: CallContext, container_id: str, exec_id: str = "", *, width: int, height: int) -> None:
        """Set the size of a process's terminal (TSK-027)."""
        self._process(ctx, container_id, exec_id).resize(ctx, width, height)

    def close_io(self, ctx: CallContext, container_id: str, exec_id: str = "", *, stdin: bool) -> None:
        """Let a process's standard input end, if ``stdin`` (TSK-018)."""
        process = self._process(ctx, container_id, exec_id)
        if stdin:
            process.close_io(ctx)

    def pause(self, ctx: CallContext, container_id: str) -> None:
        """Freeze all processes of a task (TSK-067)."""
        self._task(ctx, container_id).pause(ctx)

    def resume(self, ctx: CallContext, container_id: str) -> None:
        """Let them go on (TSK-067)."""
        self._task(ctx, container_id).resume(ctx)

    def list_pids(self, ctx: CallContext, container_id: str) -> builtins.list[ProcessInfo]:
        """All processes of a task (TSK-072)."""
        return [*self._task(ctx, container_id).pids(ctx)]

    def checkpoint(
        self, ctx: CallContext, container_id: str, *, parent: str = "", options: TypedAny | None = None
    ) -> builtins.list[Descriptor]:
        """Write a task's state into the content store, or into the directory that the options name (TSK-078 to 081).

        Raises:
            Unknown: options of another type, or what the runtime says.
        """
        container = self._containers.get(ctx, container_id)
        task = self._runtimes.task_of(ctx, container)
        if path := image_path(container.runtime.name, options):
            task.checkpoint(ctx, path, options)
            return []
        return self._checkpoints.store(ctx, container, lambda directory: task.checkpoint(ctx, directory, options))

    def update(
        self,
        ctx: CallContext,
        container_id: str,
        resources: TypedAny | None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Change a task's limits (TSK-073, TSK-074)."""
        self._task(ctx, container_id).update(ctx, resources, annotations or {})

    def metrics(self, ctx: CallContext, filters: Sequence[str] = ()) -> builtins.list[Metric]:
        """What the cgroups say of the tasks that are wanted (TSK-075 to 077).

        Raises:
            Unknown: a filter that does not parse; no namespace or a bad one (TSK-001).
        """
        try:
            wanted = filter_language.parse(filters)
            ctx.require_namespace()
        except ContainerdError as error:
            raise Unknown(str(error)) from error
        return [
            metric for task in self._runtimes.tasks(ctx) if wanted(_fields(task)) for metric in self._read(ctx, task)
        ]

    def wait(self, ctx: CallContext, container_id: str, exec_id: str = "") -> Exit:
        """Wait for the end of a process (TSK-041 to 045)."""
        return self._process(ctx, container_id, exec_id).wait(ctx)

    def _task(self, ctx: CallContext, container_id: str) -> Task:
        return self._runtimes.task_of(ctx, self._containers.get(ctx, container_id))

    def _process(self, ctx: CallContext, container_id: str, exec_id: str) -> Process:
        task = self._task(ctx, container_id)
        return task.process(ctx, exec_id) if exec_id else task

    def _state(self, ctx: CallContext, container_id: str, process: Process) -> ProcessState:
        try:
            return process.state(self._hurried(ctx))
        except NotFound:
            raise
        except Exception as error:  # noqa: BLE001  # a shim is anybody's code; one that is broken must not hide the others
            self._log.error("get state for %s", process.id, extra={"fields": {"error": error}})
            return ProcessState(process.id, container_id, 0, Status.UNKNOWN, IO(), exited_at=ZERO_TIME)

    def _hurried(self, ctx: CallContext) -> CallContext:
        if not self._state_seconds:
            return ctx
        latest = time.monotonic() + self._state_seconds
        return replace(ctx, deadline=latest if ctx.deadline is None else min(ctx.deadline, latest))

    def _read(self, ctx: CallContext, task: Task) -> Sequence[Metric]:
        now = self._clock.now()
        try:
            return (Metric(now, task.id, task.stats(ctx)),)
        except NotFound:
            return ()
        except Exception as error:  # noqa: BLE001  # as above (TSK-077)
            self._log.error("collecting metrics for %s", task.id, extra={"fields": {"error": error}})
            return ()

    def _warn_of(self, name: str) -> None:
        if name.startswith("io.containerd.runtime.v1."):
            self._log.warning("runtime v1 is deprecated since containerd v1.4, consider using runtime v2")
        elif name == _RUNC_V1:
            self._log.warning('"%s" is deprecated since containerd v1.4, consider using "%s"', name, _RUNC_V2)


def _require_no_task(ctx: CallContext, runtime: Runtime, id: str) -> None:
    try:
        runtime.get(ctx, id)
    except NotFound:
        return
    raise AlreadyExists(f"task {id}")


def _options(container: Container, task: CreateTask, checkpoint: str) -> CreateOptions:
    assert container.spec is not None, "no record is without a spec (CTR-008)"
    return CreateOptions(
        spec=container.spec,
        # The target is of the next release (TSK-015).
        rootfs=[replace(mount, target="") for mount in task.rootfs],
        io=task.io,
        checkpoint=checkpoint,
        runtime=container.runtime.name,
        runtime_options=container.runtime.options,
        task_options=task.options,
        runtime_path=task.runtime_path,
    )


def _fields(task: Task) -> filter_language.Adaptor:
    """Only id and namespace can be asked for, and only the first step of a path counts (TSK-075)."""
    known = {"id": task.id, "namespace": task.namespace}
    return lambda fieldpath: known.get(fieldpath[0])


def init(ic: InitContext) -> TasksService:
    """Put the service above the runtimes, and have the tasks watched that they brought along.

    Raises:
        Unknown: no plugin of the first runtime's type works (RT1-002).
    """
    runtimes = Runtimes(first_runtimes(ic), ic.get(RUNTIME_V2))
    metadata = ic.get(METADATA)
    monitor = task_monitor(ic)
    checkpoints = Checkpoints(metadata.content, ic.resource(Scratch), ic.clock)  # type: ignore[type-abstract]  # resources are asked for by Protocol
    for task in runtimes.tasks(CallContext(), everywhere=True):
        monitor.monitor(task, {})
    if ic.config.rdt_config_file:
        ic.log.error("RDT initialization failed", extra={"fields": {"error": "no RDT support in this daemon"}})
    seconds = ic.timeouts.get(_STATE_TIMEOUT, _DEFAULT_STATE_SECONDS)
    hidden = None if ic.resource(ClientMounts).told else metadata.snapshotters
    return TasksService(metadata.containers, runtimes, monitor, checkpoints, ic.clock, ic.log, seconds, hidden)


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service."""
    requires = (EVENT, RUNTIME_V1, RUNTIME_V2, METADATA, MONITOR)
    return [Registration(SERVICE, "tasks-service", init=init, requires=requires, config=Config)]
