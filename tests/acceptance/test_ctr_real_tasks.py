"""``ctr run`` and ``ctr tasks`` with real containers: under runc and crun, with each kind of shim.

What holds of fakes has to hold here in the very same words, so those tests are run again; then comes what fakes have
not got: a machine.
"""

from __future__ import annotations

import fcntl
import json
import re
import signal
import socket
import struct
import tempfile
import termios
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import daemons, images, real_tasks
from tests.acceptance import test_ctr_tasks as on_fakes
from tests.acceptance.real_tasks import RealDaemon, until
from tests.acceptance.test_ctr_tasks import IMAGE, Client, Told

pytestmark = [pytest.mark.root, pytest.mark.debian("ctr", "containerd-shim-runc-v2", "runc", "busybox")]

MIB = 1 << 20

GREEDY = ("sh", "-c", "until test -e /go; do sleep 0.1; done; v=12345678; while :; do v=$v$v; done")
"""A program that wants more and more memory once it is told to."""

RUNTIMES = [
    "runc",
    pytest.param("crun", marks=pytest.mark.debian("crun", "unshare")),
    "refimpl",
    pytest.param("first", marks=pytest.mark.debian("containerd-shim")),
]


class RealClient(Client):
    """A client of a daemon whose tasks are real.

    Attributes:
        page: address of the daemon's metrics.
    """

    daemon: RealDaemon
    page: str

    def series(self) -> dict[str, float]:
        """The daemon's series of the one task there is, by name and further labels."""
        with urllib.request.urlopen(f"http://{self.page}/v1/metrics", timeout=daemons.COMMAND_SECONDS) as answer:
            lines = answer.read().decode().splitlines()
        found = {}
        for line in lines:
            if match := re.fullmatch(r"(container_\w+)\{(.*)\} (\S+)", line):
                labels = re.sub(r'(container_id|namespace|runtime)="[^"]*",?', "", match[2]).strip(",")
                found[f"{match[1]}{{{labels}}}" if labels else match[1]] = float(match[3])
        return found

    @property
    def unified(self) -> bool:
        """Whether control groups are those of the second version."""
        return (real_tasks.CGROUPS / "cgroup.controllers").exists()

    def files(self, id: str) -> dict[str, float]:
        """What the files of a task's control group say, under the names that the series have."""

        def table(controller: str, name: str) -> dict[str, int]:
            lines = (line.split() for line in self.file(id, controller, name).splitlines())
            return {words[0]: int(words[1]) for words in lines}

        def number(controller: str, name: str) -> int:
            return int(self.file(id, controller, name))

        memory = table("memory", "memory.stat")
        found: dict[str, float] = {"container_pids_current": number("pids", "pids.current")}
        if self.unified:
            cpu = table("", "cpu.stat")
            found |= {f"container_cpu_{name}_microseconds": cpu[name] for name in ("usage_usec", "user_usec")}
            found["container_memory_usage_bytes"] = number("", "memory.current")
            names = ("anon", "file", "kernel_stack", "shmem", "inactive_anon", "active_anon", "pgfault", "pgmajfault")
        else:
            found["container_cpu_total_nanoseconds"] = number("cpuacct", "cpuacct.usage")
            for cpu_number, word in enumerate(self.file(id, "cpuacct", "cpuacct.usage_percpu").split()):
                found[f'container_per_cpu_nanoseconds{{cpu="{cpu_number}"}}'] = int(word)
            for shown, kind in (("usage", ""), ("swap", "memsw."), ("kernel", "kmem.")):
                found[f"container_memory_{shown}_usage_bytes"] = number("memory", f"memory.{kind}usage_in_bytes")
                found[f"container_memory_{shown}_max_bytes"] = number("memory", f"memory.{kind}max_usage_in_bytes")
                found[f"container_memory_{shown}_limit_bytes"] = number("memory", f"memory.{kind}limit_in_bytes")
            names = (
                "cache",
                "rss",
                "mapped_file",
                "inactive_anon",
                "active_anon",
                "pgfault",
                "total_rss",
                "total_cache",
            )
        return found | {f"container_memory_{name}_bytes": memory[name] for name in names}

    def file(self, id: str, controller: str, name: str) -> str:
        """What a file of a task's control group says."""
        groups = self.daemon.groups(id)
        return (groups.get(controller) or groups[""]).joinpath(name).read_text(encoding="utf-8").strip()


@pytest.fixture(scope="module", params=RUNTIMES)
def daemon_client(request: pytest.FixtureRequest, ground: Path, archives: images.Images) -> Iterator[RealClient]:
    """A client for each runtime, of a daemon that has the image."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        page = f"127.0.0.1:{probe.getsockname()[1]}"
    base = Path(tempfile.mkdtemp(dir=ground)) / "d"
    with (
        real_tasks.real(base, request.param, f'[metrics]\naddress = "{page}"\n') as daemon,
        daemons.running(daemon),
    ):
        client = RealClient(daemon, daemon.work / "fifos", daemon.namespace)
        client.page = page
        client.does("images", "import", str(archives.programs))
        yield client


@pytest.fixture
def client(daemon_client: RealClient) -> Iterator[RealClient]:
    """The same; after a test nothing of its tasks may be there."""
    yield daemon_client
    daemon = daemon_client.daemon
    # Also what a test that failed has left: it may run once more.
    for id in daemon_client.does("tasks", "ls", "-q").split():
        # Frozen it could not die: not every OCI runtime thaws what it kills.
        daemon.ctr("tasks", "resume", id)
        daemon_client.does("tasks", "delete", "--force", id)
    for id in daemon_client.does("containers", "ls", "-q").split():
        daemon_client.does("containers", "rm", id)
    until(lambda: not daemon.left(), f"something is left of the tasks: {daemon.left()}")


# -- as on fakes

test_what_a_container_prints_and_its_status = (
    on_fakes.test_what_a_container_prints_and_its_status_are_those_of_the_command
)
test_what_is_typed_goes_to_the_container = on_fakes.test_what_is_typed_goes_to_the_container
test_a_task_in_the_background = on_fakes.test_a_task_in_the_background_does_all_that_ctr_asks_of_it
test_metrics_tell_of_the_task = on_fakes.test_metrics_tell_of_the_task
test_a_task_that_runs_is_not_deleted = on_fakes.test_a_task_that_runs_is_neither_deleted_nor_its_container
test_a_terminal_goes_both_ways = on_fakes.test_a_terminal_goes_both_ways_and_has_the_size_of_the_clients
test_an_interrupt_key_is_a_signal = on_fakes.test_an_interrupt_key_is_a_signal_for_the_program


# -- what ctr's options do


def test_a_terminal_that_changes_its_size_tells_the_program(client: RealClient) -> None:
    # Until the client tells a size for the first time, busybox complains of having none.
    script = 'while test "$(stty size 2>/dev/null)" != "31 99"; do sleep 0.05; done; echo seen; exit 4'
    with on_fakes._terminal(client, "--rm", "-t", IMAGE, "id", "sh", "-c", f"echo begun; {script}") as (process, told):
        told.until("begun\r")
        fcntl.ioctl(told._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 99, 0, 0))

        def again() -> bool:
            # The first time the client may not listen yet.
            process.send_signal(signal.SIGWINCH)
            return told.more(0.1)

        until(again, "the program sees no other size")
        told.until("seen\r")
        assert process.wait(on_fakes.SECONDS) == 4


def test_limits_are_those_of_the_control_group(client: RealClient) -> None:
    client.does(
        "run", "--fifo-dir", str(client.fifos), "-d", "--memory-limit", str(32 * MIB), "--cpus", "0.5", IMAGE, "web",
        *on_fakes.STANDING,
    )  # fmt: skip

    if client.unified:
        assert client.file("web", "", "memory.max") == str(32 * MIB)
        assert client.file("web", "", "cpu.max") == "50000 100000"
    else:
        assert client.file("web", "memory", "memory.limit_in_bytes") == str(32 * MIB)
        assert client.file("web", "cpu", "cpu.cfs_quota_us") == "50000"
        assert client.file("web", "cpu", "cpu.cfs_period_us") == "100000"
    metrics: dict[str, Any] = json.loads(client.does("tasks", "metrics", "--format", "json", "web"))
    limit = metrics["memory"].get("usage_limit") or metrics["memory"]["usage"]["limit"]
    assert limit == 32 * MIB


def test_a_mount_of_the_command_line_is_in_the_container(client: RealClient) -> None:
    given = Path(tempfile.mkdtemp(dir=client.daemon.work))
    (given / "file").write_text("from outside\n")
    mount = f"type=bind,src={given},dst=/mnt,options=rbind:ro"

    assert client.prints("--mount", mount, IMAGE, "id", "cat", "/mnt/file") == (0, "from outside\n")
    assert client.run("--rm", "--mount", mount, IMAGE, "id", "sh", "-c", "2>/dev/null >/mnt/new")[0] == 1
    assert [path.name for path in given.iterdir()] == ["file"]


def test_a_root_file_system_can_be_written_unless_it_is_read_only(client: RealClient) -> None:
    script = ("sh", "-c", "echo x 2>/dev/null >/new && cat /new")

    assert client.prints(IMAGE, "id", *script) == (0, "x\n")
    assert client.run("--rm", "--read-only", IMAGE, "id", *script) == (1, "")
    # Written into a snapshot of its own: the next one does not see it.
    assert client.run("--rm", IMAGE, "id", "sh", "-c", "test -e /new")[0] == 1


def test_the_network_is_the_containers_own_or_the_hosts(client: RealClient) -> None:
    show = ("busybox", "readlink", "/proc/self/ns/net")
    host = str(Path("/proc/self/ns/net").readlink())

    status, own = client.prints(IMAGE, "id", *show)
    assert (status, own.strip() == host) == (0, False)
    assert client.prints("--net-host", IMAGE, "id", *show) == (0, f"{host}\n")


def test_a_privileged_container_may_do_what_root_may(client: RealClient) -> None:
    def rights(*options: str) -> int:
        status, told = client.prints(*options, IMAGE, "id", "cat", "/proc/self/status")
        assert status == 0
        return int(re.findall(r"CapEff:\s*([0-9a-f]+)", told)[0], 16)

    own = int(re.findall(r"CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text())[0], 16)
    assert rights("--privileged") == own
    assert rights() != own


def test_a_program_that_is_not_there_is_told_by_its_name_and_leaves_nothing(client: RealClient) -> None:
    done = client.daemon.ctr("run", "--rm", "--fifo-dir", str(client.fifos), IMAGE, "id", "/no/such/program")

    assert done.code == 1
    assert b"/no/such/program" in done.stderr
    assert client.does("tasks", "ls", "-q") == client.does("containers", "ls", "-q") == ""


# -- metrics


def test_metrics_are_those_of_the_control_group_files(client: RealClient) -> None:
    client.standing("web")
    client.does("tasks", "pause", "web")

    # Freezing takes a moment, in which the numbers go on.
    seen: dict[str, dict[str, float]] = {}

    def nothing_changes() -> bool:
        before = client.files("web")
        told = json.loads(client.does("tasks", "metrics", "--format", "json", "web"))
        seen.update(files=before, told=_flat(told), page=client.series())
        return client.files("web") == before

    until(nothing_changes, "the numbers of a frozen task go on")

    files, told, page = seen["files"], seen["told"], seen["page"]
    assert files["container_pids_current"] >= 1
    assert {name: page[name] for name in files} == files
    in_protobuf = {
        "pids.current": "container_pids_current",
        **(
            {"memory.usage": "container_memory_usage_bytes", "cpu.usage_usec": "container_cpu_usage_usec_microseconds"}
            if client.unified
            else {
                "memory.usage.usage": "container_memory_usage_usage_bytes",
                "cpu.usage.total": "container_cpu_total_nanoseconds",
                "memory.rss": "container_memory_rss_bytes",
            }
        ),
    }
    assert {name: told[name] for name in in_protobuf} == {name: files[one] for name, one in in_protobuf.items()}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a tree, by their whole path; what is nought may be missing."""
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            found[prefix + name] = value
    return found


# -- the end of memory


def test_a_task_that_runs_out_of_memory_ends_with_137_and_that_is_told(client: RealClient) -> None:
    with client.daemon.background("events") as process:
        assert process.stdout is not None
        told = Told(process.stdout.fileno())
        on_fakes._listens(client, told)

        limit = ("--memory-limit", str(12 * MIB))
        client.does("run", "--fifo-dir", str(client.fifos), "-d", *limit, IMAGE, "greedy", *GREEDY)
        # Debian's shims tell of nothing that happens before the answer to the start, or whose cgroup is gone already.
        Path(f"/proc/{client.pid('greedy')}/root/go").touch()
        told.until("/tasks/oom")
        assert json.loads(told.until("\n")) == {"container_id": "greedy"}

        client.becomes("greedy", "STOPPED")
        assert "non-zero exit code 137" in client.says("tasks", "delete", "greedy")[1]
