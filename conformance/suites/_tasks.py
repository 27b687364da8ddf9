"""Words for the checks of tasks: a container whose task can be made in a line, streams, and work in the background.

The root file system of a task is the host's own one, read-only: its programs are there on a real host, a fake world has
them built in, and no image is needed. What a program did is seen in its output and its exit status, which are the same
in both worlds.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from conformance import patience, runc_state
from conformance.subjects.base import Subject
from conformance.suites._events import Ear, opened
from refimpl.api import runc_v1_pb2
from refimpl.contract.containers import Container, ContainerStore, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Canceled, ContainerdError, DeadlineExceeded, NotFound, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import IO, Exit, ProcessState, Status
from refimpl.contract.tasks import CreateTask, TaskService
from refimpl.contract.types import TypedAny
from refimpl.linux.mountinfo import mounted

T = TypeVar("T")

SERVICE = "containerd.services.tasks.v1.Tasks"
SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RUNTIME = "io.containerd.runc.v2"

PATIENCE = patience.SECONDS
"""Seconds that a check waits for what has to come."""

ROOT = Mount("bind", "/", options=("bind", "ro"))
"""The host's own programs, read-only: a root file system that needs no image."""

LASTING = ("sleep", "1000")
"""A program that does not end by itself."""

LOOP = ("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
"""A program that ends with 3 when asked to, once it has said that it is ready."""

NAMESPACES = ("pid", "mount", "ipc", "uts")
"""What a container has of its own; the network is the host's."""


def process(*arguments: str, **fields: Any) -> dict[str, Any]:
    """An OCI process."""
    return {
        "args": list(arguments),
        "cwd": "/",
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": True,
        **fields,
    }


def packed(value: Mapping[str, Any], type_url: str = PROCESS) -> TypedAny:
    """JSON as it travels."""
    return TypedAny(type_url, json.dumps(value).encode())


def runc_options(**fields: Any) -> TypedAny:
    """Options of the runc shims."""
    return TypedAny("containerd.runc.v1.Options", runc_v1_pb2.Options(**fields).SerializeToString())


def soon(ctx: CallContext, seconds: float = PATIENCE) -> CallContext:
    """The context with a deadline: nothing of a check may hang."""
    return replace(ctx, deadline=time.monotonic() + seconds)


class Box:
    """A container of a check, and the calls about its task. All of them have a deadline."""

    def __init__(self, ctx: CallContext, tasks: TaskService, containers: ContainerStore, id: str) -> None:
        self.ctx, self.tasks, self.containers, self.id = ctx, tasks, containers, id

    def wish(self, *, rootfs: Sequence[Mount] = (ROOT,), **fields: Any) -> CreateTask:
        """What ``create`` asks for."""
        return CreateTask(self.id, rootfs=rootfs, **fields)

    def create(self, **fields: Any) -> int:
        """Make the task; the pid of init."""
        return self.tasks.create(soon(self.ctx, 2 * PATIENCE), self.wish(**fields))

    def start(self, exec_id: str = "") -> int:
        """Start a process; its pid."""
        return self.tasks.start(soon(self.ctx), self.id, exec_id)

    def run(self, **fields: Any) -> int:
        """Create and start; the pid of init."""
        self.create(**fields)
        return self.start()

    def get(self, exec_id: str = "") -> ProcessState:
        """A process as of now."""
        return self.tasks.get(soon(self.ctx), self.id, exec_id)

    def status(self, exec_id: str = "") -> Status:
        """Where a process is in its life."""
        return self.get(exec_id).status

    def kill(self, number: int = signal.SIGKILL, exec_id: str = "", *, all: bool = False) -> None:
        """Send a signal."""
        self.tasks.kill(soon(self.ctx), self.id, exec_id, signal=number, all=all)

    def wait(self, exec_id: str = "", *, seconds: float = PATIENCE) -> Exit:
        """Wait for the end of a process."""
        return self.tasks.wait(soon(self.ctx, seconds), self.id, exec_id)

    def end(self) -> Exit:
        """Kill init and wait for it."""
        self.kill()
        return self.wait()

    def delete(self) -> Exit:
        """Forget the task."""
        return self.tasks.delete(soon(self.ctx, 3 * PATIENCE), self.id)

    def delete_process(self, exec_id: str) -> Exit:
        """Forget an exec."""
        return self.tasks.delete_process(soon(self.ctx, 3 * PATIENCE), self.id, exec_id)

    def exec(self, exec_id: str, *arguments: str, io: IO = IO(), **fields: Any) -> None:
        """Add a process; ``fields`` are those of its OCI process."""
        self.tasks.exec(soon(self.ctx), self.id, exec_id, packed(process(*arguments, **fields)), io)

    def run_exec(self, exec_id: str, *arguments: str, **fields: Any) -> int:
        """Add a process and start it; its pid."""
        self.exec(exec_id, *arguments, **fields)
        return self.start(exec_id)

    def pause(self) -> None:
        """Freeze. On a busy machine runc gives it up after a second (cgroup v1); it is asked again."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.tasks.pause(soon(self.ctx), self.id)
            except Unknown as error:
                if "unable to freeze" not in str(error) or time.monotonic() > deadline:
                    raise

    def resume(self) -> None:
        """Let go on."""
        self.tasks.resume(soon(self.ctx), self.id)

    def pids(self) -> list[int]:
        """The pids of all processes, in order."""
        return sorted(info.pid for info in self.tasks.list_pids(soon(self.ctx), self.id))

    def update(self, value: Mapping[str, Any] | bytes, type_url: str = "") -> None:
        """Change the limits: JSON, or bytes as they are."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.tasks.update(soon(self.ctx), self.id, TypedAny(type_url, data))

    def gone(self) -> bool:
        """Whether the container has no task."""
        try:
            self.get()
        except NotFound:
            return True
        return False

    def end_shims(self) -> None:
        """End the shims of this host that were left behind when the caller gave up (TSK-029)."""
        for pid in shim_of(self.ctx.namespace, self.id):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End and forget whatever there is; never fails."""
        with suppress(ContainerdError):
            self.kill(all=True)
        with suppress(ContainerdError):
            if self.status() not in (Status.STOPPED, Status.CREATED):
                self.wait()
        with suppress(ContainerdError):
            self.delete()


Bundle = Callable[..., Box]


@pytest.fixture
def bundle(subject: Subject, tasks: TaskService, containers: ContainerStore) -> Iterator[Bundle]:
    """Makes containers: ``box = bundle(ctx, ["true"])``, then ``box.run()``.

    Options: ``id`` (a name of its own otherwise), ``runtime``, ``options`` (of the record), ``on`` (another instance,
    which the check must ask for before this fixture), ``linux``, ``resources`` and ``annotations`` (parts of the OCI
    spec), ``namespaces``, ``root`` and ``readonly`` (of the root file system) and the fields of the OCI process.
    """
    made: list[Box] = []
    run = uuid.uuid4().hex[:8]

    def make(
        ctx: CallContext,
        arguments: Sequence[str],
        *,
        id: str = "",
        runtime: str = RUNTIME,
        options: TypedAny | None = None,
        on: Any = None,
        linux: Mapping[str, Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        annotations: Mapping[str, str] | None = None,
        namespaces: Sequence[str] = NAMESPACES,
        root: str = "rootfs",
        readonly: bool = True,
        **fields: Any,
    ) -> Box:
        id = id or f"box-{uuid.uuid4().hex[:12]}"
        spec: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": process(*arguments, **fields),
            "root": {"path": root, "readonly": readonly},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "linux": {
                # Two tasks in one cgroup would kill each other.
                "cgroupsPath": f"/conform-{run}-{len(made)}-{id}"[:200],
                "namespaces": [{"type": kind} for kind in namespaces],
                **({"resources": dict(resources)} if resources else {}),
                **(linux or {}),
            },
            **({"annotations": dict(annotations)} if annotations else {}),
        }  # fmt: skip
        box = Box(ctx, on.tasks if on else tasks, on.containers if on else containers, id)
        # An annotation may name a group, whose shim goes by that name.
        for name in (id, *(annotations or {}).values()):
            (on or subject).expect_shim(ctx.namespace, name)
        record = Container(id=id, runtime=RuntimeInfo(runtime, options), spec=packed(spec, SPEC))
        box.containers.create(ctx, record)
        made.append(box)
        return box

    yield make
    for box in made:
        box.close()
    for namespace in {box.ctx.namespace for box in made}:
        runc_state.forget(namespace)


@pytest.fixture
def box(bundle: Bundle, ctx: CallContext) -> Callable[..., Box]:
    """``box("sleep", "9")``: a container in the check's own namespace; options as of ``bundle``."""
    return lambda *arguments, **options: bundle(ctx, arguments, **options)


# --------------------------------------------------------------------------------------------------------- streams


class Pipe:
    """A fifo that the check reads, in the background.

    Args:
        path: where it is made.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._data = bytearray()
        self._ended = False
        self._changed = threading.Condition()
        self._stop, self._stopper = os.pipe()
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._stop in ready:
                return
            # Before the first writer there is nothing to poll; afterwards, no bytes mean that no writer is left.
            data = os.read(self._file, 65536)
            with self._changed:
                self._data += data
                self._ended = not data
                self._changed.notify_all()
            if not data:
                return

    @property
    def data(self) -> bytes:
        """What came up to now."""
        return bytes(self._data)

    def until(self, piece: bytes, *, seconds: float = PATIENCE) -> bytes:
        """Wait for some bytes; everything up to now."""
        with self._changed:
            came = self._changed.wait_for(lambda: piece in self._data, seconds)
            assert came, f"{piece!r} did not come within {seconds:g} s; what came: {self.data!r}"
            return self.data

    def rest(self, *, seconds: float = PATIENCE) -> bytes:
        """Wait for the end of file; everything."""
        with self._changed:
            ended = self._changed.wait_for(lambda: self._ended, seconds)
            assert ended, f"no end of file within {seconds:g} s; what came: {self.data!r}"
            return self.data

    @property
    def ended(self) -> bool:
        """Whether the end of file was read."""
        return self._ended

    def close(self) -> None:
        """Read no longer."""
        os.write(self._stopper, b"x")
        self._thread.join(PATIENCE)
        for file in (self._file, self._stop, self._stopper):
            os.close(file)


class Streams:
    """A directory for the streams of processes; everything in it goes with the check."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cfm-io-"))
        self._pipes: list[Pipe] = []
        self._writers: dict[str, int] = {}
        # Whoever the subject is: it has to get in.
        self.folder.chmod(0o755)

    def pipe(self) -> Pipe:
        """A new fifo that is read."""
        self._pipes.append(Pipe(self.folder / f"pipe-{len(self._pipes)}"))
        return self._pipes[-1]

    def source(self) -> str:
        """A new fifo to write to; its path."""
        path = self.folder / f"source-{len(self._writers)}"
        os.mkfifo(path)
        # Open for both: a writer alone would wait for the reader.
        self._writers[str(path)] = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        return str(path)

    def write(self, source: str, data: bytes) -> None:
        """Write into a fifo."""
        os.write(self._writers[source], data)

    def shut(self, source: str) -> None:
        """Leave a fifo to the others that have it open."""
        os.close(self._writers.pop(source))

    def close(self) -> None:
        """Everything goes."""
        for pipe in self._pipes:
            pipe.close()
        for file in self._writers.values():
            os.close(file)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def streams() -> Iterator[Streams]:
    """Fifos: ``out = streams.pipe()``, ``IO(stdout=out.path, ...)``, ``out.until(b"...")``, ``out.rest()``.

    A check that keeps something in ``streams.folder`` which its tasks need until their end asks for this fixture before
    ``box``: what was asked for first goes last.
    """
    made = Streams()
    yield made
    made.close()


def outputs(pipe: Pipe) -> IO:
    """Both output streams into one fifo."""
    return IO(stdout=pipe.path, stderr=pipe.path)


# ------------------------------------------------------------------------------------------------------ background


class Later(Generic[T]):
    """Work in a thread of its own.

    Args:
        work: what is done; a failure is kept for who asks.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._outcome: T | BaseException | None = None
        self._done = threading.Event()
        self._work = work
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except BaseException as error:  # noqa: BLE001  # kept for who asks
            self._outcome = error
        self._done.set()

    @property
    def done(self) -> bool:
        """Whether the work is over."""
        return self._done.is_set()

    def outcome(self, seconds: float = 2 * PATIENCE) -> T | BaseException | None:
        """What came of it: a value or an error."""
        assert self._done.wait(seconds), f"nothing came back within {seconds:g} s"
        return self._outcome

    def result(self, seconds: float = 2 * PATIENCE) -> T:
        """The value.

        Raises:
            BaseException: what the work raised.
        """
        found = self.outcome(seconds)
        if isinstance(found, BaseException):
            raise found
        return found  # type: ignore[return-value]  # None only where T is


def together(*works: Callable[[], T]) -> list[T | BaseException | None]:
    """Do several things at the same time; what came of each."""
    ready = threading.Barrier(len(works))

    def run(work: Callable[[], T]) -> T:
        ready.wait(PATIENCE)
        return work()

    started = [Later(lambda work=work: run(work)) for work in works]  # type: ignore[misc]  # the default binds it
    return [each.outcome() for each in started]


def eventually(holds: Callable[[], bool], what: str, *, seconds: float = PATIENCE) -> None:
    """Wait until something holds that has no other way to tell."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} not within {seconds:g} s"
        time.sleep(0.02)


def kind(call: Callable[[], object]) -> type[ContainerdError] | None:
    """The kind of error by which a call is refused; None if it is not."""
    try:
        call()
    except ContainerdError as error:
        return type(error)
    return None


@contextmanager
def given_up() -> Iterator[None]:
    """A call that has to end by its deadline. Who is faster tells it: the caller, or the daemon in words of its own."""
    with pytest.raises((DeadlineExceeded, Canceled, Unknown)) as refused:
        yield
    if isinstance(refused.value, Unknown):
        assert "deadline exceeded" in str(refused.value) or "canceled" in str(refused.value), refused.value


def bundle_of(ear: Ear, found: Box) -> Path:
    """The directory of a task, as the daemon tells it; ``ear`` heard of its creation."""
    ear.until("/tasks/create")
    return Path(next(message.bundle for topic, message in told(ear, id=found.id) if topic == "/tasks/create"))


def told(ear: Ear, *, id: str = "") -> list[tuple[str, Any]]:
    """Topics of tasks and their messages up to now; of one container where an id is given."""
    found = [(envelope.topic, opened(envelope)) for envelope in ear() if envelope.topic.startswith("/tasks/")]
    return [(topic, message) for topic, message in found if not id or message.container_id == id]


# ------------------------------------------------------------------------------------------------------- real hosts


def alive(pid: int) -> bool:
    """Whether a process of this host is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def shim_of(namespace: str, id: str) -> list[int]:
    """The pids of the shims that were started for a container."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if {b"-namespace", namespace.encode(), b"-id", id.encode()} <= set(words):
                found.append(int(entry.name))
    return found


def mounts_below(folder: Path) -> list[str]:
    """The mount points in a directory of this host, in the order of mounting; a point appears once for each mount."""
    points = [mount.point for mount in mounted()]
    return [point for point in points if point == str(folder) or point.startswith(f"{folder}/")]
