"""Events that the daemon tells of tasks itself, in the namespace of the container.

A shim of the second runtime tells its own; for it only the end of a task whose shim has died is told here. For the
first runtime everything but exits is. Clauses RT1-010, RT1-021, SHM-045, SHM-088, EVT-033 to EVT-039, EVT-042.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from google.protobuf.message import Message

from refimpl.api import event_types_pb2 as events
from refimpl.api import typeurl
from refimpl.backends.real.runtime.translation import mount_messages, timestamp
from refimpl.contract.context import CallContext
from refimpl.contract.events import EventExchange
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import IO, Exit
from refimpl.contract.types import TypedAny

log = logging.getLogger("refimpl.runtime")


class Teller:
    """Tells the events of one container."""

    def __init__(self, exchange: EventExchange, namespace: str, container: str) -> None:
        self._exchange = exchange
        self._ctx = CallContext(namespace)
        self._id = container

    def _tell(self, topic: str, event: Message) -> None:
        packed = typeurl.pack(event)
        try:
            self._exchange.publish(self._ctx, topic, TypedAny(packed.type_url, packed.value))
        except Exception as error:  # noqa: BLE001  # what happened has happened, whether somebody hears of it or not
            log.error("failed to publish event", extra={"fields": {"topic": topic, "error": error}})

    def created(self, bundle: str, rootfs: Sequence[Mount], io: IO, checkpoint: str, pid: int) -> None:
        """``/tasks/create``."""
        told = events.TaskIO(stdin=io.stdin, stdout=io.stdout, stderr=io.stderr, terminal=io.terminal)
        event = events.TaskCreate(
            container_id=self._id,
            bundle=bundle,
            rootfs=mount_messages(rootfs),
            io=told,
            checkpoint=checkpoint,
            pid=pid,
        )
        self._tell("/tasks/create", event)

    def started(self, pid: int) -> None:
        """``/tasks/start``."""
        self._tell("/tasks/start", events.TaskStart(container_id=self._id, pid=pid))

    def exec_started(self, exec_id: str, pid: int) -> None:
        """``/tasks/exec-started``."""
        self._tell("/tasks/exec-started", events.TaskExecStarted(container_id=self._id, exec_id=exec_id, pid=pid))

    def exited(self, exit_: Exit) -> None:
        """``/tasks/exit`` of init."""
        event = events.TaskExit(
            container_id=self._id,
            id=self._id,
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
