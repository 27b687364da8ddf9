"""The stub's serving half: the Task service over ttrpc, and the events that it publishes."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass

from conformance.shim.stub_processes import Children, Process, pids_of_group, send
from refimpl.api import cgroups_v1_pb2, cgroups_v2_pb2, runc_v1_pb2, typeurl
from refimpl.api import event_types_pb2 as events
from refimpl.api import task_types_v1_pb2 as types
from refimpl.api import task_v2_pb2 as pb
from refimpl.api.events_ttrpc_v1_pb2 import ForwardRequest
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from refimpl.contract.times import ZERO_TIME
from refimpl.kernel.service import TTRPCMethod
from refimpl.ttrpc import server as ttrpc
from refimpl.ttrpc.client import Client, dial

if TYPE_CHECKING:
    from conformance.shim.stub import Flags

SERVICE = "containerd.task.v2.Task"
EVENTS = "containerd.services.events.ttrpc.v1.Events"

TRIES = 6
"""How often an event is sent at most; between two there are 1, 2, 3, ... seconds (SHM-076)."""

_DRAIN_SECONDS = 5.0
_CREDENTIALS = struct.Struct("3i")


class Publisher:
    """Sends events to the daemon, in order, without holding anybody up (SHM-074 to 079)."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace, self.address = namespace, address
        self._waiting: queue.Queue[ForwardRequest] = queue.Queue()
        self._client: Client | None = None
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def publish(self, topic: str, event: Any) -> None:
        """Take an event; it is sent later."""
        self._waiting.put(self.envelope(topic, event))

    def envelope(self, topic: str, event: Any) -> ForwardRequest:
        """The event with the time of now."""
        request = ForwardRequest()
        request.envelope.timestamp.FromNanoseconds(time.time_ns())
        request.envelope.namespace, request.envelope.topic = self.namespace, topic
        request.envelope.event.CopyFrom(typeurl.pack(event))
        return request

    def drain(self) -> None:
        """Wait until all is sent, not for ever."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)

    def _run(self) -> None:
        while True:
            request = self._waiting.get()
            self.deliver(request)
            self._waiting.task_done()

    def deliver(self, request: ForwardRequest) -> None:
        """Send one event until it is taken, or was refused too often."""
        for attempt in range(1, TRIES + 1):
            try:
                self.forward(request)
            except ContainerdError as error:
                sys.stderr.write(f"forward event: {error}\n")
                time.sleep(attempt)
            else:
                return

    def forward(self, request: ForwardRequest) -> None:
        """Send one event once."""
        client = self.connection()
        ctx = CallContext(namespace=self.namespace, deadline=time.monotonic() + 5.0)
        client.call(ctx, EVENTS, "Forward", request, Empty)

    def connection(self) -> Client:
        """The connection, dialled anew where it was lost (SHM-078)."""
        if self._client is None or self._client.closed:
            self._client = Client(dial(f"unix://{self.address}"))
        return self._client


class Service:
    """The methods of the Task service, by their names in lower case with underscores."""

    def __init__(self, publisher: Publisher, flags: Flags) -> None:
        self.publisher, self.flags = publisher, flags
        self.lock = threading.RLock()
        self.processes: dict[tuple[str, str], Process] = {}
        self.bundles: dict[str, pb.CreateTaskRequest] = {}
        self.over = threading.Event()
        # Looked up at each exit: what is broken later is broken for those too.
        self.children = Children(lambda pid, status, at: self.on_exit(pid, status, at))  # noqa: PLW0108

    # -- looking up

    def container(self, id: str) -> Process:
        """The init of a container."""
        return self.process(id, "")

    def process(self, id: str, exec_id: str) -> Process:
        """A process of a container."""
        found = self.processes.get((id, exec_id))
        if found is None:
            what = f"exec {exec_id}" if (id, "") in self.processes else "container not created"
            raise NotFound(what)
        return found

    def execs(self, id: str) -> list[Process]:
        """The execs of a container."""
        return [found for (owner, exec_id), found in self.processes.items() if owner == id and exec_id]

    # -- the life of a container

    def create(self, _ctx: CallContext, request: Any) -> Any:
        """Make the init and hold it."""
        with self.lock:
            if (request.id, "") in self.processes:
                raise AlreadyExists(f"container {request.id}")
            bundle = Path(request.bundle)
            self.runtime(request.options)
            init = Process(request.id, request.id, self.arguments(bundle), _stdio(request))
            self.children.spawn(init)
            self.processes[request.id, ""] = init
            self.bundles[request.id] = request
            (bundle / "init.pid").write_text(str(init.pid))
            io = events.TaskIO(stdin=request.stdin, stdout=request.stdout, stderr=request.stderr)
            self.publisher.publish(
                "/tasks/create",
                events.TaskCreate(container_id=init.id, bundle=request.bundle, io=io, pid=init.pid),
            )
            return pb.CreateTaskResponse(pid=init.pid)

    def arguments(self, bundle: Path) -> list[str]:
        """What the bundle says is to run."""
        return list(json.loads((bundle / "config.json").read_text())["process"]["args"])

    def runtime(self, options: Packed) -> None:
        """See that the OCI runtime of the options could be run; there is none behind the stub (SHM-067)."""
        if options.type_url != typeurl.type_url(runc_v1_pb2.Options):
            return
        name = runc_v1_pb2.Options.FromString(options.value).binary_name
        if name.startswith("/") and not os.access(name, os.X_OK):
            raise Unknown(f"OCI runtime create failed: fork/exec {name}: no such file or directory")

    def start(self, _ctx: CallContext, request: Any) -> Any:
        """Let a process begin. The exit is told under the same lock, so never before the start (SHM-071)."""
        with self.lock:
            process = self.process(request.id, request.exec_id)
            if process.started:
                raise FailedPrecondition(f"process {process.id} was started before")
            if not process.is_init:
                self.children.spawn(process)
            process.started = True
            self.children.open_gate(process)
            self.started(process)
            return pb.StartResponse(pid=process.pid)

    def started(self, process: Process) -> None:
        """Tell of a start."""
        if process.is_init:
            self.publisher.publish("/tasks/start", events.TaskStart(container_id=process.id, pid=process.pid))
        else:
            event = events.TaskExecStarted(container_id=process.container, exec_id=process.id, pid=process.pid)
            self.publisher.publish("/tasks/exec-started", event)

    def on_exit(self, pid: int, status: int, at: int) -> None:
        """A child ended; nobody asks about the orphans of containers (SHM-036)."""
        with self.lock:
            process = next((one for one in self.processes.values() if one.pid == pid), None)
            if process is None or process.exited_at:
                return
            process.exit_status, process.exited_at = status, at
            if process.is_init:
                self.end_execs(process)
            self.ended(process)
            process.exited.set()

    def end_execs(self, init: Process) -> None:
        """End the execs with their init, and tell of them first (SHM-073)."""
        for process in self.execs(init.id):
            if process.pid and not process.exited_at:
                send(process.pid, signal.SIGKILL, group=True)
                process.exit_status, process.exited_at = 128 + signal.SIGKILL, time.time_ns()
                self.ended(process)
                process.exited.set()

    def ended(self, process: Process) -> None:
        """Tell of an exit."""
        if process.gate >= 0:
            os.close(process.gate)
            process.gate = -1
        event = events.TaskExit(
            container_id=process.container, id=process.id, pid=process.pid, exit_status=process.exit_status
        )
        event.exited_at.FromNanoseconds(process.exited_at)
        self.publisher.publish("/tasks/exit", event)

    def delete(self, _ctx: CallContext, request: Any) -> Any:
        """Forget a process that ended."""
        process = self.process(request.id, request.exec_id)
        self.end_unstarted(process)
        with self.lock:
            if process.pid and not process.exited_at:
                raise FailedPrecondition(f"process {process.id} runs")
            self.forget(process)
            answer = pb.DeleteResponse(pid=process.pid, exit_status=process.exit_status)
            answer.exited_at.FromNanoseconds(process.exited_at or ZERO_TIME)
            if process.is_init:
                event = events.TaskDelete(container_id=process.id, pid=process.pid, exit_status=process.exit_status)
                event.exited_at.CopyFrom(answer.exited_at)
                self.publisher.publish("/tasks/delete", event)
            return answer

    def end_unstarted(self, process: Process) -> None:
        """A process that waits at its gate goes with its record."""
        if process.gate >= 0:
            send(process.pid, signal.SIGKILL)
            process.exited.wait(5)

    def forget(self, process: Process) -> None:
        """Drop the record, with an init those of its execs."""
        for key in [key for key, one in self.processes.items() if one is process or (
            process.is_init and one.container == process.id
        )]:  # fmt: skip
            del self.processes[key]
        if process.is_init:
            self.bundles.pop(process.id, None)

    # -- the life of an exec

    def exec(self, _ctx: CallContext, request: Any) -> Any:
        """Add a process."""
        with self.lock:
            self.container(request.id)
            if not request.spec.value:
                raise InvalidArgument("an exec needs a process")
            if (request.id, request.exec_id) in self.processes:
                raise AlreadyExists(f"exec {request.exec_id}")
            args = json.loads(request.spec.value)["args"]
            self.processes[request.id, request.exec_id] = Process(request.id, request.exec_id, args, _stdio(request))
            self.publisher.publish(
                "/tasks/exec-added", events.TaskExecAdded(container_id=request.id, exec_id=request.exec_id)
            )
            return Empty()

    # -- what there is

    def state(self, _ctx: CallContext, request: Any) -> Any:
        """How a process is (SHM-060)."""
        process = self.process(request.id, request.exec_id)
        answer = pb.StateResponse(
            id=process.id, bundle=self.bundles[request.id].bundle, pid=process.pid, status=self.status(process),
            exit_status=process.exit_status, stdin=process.stdio["stdin"], stdout=process.stdio["stdout"],
            stderr=process.stdio["stderr"],
        )  # fmt: skip
        answer.exited_at.FromNanoseconds(process.exited_at or ZERO_TIME)
        return answer

    def status(self, process: Process) -> types.Status.ValueType:
        """The word for how a process is."""
        if process.exited_at:
            return types.STOPPED
        if process.paused:
            return types.PAUSED
        return types.RUNNING if process.started else types.CREATED

    def wait(self, ctx: CallContext, request: Any) -> Any:
        """Wait for the exit."""
        process = self.process(request.id, request.exec_id)
        while not process.exited.wait(0.1):
            ctx.check()
        answer = pb.WaitResponse(exit_status=process.exit_status)
        answer.exited_at.FromNanoseconds(process.exited_at)
        return answer

    def pids(self, _ctx: CallContext, request: Any) -> Any:
        """All processes of a container."""
        init = self.container(request.id)
        leaders = [init, *self.execs(request.id)]
        found = [pid for one in leaders if one.pid for pid in pids_of_group(one.pid)]
        return pb.PidsResponse(processes=[types.ProcessInfo(pid=pid) for pid in found])

    def connect(self, _ctx: CallContext, request: Any) -> Any:
        """The pids of shim and init (SHM-051)."""
        init = self.processes.get((request.id, ""))
        return pb.ConnectResponse(shim_pid=os.getpid(), task_pid=init.pid if init else 0)

    def stats(self, _ctx: CallContext, request: Any) -> Any:
        """Empty metrics of the right kind (SHM-068)."""
        self.container(request.id)
        unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        metrics = cgroups_v2_pb2.Metrics() if unified else cgroups_v1_pb2.Metrics()
        return pb.StatsResponse(stats=typeurl.pack(metrics))

    # -- what is done to processes

    def kill(self, _ctx: CallContext, request: Any) -> Any:
        """Send a signal."""
        process = self.process(request.id, request.exec_id)
        if process.exited_at or not process.pid:
            raise NotFound("process already finished")
        send(process.pid, request.signal, group=request.all or request.signal == signal.SIGKILL)
        return Empty()

    def pause(self, _ctx: CallContext, request: Any) -> Any:
        """Stop all processes of a container."""
        return self.freeze(request.id, signal.SIGSTOP)

    def resume(self, _ctx: CallContext, request: Any) -> Any:
        """Let them go on."""
        return self.freeze(request.id, signal.SIGCONT)

    def freeze(self, id: str, number: int) -> Empty:
        """Stop or continue."""
        for process in (self.container(id), *self.execs(id)):
            if process.pid:
                send(process.pid, number, group=True)
            process.paused = number == signal.SIGSTOP
        return Empty()

    def update(self, _ctx: CallContext, request: Any) -> Any:
        """There is nothing to update."""
        self.container(request.id)
        if not request.resources.value:
            raise InvalidArgument("an update needs resources")
        return Empty()

    def close_io(self, _ctx: CallContext, request: Any) -> Any:
        """There is nothing to close."""
        self.process(request.id, request.exec_id)
        return Empty()

    def resize_pty(self, _ctx: CallContext, request: Any) -> Any:
        """There is nothing to resize."""
        self.process(request.id, request.exec_id)
        return Empty()

    def checkpoint(self, _ctx: CallContext, request: Any) -> Any:
        """Not offered."""
        self.container(request.id)
        raise Unimplemented("checkpoint")

    def shutdown(self, _ctx: CallContext, request: Any) -> Any:
        """End the shim if nothing is left in it (SHM-063)."""
        with self.lock:
            if not self.processes:
                self.over.set()
        return Empty()


def _stdio(request: Any) -> dict[str, str]:
    return {name: getattr(request, name) for name in ("stdin", "stdout", "stderr")}


class Guarded(socket.socket):
    """A listening socket that hangs up on other users before it reads anything (SHM-016)."""

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection of our own user."""
        while True:
            accepted, address = super().accept()
            peer = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            if self.welcome(*_CREDENTIALS.unpack(peer)[1:]):
                return accepted, address
            accepted.close()

    def welcome(self, uid: int, gid: int) -> bool:
        """Whether this user may speak to the shim."""
        return (uid, gid) == (os.geteuid(), os.getegid())


class Server:
    """The serving process: its log, its signals and its end."""

    def __init__(self, flags: Flags, listener: socket.socket) -> None:
        self.flags = flags
        self.path = listener.getsockname()
        self.listener = Guarded(fileno=listener.detach())

    def run(self) -> int:
        """Serve until there is nothing left to do."""
        self.log()
        publisher = Publisher(self.flags.namespace, os.environ.get("TTRPC_ADDRESS", ""))
        service = Service(publisher, self.flags)
        self.planted(publisher, service)
        service.children.begin()
        self.signals(service)
        server = ttrpc.Server(self.listener, ThreadPoolExecutor(64))
        server.add_service(SERVICE, dict(_methods(service)))
        server.start()
        # In slices: a signal handler runs only between two steps of this thread.
        while not service.over.wait(0.2):
            pass
        self.end(publisher)
        return 0

    def planted(self, publisher: Publisher, service: Service) -> None:
        """Break what the mutant breaks."""
        if self.flags.mutant:
            from conformance.mutants.shim import plant  # noqa: PLC0415  # only a broken stub pays for the engine

            plant(self.flags.mutant, "shim.events", publisher)
            plant(self.flags.mutant, "shim.calls", service)
            plant(self.flags.mutant, "shim.children", service.children)
            plant(self.flags.mutant, "shim.frames", None)
            plant(self.flags.mutant, "shim.socket", self.listener)

    def log(self) -> None:
        """Open the log; this waits for its reader (SHM-032)."""
        with contextlib.suppress(OSError):
            os.dup2(os.open("log", os.O_WRONLY), 2)
        sys.stderr.write("starting signal loop\n")
        sys.stderr.flush()

    def signals(self, service: Service) -> None:
        """End on SIGTERM and SIGINT (SHM-090), show the stacks on SIGUSR1 (SHM-033)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.over.set())
        with contextlib.suppress(ValueError, OSError):
            faulthandler.register(signal.SIGUSR1, file=2)

    def end(self, publisher: Publisher) -> None:
        """Send what is to be sent, and go."""
        publisher.drain()
        with contextlib.suppress(OSError):
            os.unlink(self.path)  # noqa: PTH108
        sys.stderr.flush()
        # Calls that wait for exits hold threads that would keep the interpreter.
        os._exit(0)


_NAMES = {"ResizePty": "resize_pty", "CloseIO": "close_io"}


def _methods(service: Service) -> Iterator[tuple[str, TTRPCMethod]]:
    for method in pb.DESCRIPTOR.services_by_name["Task"].methods:
        handler = getattr(service, _NAMES.get(method.name, method.name.lower()))
        yield method.name, TTRPCMethod(GetMessageClass(method.input_type), handler)


def serve(flags: Flags, listener: socket.socket) -> int:
    """Serve one shim; see ``Server``."""
    process = Server(flags, listener)
    if flags.mutant:
        from conformance.mutants.shim import plant  # noqa: PLC0415  # as above

        plant(flags.mutant, "shim.process", process)
    return process.run()
