"""The daemon's side of events: a ttrpc service that receives what a shim forwards (SHM-074)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty

from conformance import patience
from conformance.shim.waiting import until
from refimpl.api import typeurl
from refimpl.api.events_ttrpc_v1_pb2 import ForwardRequest
from refimpl.contract.context import CallContext
from refimpl.contract.times import SECOND
from refimpl.kernel.service import TTRPCMethod
from refimpl.ttrpc.server import Server

SERVICE = "containerd.services.events.ttrpc.v1.Events"


@dataclass(frozen=True, slots=True)
class Received:
    """One envelope.

    Attributes:
        namespace, topic, timestamp: of the envelope; the time in Unix nanoseconds.
        type_url: of the event.
        event: the event's message.
        sent_namespace: the namespace in the call's metadata.
        left: seconds that the shim gives the call; 0 for no limit.
        at: when it came, in ``time.time_ns()`` nanoseconds.
        accepted: whether it was answered with success.
    """

    namespace: str
    topic: str
    timestamp: int
    type_url: str
    event: Any
    sent_namespace: str
    left: float
    at: int
    accepted: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def container(self) -> str:
        """The id of the task that it is about."""
        return str(self.event.container_id)

    @property
    def process(self) -> str:
        """The id of the process that it is about, where the event tells."""
        return str(getattr(self.event, "exec_id", "") or getattr(self.event, "id", ""))


class EventServer:
    """Receives events until it is stopped, and may be started again.

    Attributes:
        address: path of the socket, for ``TTRPC_ADDRESS``.
        received: all envelopes in the order in which they came, refused ones too.
        refuse: called with each envelope before it is answered; raises what the shim is to be told, or takes its time.
    """

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.received: list[Received] = []
        self.refuse: Callable[[Received], None] | None = None
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="events")
        self._server: Server | None = None

    def start(self) -> None:
        """Listen."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        Path(self.address).unlink(missing_ok=True)
        listener.bind(self.address)
        listener.listen(64)
        self._server = Server(listener, self._pool)
        self._server.add_service(SERVICE, {"Forward": TTRPCMethod(ForwardRequest, self._forward)})
        self._server.start()

    def stop(self) -> None:
        """Close the socket and all connections, and remove the socket's file. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            Path(self.address).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _forward(self, ctx: CallContext, request: ForwardRequest) -> Empty:
        envelope = request.envelope
        found = Received(
            envelope.namespace, envelope.topic, envelope.timestamp.seconds * SECOND + envelope.timestamp.nanos,
            envelope.event.type_url, typeurl.unpack(envelope.event), ctx.namespace,
            0.0 if ctx.deadline is None else ctx.deadline - time.monotonic(), time.time_ns(), metadata=ctx.headers,
        )  # fmt: skip
        with self._lock:
            self.received.append(found)
            at = len(self.received) - 1
        if self.refuse is not None:
            try:
                self.refuse(found)
            except Exception:
                with self._lock:
                    self.received[at] = _refused(found)
                raise
        return Empty()

    def of(self, id: str, process: str | None = None) -> list[Received]:
        """What was accepted about a task, or about one process of it (its own id for the init)."""
        with self._lock:
            kept = [one for one in self.received if one.accepted and one.container == id]
        return kept if process is None else [one for one in kept if one.process == process]

    def topics(self, id: str, process: str | None = None) -> list[str]:
        """The topics of ``of``, without what all have in common."""
        return [one.topic.removeprefix("/tasks/") for one in self.of(id, process)]

    def wait(self, id: str, count: int, process: str | None = None, seconds: float = patience.SECONDS) -> list[str]:
        """The topics once there are that many, or when the time is over."""
        until(lambda: len(self.of(id, process)) >= count, seconds)
        return self.topics(id, process)

    def wait_for(self, id: str, topic: str, process: str | None = None, seconds: float = patience.SECONDS) -> list[str]:
        """The topics once that one is among them, or when the time is over."""
        until(lambda: topic in self.topics(id, process), seconds)
        return self.topics(id, process)


def _refused(found: Received) -> Received:
    values = {name: getattr(found, name) for name in found.__slots__}
    return Received(**{**values, "accepted": False})
