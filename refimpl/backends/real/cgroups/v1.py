"""What groups of version 1 say, as ``io.containerd.cgroups.v1.Metrics``. Clauses MON-006 to MON-011, MON-026, MON-028.

A file or a whole controller that is not there leaves its field empty: hosts differ in what they offer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from refimpl.api import cgroups_v1_pb2 as pb

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""Nanoseconds of a clock tick, in which cpuacct.stat counts."""

_MEMORY_NAMES = {
    "pgpgin": "pg_pg_in", "pgpgout": "pg_pg_out", "pgfault": "pg_fault", "pgmajfault": "pg_maj_fault",
    "total_pgpgin": "total_pg_pg_in", "total_pgpgout": "total_pg_pg_out", "total_pgfault": "total_pg_fault",
    "total_pgmajfault": "total_pg_maj_fault", "hierarchical_memsw_limit": "hierarchical_swap_limit",
}  # fmt: skip
"""Names of memory.stat whose field is called otherwise."""

_MEMORY_BLOCKS = {"usage": "memory", "swap": "memory.memsw", "kernel": "memory.kmem", "kernel_tcp": "memory.kmem.tcp"}

_BLKIO = {
    "sectors_recursive": "sectors_recursive", "io_service_bytes_recursive": "io_service_bytes_recursive",
    "io_serviced_recursive": "io_serviced_recursive", "io_queued_recursive": "io_queued_recursive",
    "io_service_time_recursive": "io_service_time_recursive", "io_wait_time_recursive": "io_wait_time_recursive",
    "io_merged_recursive": "io_merged_recursive", "time_recursive": "io_time_recursive",
}  # fmt: skip
"""Files of the scheduler CFQ, without ``blkio.``, and their fields."""

_THROTTLE = {"throttle.io_serviced": "io_serviced_recursive", "throttle.io_service_bytes": "io_service_bytes_recursive"}
"""The same of kernels that have no CFQ."""


def metrics(directories: Mapping[str, Path]) -> pb.Metrics:
    """Read a task's groups.

    Args:
        directories: by controller.
    """
    told = pb.Metrics()
    readers = {
        "pids": _pids, "cpu": _cpu, "cpuacct": _cpuacct, "memory": _memory, "blkio": _blkio, "hugetlb": _hugetlb,
        "rdma": _rdma,
    }  # fmt: skip
    for controller, directory in directories.items():
        readers[controller](directory, told)
    return told


def _pids(directory: Path, told: pb.Metrics) -> None:
    told.pids.current = number(directory / "pids.current")
    told.pids.limit = number(directory / "pids.max")


def _cpu(directory: Path, told: pb.Metrics) -> None:
    stat = pairs(directory / "cpu.stat")
    throttling = told.cpu.throttling
    throttling.periods = stat.get("nr_periods", 0)
    throttling.throttled_periods = stat.get("nr_throttled", 0)
    throttling.throttled_time = stat.get("throttled_time", 0)


def _cpuacct(directory: Path, told: pb.Metrics) -> None:
    stat = pairs(directory / "cpuacct.stat")
    usage = told.cpu.usage
    usage.total = number(directory / "cpuacct.usage")
    usage.user, usage.kernel = stat.get("user", 0) * _TICK, stat.get("system", 0) * _TICK
    usage.per_cpu.extend(int(word) for word in _text(directory / "cpuacct.usage_percpu").split())


def _memory(directory: Path, told: pb.Metrics) -> None:
    memory = told.memory
    fields = memory.DESCRIPTOR.fields_by_name
    for name, amount in pairs(directory / "memory.stat").items():
        field = _MEMORY_NAMES.get(name, name)
        if field in fields and field not in _MEMORY_BLOCKS:
            setattr(memory, field, amount)
    for field, prefix in _MEMORY_BLOCKS.items():
        if (directory / f"{prefix}.usage_in_bytes").exists():
            block = getattr(memory, field)
            block.usage = number(directory / f"{prefix}.usage_in_bytes")
            block.max = number(directory / f"{prefix}.max_usage_in_bytes")
            block.failcnt = number(directory / f"{prefix}.failcnt")
            block.limit = number(directory / f"{prefix}.limit_in_bytes")
    control = pairs(directory / "memory.oom_control")
    for name in ("oom_kill_disable", "under_oom", "oom_kill"):
        setattr(told.memory_oom_control, name, control.get(name, 0))


def _blkio(directory: Path, told: pb.Metrics) -> None:
    told.blkio.SetInParent()
    devices = dict(_devices())
    for files in (_BLKIO, _THROTTLE):
        for name, field in files.items():
            getattr(told.blkio, field).extend(_entries(directory / f"blkio.{name}", devices))
        if told.blkio.ByteSize():
            return


def _entries(file: Path, devices: Mapping[tuple[int, int], str]) -> Iterator[pb.BlkIOEntry]:
    """Lines such as ``8:0 Read 4096`` or ``8:0 12``; the total over all devices is left out."""
    for line in _text(file).splitlines():
        device, *rest = line.split()
        if device == "Total" or ":" not in device:
            continue
        major, minor = (int(part) for part in device.split(":"))
        yield pb.BlkIOEntry(
            op=rest[0] if len(rest) == 2 else "",
            device=devices.get((major, minor), ""),
            major=major,
            minor=minor,
            value=int(rest[-1]),
        )


def _devices() -> Iterator[tuple[tuple[int, int], str]]:
    for line in _text(Path("/proc/partitions")).splitlines()[2:]:
        major, minor, _, name = line.split()
        yield (int(major), int(minor)), f"/dev/{name}"


def _hugetlb(directory: Path, told: pb.Metrics) -> None:
    for file in sorted(directory.glob("hugetlb.*.usage_in_bytes")):
        prefix = file.name.removesuffix(".usage_in_bytes")
        if prefix.endswith(".rsvd"):
            continue
        told.hugetlb.add(
            usage=number(file),
            max=number(directory / f"{prefix}.max_usage_in_bytes"),
            failcnt=number(directory / f"{prefix}.failcnt"),
            pagesize=prefix.removeprefix("hugetlb."),
        )


def _rdma(directory: Path, told: pb.Metrics) -> None:
    for name, entries in (("rdma.current", told.rdma.current), ("rdma.max", told.rdma.limit)):
        for line in _text(directory / name).splitlines():
            device, *values = line.split()
            amounts = dict(value.split("=", 1) for value in values)
            handles, objects = (amounts.get(key, "0") for key in ("hca_handle", "hca_object"))
            entries.add(
                device=device, hca_handles=_counted(handles, 0xFFFF_FFFF), hca_objects=_counted(objects, 0xFFFF_FFFF)
            )


def number(file: Path) -> int:
    """The number in a file; 0 for ``max``, and for a file that is not there."""
    return _counted(_text(file).strip(), 0)


def pairs(file: Path) -> dict[str, int]:
    """Lines of a name and a number; none for a file that is not there."""
    lines = (line.split() for line in _text(file).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdecimal()}


def _counted(text: str, unlimited: int) -> int:
    return int(text) if text.isdecimal() else unlimited


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        # Not there, gone meanwhile, or not offered (EOPNOTSUPP): then it says nothing.
        return ""
