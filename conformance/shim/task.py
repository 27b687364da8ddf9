"""A connection to a serving shim: the Task service, method by method.

Errors come back as the kinds of ``refimpl.contract.errors``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from conformance import patience
from conformance.shim.bundle import process
from refimpl.api import task_v2_pb2 as pb
from refimpl.api.types_pb2 import Mount
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unimplemented
from refimpl.ttrpc.client import Client

CALL_SECONDS = 2 * patience.SECONDS
"""Seconds that one call may take before it counts as hanging, unless somebody says otherwise."""

SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")
"""The names of the service by version; the messages are the same."""

PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
"""Type URL of the process in an ``Exec``."""

_METHODS = pb.DESCRIPTOR.services_by_name["Task"].methods_by_name


class Task:
    """Calls to one shim over one connection. Nothing but the request travels: no metadata, and no time limit.

    Args:
        address: as the start command printed it.
        seconds: that one call may take.
    """

    def __init__(self, address: str, seconds: float = CALL_SECONDS) -> None:
        self.seconds = seconds
        self._client = Client.connect(address, patience.SECONDS)
        self.service = SERVICES[0]
        try:
            self.connect("")
        except Unimplemented:
            self.service = SERVICES[1]

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._client.close()

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._client.closed

    def call(self, method: str, request: Message, seconds: float = 0.0, *, namespace: str = "") -> Any:
        """Call a method with a message as given.

        Args:
            seconds: that this call may take; 0 for the connection's.
        """
        answer = GetMessageClass(_METHODS[method].output_type) if method in _METHODS else Empty
        ctx = CallContext(namespace=namespace, deadline=time.monotonic() + (seconds or self.seconds))
        return self._client.call(ctx, self.service, method, request, answer)

    def raw(self, service: str, method: str, request: Message) -> bytes:
        """Call any method of any service; the bytes of its answer."""
        ctx = CallContext(deadline=time.monotonic() + self.seconds)
        return self._client.call(ctx, service, method, request, Empty).SerializeToString()

    def create(
        self, id: str, bundle: Path, rootfs: Path | None, *, stdin: str = "", stdout: str = "", stderr: str = "",
        terminal: bool = False, options: Packed | None = None,
    ) -> Any:  # fmt: skip
        """Create a container; the root file system is bound into the bundle."""
        request = pb.CreateTaskRequest(
            id=id, bundle=str(bundle), terminal=terminal, stdin=stdin, stdout=stdout, stderr=stderr, options=options,
            rootfs=[Mount(type="bind", source=str(rootfs), options=["rbind", "rw"])] if rootfs is not None else [],
        )  # fmt: skip
        return self.call("Create", request)

    def start(self, id: str, exec_id: str = "") -> Any:
        """Start a process."""
        return self.call("Start", pb.StartRequest(id=id, exec_id=exec_id))

    def state(self, id: str, exec_id: str = "") -> Any:
        """How a process is."""
        return self.call("State", pb.StateRequest(id=id, exec_id=exec_id))

    def exec(self, id: str, exec_id: str, args: Sequence[str], *, terminal: bool = False, **stdio: str) -> Any:
        """Add a process; it is not started."""
        value = json.dumps(process(args, terminal=terminal)).encode()
        request = pb.ExecProcessRequest(
            id=id, exec_id=exec_id, terminal=terminal, spec=Packed(type_url=PROCESS_TYPE, value=value), **stdio
        )
        return self.call("Exec", request)

    def kill(self, id: str, signal: int, exec_id: str = "", *, all: bool = False) -> Any:
        """Send a signal."""
        return self.call("Kill", pb.KillRequest(id=id, exec_id=exec_id, signal=signal, all=all))

    def wait(self, id: str, exec_id: str = "", seconds: float = 0.0) -> Any:
        """Wait for the exit of a process."""
        return self.call("Wait", pb.WaitRequest(id=id, exec_id=exec_id), seconds)

    def delete(self, id: str, exec_id: str = "") -> Any:
        """Delete a container or one of its execs."""
        return self.call("Delete", pb.DeleteRequest(id=id, exec_id=exec_id))

    def pids(self, id: str) -> list[int]:
        """All processes of a container."""
        return [one.pid for one in self.call("Pids", pb.PidsRequest(id=id)).processes]

    def pause(self, id: str) -> Any:
        """Freeze all processes of a container."""
        return self.call("Pause", pb.PauseRequest(id=id))

    def resume(self, id: str) -> Any:
        """Let them go on."""
        return self.call("Resume", pb.ResumeRequest(id=id))

    def resize(self, id: str, width: int, height: int, exec_id: str = "") -> Any:
        """Set the size of a terminal."""
        return self.call("ResizePty", pb.ResizePtyRequest(id=id, exec_id=exec_id, width=width, height=height))

    def close_stdin(self, id: str, exec_id: str = "") -> Any:
        """Tell that no more input will come."""
        return self.call("CloseIO", pb.CloseIORequest(id=id, exec_id=exec_id, stdin=True))

    def stats(self, id: str) -> Packed:
        """The metrics of a container."""
        answer: Packed = self.call("Stats", pb.StatsRequest(id=id)).stats
        return answer

    def connect(self, id: str) -> Any:
        """Ask for the pids of shim and task."""
        return self.call("Connect", pb.ConnectRequest(id=id))

    def shutdown(self, id: str, *, now: bool = False) -> Any:
        """Ask the shim to end."""
        return self.call("Shutdown", pb.ShutdownRequest(id=id, now=now))
