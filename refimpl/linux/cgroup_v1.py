"""What cgroups of version 1 say of a container: ``io.containerd.cgroups.v1.Metrics``, for whoever has that message.

For the first runtime, whose tasks the daemon measures, and for our shim. A file or a whole controller that is not
there, or gone, leaves its part out: hosts differ in what they offer. Clauses MON-006 to MON-011, MON-026, MON-028,
SHM-068, TSK-076.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from refimpl.linux.cgroup_files import number, rdma_entries, read, table

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""Nanoseconds of a clock tick, in which cpuacct.stat counts."""

_MEMORY_NAMES = {
    "pgpgin": "pg_pg_in",
    "pgpgout": "pg_pg_out",
    "pgfault": "pg_fault",
    "pgmajfault": "pg_maj_fault",
    "hierarchical_memsw_limit": "hierarchical_swap_limit",
}
"""Names of memory.stat, with or without ``total_``, whose field is called otherwise."""

_MEMORY_BLOCKS = {"usage": "memory", "swap": "memory.memsw", "kernel": "memory.kmem", "kernel_tcp": "memory.kmem.tcp"}

_CFQ = {
    "sectors_recursive": "sectors_recursive",
    "io_service_bytes_recursive": "io_service_bytes_recursive",
    "io_serviced_recursive": "io_serviced_recursive",
    "io_queued_recursive": "io_queued_recursive",
    "io_service_time_recursive": "io_service_time_recursive",
    "io_wait_time_recursive": "io_wait_time_recursive",
    "io_merged_recursive": "io_merged_recursive",
    "time_recursive": "io_time_recursive",
}
"""Files of the scheduler CFQ, without ``blkio.``, and their fields."""

_THROTTLE = {"throttle.io_serviced": "io_serviced_recursive", "throttle.io_service_bytes": "io_service_bytes_recursive"}
"""The same of kernels that have no CFQ."""


def fill(told: Any, directories: Mapping[str, str]) -> None:
    """Read a container's groups.

    Args:
        told: an empty message ``io.containerd.cgroups.v1.Metrics``. It comes in, since this room has no messages.
        directories: by controller; those that have no numbers are passed over.
    """
    _pids(told, directories.get("pids"))
    _cpu(told, directories.get("cpu"), directories.get("cpuacct"))
    _memory(told, directories.get("memory"))
    _blkio(told, directories.get("blkio"))
    _hugetlb(told, directories.get("hugetlb"))
    _rdma(told, directories.get("rdma"))


def _pids(told: Any, folder: str | None) -> None:
    if read(folder, "pids.current"):
        told.pids.current = number(folder, "pids.current")
        # No limit is 0 here, not the largest number.
        told.pids.limit = number(folder, "pids.max", 0)


def _cpu(told: Any, folder: str | None, accounting: str | None) -> None:
    if stat := table(folder, "cpu.stat"):
        throttling = told.cpu.throttling
        throttling.periods = stat.get("nr_periods", 0)
        throttling.throttled_periods = stat.get("nr_throttled", 0)
        throttling.throttled_time = stat.get("throttled_time", 0)
    if read(accounting, "cpuacct.usage"):
        usage, ticks = told.cpu.usage, table(accounting, "cpuacct.stat")
        usage.total = number(accounting, "cpuacct.usage")
        usage.user, usage.kernel = ticks.get("user", 0) * _TICK, ticks.get("system", 0) * _TICK
        usage.per_cpu.extend(int(word) for word in read(accounting, "cpuacct.usage_percpu").split())


def _memory(told: Any, folder: str | None) -> None:
    stat = table(folder, "memory.stat")
    if not stat:
        return
    memory = told.memory
    # ``swap``, too, is a line of the file; the field of that name is a block of its own.
    known = memory.DESCRIPTOR.fields_by_name.keys() - _MEMORY_BLOCKS.keys()
    for name, amount in stat.items():
        total, base = ("total_", name[6:]) if name.startswith("total_") else ("", name)
        field = total + _MEMORY_NAMES.get(base, base)
        if field in known:
            setattr(memory, field, amount)
    for field, prefix in _MEMORY_BLOCKS.items():
        if read(folder, f"{prefix}.usage_in_bytes"):
            block = getattr(memory, field)
            block.usage = number(folder, f"{prefix}.usage_in_bytes")
            block.max = number(folder, f"{prefix}.max_usage_in_bytes")
            block.failcnt = number(folder, f"{prefix}.failcnt")
            block.limit = number(folder, f"{prefix}.limit_in_bytes")
    control = table(folder, "memory.oom_control")
    for name in ("oom_kill_disable", "under_oom", "oom_kill"):
        setattr(told.memory_oom_control, name, control.get(name, 0))


def _blkio(told: Any, folder: str | None) -> None:
    if folder is None:
        return
    told.blkio.SetInParent()
    names = dict(devices())
    # Kernels whose scheduler counts nothing still count what they throttle.
    for files in (_CFQ, _THROTTLE):
        for name, field in files.items():
            for major, minor, op, value in _operations(folder, f"blkio.{name}"):
                entry = getattr(told.blkio, field).add(op=op, major=major, minor=minor, value=value)
                entry.device = names.get((major, minor), "")
        if told.blkio.ByteSize():
            return


def _operations(folder: str, name: str) -> Iterator[tuple[int, int, str, int]]:
    """Device, operation and amount of lines such as ``8:0 Read 4096`` or ``8:0 12``; without that of all devices."""
    for line in read(folder, name).splitlines():
        words = line.replace(":", " ").split()
        if len(words) in {3, 4} and words[-1].isdigit():
            yield int(words[0]), int(words[1]), words[2] if len(words) == 4 else "", int(words[-1])


def devices() -> Iterator[tuple[tuple[int, int], str]]:
    """The numbers and paths of this machine's block devices."""
    for line in read("/proc", "partitions").splitlines()[2:]:
        major, minor, _, name = line.split()
        yield (int(major), int(minor)), f"/dev/{name}"


def _hugetlb(told: Any, folder: str | None) -> None:
    if folder is None or not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        parts = name.split(".")
        # ``hugetlb.2MB.rsvd.usage_in_bytes`` is of pages that nobody uses yet.
        if len(parts) == 3 and parts[0] == "hugetlb" and parts[2] == "usage_in_bytes":
            size = parts[1]
            told.hugetlb.add(
                usage=number(folder, name),
                max=number(folder, f"hugetlb.{size}.max_usage_in_bytes"),
                failcnt=number(folder, f"hugetlb.{size}.failcnt"),
                pagesize=size,
            )


def _rdma(told: Any, folder: str | None) -> None:
    if folder is None:
        return
    told.rdma.SetInParent()
    for name, entries in (("rdma.current", told.rdma.current), ("rdma.max", told.rdma.limit)):
        for device, handles, objects in rdma_entries(folder, name):
            entries.add(device=device, hca_handles=handles, hca_objects=objects)
