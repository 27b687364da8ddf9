"""Runtimes: what turns a bundle into processes, and the monitor that watches these.

Plugin types ``io.containerd.runtime.v1``, ``io.containerd.runtime.v2`` and ``io.containerd.monitor.v1``.

Words: a *task* is the running side of a container, its first process is *init*; an *exec* is a further process in it,
known by its exec id. Everything about one process is in ``Process``; a ``Task`` is the process init and the whole.
Life of a process::

    create / exec -> CREATED -- start --> RUNNING -- exit --> STOPPED -- delete --> gone
                                           |  ^
                                     pause v  | resume
                                          PAUSED                     (init only: the whole task)

An exit status is what the program returned, or 128 + n after signal n. Errors are those of ``contract.errors``; what
the OCI runtime complains of is ``Unknown`` with the runtime's own message (TSK-008).
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount
from refimpl.contract.types import TypedAny


class Status(Enum):
    """Where a process is in its life; the values are those on the wire."""

    UNKNOWN = 0
    CREATED = 1
    RUNNING = 2
    STOPPED = 3
    PAUSED = 4
    PAUSING = 5


@dataclass(frozen=True, slots=True)
class IO:
    """Where a process reads and writes: paths of fifos, ``file://`` or ``binary://`` URIs; empty for nowhere.

    Attributes:
        terminal: whether it gets a terminal; then ``stderr`` must be empty and ``stdout`` carries both.
    """

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A process as of now.

    Attributes:
        id: container id for init, exec id for others.
        pid: 0 for an exec that has not started.
        exit_status, exited_at: of a stopped process (Unix nanoseconds; ``ZERO_TIME`` while it lives).
    """

    id: str
    container_id: str
    pid: int
    status: Status
    io: IO
    exit_status: int = 0
    exited_at: int = 0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended.

    Attributes:
        exited_at: Unix nanoseconds.
    """

    pid: int
    status: int
    exited_at: int


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process in a task, as the host counts them.

    Attributes:
        info: typed details of an exec (``containerd.runc.v1.ProcessDetails``); None for other processes.
    """

    pid: int
    info: TypedAny | None = None


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What a task is made of.

    Attributes:
        spec: the OCI runtime spec, typed JSON.
        rootfs: mounts of the root file system, performed in order by the runtime.
        checkpoint: directory of an unpacked checkpoint to restore from; empty for a fresh start.
        runtime: the runtime's name, as in the container's record.
        runtime_options: options of the container's record.
        task_options: options of this call; where given they replace ``runtime_options`` (TSK-011).
        runtime_path: the shim to use instead of what the name stands for; empty for that.
    """

    spec: TypedAny
    rootfs: Sequence[Mount] = ()
    io: IO = IO()
    checkpoint: str = ""
    runtime: str = ""
    runtime_options: TypedAny | None = None
    task_options: TypedAny | None = None
    runtime_path: str = ""


class Process(Protocol):
    """Init or an exec."""

    @property
    def id(self) -> str:
        """Container id for init, exec id for others."""
        ...

    def state(self, ctx: CallContext) -> ProcessState:
        """Where the process is in its life.

        Raises:
            NotFound: it is gone.
            Unavailable: its shim does not answer.
        """
        ...

    def start(self, ctx: CallContext) -> int:
        """Start it; answers with its pid.

        Raises:
            Unknown: it is not CREATED (TSK-031).
        """
        ...

    def kill(self, ctx: CallContext, signal: int, *, all: bool = False) -> None:
        """Send a signal to the process, or to all of the task.

        Raises:
            NotFound: the process has ended (TSK-037).
            Unknown: there is no such signal (TSK-038).
        """
        ...

    def resize(self, ctx: CallContext, width: int, height: int) -> None:
        """Set the size of its terminal, in characters; without a terminal nothing happens."""
        ...

    def close_io(self, ctx: CallContext) -> None:
        """Let its standard input end once everything in it is read. Idempotent."""
        ...

    def wait(self, ctx: CallContext) -> Exit:
        """Wait for its end; answers at once when it has ended.

        Raises:
            Canceled, DeadlineExceeded: the caller gave up first (TSK-044).
        """
        ...

    def delete(self, ctx: CallContext) -> Exit:
        """Forget a process that has ended or never started.

        Raises:
            FailedPrecondition: it runs (TSK-047).
        """
        ...


class Task(Process, Protocol):
    """Init, and the task as a whole."""

    @property
    def namespace(self) -> str:
        """Namespace of the container."""
        ...

    @property
    def pid(self) -> int:
        """Pid of init."""
        ...

    def pause(self, ctx: CallContext) -> None:
        """Freeze all processes.

        Raises:
            Unknown, FailedPrecondition: the task is not running (TSK-068).
        """
        ...

    def resume(self, ctx: CallContext) -> None:
        """Let them go on; errors as for ``pause``."""
        ...

    def exec(self, ctx: CallContext, id: str, spec: TypedAny, io: IO) -> Process:
        """Add a process, not yet started (TSK-052).

        Raises:
            AlreadyExists: the exec id is taken (TSK-053).
            FailedPrecondition: the task does not run (TSK-054).
        """
        ...

    def process(self, ctx: CallContext, id: str) -> Process:
        """An exec by its id.

        Raises:
            NotFound: there is none (TSK-066).
        """
        ...

    def pids(self, ctx: CallContext) -> Sequence[ProcessInfo]:
        """All processes of the task (TSK-072)."""
        ...

    def checkpoint(self, ctx: CallContext, path: str, options: TypedAny | None) -> None:
        """Write the state of the whole task to a directory (TSK-078).

        Raises:
            Unknown: the runtime cannot; its message says why.
        """
        ...

    def update(self, ctx: CallContext, resources: TypedAny | None, annotations: Mapping[str, str]) -> None:
        """Change its limits (TSK-073).

        Raises:
            InvalidArgument: no resources, or of another type.
        """
        ...

    def stats(self, ctx: CallContext) -> TypedAny:
        """What its cgroup says, as the protobuf of the host's cgroup version (MON-026, MON-027).

        Raises:
            NotFound: the task has no cgroup.
        """
        ...


class Runtime(Protocol):
    """A plugin that makes tasks. Both runtime types and every backend meet this one protocol."""

    @property
    def id(self) -> str:
        """URI of the plugin, as messages name it."""
        ...

    def create(self, ctx: CallContext, id: str, options: CreateOptions) -> Task:
        """Make a task in the caller's namespace; a failure leaves nothing of it (TSK-007).

        Raises:
            AlreadyExists: the container has one (TSK-005).
            Unknown: what the OCI runtime says.
        """
        ...

    def get(self, ctx: CallContext, id: str) -> Task:
        """The task of a container.

        Raises:
            NotFound: there is none in the caller's namespace.
        """
        ...

    def tasks(self, ctx: CallContext, *, everywhere: bool = False) -> builtins.list[Task]:
        """The tasks of the caller's namespace, or of all."""
        ...

    def delete(self, ctx: CallContext, id: str) -> Exit:
        """Forget a task that has ended or never started, with its mounts and directories (TSK-046).

        Raises:
            NotFound: there is none.
            FailedPrecondition: it runs (TSK-047).
        """
        ...


@runtime_checkable
class OOMSource(Protocol):
    """A task that leaves it to the monitor to tell of out-of-memory kills: one of the first runtime (MON-016)."""

    def on_oom(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called at each kill, from any thread; answers with what takes it back."""
        ...


class TaskMonitor(Protocol):
    """A plugin that watches the cgroups of tasks (``io.containerd.monitor.v1``)."""

    def monitor(self, task: Task, labels: Mapping[str, str]) -> None:
        """Watch a task; watching it twice is no error (MON-024)."""
        ...

    def stop(self, task: Task) -> None:
        """Stop watching; a task that is not watched is no error."""
        ...
