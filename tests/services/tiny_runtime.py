"""A runtime without programs: its processes run until a test ends them, which is enough for what is above runtimes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    Canceled,
    ContainerdError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.runtimes import IO, CreateOptions, Exit, ProcessInfo, ProcessState, Status, Task
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import TypedAny

EXITED_AT = 1_700_000_000_123_456_789
METRICS = TypedAny("io.containerd.cgroups.v1.Metrics", b"")


class TinyProcess:
    """A process. ``finish`` ends it; ``broken`` is raised by ``state`` instead of an answer."""

    def __init__(self, runtime: TinyRuntime, container_id: str, id: str, io: IO) -> None:
        self._runtime = runtime
        self._container_id = container_id
        self._id = id
        self._io = io
        self._changed = threading.Condition()
        self._status = Status.CREATED
        self._pid = 0
        self._exit_status = 0
        self.broken: Exception | None = None
        self.deadlines: list[float | None] = []
        self.done: list[tuple[object, ...]] = []

    @property
    def id(self) -> str:
        return self._id

    @property
    def status(self) -> Status:
        return self._status

    def state(self, ctx: CallContext) -> ProcessState:
        self.deadlines.append(ctx.deadline)
        if self.broken is not None:
            raise self.broken
        exited_at = EXITED_AT if self._status is Status.STOPPED else ZERO_TIME
        return ProcessState(
            self._id, self._container_id, self._pid, self._status, self._io, self._exit_status, exited_at
        )

    def start(self, ctx: CallContext) -> int:
        if self._status is not Status.CREATED:
            raise Unknown(f"cannot start a {self._status.name.lower()} process")
        self._pid = self._pid or self._runtime.next_pid()
        self.become(Status.RUNNING)
        return self._pid

    def kill(self, ctx: CallContext, signal: int, *, all: bool = False) -> None:
        self.done.append(("kill", signal, all))
        if self._status is Status.STOPPED and not all:
            raise NotFound("process already finished")
        if signal == 9 and self._status is not Status.STOPPED:
            self.finish(137)

    def resize(self, ctx: CallContext, width: int, height: int) -> None:
        self.done.append(("resize", width, height))

    def close_io(self, ctx: CallContext) -> None:
        self.done.append(("close_io",))

    def wait(self, ctx: CallContext) -> Exit:
        gone = ctx.cancel.on_cancel if ctx.cancel is not None else None
        if gone is not None:
            gone(self._wake)
        with self._changed:
            ended = self._changed.wait_for(
                lambda: self._status is Status.STOPPED or (ctx.cancel is not None and ctx.cancel.cancelled), 60
            )
            if self._status is not Status.STOPPED:
                raise Canceled if ended else DeadlineExceeded
            return Exit(self._pid, self._exit_status, EXITED_AT)

    def delete(self, ctx: CallContext) -> Exit:
        if self._status in {Status.RUNNING, Status.PAUSED}:
            raise Unknown("cannot delete a running process")
        exited_at = EXITED_AT if self._status is Status.STOPPED else ZERO_TIME
        return Exit(self._pid, self._exit_status, exited_at)

    def become(self, status: Status) -> None:
        with self._changed:
            self._status = status
            self._changed.notify_all()

    def finish(self, status: int) -> None:
        self._exit_status = status
        self.become(Status.STOPPED)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class TinyTask(TinyProcess):
    """Init and its execs."""

    def __init__(self, runtime: TinyRuntime, namespace: str, id: str, options: CreateOptions) -> None:
        super().__init__(runtime, id, id, options.io)
        self._namespace = namespace
        self._pid = 0 if options.checkpoint else runtime.next_pid()
        self.options = options
        self.execs: dict[str, TinyProcess] = {}
        self.silent: Exception | None = None
        self.checkpoint_error: ContainerdError | None = None

    @property
    def namespace(self) -> str:
        return self._namespace

    @property
    def pid(self) -> int:
        return self._pid

    def pause(self, ctx: CallContext) -> None:
        self.become(Status.PAUSED)

    def resume(self, ctx: CallContext) -> None:
        self.become(Status.RUNNING)

    def exec(self, ctx: CallContext, id: str, spec: TypedAny, io: IO) -> TinyProcess:
        if id in self.execs:
            raise AlreadyExists(f"id {id}")
        self.execs[id] = TinyProcess(self._runtime, self._container_id, id, io)
        return self.execs[id]

    def process(self, ctx: CallContext, id: str) -> TinyProcess:
        if id not in self.execs:
            raise NotFound(f"process does not exist {id}")
        return self.execs[id]

    def pids(self, ctx: CallContext) -> Sequence[ProcessInfo]:
        return (ProcessInfo(self._pid), ProcessInfo(7, TypedAny("containerd.runc.v1.ProcessDetails", b"\n\x01e")))

    def checkpoint(self, ctx: CallContext, path: str, options: TypedAny | None) -> None:
        self.done.append(("checkpoint", path, options))
        if self.checkpoint_error is not None:
            raise self.checkpoint_error
        if self._runtime.write_checkpoint is not None:
            self._runtime.write_checkpoint(path)

    def update(self, ctx: CallContext, resources: TypedAny | None, annotations: Mapping[str, str]) -> None:
        if resources is None:
            raise InvalidArgument("no resources")
        self.done.append(("update", resources, dict(annotations)))

    def stats(self, ctx: CallContext) -> TypedAny:
        if self.silent is not None:
            raise self.silent
        return METRICS


class TinyRuntime:
    """A ``contract.runtimes.Runtime``.

    Attributes:
        fails: raised by ``create`` for the ids in it.
        write_checkpoint: fills a checkpoint's directory.
    """

    def __init__(self, id: str = "io.containerd.runtime.v2.task") -> None:
        self._id = id
        self._pids = itertools.count(100)
        self._lock = threading.Lock()
        self.made: dict[tuple[str, str], TinyTask] = {}
        self.fails: dict[str, ContainerdError] = {}
        self.write_checkpoint: Callable[[str], None] | None = None

    @property
    def id(self) -> str:
        return self._id

    def next_pid(self) -> int:
        return next(self._pids)

    def create(self, ctx: CallContext, id: str, options: CreateOptions) -> TinyTask:
        namespace = ctx.require_namespace()
        if id in self.fails:
            raise self.fails[id]
        with self._lock:
            if (namespace, id) in self.made:
                raise AlreadyExists(f"task {id}")
            task = self.made[namespace, id] = TinyTask(self, namespace, id, options)
        return task

    def get(self, ctx: CallContext, id: str) -> TinyTask:
        task = self.made.get((ctx.require_namespace(), id))
        if task is None:
            raise NotFound(f"no task {id}")
        return task

    def tasks(self, ctx: CallContext, *, everywhere: bool = False) -> list[Task]:
        return [task for (namespace, _), task in self.made.items() if everywhere or namespace == ctx.namespace]

    def delete(self, ctx: CallContext, id: str) -> Exit:
        task = self.get(ctx, id)
        if task.status is Status.CREATED:
            task.finish(0)
            exit_ = Exit(task.pid, 0, ZERO_TIME)
        elif task.status is Status.STOPPED:
            exit_ = TinyProcess.delete(task, ctx)
        else:
            raise FailedPrecondition("cannot delete a running process")
        with self._lock:
            self.made.pop((task.namespace, id), None)
        return exit_


@dataclass
class TinyMonitor:
    """A ``contract.runtimes.TaskMonitor`` that remembers what it was told."""

    watched: dict[str, dict[str, str]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    error: Exception | None = None

    def monitor(self, task: object, labels: Mapping[str, str]) -> None:
        assert isinstance(task, TinyTask)
        if self.error is not None:
            raise self.error
        self.watched[task.id] = dict(labels)
        self.told.append(f"monitor {task.id}")

    def stop(self, task: object) -> None:
        assert isinstance(task, TinyTask)
        self.watched.pop(task.id, None)
        self.told.append(f"stop {task.id}")
