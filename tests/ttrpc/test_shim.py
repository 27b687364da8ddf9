"""Our client and server against the real shim: one container's life over ttrpc, and its events on their way to us.

The shim is started as containerd starts it; we are its daemon.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from conformance.shim.waiting import until
from refimpl.api import event_types_pb2, task_types_v1_pb2, typeurl
from refimpl.api import task_v2_pb2 as pb
from refimpl.api.events_ttrpc_v1_pb2 import ForwardRequest
from refimpl.api.types_pb2 import Envelope
from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded, NotFound, Unimplemented, Unknown
from refimpl.daemon.threads import LazyThreads
from refimpl.kernel.service import TTRPCMethod
from refimpl.ttrpc.client import Client, Closed
from refimpl.ttrpc.server import Server
from tests.client.signals import catches

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd-shim-runc-v2", "runc", "busybox")]

SHIM = "containerd-shim-runc-v2"
TASK = "containerd.task.v2.Task"
NAMESPACE = "refimpl-test"
WAIT = 60.0
PROGRAM = "trap 'exit 3' TERM; while true; do sleep 0.1; done"
A = TypeVar("A", bound=Message)
PROCESS = {"args": ["/bin/sh", "-c", PROGRAM], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


@dataclass
class Events:
    """The daemon's service for shims, which keeps what it is told."""

    told: list[Envelope] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def forward(self, ctx: CallContext, request: ForwardRequest) -> Empty:
        with self.changed:
            self.namespaces.add(ctx.namespace)
            self.told.append(request.envelope)
            self.changed.notify_all()
        return Empty()

    def topics(self, count: int) -> list[str]:
        """The topics of all events, as soon as there are ``count``."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.told) >= count, WAIT)
            return [envelope.topic for envelope in self.told]

    def event(self, topic: str) -> Message:
        (envelope,) = [envelope for envelope in self.told if envelope.topic == topic]
        return typeurl.unpack(ProtoAny(type_url=envelope.event.type_url, value=envelope.event.value))


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="shim-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def events(place: Path) -> Iterator[Events]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "ttrpc.sock"))
    listener.listen()
    server = Server(listener, LazyThreads(8))
    made = Events()
    service = {"Forward": TTRPCMethod(ForwardRequest, made.forward)}
    server.add_service("containerd.services.events.ttrpc.v1.Events", service)
    server.start()
    yield made
    server.stop()


@dataclass
class Shim:
    """A shim and the bundle that it serves."""

    client: Client
    address: str
    id: str
    bundle: Path
    ended: threading.Event
    pid: int = 0

    def call(self, method: str, request: Message, answer: type[A], seconds: float = WAIT) -> A:
        ctx = CallContext(NAMESPACE, deadline=time.monotonic() + seconds)
        return self.client.call(ctx, TASK, method, request, answer)

    def status(self, exec_id: str = "") -> str:
        state = self.call("State", pb.StateRequest(id=self.id, exec_id=exec_id), pb.StateResponse)
        return task_types_v1_pb2.Status.Name(state.status)


def make_bundle(bundle: Path, id: str) -> None:
    root = bundle / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "proc").mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin" / "sh")
    spec = {
        "ociVersion": "1.0.2",
        "process": PROCESS,
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc")], "cgroupsPath": f"/{id}"},
    }
    (bundle / "config.json").write_text(json.dumps(spec))
    os.mkfifo(bundle / "log", 0o700)


@pytest.fixture
def shim(place: Path, events: Events) -> Iterator[Shim]:
    """A shim that serves; whatever a test leaves of it is removed."""
    id = f"t-{uuid.uuid4().hex[:12]}"
    bundle = place / id
    make_bundle(bundle, id)
    # The shim waits for somebody to read its log before it serves (SHM-032).
    log = os.open(bundle / "log", os.O_RDWR | os.O_NONBLOCK)
    flags = ["-namespace", NAMESPACE, "-address", str(place / "c.sock"), "-publish-binary", "/bin/true", "-id", id]
    environment = {**os.environ, "TTRPC_ADDRESS": str(place / "ttrpc.sock"), "GOMAXPROCS": "2"}

    def run(*command: str) -> bytes:
        done = subprocess.run(
            [SHIM, *flags, *command],
            cwd=bundle,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    address = run("start").decode().strip()
    ended = threading.Event()
    made = Shim(Client.connect(address, on_close=ended.set), address, id, bundle, ended)
    try:
        made.pid = made.call("Connect", pb.ConnectRequest(id=id), pb.ConnectResponse).shim_pid
        assert made.pid > 0
        yield made
    finally:
        made.client.close()
        if made.pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(made.pid, signal.SIGKILL)
        run("-bundle", str(bundle), "delete")
        Path(address.removeprefix("unix://")).unlink(missing_ok=True)
        os.close(log)


def told_to_end(shim: Shim, pid: int) -> pb.WaitResponse:
    """What a call that waits for the container is told when the container gets SIGTERM."""
    assert until(lambda: catches(pid, signal.SIGTERM), WAIT)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(shim.call, "Wait", pb.WaitRequest(id=shim.id), pb.WaitResponse)
        shim.call("Kill", pb.KillRequest(id=shim.id, signal=signal.SIGTERM), Empty)
        return waiting.result(WAIT)


def test_a_container_lives_and_ends_over_ttrpc(shim: Shim, events: Events) -> None:
    with pytest.raises(NotFound):
        shim.status()
    request = pb.CreateTaskRequest(id=shim.id, bundle=str(shim.bundle))
    pid = shim.call("Create", request, pb.CreateTaskResponse).pid
    assert pid > 0
    assert shim.status() == "CREATED"
    assert shim.call("Start", pb.StartRequest(id=shim.id), pb.StartResponse).pid == pid
    assert shim.status() == "RUNNING"

    spec = ProtoAny(type_url="x", value=json.dumps(PROCESS | {"args": ["/bin/sh", "-c", "exit 5"]}).encode())
    shim.call("Exec", pb.ExecProcessRequest(id=shim.id, exec_id="e", spec=spec), Empty)
    assert shim.call("Start", pb.StartRequest(id=shim.id, exec_id="e"), pb.StartResponse).pid > 0
    assert shim.call("Wait", pb.WaitRequest(id=shim.id, exec_id="e"), pb.WaitResponse).exit_status == 5
    assert shim.call("Delete", pb.DeleteRequest(id=shim.id, exec_id="e"), pb.DeleteResponse).exit_status == 5

    with pytest.raises(Unknown, match="cannot start a running process"):
        shim.call("Start", pb.StartRequest(id=shim.id), pb.StartResponse)
    with pytest.raises(DeadlineExceeded):
        shim.call("Wait", pb.WaitRequest(id=shim.id), pb.WaitResponse, seconds=0.2)
    with pytest.raises(Unimplemented, match="method Nope"):
        shim.call("Nope", Empty(), Empty)
    ended = told_to_end(shim, pid)
    assert ended.exit_status == 3
    assert shim.status() == "STOPPED"
    deleted = shim.call("Delete", pb.DeleteRequest(id=shim.id), pb.DeleteResponse)
    assert (deleted.pid, deleted.exit_status, deleted.exited_at) == (pid, 3, ended.exited_at)

    assert events.topics(7) == [
        f"/tasks/{topic}"
        for topic in "create start exec-added exec-started exit exit delete".split()  # noqa: SIM905
    ]
    assert events.namespaces == {NAMESPACE}
    assert {envelope.namespace for envelope in events.told} == {NAMESPACE}
    created = events.event("/tasks/create")
    assert isinstance(created, event_types_pb2.TaskCreate)
    assert (created.container_id, created.bundle, created.pid) == (shim.id, str(shim.bundle), pid)
    # The answer may come, or the end before it.
    with contextlib.suppress(Closed):
        shim.call("Shutdown", pb.ShutdownRequest(id=shim.id), Empty)
    assert shim.ended.wait(WAIT)
    with pytest.raises(Closed):
        shim.call("Connect", pb.ConnectRequest(id=shim.id), pb.ConnectResponse)


def test_a_shim_that_dies_ends_the_calls_that_wait_for_it(shim: Shim) -> None:
    ended = threading.Event()
    with Client.connect(shim.address, on_close=ended.set) as other:
        shim.call("Create", pb.CreateTaskRequest(id=shim.id, bundle=str(shim.bundle)), pb.CreateTaskResponse)
        raised: list[Exception] = []

        def wait() -> None:
            try:
                shim.call("Wait", pb.WaitRequest(id=shim.id), pb.WaitResponse)
            except Unknown as error:
                raised.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert shim.status() == "CREATED", "a wait holds up no other call"
        os.kill(shim.pid, signal.SIGKILL)
        waiting.join(WAIT)
        assert [str(error) for error in raised] == ["ttrpc: closed"]
        assert ended.wait(WAIT)
        assert other.closed
