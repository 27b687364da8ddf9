"""What a container uses, read from cgroup v1: io.containerd.cgroups.v1.Metrics (SHM-068, TSK-076).

Loaded when somebody asks. A controller that the host does not have leaves its part out; so does a cgroup that is gone.
"""

from __future__ import annotations

import contextlib
import os

from refimpl.api import cgroups_v1_pb2 as pb
from refimpl.shim.cgroups import Cgroup, number, read, table

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""Nanoseconds of a tick, in which ``cpuacct.stat`` counts."""

_RENAMED = {
    "pgpgin": "pg_pg_in",
    "pgpgout": "pg_pg_out",
    "pgfault": "pg_fault",
    "pgmajfault": "pg_maj_fault",
    "hierarchical_memsw_limit": "hierarchical_swap_limit",
}
_SECTIONS = {"usage": "memory", "swap": "memory.memsw", "kernel": "memory.kmem", "kernel_tcp": "memory.kmem.tcp"}

_BLKIO = {
    "io_service_bytes_recursive": "io_service_bytes_recursive",
    "io_serviced_recursive": "io_serviced_recursive",
    "io_queued_recursive": "io_queued_recursive",
    "io_service_time_recursive": "io_service_time_recursive",
    "io_wait_time_recursive": "io_wait_time_recursive",
    "io_merged_recursive": "io_merged_recursive",
    "io_time_recursive": "time_recursive",
    "sectors_recursive": "sectors_recursive",
}
_THROTTLED = {
    "io_service_bytes_recursive": "throttle.io_service_bytes",
    "io_serviced_recursive": "throttle.io_serviced",
}
"""Kernels whose scheduler counts nothing still count what they throttle."""


def metrics(cgroup: Cgroup) -> pb.Metrics:
    """Everything that the host counts for a cgroup."""
    found = pb.Metrics()
    _pids(found, cgroup.directory("pids"))
    _cpu(found, cgroup.directory("cpu"), cgroup.directory("cpuacct"))
    _memory(found, cgroup.directory("memory"))
    _blkio(found, cgroup.directory("blkio"))
    _hugetlb(found, cgroup.directory("hugetlb"))
    _rdma(found, cgroup.directory("rdma"))
    return found


def _pids(found: pb.Metrics, folder: str | None) -> None:
    if read(folder, "pids.current"):
        found.pids.current = number(folder, "pids.current")
        # No limit is 0 here, not the largest number.
        found.pids.limit = 0 if read(folder, "pids.max") == "max" else number(folder, "pids.max")


def _cpu(found: pb.Metrics, folder: str | None, accounting: str | None) -> None:
    stat = table(folder, "cpu.stat")
    if stat:
        found.cpu.throttling.periods = stat.get("nr_periods", 0)
        found.cpu.throttling.throttled_periods = stat.get("nr_throttled", 0)
        found.cpu.throttling.throttled_time = stat.get("throttled_time", 0)
    if read(accounting, "cpuacct.usage"):
        usage, ticks = found.cpu.usage, table(accounting, "cpuacct.stat")
        usage.total = number(accounting, "cpuacct.usage")
        usage.user, usage.kernel = ticks.get("user", 0) * _TICK, ticks.get("system", 0) * _TICK
        usage.per_cpu.extend(int(word) for word in read(accounting, "cpuacct.usage_percpu").split())


def _memory(found: pb.Metrics, folder: str | None) -> None:
    stat = table(folder, "memory.stat")
    if not stat:
        return
    # ``swap``, too, is a line of the file; the field of that name is a section of its own.
    known = pb.MemoryStat.DESCRIPTOR.fields_by_name.keys() - _SECTIONS.keys()
    for name, value in stat.items():
        total = name.startswith("total_")
        base = name.removeprefix("total_")
        field = ("total_" if total else "") + _RENAMED.get(base, base)
        if field in known:
            setattr(found.memory, field, value)
    for field, prefix in _SECTIONS.items():
        if read(folder, f"{prefix}.usage_in_bytes"):
            entry = getattr(found.memory, field)
            entry.usage = number(folder, f"{prefix}.usage_in_bytes")
            entry.max = number(folder, f"{prefix}.max_usage_in_bytes")
            entry.failcnt = number(folder, f"{prefix}.failcnt")
            entry.limit = number(folder, f"{prefix}.limit_in_bytes")
    control = table(folder, "memory.oom_control")
    found.memory_oom_control.oom_kill_disable = control.get("oom_kill_disable", 0)
    found.memory_oom_control.under_oom = control.get("under_oom", 0)
    found.memory_oom_control.oom_kill = control.get("oom_kill", 0)


def _blkio(found: pb.Metrics, folder: str | None) -> None:
    if folder is None:
        return
    found.blkio.SetInParent()
    devices = _devices()
    for field, name in _BLKIO.items():
        lines = read(folder, f"blkio.{name}") or read(folder, f"blkio.{_THROTTLED.get(field, name)}")
        for line in lines.splitlines():
            words = line.replace(":", " ").split()
            # "8:0 Read 4096", or "8:0 17" where operations are not told apart; the last line is a total.
            if len(words) in {3, 4} and words[-1].isdigit():
                major, minor = int(words[0]), int(words[1])
                entry = getattr(found.blkio, field).add(major=major, minor=minor, value=int(words[-1]))
                entry.op = words[2] if len(words) == 4 else ""
                entry.device = devices.get((major, minor), "")


def _devices() -> dict[tuple[int, int], str]:
    found = {}
    for line in read("/proc", "partitions").splitlines()[2:]:
        words = line.split()
        if len(words) == 4:
            found[int(words[0]), int(words[1])] = f"/dev/{words[3]}"
    return found


def _hugetlb(found: pb.Metrics, folder: str | None) -> None:
    if folder is None or not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        parts = name.split(".")
        if (
            len(parts) == 3
            and parts[0] == "hugetlb"
            and parts[2] == "usage_in_bytes"
            and not parts[1].endswith("_rsvd")
        ):
            size = parts[1]
            found.hugetlb.add(
                usage=number(folder, name),
                max=number(folder, f"hugetlb.{size}.max_usage_in_bytes"),
                failcnt=number(folder, f"hugetlb.{size}.failcnt"),
                pagesize=size,
            )


def _rdma(found: pb.Metrics, folder: str | None) -> None:
    if folder is None:
        return
    found.rdma.SetInParent()
    for name, entries in (("rdma.current", found.rdma.current), ("rdma.max", found.rdma.limit)):
        for device, handles, objects in rdma_entries(read(folder, name)):
            entries.add(device=device, hca_handles=handles, hca_objects=objects)


def rdma_entries(text: str) -> list[tuple[str, int, int]]:
    """Device, handles and objects of lines such as ``mlx4_0 hca_handle=2 hca_object=max``; ``max`` is 2^32 - 1."""
    found = []
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        values = {"hca_handle": 0, "hca_object": 0}
        for word in rest.split():
            name, _, value = word.partition("=")
            with contextlib.suppress(ValueError):
                values[name] = (1 << 32) - 1 if value == "max" else int(value)
        found.append((device, values["hca_handle"], values["hca_object"]))
    return found
