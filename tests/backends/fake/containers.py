"""A fake host with a runtime on it, and containers made in one line, for tests of processes and tasks."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as PackedAny

from refimpl.api import typeurl
from refimpl.backends.fake import programs
from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.host import FakeHost, HostFeatures
from refimpl.backends.fake.processes import FakeProcess, Image, PidNamespace
from refimpl.backends.fake.runtime import FakeRuntime
from refimpl.backends.fake.runtime_dialect import SECOND, Dialect
from refimpl.backends.fake.stdio_streams import Pipe
from refimpl.contract.context import CallContext
from refimpl.contract.events import Subscription
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import IO, CreateOptions, Process, Task
from refimpl.contract.times import Clock, SystemClock
from refimpl.contract.types import TypedAny
from refimpl.services.events import Exchange

NAMESPACE = "tests"
CTX = CallContext(NAMESPACE)
SECONDS = 60.0
"""Longest that anything here may take: a machine that others use as well may stand still for a while."""

ROOT = "/image"


def until(what: Callable[[], bool]) -> None:
    """Look again and again, for what another thread does."""
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, "it did not come about in time"
        threading.Event().wait(0.002)


def make_host(clock: Clock | None = None, cgroups: int = 1) -> FakeHost:
    """A host with an image of a few files at ``ROOT``."""
    host = FakeHost(clock or SystemClock(), HostFeatures(cgroup_version=cgroups))
    for directory in ("/image/bin", "/image/etc", "/image/tmp"):
        host.fs.makedirs(directory)
    host.fs.chmod("/image/tmp", 0o1777)
    host.fs.write("/image/bin/busybox", b"\x7fELF", 0o755)
    for name in ("sh", "sleep", "cat"):
        host.fs.symlink("busybox", f"/image/bin/{name}")
    host.fs.write("/image/bin/script", b"#!/bin/sh\necho script $1\n", 0o755)
    host.fs.write("/image/bin/foreign", b"\x7fELF", 0o755)
    host.fs.write("/image/etc/passwd", b"root:x:0:0::/root:/bin/sh\nguest:x:405:100::/home:/bin/sh\n")
    host.fs.write("/image/etc/group", b"root:x:0:\nusers:x:100:\n")
    host.fs.write("/image/etc/secret", b"s\n", 0o600)
    return host


class WatchedClock(FakeClock):
    """A clock that a test moves when somebody waits for it: otherwise the time may pass before the wait has begun."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: list[float] = []

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        end = float("inf") if seconds is None else self.monotonic() + seconds
        self._ends.append(end)
        while not event.is_set() and self.monotonic() < end:
            event.wait(0.002)
        self._ends.remove(end)
        return event.is_set()

    def awaited(self) -> bool:
        """Whether somebody waits for a time that is still to come."""
        return any(end > self.monotonic() for end in list(self._ends))


class Ran:
    """A program that runs by itself, without a task; its output is kept."""

    def __init__(self, host: FakeHost, args: Sequence[str], stdin: bytes | None = b"", **image: Any) -> None:
        self.out, self.err, self.into = Pipe(), Pipe(), Pipe()
        self.into.data += stdin or b""
        if stdin is not None:
            self.into.writer.close()
        streams = {0: self.into.reader, 1: self.out.writer, 2: self.err.writer}
        made = Image(args=args, root=host.fs.below(ROOT), env={"PATH": "/bin"}, streams=streams, **image)
        group = host.cgroups.make("/alone")
        self.process = host.processes.spawn(lambda _: 0, made, group, namespace=PidNamespace())
        self.process.program = programs.lookup(self.process, args[0], "/bin").program(args)
        self.process.start()

    def status(self) -> int:
        """The exit status, waited for."""
        assert self.process.ended.wait(SECONDS), f"{self.process.args} goes on"
        return self.process.exit_status

    def result(self) -> tuple[int, str, str]:
        """Status, output and error output."""
        return self.status(), self.out.data.decode(), self.err.data.decode()


def sh(host: FakeHost, script: str, stdin: bytes = b"", **image: Any) -> tuple[int, str, str]:
    """Run a script to its end."""
    return Ran(host, ["sh", "-c", script], stdin, **image).result()


class World:
    """A runtime on a host, and what it tells."""

    def __init__(self, clock: Clock | None = None, dialect: Dialect = SECOND, cgroups: int = 1) -> None:
        self.host = make_host(clock, cgroups)
        self.dialect = dialect
        self.start()

    def start(self) -> None:
        """Start the daemon's part, again if it ran before."""
        self.exchange = Exchange(self.host.clock)
        place = f"/run/{self.dialect.uri}", f"/var/{self.dialect.uri}"
        self.runtime = FakeRuntime(self.host, self.exchange, self.dialect, *place)
        self._heard: Subscription = self.exchange.subscribe(CTX)

    def spec(self, args: Sequence[str], **more: Any) -> dict[str, Any]:
        """An OCI spec."""
        process = {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
        process |= more.pop("process", {})
        linux = {"namespaces": [{"type": "pid"}], "resources": {}, "cgroupsPath": f"/tests/{more.pop('id', 'c')}"}
        linux |= more.pop("linux", {})
        return {"process": process, "root": {"path": "rootfs"}, "linux": linux} | more

    def options(self, args: Sequence[str], io: IO = IO(), **more: Any) -> CreateOptions:
        """The wish for a task of a program."""
        rootfs = more.pop("rootfs", [Mount("bind", ROOT, options=("rbind", "rw"))])
        runtime = more.pop("runtime", "io.containerd.runc.v2")
        known = {key: more.pop(key) for key in ("task_options", "runtime_options", "checkpoint") if key in more}
        spec = json.dumps(self.spec(args, **more)).encode()
        return CreateOptions(TypedAny(typeurl.OCI_SPEC, spec), rootfs=rootfs, io=io, runtime=runtime, **known)

    def create(self, id: str, args: Sequence[str], io: IO = IO(), **more: Any) -> Task:
        """A task that waits to be started."""
        return self.runtime.create(CTX, id, self.options(args, io, id=id, **more))

    def run(self, id: str, args: Sequence[str], **more: Any) -> Task:
        """A task that runs."""
        task = self.create(id, args, **more)
        task.start(CTX)
        return task

    def exec(self, task: Task, id: str, args: Sequence[str], io: IO = IO(), **process: Any) -> Process:
        """An exec that waits to be started."""
        value = {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], **process}
        return task.exec(CTX, id, TypedAny(typeurl.OCI_PROCESS, json.dumps(value).encode()), io)

    def heard(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Topics and events since the last call; all are told before the calls that cause them answer."""
        mark = "/mark"
        self.exchange.publish(CTX, mark, TypedAny("x", b""))
        found: list[tuple[str, Mapping[str, Any]]] = []
        for envelope in self._heard:
            if envelope.topic == mark:
                return found
            packed = PackedAny(type_url=envelope.event.type_url, value=envelope.event.value)
            found.append((envelope.topic, json.loads(typeurl.to_json(packed))))
        raise AssertionError("the bus was closed")

    def topics(self) -> list[str]:
        """Topics since the last call, without what they have in common."""
        return [topic.removeprefix("/tasks/") for topic, _ in self.heard()]

    def end(self) -> None:
        """End all processes."""
        self.host.switch_off()
        assert living(self.host) == []


def in_time(ctx: CallContext = CTX) -> CallContext:
    """The same call, given up after ``SECONDS``."""
    return CallContext(ctx.namespace, deadline=time.monotonic() + SECONDS)


class Client:
    """The other side of a process's fifos."""

    def __init__(self, directory: Path, *, stdin: bool = False, terminal: bool = False) -> None:
        names = ["stdout"] + ([] if terminal else ["stderr"]) + (["stdin"] if stdin else [])
        for name in names:
            os.mkfifo(directory / name)
        self._fds = {n: os.open(directory / n, os.O_RDONLY | os.O_NONBLOCK) for n in names if n != "stdin"}
        self.writer = os.open(directory / "stdin", os.O_RDWR) if stdin else -1
        paths = {name: str(directory / name) for name in names}
        self.io = IO(terminal=terminal, **paths)

    def type(self, data: bytes) -> None:
        """Write to the standard input."""
        os.write(self.writer, data)

    def close_stdin(self) -> None:
        """Close our side of the standard input."""
        os.close(self.writer)

    def read(self, name: str = "stdout") -> bytes:
        """All that there is now."""
        try:
            return os.read(self._fds[name], 1 << 16)
        except BlockingIOError:
            return b""

    def read_until(self, text: bytes, name: str = "stdout") -> bytes:
        """Read until ``text`` has come."""
        found = bytearray()

        def came() -> bool:
            found.extend(self.read(name))
            return text in found

        until(came)
        return bytes(found)

    def close(self) -> None:
        """Go away."""
        for fd in self._fds.values():
            os.close(fd)


def living(host: FakeHost) -> list[FakeProcess]:
    """What runs on the host."""
    return host.processes.living()
