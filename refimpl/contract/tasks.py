"""Tasks: the running side of containers, over all runtimes (``io.containerd.service.v1.tasks-service``).

The service finds a container's runtime by the name in its record, asks that runtime, and keeps nothing itself.
A call that names no exec id is about init.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import IO, Exit, ProcessInfo, ProcessState
from refimpl.contract.types import Descriptor, TypedAny


@dataclass(frozen=True, slots=True)
class CreateTask:
    """The wish for a task.

    Attributes:
        checkpoint: descriptor of a checkpoint image's layer; None for a fresh start.
        options: of the runtime; where given they replace those of the container's record.
        runtime_path: the shim to use; empty for the one that the record names.
    """

    container_id: str
    rootfs: Sequence[Mount] = ()
    io: IO = IO()
    checkpoint: Descriptor | None = None
    options: TypedAny | None = None
    runtime_path: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a task's cgroup said.

    Attributes:
        timestamp: Unix nanoseconds.
        id: container id.
        data: ``io.containerd.cgroups.v1.Metrics`` or ``...v2.Metrics``.
    """

    timestamp: int
    id: str
    data: TypedAny


class TaskService(Protocol):
    """The tasks of the caller's namespace. Errors of processes are those of ``contract.runtimes``."""

    def create(self, ctx: CallContext, task: CreateTask) -> int:
        """Make the container's task; answers with the pid of init.

        Raises:
            NotFound: no such container, or no such runtime.
            AlreadyExists: it has a task.
        """
        ...

    def start(self, ctx: CallContext, container_id: str, exec_id: str = "") -> int:
        """Start a process; answers with its pid."""
        ...

    def delete(self, ctx: CallContext, container_id: str) -> Exit:
        """Forget a task that has ended or never started."""
        ...

    def delete_process(self, ctx: CallContext, container_id: str, exec_id: str) -> Exit:
        """Forget an exec that has ended or never started."""
        ...

    def get(self, ctx: CallContext, container_id: str, exec_id: str = "") -> ProcessState:
        """A process as of now."""
        ...

    def list(self, ctx: CallContext) -> builtins.list[ProcessState]:
        """The init processes of all tasks."""
        ...

    def kill(self, ctx: CallContext, container_id: str, exec_id: str = "", *, signal: int, all: bool = False) -> None:
        """Send a signal to a process, or to all of the task."""
        ...

    def exec(self, ctx: CallContext, container_id: str, exec_id: str, spec: TypedAny | None, io: IO) -> None:
        """Add a process to a running task, not yet started.

        Raises:
            InvalidArgument: not a valid exec id (TSK-051).
        """
        ...

    def resize_pty(self, ctx: CallContext, container_id: str, exec_id: str = "", *, width: int, height: int) -> None:
        """Set the size of a process's terminal, in characters."""
        ...

    def close_io(self, ctx: CallContext, container_id: str, exec_id: str = "", *, stdin: bool) -> None:
        """Let a process's standard input end, if ``stdin``."""
        ...

    def pause(self, ctx: CallContext, container_id: str) -> None:
        """Freeze all processes of a task."""
        ...

    def resume(self, ctx: CallContext, container_id: str) -> None:
        """Let them go on."""
        ...

    def list_pids(self, ctx: CallContext, container_id: str) -> builtins.list[ProcessInfo]:
        """All processes of a task."""
        ...

    def checkpoint(
        self, ctx: CallContext, container_id: str, *, parent: str = "", options: TypedAny | None = None
    ) -> builtins.list[Descriptor]:
        """Write a task's state into the content store; answers with what was written."""
        ...

    def update(
        self,
        ctx: CallContext,
        container_id: str,
        resources: TypedAny | None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Change a task's limits."""
        ...

    def metrics(self, ctx: CallContext, filters: Sequence[str] = ()) -> builtins.list[Metric]:
        """What the cgroups say of the tasks for which any filter holds; a silent task is left out (TSK-077)."""
        ...

    def wait(self, ctx: CallContext, container_id: str, exec_id: str = "") -> Exit:
        """Wait for the end of a process."""
        ...
