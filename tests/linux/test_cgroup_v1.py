"""What the files of version 1 say, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from refimpl.api import cgroups_v1_pb2 as pb
from refimpl.linux import cgroup_v1

UNLIMITED = 9223372036854771712

FILES: Mapping[str, Mapping[str, str]] = {
    "pids": {"pids.current": "3\n", "pids.max": "77\n"},
    "cpu": {"cpu.stat": "nr_periods 22\nnr_throttled 19\nthrottled_time 1234567\nburst_time 0\n"},
    "cpuacct": {
        "cpuacct.usage": "987654321\n",
        "cpuacct.usage_percpu": "900000000 87654321 \n",
        "cpuacct.stat": "user 90\nsystem 8\n",
    },
    "memory": {
        "memory.stat": (
            "cache 1\nrss 2\nrss_huge 3\nshmem 99\nmapped_file 4\ndirty 5\nwriteback 6\nswap 98\npgpgin 7\npgpgout 8\n"
            "pgfault 9\npgmajfault 10\nhierarchical_memory_limit 11\nhierarchical_memsw_limit 12\ntotal_cache 13\n"
            "total_pgpgin 14\ntotal_pgmajfault 15\n"
        ),
        "memory.usage_in_bytes": "100\n", "memory.max_usage_in_bytes": "200\n",
        "memory.limit_in_bytes": "300\n", "memory.failcnt": "4\n",
        "memory.memsw.usage_in_bytes": "101\n", "memory.memsw.max_usage_in_bytes": "201\n",
        "memory.memsw.limit_in_bytes": f"{UNLIMITED}\n", "memory.memsw.failcnt": "0\n",
        "memory.oom_control": "oom_kill_disable 1\nunder_oom 0\noom_kill 5\n",
    },
    "blkio": {
        "blkio.throttle.io_serviced": "8:0 Read 4\n8:0 Write 5\n8:0 Total 9\n254:1 Read 1\nTotal 10\n",
        "blkio.throttle.io_service_bytes": "8:0 Read 4096\nTotal 4096\n",
    },
    "hugetlb": {
        "hugetlb.2MB.usage_in_bytes": "2097152\n", "hugetlb.2MB.max_usage_in_bytes": "4194304\n",
        "hugetlb.2MB.failcnt": "1\n", "hugetlb.2MB.rsvd.usage_in_bytes": "9\n",
    },
    "rdma": {"rdma.current": "mlx4_0 hca_handle=2 hca_object=20\n", "rdma.max": "mlx4_0 hca_handle=max hca_object=7\n"},
}  # fmt: skip


@pytest.fixture
def directories(tmp_path: Path) -> dict[str, Path]:
    """A directory for each controller."""
    for controller, files in FILES.items():
        (tmp_path / controller).mkdir()
        for name, text in files.items():
            (tmp_path / controller / name).write_text(text)
    return {controller: tmp_path / controller for controller in FILES}


def metrics(directories: Mapping[str, Path]) -> pb.Metrics:
    told = pb.Metrics()
    cgroup_v1.fill(told, {controller: str(path) for controller, path in directories.items()})
    return told


def test_processes_are_counted(directories: dict[str, Path]) -> None:
    assert metrics(directories).pids == pb.PidsStat(current=3, limit=77)


def test_no_limit_of_processes_is_nought(directories: dict[str, Path]) -> None:
    (directories["pids"] / "pids.max").write_text("max\n")

    assert metrics(directories).pids.limit == 0


def test_processor_time_is_in_nanoseconds(directories: dict[str, Path]) -> None:
    cpu = metrics(directories).cpu

    assert (cpu.usage.total, list(cpu.usage.per_cpu)) == (987654321, [900000000, 87654321])
    assert (cpu.usage.user, cpu.usage.kernel) == (900_000_000, 80_000_000)
    assert cpu.throttling == pb.Throttle(periods=22, throttled_periods=19, throttled_time=1234567)


def test_memory_has_its_statistics_and_its_blocks(directories: dict[str, Path]) -> None:
    memory = metrics(directories).memory

    assert memory.usage == pb.MemoryEntry(limit=300, usage=100, max=200, failcnt=4)
    assert memory.swap == pb.MemoryEntry(limit=UNLIMITED, usage=101, max=201)
    assert not memory.HasField("kernel")
    names = ("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pg_pg_in", "pg_pg_out", "pg_fault")
    assert [getattr(memory, name) for name in names] == list(range(1, 10))
    assert (memory.pg_maj_fault, memory.hierarchical_memory_limit, memory.hierarchical_swap_limit) == (10, 11, 12)
    assert (memory.total_cache, memory.total_pg_pg_in, memory.total_pg_maj_fault) == (13, 14, 15)


def test_kills_for_want_of_memory_are_counted(directories: dict[str, Path]) -> None:
    assert metrics(directories).memory_oom_control == pb.MemoryOomControl(oom_kill_disable=1, oom_kill=5)


def test_devices_have_their_entries_and_no_total(directories: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_v1, "devices", lambda: iter([((8, 0), "/dev/sda")]))

    blkio = metrics(directories).blkio

    assert [(one.op, one.device, one.major, one.minor, one.value) for one in blkio.io_serviced_recursive] == [
        ("Read", "/dev/sda", 8, 0, 4),
        ("Write", "/dev/sda", 8, 0, 5),
        ("Total", "/dev/sda", 8, 0, 9),
        ("Read", "", 254, 1, 1),
    ]
    assert [one.value for one in blkio.io_service_bytes_recursive] == [4096]


def test_the_scheduler_that_counts_better_is_believed_first(directories: dict[str, Path]) -> None:
    (directories["blkio"] / "blkio.time_recursive").write_text("8:0 12\n")

    blkio = metrics(directories).blkio

    assert [(one.op, one.value) for one in blkio.io_time_recursive] == [("", 12)]
    assert list(blkio.io_serviced_recursive) == []


def test_huge_pages_are_told_by_size(directories: dict[str, Path]) -> None:
    assert list(metrics(directories).hugetlb) == [pb.HugetlbStat(usage=2097152, max=4194304, failcnt=1, pagesize="2MB")]


def test_rdma_devices_are_told_with_their_limits(directories: dict[str, Path]) -> None:
    rdma = metrics(directories).rdma

    assert list(rdma.current) == [pb.RdmaEntry(device="mlx4_0", hca_handles=2, hca_objects=20)]
    assert list(rdma.limit) == [pb.RdmaEntry(device="mlx4_0", hca_handles=0xFFFF_FFFF, hca_objects=7)]


def test_what_is_not_there_says_nothing(tmp_path: Path) -> None:
    gone = dict.fromkeys(FILES, tmp_path / "gone")

    told = metrics(gone)

    assert not any(told.HasField(name) for name in ("pids", "cpu", "memory"))
    assert metrics({}) == pb.Metrics()


def test_the_machines_own_devices_have_names() -> None:
    for (major, _minor), name in cgroup_v1.devices():
        assert major >= 0
        assert name.startswith("/dev/")
