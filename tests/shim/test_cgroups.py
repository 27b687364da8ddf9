"""Reading cgroups of both versions from directories of made-up files, and noticing kills for want of memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.shim import cgroups, metrics_v2
from refimpl.shim.cgroups import Cgroup, cgroup_of, existing
from refimpl.shim.loop import Loop
from refimpl.shim.oom import OOMWatch
from tests.shim.conftest import until

MAX64 = (1 << 64) - 1


def fill(folder: Path, files: dict[str, str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return str(folder)


def test_metrics_of_version_two_come_from_one_directory(tmp_path: Path) -> None:
    folder = fill(
        tmp_path,
        {
            "pids.current": "3\n", "pids.max": "9\n",
            "cpu.stat": "usage_usec 1\nuser_usec 2\nsystem_usec 3\nnr_bursts 4\nnew 5\n",
            "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 total=8\n",
            "memory.stat": "anon 1\nfile 2\nworkingset_refault_anon 3\nworkingset_refault_file 4\npgfault 5\n",
            "memory.current": "10\n", "memory.max": "max\n", "memory.swap.current": "11\n", "memory.swap.max": "12\n",
            "memory.peak": "13\n", "memory.events": "low 0\noom 1\noom_kill 2\n",
            "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5\n", "rdma.current": "mlx4_0 hca_handle=2\n",
            "hugetlb.2MB.current": "1\n", "hugetlb.2MB.max": "max\n", "hugetlb.2MB.events": "max 6\n",
        },
    )  # fmt: skip

    found = metrics_v2.metrics(Cgroup({"": folder}))

    assert (found.pids.current, found.pids.limit) == (3, 9)
    assert (found.cpu.usage_usec, found.cpu.nr_bursts, found.cpu.psi.some.avg10) == (1, 4, 1.5)
    assert (found.cpu.psi.some.total, found.cpu.psi.full.total) == (7, 8)
    memory = found.memory
    assert (memory.anon, memory.workingset_refault, memory.pgfault) == (1, 7, 5)
    assert (memory.usage, memory.usage_limit, memory.swap_limit, memory.max_usage) == (10, MAX64, 12, 13)
    assert (found.memory_events.oom, found.memory_events.oom_kill) == (1, 2)
    [entry] = found.io.usage
    assert (entry.major, entry.minor, entry.rbytes, entry.wios) == (8, 0, 1, 4)
    assert found.rdma.current[0].hca_handles == 2
    assert [(one.pagesize, one.current, one.max, one.failcnt) for one in found.hugetlb] == [("2MB", 1, MAX64, 6)]


def test_a_cgroup_that_is_gone_has_no_numbers_and_no_processes() -> None:
    found = metrics_v2.metrics(Cgroup({"": "/no/such"}))
    assert not found.HasField("memory")
    assert not found.HasField("pids")
    for paths in ({"memory": "/no/such", "hugetlb": "/no/such"}, {"": "/no/such"}):
        assert Cgroup(paths).pids() == []


def test_processes_are_those_of_a_cgroup_and_of_all_below(tmp_path: Path) -> None:
    fill(tmp_path, {"cgroup.procs": "1\n2\n"})
    fill(tmp_path / "below", {"cgroup.procs": "3\n"})
    assert sorted(Cgroup({"": str(tmp_path)}).pids()) == [1, 2, 3]


HYBRID = """\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 /docker/x /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
UNIFIED = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up /proc, with a process 7."""
    monkeypatch.setattr(cgroups, "PROC", str(tmp_path))
    (tmp_path / "self").mkdir()
    (tmp_path / "7").mkdir()
    return tmp_path


def test_a_hybrid_host_counts_as_version_one(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "unified", lambda: False)
    (proc / "self" / "mountinfo").write_text(HYBRID)
    (proc / "7" / "cgroup").write_text("3:memory:/a\n2:cpu,cpuacct:/docker/x/a\n1:name=systemd:/s\n0::/u\n")

    found = cgroup_of(7)

    assert found is not None
    assert found.version == 1
    assert found.paths == {
        "memory": "/sys/fs/cgroup/memory/a",
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/a",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/a",
    }
    assert found.directory("pids") is None
    assert cgroup_of(8) is None


def test_a_unified_host_has_one_directory(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "unified", lambda: True)
    (proc / "self" / "mountinfo").write_text(UNIFIED)
    (proc / "7" / "cgroup").write_text("0::/a/b\n")

    found = cgroup_of(7)

    assert found is not None
    assert (found.version, found.directory("memory")) == (2, "/sys/fs/cgroup/a/b")


def test_a_cgroup_is_found_by_its_path_where_it_exists(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "unified", lambda: False)
    (proc / "m" / "g").mkdir(parents=True)
    (proc / "self" / "mountinfo").write_text(f"31 30 0:27 / {proc}/m rw - cgroup cgroup rw,memory\n")
    assert existing("/g") == [f"{proc}/m/g"]
    assert existing("/none") == []


# --- want of memory


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that runs."""
    made = Loop()
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join()
    made.close()


def test_a_rising_count_of_kills_is_told(tmp_path: Path, loop: Loop) -> None:
    """A plain file cannot be waited for: who is asked to look finds it all the same."""
    told: list[int] = []
    events = tmp_path / "memory.events"
    events.write_text("oom 1\noom_kill 1\n")
    watch = OOMWatch(loop, Cgroup({"": str(tmp_path)}), lambda: told.append(1))

    watch.look()
    assert told == []
    events.write_text("oom 2\noom_kill 2\n")
    watch.look()
    watch.look()

    assert told == [1]
    watch.close()
    watch.close()
    assert until(lambda: watch.closed)


def test_a_counter_is_registered_with_the_cgroup_and_told_of(tmp_path: Path, loop: Loop) -> None:
    told: list[int] = []
    fill(tmp_path, {"memory.oom_control": "", "cgroup.event_control": ""})
    watch = OOMWatch(loop, Cgroup({"memory": str(tmp_path)}), lambda: told.append(1))
    counter = int((tmp_path / "cgroup.event_control").read_text().split()[0])

    os.eventfd_write(counter, 2)
    assert until(lambda: told == [1])

    # The kernel does the same when the cgroup goes.
    (tmp_path / "memory.oom_control").unlink()
    os.eventfd_write(counter, 1)
    assert until(lambda: watch.closed)
    watch.look()
    assert told == [1]


@pytest.mark.parametrize("paths", [{}, {"memory": "/no/such"}, {"": "/no/such"}])
def test_a_cgroup_that_cannot_be_watched_does_no_harm(paths: dict[str, str], loop: Loop) -> None:
    watch = OOMWatch(loop, Cgroup(paths), lambda: None)
    watch.look()
    watch.close()
    assert until(lambda: watch.closed)
