"""Events on their way to the daemon: one after the other, each until it is taken (SHM-074 to SHM-079).

A daemon may be away for a while. The first event in the line is tried again after one second, then after two, and so
on; after the fifth time it is given up, and the next one has its turn. Nothing overtakes: those behind it wait.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from refimpl.api.events_ttrpc_v1_pb2 import ForwardRequest
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.shim.children import Children
from refimpl.ttrpc.client import Client, Closed

log = logging.getLogger("refimpl.shim")

SERVICE = "containerd.services.events.ttrpc.v1.Events"
CALL_SECONDS = 5.0
RETRIES = 5
"""Times that an event is tried again, after as many seconds as it was tried before."""

LIMIT = 4096
"""Most events that may wait; of more, the oldest are given up."""


class Publisher:
    """Sends events, in a thread of its own.

    Args:
        namespace: of every event.
        ttrpc_address: the daemon's ttrpc socket; without one a program publishes.
        program: ``-publish-binary`` and ``-address`` of the command line.
        pause: lets that many seconds go by.
    """

    def __init__(
        self,
        namespace: str,
        ttrpc_address: str,
        children: Children,
        program: tuple[str, str],
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._pause = pause
        self._namespace = namespace
        self._address = ttrpc_address
        self._children, self._program = children, program
        self._client: Client | None = None
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, Message, int]] = deque()
        self._busy = self._closing = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def publish(self, topic: str, event: Message) -> None:
        """Put an event in the line; its time is now. Never waits."""
        with self._changed:
            if len(self._waiting) >= LIMIT:
                lost = self._waiting.popleft()
                log.error("event dropped", extra={"fields": {"topic": lost[0], "reason": "too many wait"}})
            self._waiting.append((topic, event, time.time_ns()))
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until the line is empty; whether it is, in time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not (self._waiting or self._busy), seconds)

    def _run(self) -> None:
        if self._address:
            # Ahead of the first event; a daemon that is not there yet is tried again with it.
            with contextlib.suppress(ContainerdError, OSError):
                self._connected()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                topic, event, at = self._waiting.popleft()
                self._busy = True
            self._deliver(topic, event, at)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _deliver(self, topic: str, event: Message, at: int) -> None:
        for attempt in range(RETRIES + 1):
            self._pause(attempt)
            try:
                self._send(topic, event, at)
            except (ContainerdError, OSError) as error:
                fields = {"topic": topic, "error": error, "attempt": attempt + 1}
                log.warning("event not delivered", extra={"fields": fields})
            else:
                return
        log.error("event dropped", extra={"fields": {"topic": topic, "reason": "not taken"}})

    def _send(self, topic: str, event: Message, at: int) -> None:
        if self._address:
            self._forward(topic, event, at)
        elif self._program[0]:
            self._run_program(topic, event)

    def _forward(self, topic: str, event: Message, at: int) -> None:
        request = ForwardRequest()
        envelope = request.envelope
        envelope.timestamp.FromNanoseconds(at)
        envelope.namespace, envelope.topic = self._namespace, topic
        _pack(event, envelope.event)
        client = self._connected()
        ctx = CallContext(namespace=self._namespace, deadline=time.monotonic() + CALL_SECONDS)
        try:
            client.call(ctx, SERVICE, "Forward", request, Empty)
        except Closed:
            # Whether its reader has noticed by now or not: the next attempt is made on a new connection.
            self._client = None
            raise

    def _connected(self) -> Client:
        if self._client is None or self._client.closed:
            # The address is a path; without its scheme it would be the name of an abstract socket.
            address = self._address if self._address.startswith("unix://") else f"unix://{self._address}"
            self._client = Client.connect(address, CALL_SECONDS)
        return self._client

    def _run_program(self, topic: str, event: Message) -> None:
        program, address = self._program
        argv = [program, "--address", address, "publish", "--topic", topic, "--namespace", self._namespace]
        given = os.memfd_create("event")
        try:
            os.write(given, _pack(event, Packed()).SerializeToString())
            os.lseek(given, 0, os.SEEK_SET)
            null = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (1, 2)]
            command = self._children.spawn(argv, os.environ, [(os.POSIX_SPAWN_DUP2, given, 0), *null])
        finally:
            os.close(given)
        if status := self._children.wait(command):
            raise OSError(f"{program} publish: exit status {status}")


def _pack(message: Message, packed: Any) -> Any:
    """Put a message into an ``Any`` as containerd does, by its bare name."""
    packed.type_url = message.DESCRIPTOR.full_name
    packed.value = message.SerializeToString()
    return packed
