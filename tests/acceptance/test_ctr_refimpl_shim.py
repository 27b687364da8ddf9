"""Our own shim under the real containerd: ``ctr run --runtime io.containerd.refimpl.v1``, on runc and on crun."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from conformance.shim import processes
from conformance.shim.waiting import until
from refimpl.shim.address import socket_path
from tests.acceptance import daemons, images

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd", "ctr", "runc", "crun", "busybox")]

SECONDS = 60.0
IMAGE = images.PROGRAMS_NAME
NAME = "containerd-shim-refimpl-v1"
STANDING = ("sh", "-c", "trap 'exit 42' TERM; while :; do sleep 0.1; done")

_MAIN = "import sys\nsys.path[:0] = {path!r}\nfrom refimpl.shim.main import main\nsys.exit(main())\n"
# crun refuses hosts with both versions of cgroups as soon as the second one has a controller.
_ONE_VERSION = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'


class World:
    """A containerd whose PATH has our shim.

    Attributes:
        daemon: running.
        options: flags of ``ctr run`` for the shim and its OCI runtime.
        namespace: its own, since cgroups and the state of OCI runtimes are the machine's.
    """

    def __init__(self, daemon: daemons.Daemon, oci: str) -> None:
        self.daemon = daemon
        self.options = ["--runtime", "io.containerd.refimpl.v1"]
        self.namespace = f"shim{uuid.uuid4().hex[:8]}"
        self._ids: set[str] = set()
        self._fifos = daemon.base / "fifos"
        self._fifos.mkdir()
        if oci != "runc":
            file = daemon.base / "options.toml"
            file.write_text(f'BinaryName = "{oci}"\n')
            self.options += ["--runtime-config-path", str(file)]

    def ctr(self, *words: str, stdin: bytes = b"") -> tuple[int, str]:
        """Status and standard output of ``ctr``."""
        done = self.daemon.ctr("--namespace", self.namespace, *words, stdin=stdin)
        assert done.code != -1, f"ctr {' '.join(words)} hangs\n{self.daemon.log[-2000:]}"
        return done.code, done.stdout.decode()

    def does(self, *words: str) -> str:
        """Standard output of a ``ctr`` that must succeed."""
        done = self.daemon.ctr("--namespace", self.namespace, *words)
        assert done.code == 0, f"ctr {' '.join(words)}: {done.stderr.decode()}\n{self.daemon.log[-2000:]}"
        return done.stdout.decode()

    def words(self, *words: str) -> list[str]:
        """The words of a ``ctr run``."""
        self._ids.update(word for word in words if word.startswith("shim-"))
        return ["run", "--fifo-dir", str(self._fifos), *self.options, *words]

    def run(self, *words: str, stdin: bytes = b"") -> tuple[int, str]:
        """``ctr run``."""
        return self.ctr(*self.words(*words), stdin=stdin)

    @contextmanager
    def background(self, *words: str, terminal: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """``ctr run`` beside what follows; it is ended on leaving."""
        argv = ["--namespace", self.namespace, *self.words(*words)]
        with self.daemon.background(*argv, terminal=terminal) as process:
            yield process

    def prints(self, *words: str) -> tuple[int, str]:
        """``ctr run --rm`` of a program that prints."""
        return daemons.printed(lambda: self.run("--rm", *words))

    def exec(self, id: str, exec_id: str, *words: str) -> tuple[int, str]:
        """``ctr tasks exec`` of a program that prints."""
        argv = ["tasks", "exec", "--fifo-dir", str(self._fifos), "--exec-id", exec_id, id, *words]
        return daemons.printed(lambda: self.ctr(*argv))

    def state(self, id: str) -> str:
        """What ``ctr tasks ls`` says of a task."""
        rows = [line.split() for line in self.does("tasks", "ls").splitlines()[1:]]
        return next((row[2] for row in rows if row[0] == id), "")

    def status_of(self, id: str) -> int:
        """Delete a task; its exit status, of which ``ctr`` warns."""
        done = self.daemon.ctr("--namespace", self.namespace, "tasks", "delete", id)
        assert done.code == 0, done.stderr
        _, found, rest = done.stderr.decode().partition("non-zero exit code ")
        return int(rest.split('"')[0]) if found else 0

    def pid(self, id: str) -> int:
        """The pid of a task."""
        rows = [line.split() for line in self.does("tasks", "ls").splitlines()[1:]]
        return next(int(row[1]) for row in rows if row[0] == id)

    def shims(self) -> list[int]:
        """The serving shims of this daemon."""
        return processes.serving(str(self.daemon.socket))

    def end(self) -> None:
        """End all tasks and shims, and what they left mounted."""
        try:
            if self.daemon.process is not None and self.daemon.process.poll() is None:
                for id in self.ctr("tasks", "ls", "-q")[1].split():
                    self.ctr("tasks", "rm", "--force", id)
                self.daemon.stop()
        finally:
            self._clear()

    def _clear(self) -> None:
        for pid in self.shims():
            for child in processes.children(pid):
                processes.kill(child)
            processes.kill(pid)
        for point in processes.mounts_below(self.daemon.base):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        for folder in (Path("/run/containerd/runc"), *Path("/sys/fs/cgroup").glob("*")):
            # Empty by now, if all went well.
            with suppress(OSError):
                (folder / self.namespace).rmdir()
        for id in self._ids:
            # Of a shim that was killed; no daemon removes it.
            Path(socket_path(str(self.daemon.socket), self.namespace, id)).unlink(missing_ok=True)


@pytest.fixture(params=["runc", "crun"])
def oci(request: pytest.FixtureRequest) -> str:
    """The OCI runtime."""
    return str(request.param)


@pytest.fixture
def world(base: Path, archives: images.Images, oci: str) -> Iterator[World]:
    """A containerd with the image, and our shim."""
    daemon = daemons.containerd(base)
    programs = base / "bin"
    programs.mkdir()
    (programs / "shim.py").write_text(_MAIN.format(path=sys.path))
    (programs / NAME).write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{programs}/shim.py" "$@"\n')
    (programs / NAME).chmod(0o755)
    daemon.env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    if oci == "crun":
        daemon.command = ["unshare", "-m", "--propagation", "private", "sh", "-c", _ONE_VERSION, "sh", *daemon.command]
    made = World(daemon, oci)
    try:
        daemon.start()
        made.does("images", "import", str(archives.programs))
        yield made
    finally:
        made.end()
        daemon.end()


def test_what_a_container_prints_and_its_status_are_those_of_the_command(world: World) -> None:
    assert world.prints(IMAGE, "shim-a", "echo", "hi") == (0, "hi\n")
    assert world.prints(IMAGE, "shim-a", "sh", "-c", "echo out; exit 7") == (7, "out\n")
    assert world.run("--rm", IMAGE, "shim-a", "/no/such")[0] not in {0, -1}
    assert until(lambda: world.shims() == [], SECONDS)
    assert processes.mounts_below(world.daemon.state) == []


def test_input_goes_to_the_container_to_its_end(world: World) -> None:
    with world.background("--rm", IMAGE, "shim-i", "cat") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # ``ctr`` knows whom to tell of the end only when the container exists: not at once.
        process.stdin.write(b"first\n")
        process.stdin.flush()
        _read_until(process.stdout.fileno(), "first\n")
        # No more than a pipe holds: when the container has ended, ``ctr`` may leave the rest of its output behind.
        process.stdin.write(b"x" * 20_000 + b"\nlast\n")
        process.stdin.close()
        assert _read_until(process.stdout.fileno(), "last\n") == "x" * 20_000 + "\nlast\n"
        assert process.wait(SECONDS) == 0


def test_a_task_in_the_background_does_all_that_ctr_asks_of_it(world: World) -> None:
    assert world.run("-d", IMAGE, "shim-b", *STANDING)[0] == 0
    pid = world.pid("shim-b")
    [shim] = world.shims()
    assert processes.parent(pid) == shim

    assert world.exec("shim-b", "e", "sh", "-c", "echo from exec; exit 5") == (5, "from exec\n")
    assert str(pid) in world.does("tasks", "ps", "shim-b")
    world.does("tasks", "pause", "shim-b")
    assert world.state("shim-b") == "PAUSED"
    world.does("tasks", "resume", "shim-b")
    assert world.state("shim-b") == "RUNNING"
    metrics = json.loads(world.does("tasks", "metrics", "--format", "json", "shim-b"))
    assert _number(metrics, "current") >= 1
    world.does("tasks", "kill", "-s", "SIGTERM", "shim-b")
    assert until(lambda: world.state("shim-b") == "STOPPED", SECONDS)
    assert world.status_of("shim-b") == 42
    world.does("containers", "delete", "shim-b")

    assert until(lambda: not processes.alive(shim), SECONDS)
    assert processes.mounts_below(world.daemon.state) == []
    assert not (world.daemon.state / "io.containerd.runtime.v2.task" / world.namespace / "shim-b").exists()


def _number(values: Any, key: str) -> int:
    """The first number under that key, however deep."""
    if isinstance(values, dict):
        if key in values and isinstance(values[key], int):
            return int(values[key])
        return max((_number(value, key) for value in values.values()), default=0)
    return max((_number(value, key) for value in values), default=0) if isinstance(values, list) else 0


@contextmanager
def _terminal(world: World, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``ctr run`` on a terminal of 77 columns and 23 lines, and our side of it."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 23, 77, 0, 0))
        with world.background(*words, terminal=theirs) as process:
            yield process, ours
    finally:
        os.close(ours)
        os.close(theirs)


def _read_until(descriptor: int, wanted: str) -> str:
    """What comes out of a terminal or a pipe, until that pattern is found in it."""
    os.set_blocking(descriptor, False)
    seen = ""
    end = time.monotonic() + SECONDS
    while re.search(wanted, seen) is None:
        assert time.monotonic() < end, f"{wanted!r} did not come: {seen!r}"
        try:
            seen += os.read(descriptor, 4096).decode()
        except BlockingIOError:
            time.sleep(0.01)
    return seen


def test_a_terminal_goes_both_ways_and_follows_the_clients_size(world: World) -> None:
    script = "echo ready; while read line; do echo got $line; stty size; done"
    with _terminal(world, "--rm", "-t", IMAGE, "shim-t", "sh", "-c", script) as (process, terminal):
        _read_until(terminal, "ready\r")
        # ``ctr`` tells the size when the program runs already.
        _ask_until(terminal, process, "23 77")

        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))

        _ask_until(terminal, process, "30 100")
        os.write(terminal, b"\x04")
        assert process.wait(SECONDS) == 0


def _ask_until(terminal: int, process: subprocess.Popen[bytes], size: str) -> None:
    """Ask the program for the size of its terminal until it is that, and remind ``ctr`` of ours."""
    end = time.monotonic() + SECONDS
    seen = ""
    while size not in seen:
        assert time.monotonic() < end, f"the size is not {size}: {seen!r}"
        # The first time the client may not listen yet, and the terminal controls no session that would tell it.
        process.send_signal(signal.SIGWINCH)
        os.write(terminal, b"size\n")
        seen = _read_until(terminal, r"got size\s+[^\r]*\r")


def test_a_container_that_wants_too_much_memory_ends_with_137_and_an_event(world: World) -> None:
    with world.daemon.background("events") as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        seen = bytearray()

        def told(text: str) -> bool:
            with suppress(BlockingIOError):
                seen.extend(os.read(process.stdout.fileno(), 65536))  # type: ignore[union-attr]
            return text in seen.decode()

        for number in range(200):
            world.does("namespaces", "create", f"n{number}")
            if until(lambda: told("/namespaces/create"), 0.1):
                break
        # The shell itself grows: it is the one that is killed.
        script = "x=0123456789abcdef; while :; do x=$x$x; done"
        status, _ = world.run("--memory-limit", "20000000", IMAGE, "shim-o", "sh", "-c", script)
        world.ctr("tasks", "delete", "shim-o")

        assert until(lambda: told("/tasks/exit"), SECONDS)
        topics = [line.split(" UTC ")[1].split()[1] for line in seen.decode().splitlines() if "/tasks/" in line]
        assert status == 137
        assert topics.index("/tasks/oom") < topics.index("/tasks/exit")
    world.does("containers", "delete", "shim-o")


@pytest.mark.parametrize("oci", ["runc"], indirect=True)
def test_containers_outlive_the_daemon_and_tell_the_next_one_how_they_ended(world: World) -> None:
    assert world.run("-d", IMAGE, "shim-lives", *STANDING)[0] == 0
    assert world.run("-d", IMAGE, "shim-ends", "sh", "-c", "sleep 1; exit 9")[0] == 0
    pids = {id: world.pid(id) for id in ("shim-lives", "shim-ends")}

    world.daemon.stop(signal.SIGKILL)
    assert until(lambda: not processes.alive(pids["shim-ends"]), SECONDS)
    world.daemon.start()

    assert world.pid("shim-lives") == pids["shim-lives"]
    assert world.exec("shim-lives", "e", "echo", "still here") == (0, "still here\n")
    assert world.state("shim-ends") == "STOPPED"
    assert world.status_of("shim-ends") == 9
    world.does("tasks", "kill", "-s", "SIGTERM", "shim-lives")
    assert until(lambda: world.state("shim-lives") == "STOPPED", SECONDS)
    assert world.status_of("shim-lives") == 42
    assert until(lambda: world.shims() == [], SECONDS)


@pytest.mark.parametrize("oci", ["runc"], indirect=True)
def test_a_shim_that_is_killed_takes_its_task_along_and_leaves_nothing(world: World) -> None:
    assert world.run("-d", IMAGE, "shim-k", *STANDING)[0] == 0
    pid = world.pid("shim-k")
    [shim] = world.shims()

    os.kill(shim, signal.SIGKILL)

    assert until(lambda: world.state("shim-k") == "", SECONDS)
    assert until(lambda: not processes.alive(pid), SECONDS)
    assert until(lambda: processes.mounts_below(world.daemon.state) == [], SECONDS)
    assert until(lambda: not Path(f"/run/containerd/runc/{world.namespace}/shim-k").exists(), SECONDS)
    world.does("containers", "delete", "shim-k")
