"""dockerd does not notice that it speaks to refimpl: the same story on it and on the real containerd.

Whatever docker's client prints and returns is asserted in the same words for both, and dockerd may have nothing to
complain of. Everything is below directories of the test's own; see ``dockerds``.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.acceptance import dockerds, images, real_tasks
from tests.acceptance.dockerds import IMAGE, Dockerd
from tests.acceptance.test_ctr_tasks import Told

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.debian(*dockerds.COMMANDS)]

MIB = 1 << 20

STANDING = ("sh", "-c", "trap 'exit 7' TERM; trap 'echo heard' USR1; echo ready; while :; do sleep 0.1; done")
"""A program that goes on until it is asked to end; it says so with a status of its own."""

GREEDY = "until test -e /go; do sleep 0.1; done; v=12345678; while :; do v=$v$v; done"
"""A program that wants more and more memory once it is told to."""

KINDS = ["refimpl", "containerd"]

MANY = 20


@pytest.fixture(scope="module", params=KINDS)
def beside(request: pytest.FixtureRequest, ground: Path, archives: images.Images) -> Iterator[Dockerd]:
    """A dockerd beside each of the daemons; both stop in the end, and then nothing may be left."""
    base = Path(tempfile.mkdtemp(dir=ground)) / "d"
    with dockerds.dockerd(base, request.param, archives.docker) as made:
        yield made
        made.remove_all()
        made.stop()
        made.daemon.stop()
        real_tasks.gone(made.left)
        assert "Traceback" not in made.daemon.log


@pytest.fixture
def docker(beside: Dockerd) -> Iterator[Dockerd]:
    """The same, without containers."""
    beside.complaints()
    yield beside
    if beside.process is not None and beside.process.poll() is not None:
        # A test that failed has stopped it; the next one needs it.
        beside.start()
    beside.remove_all()


def test_a_program_gets_its_input_and_gives_its_output_and_its_status(docker: Dockerd) -> None:
    assert docker.run(IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert docker.run("-i", IMAGE, "wc", "-c", stdin="x" * 3 * MIB) == (0, f"{3 * MIB}\n", "")
    assert docker.does("ps", "-aq") == ""
    assert docker.complaints() == []

    code, _, error = docker.run(IMAGE, "missing")
    assert (code, 'exec: "missing": executable file not found in $PATH' in error) == (127, True), error
    code, _, error = docker.run(IMAGE, "/etc")
    assert (code, 'exec: "/etc": permission denied' in error) == (126, True), error
    assert docker.does("ps", "-aq") == ""


def test_a_container_is_what_the_options_say(docker: Dockerd) -> None:
    script = """
        id -u; id -g; hostname; pwd; echo $COLOUR; ulimit -n; cat /proc/1/comm
        touch /file 2>/dev/null || echo read-only
        touch /run/file && echo writable
        exit 5
    """
    options = [
        *("--init", "--user", "405:100", "--hostname", "web", "--workdir", "/etc", "--env", "COLOUR=green"),
        *("--ulimit", "nofile=100:200", "--read-only", "--tmpfs", "/run"),
    ]
    told = ["405", "100", "web", "/etc", "green", "100", "docker-init", "read-only", "writable"]
    assert docker.run(*options, IMAGE, "sh", "-c", script) == (5, "\n".join(told) + "\n", "")
    assert docker.complaints() == []


def test_a_container_lives_as_its_owner_says(docker: Dockerd) -> None:
    since = time.time()
    docker.starts("life", IMAGE, *STANDING)
    _ready(docker, "life")
    assert docker.does("logs", "life") == "ready"
    assert docker.does("ps", "--format", "{{.Names}} {{.State}}") == "life running"
    assert docker.does("top", "life", "-o", "pid,args").splitlines()[1].split()[1:3] == ["sh", "-c"]
    assert docker.does("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "life").split()[0] == "life"

    assert docker.docker("exec", "life", "sh", "-c", "echo in; exit 9") == (9, "in\n", "")
    # An end becomes an event when the command has been answered.
    docker.waits(lambda: "exec_die 9" in docker.events(since, "life"), "no word of the exec's end")
    assert docker.docker("exec", "-i", "life", "cat", stdin="through\n") == (0, "through\n", "")
    docker.waits(lambda: "exec_die 0" in docker.events(since, "life"), "no word of the exec's end")
    docker.does("pause", "life")
    assert docker.state("life")["Status"] == "paused"
    docker.does("unpause", "life")
    docker.does("kill", "-s", "USR1", "life")
    docker.waits(lambda: docker.does("logs", "life") == "ready\nheard", "the signal does not arrive")

    docker.does("stop", "life")
    docker.becomes("life", Status="exited", ExitCode=7, OOMKilled=False, Pid=0)
    docker.does("start", "life")
    _ready(docker, "life", 2)
    before = docker.pid("life")
    docker.does("restart", "life")
    assert docker.pid("life") not in {0, before}
    with docker.beside("wait", "life") as waiting:
        docker.does("kill", "life")
        assert (waiting.wait(real_tasks.SECONDS), waiting.stdout and waiting.stdout.read()) == (0, b"137\n")
    assert docker.complaints() == []
    docker.does("rm", "life")

    assert docker.does("ps", "-aq") == ""
    docker.waits(lambda: docker.events(since, "life")[-1] == "destroy", "no word of the end")
    ignored = ("attach", "top", "exec_create")
    told = [one for one in docker.events(since, "life") if not one.startswith(ignored)]
    for number, (first, second) in enumerate(pairwise(told)):
        if (first, second) == ("stop", "die 7"):
            # dockerd tells of the two side by side: who waits for the end hears of it before that is an event.
            told[number : number + 2] = second, first
    assert told == [
        *("create", "start"),
        *("exec_start: sh -c echo in; exit 9", "exec_die 9", "exec_start: cat ", "exec_die 0"),
        *("pause", "unpause", "kill 10"),
        *("kill 15", "die 7", "stop", "start"),
        *("kill 15", "die 7", "stop", "start", "restart"),
        *("kill 9", "die 137", "destroy"),
    ]


def test_a_terminal_goes_both_ways_and_follows_the_clients_size(docker: Dockerd) -> None:
    # The client tells the size once the program runs; until then busybox complains of having none.
    script = """
        sized() { until test "$(stty size 2>/dev/null)" = "$1"; do sleep 0.05; done; }
        tty; sized "23 77"; echo first; read word; echo got $word; sized "31 99"; exit 9
    """
    with _terminal(docker, "run", "--rm", "-it", "--network", "none", IMAGE, "sh", "-c", script) as terminal:
        terminal.talk()
    docker.starts("web", IMAGE, *STANDING)
    with _terminal(docker, "exec", "-it", "web", "sh", "-c", script) as terminal:
        terminal.talk()
    assert docker.complaints() == []


def test_limits_hold_and_can_be_changed(docker: Dockerd) -> None:
    docker.starts("web", "-m", "50m", "--memory-swap", "60m", "--cpus", "0.5", "--pids-limit", "40", IMAGE, *STANDING)
    assert docker.limit("web", "memory/memory.limit_in_bytes", "memory.max") == str(50 * MIB)
    assert docker.limit("web", "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert docker.limit("web", "pids/pids.max", "pids.max") == "40"
    docker.does("update", "-m", "40m", "--memory-swap", "40m", "--cpus", "0.3", "--pids-limit", "50", "web")
    assert docker.limit("web", "memory/memory.limit_in_bytes", "memory.max") == str(40 * MIB)
    assert docker.limit("web", "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "30000"
    assert docker.limit("web", "pids/pids.max", "pids.max") == "50"
    assert docker.complaints() == []


def test_a_container_without_memory_is_said_to_have_been_killed_for_it(docker: Dockerd) -> None:
    docker.starts("greedy", "-m", "20m", "--memory-swap", "20m", IMAGE, "sh", "-c", GREEDY)
    _let_go(docker, "greedy")
    docker.becomes("greedy", Status="exited", ExitCode=137, OOMKilled=True)
    assert docker.complaints() == []


def test_policies_start_a_container_again(docker: Dockerd) -> None:
    docker.starts("always", "--restart", "always", IMAGE, *STANDING)
    _ready(docker, "always")
    docker.starts("twice", "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo run; exit 4")
    before = docker.pid("always")
    os.kill(before, signal.SIGKILL)
    docker.becomes("always", Status="running", RestartCount=1)
    assert docker.pid("always") != before
    _ready(docker, "always", 2)
    docker.does("stop", "always")
    docker.becomes("always", Status="exited", ExitCode=7)

    docker.becomes("twice", Status="exited", RestartCount=2, ExitCode=4)
    assert docker.does("logs", "twice") == "run\nrun\nrun"
    assert docker.complaints() == []


def test_a_health_check_is_an_exec_again_and_again(docker: Dockerd) -> None:
    check = ("--health-cmd", "test -e /well", "--health-interval", "200ms", "--health-retries", "1")
    docker.starts("web", *check, IMAGE, *STANDING)
    docker.waits(lambda: docker.state("web")["Health"]["Status"] == "unhealthy", "it is never found unhealthy")
    docker.does("exec", "web", "touch", "/well")
    docker.waits(lambda: docker.state("web")["Health"]["Status"] == "healthy", "it is never found healthy")


def test_many_containers_at_once(docker: Dockerd) -> None:
    with ThreadPoolExecutor(MANY) as pool:
        answers = list(pool.map(lambda n: docker.run(IMAGE, "sh", "-c", f"echo {n}; exit {n}"), range(MANY)))
    assert answers == [(number, f"{number}\n", "") for number in range(MANY)]
    assert docker.does("ps", "-aq") == ""


def test_a_container_ends_with_its_shim_and_can_start_again(docker: Dockerd) -> None:
    docker.starts("web", IMAGE, *STANDING)
    before = docker.pid("web")
    os.kill(_parent(before), signal.SIGKILL)
    docker.becomes("web", Status="exited", ExitCode=137)
    docker.waits(lambda: not real_tasks.alive(before), "its process lives on")
    docker.does("start", "web")
    assert docker.does("exec", "web", "echo", "hello") == "hello"
    assert docker.complaints() == []


def test_containers_outlive_dockerd_and_end_without_it(docker: Dockerd) -> None:
    for name in ("living", "ending"):
        docker.starts(name, IMAGE, *STANDING)
        _ready(docker, name)
    living, ending = docker.pid("living"), docker.pid("ending")
    docker.stop()
    os.kill(ending, signal.SIGKILL)
    docker.waits(lambda: not real_tasks.alive(ending), "it lives on")
    docker.start()

    assert docker.pid("living") == living
    docker.becomes("ending", Status="exited", ExitCode=137)
    assert docker.docker("exec", "living", "sh", "-c", "echo in; exit 9") == (9, "in\n", "")
    docker.does("start", "ending")
    _ready(docker, "ending", 2)
    docker.does("stop", "living", "ending")
    for name in ("living", "ending"):
        docker.becomes(name, Status="exited", ExitCode=7)


def test_dockerd_takes_our_shim_for_the_one_it_has_built_in(base: Path, archives: images.Images) -> None:
    with dockerds.dockerd(base, "shim", archives.docker) as docker:
        assert docker.run("-i", IMAGE, "sh", "-c", "cat; exit 3", stdin="in\n") == (3, "in\n", "")
        docker.starts("web", IMAGE, *STANDING)
        _ready(docker, "web")
        docker.starts("greedy", "-m", "20m", "--memory-swap", "20m", IMAGE, "sh", "-c", GREEDY)
        _let_go(docker, "greedy")
        assert docker.docker("exec", "web", "sh", "-c", "echo in; exit 9") == (9, "in\n", "")
        docker.does("pause", "web")
        docker.does("unpause", "web")
        docker.does("stop", "web")
        docker.becomes("web", Status="exited", ExitCode=7)
        docker.becomes("greedy", Status="exited", ExitCode=137, OOMKilled=True)
        assert docker.complaints() == []
        docker.remove_all()
        docker.stop()
        docker.daemon.stop()
        real_tasks.gone(docker.left)


def _ready(docker: Dockerd, name: str, times: int = 1) -> None:
    """Wait until ``STANDING`` runs for that time: before that it is deaf to signals."""
    docker.waits(lambda: docker.does("logs", name).split().count("ready") == times, f"{name} is not ready")


def _let_go(docker: Dockerd, name: str) -> None:
    """Have ``GREEDY`` begin: the shim of a container that has been started watches its memory."""
    Path(f"/proc/{docker.pid(name)}/root/go").touch()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@dataclass
class Terminal:
    """Our side of a terminal that a command of docker's is on."""

    side: int
    process: subprocess.Popen[bytes]
    told: Told

    def talk(self) -> None:
        """What the test's script has to say, and to hear."""
        self.told.until("/dev/pts/")
        self.told.until("first\r")
        os.write(self.side, b"pear\n")
        self.told.until("got pear\r")
        _resize(self.side, 31, 99)

        def ended() -> bool:
            # This terminal controls no session, so that nobody else tells the client; it may not listen yet.
            self.process.send_signal(signal.SIGWINCH)
            return self.process.poll() is not None

        real_tasks.until(ended, "the program sees no other size")
        assert self.process.returncode == 9


def _resize(side: int, lines: int, columns: int) -> None:
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def _terminal(docker: Dockerd, *words: str) -> Iterator[Terminal]:
    """A command of docker's on a terminal of 77 columns and 23 lines; it is ended on leaving."""
    ours, theirs = pty.openpty()
    try:
        _resize(theirs, 23, 77)
        with docker.beside(*words, terminal=theirs) as process:
            yield Terminal(ours, process, Told(ours))
    finally:
        os.close(ours)
        os.close(theirs)
