"""Prometheus series of a task, from the protobuf of its cgroup, under containerd's names.

Clauses MON-005 to MON-015.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from google.protobuf.message import Message

from refimpl.api import cgroups_v1_pb2 as v1
from refimpl.api import cgroups_v2_pb2 as v2


@dataclass(frozen=True, slots=True)
class Series:
    """One sample; all are gauges (MON-005).

    Attributes:
        labels: besides those of the task.
    """

    name: str
    value: float
    help: str
    labels: dict[str, str] = field(default_factory=dict)


_V1_STAT = {
    "cache": "cache", "rss": "rss", "rss_huge": "rss_huge", "mapped_file": "mapped_file", "dirty": "dirty",
    "writeback": "writeback", "pg_pg_in": "pgpgin", "pg_pg_out": "pgpgout", "pg_fault": "pgfault",
    "pg_maj_fault": "pgmajfault", "inactive_anon": "inactive_anon", "active_anon": "active_anon",
    "inactive_file": "inactive_file", "active_file": "active_file", "unevictable": "unevictable",
}  # fmt: skip
_V1_BLOCKS = {"usage": "usage", "swap": "swap", "kernel": "kernel", "kernel_tcp": "kerneltcp"}
_V1_BLKIO = {
    "io_service_bytes_recursive": "bytes", "io_serviced_recursive": "total", "io_queued_recursive": "total",
    "io_service_time_recursive": "total", "io_merged_recursive": "total", "io_time_recursive": "total",
    "sectors_recursive": "total",
}  # fmt: skip
_V2_CPU = {
    "usage_usec": "usage_usec_microseconds", "user_usec": "user_usec_microseconds",
    "system_usec": "system_usec_microseconds", "throttled_usec": "throttled_usec_microseconds",
    "nr_periods": "nr_periods_total", "nr_throttled": "nr_throttled_total",
}  # fmt: skip
_V2_MEMORY = (
    "usage", "usage_limit", "swap_usage", "swap_limit", "anon", "file", "kernel_stack", "slab", "sock", "shmem",
    "file_mapped", "file_dirty", "file_writeback", "anon_thp", "inactive_anon", "active_anon", "inactive_file",
    "active_file", "unevictable", "slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault",
    "workingset_refault", "workingset_activate", "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal",
    "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
)  # fmt: skip
_V2_IO = {"rbytes": "rbytes_bytes", "wbytes": "wbytes_bytes", "rios": "rios_total", "wios": "wios_total"}


def series(metrics: Message) -> list[Series]:
    """The series of one task.

    Raises:
        TypeError: not the metrics of a cgroup (MON-022).
    """
    if isinstance(metrics, v1.Metrics):
        return [*_v1_cpu(metrics), *_v1_memory(metrics.memory), *_v1_rest(metrics)]
    if isinstance(metrics, v2.Metrics):
        return list(_v2(metrics))
    raise TypeError(f"invalid metric type: {metrics.DESCRIPTOR.full_name}")


def _pids(stat: v1.PidsStat | v2.PidsStat) -> Iterator[Series]:
    yield Series("container_pids_current", stat.current, "Processes in the cgroup")
    yield Series("container_pids_limit", stat.limit, "Most processes allowed, 0 for no limit")


def _v1_cpu(metrics: v1.Metrics) -> Iterator[Series]:
    usage, throttling = metrics.cpu.usage, metrics.cpu.throttling
    yield from _pids(metrics.pids)
    yield Series("container_cpu_total_nanoseconds", usage.total, "Processor time")
    yield Series("container_cpu_kernel_nanoseconds", usage.kernel, "Processor time in the kernel")
    yield Series("container_cpu_user_nanoseconds", usage.user, "Processor time in programs")
    for number, value in enumerate(usage.per_cpu):
        yield Series("container_per_cpu_nanoseconds", value, "Processor time by processor", {"cpu": str(number)})
    yield Series("container_cpu_throttle_periods_total", throttling.periods, "Scheduling periods")
    yield Series("container_cpu_throttled_periods_total", throttling.throttled_periods, "Periods cut short")
    yield Series("container_cpu_throttled_time_nanoseconds", throttling.throttled_time, "Time lost by the quota")


def _v1_memory(memory: v1.MemoryStat) -> Iterator[Series]:
    for block, name in _V1_BLOCKS.items():
        entry = getattr(memory, block)
        for unit, field_ in (("usage_bytes", "usage"), ("limit_bytes", "limit"), ("max_bytes", "max")):
            yield Series(f"container_memory_{name}_{unit}", getattr(entry, field_), f"Memory ({name}): {field_}")
        yield Series(f"container_memory_{name}_failcnt_total", entry.failcnt, f"Memory ({name}): limit hit")
    for name, shown in _V1_STAT.items():
        yield Series(f"container_memory_{shown}_bytes", getattr(memory, name), f"{shown} of memory.stat")
        total = getattr(memory, f"total_{name}")
        yield Series(f"container_memory_total_{shown}_bytes", total, f"total_{shown} of memory.stat")
    text = "Smallest limit up to the root"
    yield Series("container_memory_hierarchical_memory_limit_bytes", memory.hierarchical_memory_limit, text)
    yield Series("container_memory_hierarchical_memsw_limit_bytes", memory.hierarchical_swap_limit, text)


def _v1_rest(metrics: v1.Metrics) -> Iterator[Series]:
    for huge in metrics.hugetlb:
        labels = {"page": huge.pagesize}
        yield Series("container_hugetlb_usage_bytes", huge.usage, "Huge pages in use", labels)
        yield Series("container_hugetlb_max_bytes", huge.max, "Most huge pages so far", labels)
        yield Series("container_hugetlb_failcnt_total", huge.failcnt, "Huge pages: limit hit", labels)
    for name, unit in _V1_BLKIO.items():
        for entry in getattr(metrics.blkio, name):
            labels = {"op": entry.op, "device": entry.device, "major": str(entry.major), "minor": str(entry.minor)}
            yield Series(f"container_blkio_{name}_{unit}", entry.value, f"Block devices: {name}", labels)


def _v2(metrics: v2.Metrics) -> Iterator[Series]:
    yield from _pids(metrics.pids)
    for name, shown in _V2_CPU.items():
        yield Series(f"container_cpu_{shown}", getattr(metrics.cpu, name), f"{name} of cpu.stat")
    for name in _V2_MEMORY:
        yield Series(f"container_memory_{name}_bytes", getattr(metrics.memory, name), f"Memory: {name}")
    yield Series("container_memory_oom_total", metrics.memory_events.oom, "Out-of-memory events")
    for entry in metrics.io.usage:
        labels = {"major": str(entry.major), "minor": str(entry.minor)}
        for name, shown in _V2_IO.items():
            yield Series(f"container_io_{shown}", getattr(entry, name), f"Block devices: {name}", labels)
