"""Fake tasks through the daemon's socket: with Debian's ``ctr``, and many at once."""

from __future__ import annotations

import itertools
import json
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from refimpl.api import typeurl
from refimpl.client import Client
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount
from refimpl.contract.tasks import CreateTask
from refimpl.contract.types import TypedAny
from tests.acceptance import daemons, images
from tests.backends.fake.containers import until

IMAGE = images.OCI_NAME
CTX = CallContext("tests")
SECONDS = 120.0
"""Longest that anything here may take: a hundred threads have to share a machine that others use as well."""


@pytest.fixture
def base() -> Iterator[Path]:
    """A short path, because a socket lies below it, that everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="runtime-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def daemon(base: Path) -> Iterator[daemons.Daemon]:
    """A daemon whose snapshots a client need not mount; of each test's own, with nothing left of a first try."""
    made = daemons.refimpl(base / "d")
    made.command = [*made.command, "--hide-mounts"]
    with daemons.running(made):
        yield made


@pytest.fixture
def client(daemon: daemons.Daemon) -> Iterator[Client]:
    with Client(str(daemon.socket)) as client:
        yield client


def run(daemon: daemons.Daemon, *arguments: str, stdin: bytes = b"") -> daemons.Result:
    """``ctr run`` with its fifos beside the daemon: their usual place is root's."""
    return daemon.ctr("run", "--fifo-dir", str(daemon.base / "fifo"), *arguments, stdin=stdin)


def told_by(done: daemons.Result) -> tuple[int, str]:
    """Status and standard output of a command that has nothing to complain of."""
    # A status that is not 0 is what ctr says of its own accord.
    assert done.code or not done.stderr, done
    return done.code, done.stdout.decode()


def until_it_hears(daemon: daemons.Daemon, events: subprocess.Popen[bytes]) -> None:
    """Return when ``ctr events`` has begun to listen, of which it says nothing: some event has to reach it."""
    assert events.stdout is not None
    numbers, out = itertools.count(), events.stdout

    def hears() -> bool:
        assert daemon.ctr("namespaces", "create", f"heard-{next(numbers)}").code == 0
        return bool(select.select([out], [], [], 0.1)[0])

    until(hears)


def told_until(events: subprocess.Popen[bytes], topic: str, id: str) -> list[str]:
    """Topics about tasks that ``ctr events`` has printed, read up to an event that comes after all of them."""
    assert events.stdout is not None
    # Should it never come, the end of the program ends the reading.
    late = threading.Timer(SECONDS, events.kill)
    late.start()
    lines = []
    try:
        for line in events.stdout:
            # The time of an event has four words.
            found = line.decode().split()
            lines.append(found[5])
            if found[5] == topic and f'"{id}"' in line.decode():
                return [each for each in lines if each.startswith("/tasks/")]
    finally:
        late.cancel()
    raise AssertionError(f"{topic} of {id} was not told, but {lines}")


@pytest.mark.debian("ctr")
def test_ctr_runs_a_program_on_the_machine_s_own_root_without_any_right(daemon: daemons.Daemon) -> None:
    assert daemons.printed(lambda: told_by(run(daemon, "--rm", "--rootfs", "/", "r1", "echo", "hi"))) == (0, "hi\n")
    assert run(daemon, "--rm", "--rootfs", "/", "r2", "sh", "-c", "echo err >&2; exit 7").code == 7


@pytest.mark.debian("ctr")
@pytest.mark.root
def test_ctr_runs_an_image_and_works_with_its_task(daemon: daemons.Daemon, base: Path) -> None:
    """Root is for ctr, which mounts the image's snapshot to look for groups in it (of which it is told none)."""
    (base / "images").mkdir()
    archive = images.build(base / "images", images.stand_in_program()).oci
    assert daemon.ctr("images", "import", str(archive)).code == 0
    fifos = ("--fifo-dir", str(daemon.base / "fifo"))
    script = ("sh", "-c", "pwd; cat /etc/hostname; exit 3")
    # Apart from the events: what prints may be run more than once.
    assert daemons.printed(lambda: told_by(run(daemon, "--rm", IMAGE, "i0", "echo", "hi"))) == (0, "hi\n")
    assert run(daemon, "-d", IMAGE, "i0", "sleep", "1000").code == 0
    ran = daemons.printed(lambda: told_by(daemon.ctr("tasks", "exec", *fifos, "--exec-id", "e", "i0", *script)))
    assert ran == (3, "/home\ntools\n")
    assert daemon.ctr("tasks", "rm", "--force", "i0").code == daemon.ctr("containers", "rm", "i0").code == 0
    with daemon.background("events") as events:
        until_it_hears(daemon, events)
        assert run(daemon, "--rm", IMAGE, "i1", "true").code == 0
        assert run(daemon, "-d", IMAGE, "i2", "sleep", "1000").code == 0
        assert b"RUNNING" in daemon.ctr("tasks", "ls").stdout
        assert daemon.ctr("tasks", "exec", *fifos, "--exec-id", "e", "i2", *script).code == 3
        assert daemon.ctr("tasks", "pause", "i2").code == 0
        assert b"PAUSED" in daemon.ctr("tasks", "ls").stdout
        assert daemon.ctr("tasks", "resume", "i2").code == 0
        assert b"pids.current" in daemon.ctr("tasks", "metrics", "i2").stdout
        assert daemon.ctr("tasks", "kill", "-s", "SIGKILL", "i2").code == 0
        with Client(str(daemon.socket)) as client:
            client.tasks.wait(CallContext("default"), "i2")
        assert b"exit code 137" in daemon.ctr("tasks", "delete", "i2").stderr
        assert daemon.ctr("containers", "rm", "i2").code == 0
        told = told_until(events, "/containers/delete", "i2")
    life = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    execs = ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit", "/tasks/paused", "/tasks/resumed"]
    assert told == [*life, *life[:2], *execs, *life[2:]]


def create(client: Client, id: str, args: list[str]) -> None:
    """A container with a task on the fake machine's own root."""
    spec = {
        "process": {"args": args, "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "pid"}], "cgroupsPath": f"/tests/{id}"},
    }
    packed = TypedAny(typeurl.OCI_SPEC, json.dumps(spec).encode())
    client.containers.create(CTX, Container(id, runtime=RuntimeInfo("io.containerd.runc.v2"), spec=packed))
    client.tasks.create(CTX, CreateTask(id, rootfs=[Mount("tmpfs", "tmpfs")]))


def threads_of(daemon: daemons.Daemon) -> int:
    """How many threads the daemon has."""
    assert daemon.process is not None
    return len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir()))


def test_a_hundred_tasks_at_once_run_and_leave_nothing(client: Client) -> None:
    all_there = threading.Barrier(100)

    def live(number: int) -> int:
        id = f"h{number}"
        create(client, id, ["sh", "-c", f"sleep 0.2; exit {number % 50}"])
        all_there.wait(SECONDS)
        client.tasks.start(CTX, id)
        exit_ = client.tasks.wait(CTX, id)
        assert client.tasks.delete(CTX, id).status == exit_.status
        client.containers.delete(CTX, id)
        return exit_.status

    with ThreadPoolExecutor(100) as pool:
        statuses = list(pool.map(live, range(100)))

    assert statuses == [number % 50 for number in range(100)]
    assert client.tasks.list(CTX) == []
    assert client.containers.list(CTX) == []


def test_a_thousand_waits_keep_nobody_waiting_and_are_all_answered(client: Client, daemon: daemons.Daemon) -> None:
    create(client, "w", ["sleep", "1000"])
    client.tasks.start(CTX, "w")
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.tasks.wait(CTX, "w").status), daemon=True)
        for _ in range(1000)
    ]
    for thread in threads:
        thread.start()
    with Client(str(daemon.socket)) as other:
        # All have a thread of the daemon's: none stands in a queue, where the next call would have to stand too.
        until(lambda: threads_of(daemon) > 1000)
        for _ in range(100):
            assert other.tasks.get(replace(CTX, deadline=time.monotonic() + SECONDS), "w").id == "w"
        assert answers == []
        other.tasks.kill(CTX, "w", signal=9)

    for thread in threads:
        thread.join(SECONDS)

    assert answers == [137] * 1000
    client.tasks.delete(CTX, "w")
    client.containers.delete(CTX, "w")
