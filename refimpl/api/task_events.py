"""Events of tasks as messages: what the daemon itself tells of a container, in both worlds.

Clauses RT1-010, RT1-021, SHM-045, SHM-071 to SHM-073, SHM-088, TSK-091, EVT-033 to EVT-039, EVT-042.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from refimpl.api import event_types_pb2 as events
from refimpl.api import types_pb2, typeurl
from refimpl.contract.times import SECOND
from refimpl.contract.types import TypedAny

if TYPE_CHECKING:
    from refimpl.contract.mounts import Mount
    from refimpl.contract.runtimes import IO, Exit


class Teller:
    """Tells the events of one container.

    Args:
        publish: makes an event of a topic known, in the namespace of the container.
    """

    def __init__(self, publish: Callable[[str, TypedAny], object], container: str) -> None:
        self._publish, self._id = publish, container

    def _tell(self, topic: str, event: Message) -> None:
        packed = typeurl.pack(event)
        self._publish(topic, TypedAny(packed.type_url, packed.value))

    def created(self, bundle: str, rootfs: Sequence[Mount], io: IO, checkpoint: str, pid: int) -> None:
        """``/tasks/create``."""
        event = events.TaskCreate(
            container_id=self._id,
            bundle=bundle,
            rootfs=mount_messages(rootfs),
            io=events.TaskIO(stdin=io.stdin, stdout=io.stdout, stderr=io.stderr, terminal=io.terminal),
            checkpoint=checkpoint,
            pid=pid,
        )
        self._tell("/tasks/create", event)

    def started(self, pid: int) -> None:
        """``/tasks/start``."""
        self._tell("/tasks/start", events.TaskStart(container_id=self._id, pid=pid))

    def exec_added(self, exec_id: str) -> None:
        """``/tasks/exec-added``."""
        self._tell("/tasks/exec-added", events.TaskExecAdded(container_id=self._id, exec_id=exec_id))

    def exec_started(self, exec_id: str, pid: int) -> None:
        """``/tasks/exec-started``."""
        self._tell("/tasks/exec-started", events.TaskExecStarted(container_id=self._id, exec_id=exec_id, pid=pid))

    def exited(self, id: str, exit_: Exit) -> None:
        """``/tasks/exit``; ``id`` is the container's for init."""
        event = events.TaskExit(
            container_id=self._id,
            id=id,
            pid=exit_.pid,
            exit_status=exit_.status,
            exited_at=timestamp(exit_.exited_at),
        )
        self._tell("/tasks/exit", event)

    def deleted(self, exit_: Exit) -> None:
        """``/tasks/delete``."""
        event = events.TaskDelete(
            container_id=self._id, pid=exit_.pid, exit_status=exit_.status, exited_at=timestamp(exit_.exited_at)
        )
        self._tell("/tasks/delete", event)

    def paused(self) -> None:
        """``/tasks/paused``."""
        self._tell("/tasks/paused", events.TaskPaused(container_id=self._id))

    def resumed(self) -> None:
        """``/tasks/resumed``."""
        self._tell("/tasks/resumed", events.TaskResumed(container_id=self._id))

    def checkpointed(self) -> None:
        """``/tasks/checkpointed``."""
        self._tell("/tasks/checkpointed", events.TaskCheckpointed(container_id=self._id))

    def out_of_memory(self) -> None:
        """``/tasks/oom``."""
        self._tell("/tasks/oom", events.TaskOOM(container_id=self._id))


def timestamp(nanoseconds: int) -> Timestamp:
    """A time on the wire; the zero time is one, too (TSK-042)."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return Timestamp(seconds=seconds, nanos=rest)


def mount_messages(mounts: Sequence[Mount]) -> list[types_pb2.Mount]:
    """Mounts as shims get them: on the root file system itself, whatever their target (TSK-015)."""
    return [types_pb2.Mount(type=m.type, source=m.source, options=m.options) for m in mounts]
