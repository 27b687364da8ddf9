"""What a fake cgroup says, as the protobuf of the host's cgroup version. Clauses MON-026 to MON-028."""

from __future__ import annotations

from refimpl.api import cgroups_v1_pb2 as v1
from refimpl.api import cgroups_v2_pb2 as v2
from refimpl.api import typeurl
from refimpl.backends.fake.cgroups import UNLIMITED, Cgroup, CgroupTree
from refimpl.contract.types import TypedAny

_TICK = 10_000_000
_PAGE = 4096
_UNLIMITED_V2 = (1 << 64) - 1


def stats(tree: CgroupTree, group: Cgroup) -> TypedAny:
    """The group's numbers as of now."""
    with tree.lock:
        packed = typeurl.pack(_v1(tree, group) if tree.version == 1 else _v2(group))
    return TypedAny(packed.type_url, packed.value)


def _v1(tree: CgroupTree, group: Cgroup) -> v1.Metrics:
    anonymous = max(0, group.memory - group.kernel_memory)
    limit = UNLIMITED if group.memory_limit is None else group.memory_limit
    swap = UNLIMITED if group.swap_limit is None else group.swap_limit
    faults = group.peak // _PAGE
    used = {"rss": anonymous, "inactive_anon": anonymous}
    counts = {"pg_pg_in": faults, "pg_pg_out": max(0, faults - anonymous // _PAGE), "pg_fault": faults}
    both = {**used, **counts}
    return v1.Metrics(
        pids=v1.PidsStat(current=group.pids, limit=group.pids_limit or 0),
        cpu=v1.CPUStat(
            usage=v1.CPUUsage(
                total=group.cpu_user + group.cpu_system,
                kernel=group.cpu_system // _TICK * _TICK,
                user=group.cpu_user // _TICK * _TICK,
                per_cpu=[group.cpu_by_processor.get(number, 0) for number in range(tree.processors)],
            ),
            throttling=v1.Throttle(
                periods=group.periods, throttled_periods=group.throttled_periods, throttled_time=group.throttled
            ),
        ),
        memory=v1.MemoryStat(
            **both,
            **{f"total_{name}": value for name, value in both.items()},
            hierarchical_memory_limit=limit,
            hierarchical_swap_limit=swap,
            usage=v1.MemoryEntry(limit=limit, usage=group.memory, max=group.peak, failcnt=group.failcnt),
            swap=v1.MemoryEntry(limit=swap, usage=group.memory, max=group.peak),
            kernel=v1.MemoryEntry(limit=UNLIMITED, usage=group.kernel_memory, max=group.kernel_peak),
            kernel_tcp=v1.MemoryEntry(limit=UNLIMITED),
        ),
        blkio=v1.BlkIOStat(),
        memory_oom_control=v1.MemoryOomControl(oom_kill_disable=int(group.oom_kill_disabled), oom_kill=group.oom_kills),
    )


def _v2(group: Cgroup) -> v2.Metrics:
    anonymous = max(0, group.memory - group.kernel_memory)
    limit = _UNLIMITED_V2 if group.memory_limit is None else group.memory_limit
    return v2.Metrics(
        pids=v2.PidsStat(current=group.pids, limit=group.pids_limit or 0),
        cpu=v2.CPUStat(
            usage_usec=(group.cpu_user + group.cpu_system) // 1000,
            user_usec=group.cpu_user // 1000,
            system_usec=group.cpu_system // 1000,
            nr_periods=group.periods,
            nr_throttled=group.throttled_periods,
            throttled_usec=group.throttled // 1000,
        ),
        memory=v2.MemoryStat(
            anon=anonymous,
            inactive_anon=anonymous,
            kernel_stack=group.kernel_memory,
            pgfault=group.peak // _PAGE,
            usage=group.memory,
            usage_limit=limit,
            swap_limit=_UNLIMITED_V2,
        ),
        io=v2.IOStat(),
        memory_events=v2.MemoryEvents(max=group.failcnt, oom=group.oom_kills, oom_kill=group.oom_kills),
    )
