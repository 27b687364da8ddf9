"""What a shim tells of its containers (SHM-071 to SHM-073, TSK-091)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refimpl.api import event_types_pb2 as pb
from refimpl.shim.process import Exit, Process

if TYPE_CHECKING:
    from refimpl.shim.publisher import Publisher

ZERO_SECONDS = -62135596800
"""Seconds of the time that stands for none: the year 1."""


def set_time(stamp: Any, nanoseconds: int | None) -> None:
    """Set a Timestamp; None for the zero time, which is not the same as no timestamp (TSK-042)."""
    if nanoseconds is None:
        stamp.seconds = ZERO_SECONDS
    else:
        stamp.FromNanoseconds(nanoseconds)


class Teller:
    """Tells of one container."""

    def __init__(self, publisher: Publisher, id: str) -> None:
        self._publish, self._id = publisher.publish, id

    def created(self, request: Any, pid: int) -> None:
        """The container exists; ``request`` is the one that made it."""
        io = pb.TaskIO(
            stdin=request.stdin, stdout=request.stdout, stderr=request.stderr, terminal=request.terminal
        )  # fmt: skip
        event = pb.TaskCreate(
            container_id=self._id, bundle=request.bundle, rootfs=request.rootfs, io=io,
            checkpoint=request.checkpoint, pid=pid,
        )  # fmt: skip
        self._publish("/tasks/create", event)

    def started(self, pid: int) -> None:
        """Init runs the user's program."""
        self._publish("/tasks/start", pb.TaskStart(container_id=self._id, pid=pid))

    def exec_added(self, id: str) -> None:
        """There is an exec, which does not run yet."""
        self._publish("/tasks/exec-added", pb.TaskExecAdded(container_id=self._id, exec_id=id))

    def exec_started(self, id: str, pid: int) -> None:
        """An exec runs."""
        self._publish("/tasks/exec-started", pb.TaskExecStarted(container_id=self._id, exec_id=id, pid=pid))

    def ended(self, process: Process, ended: Exit) -> None:
        """Init or an exec has ended."""
        event = pb.TaskExit(container_id=self._id, id=process.id, pid=process.pid, exit_status=ended.status)
        set_time(event.exited_at, ended.at)
        self._publish("/tasks/exit", event)

    def deleted(self, process: Process) -> None:
        """The container is no more."""
        ended = process.exit
        event = pb.TaskDelete(container_id=self._id, pid=process.pid, exit_status=ended.status if ended else 0)
        set_time(event.exited_at, ended.at if ended else None)
        self._publish("/tasks/delete", event)

    def paused(self) -> None:
        """All its processes are frozen."""
        self._publish("/tasks/paused", pb.TaskPaused(container_id=self._id))

    def resumed(self) -> None:
        """They go on."""
        self._publish("/tasks/resumed", pb.TaskResumed(container_id=self._id))

    def out_of_memory(self) -> None:
        """The kernel killed a process of it for want of memory."""
        self._publish("/tasks/oom", pb.TaskOOM(container_id=self._id))
