"""A shim that does what a check says: it judges the daemon's side of the contract.

The binary is a script that takes down how it was called and answers as planned; the process behind it is a ttrpc
server in this process, whose calls are taken down as well.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from refimpl.api import task_types_v1_pb2 as types
from refimpl.api import task_v2_pb2 as pb
from refimpl.contract.context import CallContext
from refimpl.kernel.service import TTRPCMethod
from refimpl.ttrpc.server import Server

SERVICE = "containerd.task.v2.Task"

ZERO_SECONDS = -62135596800
"""Seconds of Go's zero time."""

_BINARY = """#!{python} -ISs
import json, os, sys, time
record = {{
    "argv": sys.argv, "cwd": os.getcwd(), "environment": dict(os.environ), "listing": sorted(os.listdir(".")),
    "pid": os.getpid(), "group": os.getpgid(0), "stdin": sys.stdin.buffer.read().hex(),
}}
action = sys.argv[-1]
with open({folder!r} + "/record", "a") as file:
    file.write(json.dumps(record) + "\\n")
plan = json.load(open({folder!r} + "/" + action.strip("-") + ".json"))
if plan["address_file"]:
    open("address", "w").write(plan["address_file"])
os.write(2, bytes.fromhex(plan["err"]))
os.write(1, bytes.fromhex(plan["out"]))
time.sleep(plan["sleep"])
sys.exit(plan["status"])
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the daemon.

    Attributes:
        left: seconds that the caller gives it; 0 for no limit.
        namespace: in the metadata; empty without.
    """

    method: str
    request: Any
    left: float
    namespace: str


Answer = Callable[[Any], Message]


class ScriptedShim:
    """A shim under a check's control.

    Args:
        folder: of its own; for its files.
        name: of the binary.

    Attributes:
        binary: absolute path, to be used as a runtime's name.
        answers: method -> what answers it (may raise one of ``contract.errors``, or take its time).
        calls: all calls but ``Connect``'s probes, in the order in which they came.
    """

    def __init__(self, folder: Path, name: str = "containerd-shim-scripted-v1") -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.binary = folder, folder / name
        self.binary.write_text(_BINARY.format(python=sys.executable, folder=str(folder)))
        self.binary.chmod(0o755)
        self.path = str(folder / "s.sock")
        self.calls: list[Call] = []
        self.answers: dict[str, Answer] = {}
        self.pid = 4000001
        self.state = types.CREATED
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(16)
        self._server: Server | None = None
        self.plan("start", out=f"unix://{self.path}".encode())
        self.plan("delete", out=self.exit(4242, 42).SerializeToString())
        self.plan("info")
        self.listen()

    # -- the binary

    def plan(
        self, action: str, *, out: bytes = b"", err: bytes = b"", status: int = 0, sleep: float = 0.0,
        address_file: str = "",
    ) -> None:  # fmt: skip
        """Say what a command does from now on.

        Args:
            sleep: seconds between the output and the end.
            address_file: what it writes to ``address`` in its working directory; empty for no such file.
        """
        plan = {"out": out.hex(), "err": err.hex(), "status": status, "sleep": sleep, "address_file": address_file}
        (self.folder / f"{action}.json").write_text(json.dumps(plan))

    def record(self) -> list[dict[str, Any]]:
        """How the binary was called, oldest first."""
        file = self.folder / "record"
        # What stands behind the last end of line is still being written.
        whole, _, _ = (file.read_text() if file.exists() else "").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def actions(self) -> list[str]:
        """What it was called for."""
        return [one["argv"][-1] for one in self.record()]

    # -- the process

    def listen(self) -> None:
        """Serve."""
        listener = socket.socket(socket.AF_UNIX)
        Path(self.path).unlink(missing_ok=True)
        listener.bind(self.path)
        listener.listen(16)
        self._server = Server(listener, self._pool)
        self._server.add_service(SERVICE, {method.name: self._method(method) for method in _METHODS})
        self._server.start()

    def cut(self) -> None:
        """Hang up on everybody and serve nobody any more, as a process that dies does."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            Path(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """End."""
        self.cut()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def methods(self) -> list[str]:
        """The methods that were called."""
        with self._lock:
            return [call.method for call in self.calls]

    def _method(self, method: Any) -> TTRPCMethod:
        answer_type = GetMessageClass(method.output_type)

        def handle(ctx: CallContext, request: Any) -> Message:
            left = 0.0 if ctx.deadline is None else ctx.deadline - time.monotonic()
            with self._lock:
                self.calls.append(Call(method.name, request, left, ctx.namespace))
            if (answer := self.answers.get(method.name)) is not None:
                return answer(request)
            return self._usual(method.name, request) or answer_type()

        return TTRPCMethod(GetMessageClass(method.input_type), handle)

    def _usual(self, method: str, request: Any) -> Message | None:
        """What a well-behaved shim says."""
        match method:
            case "Create":
                return pb.CreateTaskResponse(pid=self.pid)
            case "Start":
                self.state = types.RUNNING
                return pb.StartResponse(pid=self.pid)
            case "Connect":
                return pb.ConnectResponse(shim_pid=os.getpid(), task_pid=self.pid)
            case "State":
                return self.told(request)
            case "Delete":
                return self.exit(self.pid, 5)
        return None

    def told(self, request: Any, status: int = 0) -> pb.StateResponse:
        """The answer of ``State``."""
        answer = pb.StateResponse(id=request.id, pid=self.pid, status=self.state, exit_status=status)
        answer.exited_at.seconds = ZERO_SECONDS
        return answer

    @staticmethod
    def exit(pid: int, status: int) -> pb.DeleteResponse:
        """The answer of ``Delete``, and of the delete command."""
        answer = pb.DeleteResponse(pid=pid, exit_status=status)
        answer.exited_at.FromNanoseconds(time.time_ns())
        return answer


_METHODS = list(pb.DESCRIPTOR.services_by_name["Task"].methods)
