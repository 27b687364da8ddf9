"""``ctr run`` and ``ctr tasks``: on fakes without any right, and the same on containerd with all of them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conformance import runc_state
from tests.acceptance import daemons, images

pytestmark = pytest.mark.debian("ctr", "unshare")

SECONDS = 60.0
"""How long something that a client waits for may take."""

IMAGE = images.PROGRAMS_NAME

STANDING = ("sh", "-c", "trap 'exit 42' TERM; while :; do sleep 0.1; done")
"""A program that goes on until it is asked to end; it says so with a status of its own."""


@dataclass
class Client:
    """A client of a daemon that has the image.

    Attributes:
        fifos: where ``ctr`` makes the fifos of processes.
        namespace: of its own: containers of one name in two daemons meet in runc, which the machine has once.
    """

    daemon: daemons.Daemon
    fifos: Path
    namespace: str = field(default_factory=lambda: f"{runc_state.PREFIX}{uuid.uuid4().hex[:12]}")

    def ctr(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
        """Status and standard output of one command."""
        done = self.daemon.ctr("-n", self.namespace, *arguments, stdin=stdin)
        assert done.code != -1, f"ctr {' '.join(arguments)} hangs: {done.stdout!r} {done.stderr!r}"
        return done.code, done.stdout.decode()

    def does(self, *arguments: str) -> str:
        """Standard output of one command that must succeed."""
        return self.says(*arguments)[0]

    def says(self, *arguments: str) -> tuple[str, str]:
        """Standard output and standard error of one command that must succeed."""
        done = self.daemon.ctr("-n", self.namespace, *arguments)
        assert done.code == 0, f"ctr {' '.join(arguments)}: {done.stderr.decode()}\n{self.daemon.log[-2000:]}"
        return done.stdout.decode(), done.stderr.decode()

    def beside(self, *arguments: str, terminal: int | None = None) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Run a command beside what follows, on pipes or on a terminal."""
        return self.daemon.background("-n", self.namespace, *arguments, terminal=terminal)

    def run(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
        """``ctr run``."""
        return self.ctr("run", "--fifo-dir", str(self.fifos), *arguments, stdin=stdin)

    def prints(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
        """``ctr run --rm`` of a program that prints."""
        return daemons.printed(lambda: self.run("--rm", *arguments, stdin=stdin))

    def standing(self, id: str) -> None:
        """Run a container in the background."""
        self.does("run", "--fifo-dir", str(self.fifos), "-d", IMAGE, id, *STANDING)

    def exec(self, id: str, exec_id: str, *arguments: str) -> tuple[int, str]:
        """``ctr tasks exec``."""
        return self.ctr("tasks", "exec", "--fifo-dir", str(self.fifos), "--exec-id", exec_id, id, *arguments)

    def exec_prints(self, id: str, exec_id: str, *arguments: str) -> tuple[int, str]:
        """``ctr tasks exec`` of a program that prints."""
        return daemons.printed(lambda: self.exec(id, exec_id, *arguments))

    def pid(self, id: str) -> int:
        """What ``ctr tasks ls`` says of it."""
        rows = [line.split() for line in self.does("tasks", "ls").splitlines()[1:]]
        return next(int(row[1]) for row in rows if row[0] == id)

    def state(self, id: str) -> str:
        """What ``ctr tasks ls`` says of a task; empty for none."""
        rows = [line.split() for line in self.does("tasks", "ls").splitlines()[1:]]
        return next((row[2] for row in rows if row[0] == id), "")

    def becomes(self, id: str, state: str) -> None:
        """Wait until ``ctr tasks ls`` says that of a task."""
        deadline = time.monotonic() + SECONDS
        while (seen := self.state(id)) != state:
            assert time.monotonic() < deadline, f"{id} is {seen}, not {state}"

    def end(self, id: str) -> None:
        """Kill, delete and remove."""
        self.does("tasks", "kill", "-s", "KILL", id)
        self.becomes(id, "STOPPED")
        self.does("tasks", "delete", id)
        self.does("containers", "rm", id)


@pytest.fixture(
    params=[
        "refimpl",
        pytest.param("containerd", marks=[pytest.mark.root, pytest.mark.debian("containerd", "busybox")]),
    ]
)
def client(request: pytest.FixtureRequest, base: Path, archives: images.Images) -> Iterator[Client]:
    """A client of refimpl on fakes, both without any right; then one of the real daemon."""
    if request.param == "containerd":
        daemon = daemons.containerd(base)
    else:
        daemon = _without_rights(base, request.getfixturevalue("plain_user"))
    try:
        with daemons.running(daemon):
            client = Client(daemon, daemon.work / "fifos")
            client.does("images", "import", str(archives.programs))
            try:
                yield client
            finally:
                _clear(client)
                runc_state.forget(client.namespace)
    finally:
        daemon.end()


def _without_rights(base: Path, user: int | None) -> daemons.Daemon:
    """Refimpl and ``ctr`` as nobody. The client mounts nothing, but wants to: it is alone in its mount namespace."""
    daemon = daemons.refimpl(base, user, config=False)
    daemon.command = [*daemon.command, "--hide-mounts"]
    daemon.wrapper = ["unshare", "--map-root-user", "--mount"]
    probe = subprocess.run(
        [*daemon.wrapper, "true"], capture_output=True, text=True, check=False, timeout=SECONDS, user=user, group=user
    )
    if probe.returncode != 0:
        # No fault of the daemon, and nothing to mend here.
        pytest.xfail(f"this machine gives no user namespace to users: {probe.stderr.strip()}")
    return daemon


def _clear(client: Client) -> None:
    """End what a test that failed has left; the real daemon's containers would outlive it."""
    for id in client.ctr("tasks", "ls", "-q")[1].split():
        client.ctr("tasks", "resume", id)
        client.ctr("tasks", "kill", "-s", "KILL", id)
        client.ctr("tasks", "delete", "-f", id)


# -- in the foreground


def test_what_a_container_prints_and_its_status_are_those_of_the_command(client: Client) -> None:
    assert client.prints(IMAGE, "id", "echo", "hi") == (0, "hi\n")
    assert client.run("--rm", IMAGE, "id", "sh", "-c", "exit 7") == (7, "")
    assert client.prints("--env", "WORD=x y", IMAGE, "id", "sh", "-c", "echo $WORD | cat; exit 3") == (3, "x y\n")
    # Nothing is in the way of the next one of that id.
    assert client.does("tasks", "ls", "-q") == client.does("containers", "ls", "-q") == ""
    assert "id" not in client.does("snapshots", "ls")


def test_what_is_typed_goes_to_the_container(client: Client) -> None:
    # ctr forgets what it has not begun to read when the task ends: it gets a moment.
    program = ("sh", "-c", "read first; read second; sleep 0.3; echo $second $first")

    assert client.prints(IMAGE, "id", *program, stdin=b"one\ntwo\n") == (0, "two one\n")


# -- in the background


def test_a_task_in_the_background_does_all_that_ctr_asks_of_it(client: Client) -> None:
    client.standing("web")
    assert client.state("web") == "RUNNING"
    pid = client.does("tasks", "ls").split()[4]
    assert pid in client.does("tasks", "ps", "web").split()

    assert client.exec_prints("web", "e", "sh", "-c", "echo inside; exit 5") == (5, "inside\n")

    client.does("tasks", "pause", "web")
    assert client.state("web") == "PAUSED"
    client.does("tasks", "resume", "web")
    assert client.state("web") == "RUNNING"

    client.does("tasks", "kill", "-s", "SIGTERM", "web")
    client.becomes("web", "STOPPED")
    printed, warned = client.says("tasks", "delete", "web")
    assert (printed, "task web exit with non-zero exit code 42" in warned) == ("", True)
    assert client.state("web") == ""
    client.does("containers", "rm", "web")
    assert client.does("containers", "ls", "-q") == ""


def test_metrics_tell_of_the_task(client: Client) -> None:
    client.standing("web")

    table = client.does("tasks", "metrics", "web")
    values: dict[str, Any] = json.loads(client.does("tasks", "metrics", "--format", "json", "web"))

    assert re.match(r"ID +TIMESTAMP +\nweb +\d{4}-", table)
    assert values["pids"]["current"] >= 1
    assert _number_of(values, "usage") > 0
    client.end("web")


def test_a_task_that_runs_is_neither_deleted_nor_its_container(client: Client) -> None:
    client.standing("web")

    assert client.ctr("tasks", "delete", "web")[0] == 1
    assert client.ctr("containers", "rm", "web")[0] == 1
    assert client.state("web") == "RUNNING"

    client.end("web")
    assert client.does("containers", "ls", "-q") == ""


def _number_of(values: dict[str, Any], key: str) -> int:
    """The use of memory: cgroups of the second version have it directly below ``memory``, those of the first deeper."""
    found = values["memory"][key]
    return int(found["usage"] if isinstance(found, dict) else found)


# -- with a terminal


def test_a_terminal_goes_both_ways_and_has_the_size_of_the_clients(client: Client) -> None:
    # The client tells the size once the program runs; until then busybox complains of having none.
    sized = 'until test "$(stty size 2>/dev/null)" = "23 77"; do sleep 0.05; done; stty size'
    script = f"tty; read word; {sized}; echo got $word; exit 9"
    with _terminal(client, "--rm", "-t", IMAGE, "id", "sh", "-c", script) as (process, terminal):
        terminal.until("/dev/pts/0\r")
        terminal.types("pear\n")
        terminal.until("23 77\r")
        terminal.until("got pear\r")
        assert process.wait(SECONDS) == 9
    assert client.does("tasks", "ls", "-q") == ""


def test_an_interrupt_key_is_a_signal_for_the_program(client: Client) -> None:
    script = "trap 'echo caught; exit 11' INT; echo ready; while :; do sleep 0.1; done"
    with _terminal(client, "--rm", "-t", IMAGE, "id", "sh", "-c", script) as (process, terminal):
        terminal.until("ready\r")
        terminal.types("\x03")
        terminal.until("caught\r")
        assert process.wait(SECONDS) == 11


@contextmanager
def _terminal(client: Client, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Told]]:
    """``ctr run`` on a terminal of 77 columns and 23 lines, with its other side; it is ended on leaving."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 23, 77, 0, 0))
        words = ("run", "--fifo-dir", str(client.fifos), *arguments)
        with client.beside(*words, terminal=theirs) as process:
            yield process, Told(ours)
    finally:
        os.close(ours)
        os.close(theirs)


# -- events


def test_events_tell_the_life_of_a_task_and_of_an_exec_in_order(client: Client) -> None:
    with client.beside("events") as process:
        assert process.stdout is not None
        told = Told(process.stdout.fileno())
        _listens(client, told)
        client.standing("web")
        assert client.exec("web", "e", "true") == (0, "")
        client.end("web")

        seen = _events(told.until("/tasks/delete") + told.until("\n"))

    of_tasks = [(topic, event) for topic, event in seen if topic.startswith("/tasks/")]
    assert [(topic, event.get("id") or event.get("exec_id", "")) for topic, event in of_tasks] == [
        ("/tasks/create", ""),
        ("/tasks/start", ""),
        ("/tasks/exec-added", "e"),
        ("/tasks/exec-started", "e"),
        ("/tasks/exit", "e"),
        ("/tasks/exit", "web"),
        ("/tasks/delete", ""),
    ]
    assert [event.get("exit_status", 0) for topic, event in of_tasks if topic == "/tasks/exit"] == [0, 137]


def _listens(client: Client, told: Told) -> None:
    """Return when the client of the events has its subscription: it hears of what happens from then on."""
    for number in range(200):
        client.does("namespaces", "label", client.namespace, f"n={number}")
        if told.more(0.1):
            return
    raise AssertionError("the client hears of nothing")


def _events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Topics and events of what ``ctr events`` prints: date, time, zone, namespace, topic, event."""
    found = []
    for line in text.splitlines():
        _, topic, event = line.partition(" UTC ")[2].split(" ", 2)
        found.append((topic, json.loads(event)))
    return found


class Told:
    """What comes out of a descriptor, read with an end to one's patience.

    Args:
        descriptor: of a pipe, or of our side of a terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._heard, self._unread = "", ""

    def more(self, seconds: float) -> bool:
        """Whether there is something to read within the time."""
        return bool(select.select([self._descriptor], [], [], max(0.0, seconds))[0])

    def until(self, text: str) -> str:
        """What comes up to and with this text; waits for it."""
        deadline = time.monotonic() + SECONDS
        while text not in self._unread:
            assert self.more(deadline - time.monotonic()), f"no {text!r} after {self._heard!r}"
            more = os.read(self._descriptor, 4096)
            assert more, f"the end, and no {text!r} after {self._heard!r}"
            self._heard += more.decode()
            self._unread += more.decode()
        before, _, self._unread = self._unread.partition(text)
        return before + text

    def types(self, text: str) -> None:
        """Type on a terminal."""
        os.write(self._descriptor, text.encode())
