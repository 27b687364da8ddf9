"""Limits of the OCI spec (``linux.resources``) put on a fake cgroup, with runc's checks and messages.

Clauses TSK-073, RT1-030.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refimpl.backends.fake.cgroups import PERIOD, Cgroup, CgroupTree
from refimpl.backends.fake.runtime_json import kind

_SHARES_MIN, _SHARES_MAX = 2, 262144
_QUOTA_MIN = 1000

INIT_USAGE = 2_211_840
"""Bytes that the OCI runtime's own init takes while it sets the limits: less than this cannot be allowed at create."""


def check_types(resources: Mapping[str, Any]) -> None:
    """What Go's decoder checks of a ``LinuxResources``.

    Raises:
        ValueError: a value of another type.
    """
    for name, go_type, numbers in (
        ("memory", "LinuxMemory", ("limit", "reservation", "swap", "kernel")),
        ("cpu", "LinuxCPU", ("shares", "quota", "period")),
        ("pids", "LinuxPids", ("limit",)),
    ):
        section = resources.get(name)
        if section is None:
            continue
        if not isinstance(section, dict):
            field = f"LinuxResources.{name} of type specs.{go_type}"
            raise ValueError(f"json: cannot unmarshal {kind(section)} into Go struct field {field}")  # noqa: TRY004
        for key in numbers:
            value = section.get(key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                unsigned = key in {"shares", "period"}
                field = f"{go_type}.{name}.{key} of type {'uint64' if unsigned else 'int64'}"
                raise ValueError(f"json: cannot unmarshal {kind(value)} into Go struct field {field}")


def apply(tree: CgroupTree, group: Cgroup, resources: Mapping[str, Any], *, least: int = 0) -> None:
    """Set the limits that are given; all or none.

    Args:
        least: bytes that are in use besides those charged.

    Raises:
        ValueError: a value that the kernel refuses; the text is runc's.
    """
    memory, cpu, pids = (resources.get(name) or {} for name in ("memory", "cpu", "pids"))
    with tree.lock:
        _check_memory(group, memory, least)
        _check_cpu(group, cpu)
        if memory.get("limit"):
            group.memory_limit = memory["limit"] if memory["limit"] > 0 else None
        if memory.get("swap"):
            group.swap_limit = memory["swap"] if memory["swap"] > 0 else None
        if memory.get("disableOOMKiller") is not None:
            group.oom_kill_disabled = bool(memory["disableOOMKiller"])
        if cpu.get("shares"):
            group.shares = cpu["shares"]
        if cpu.get("period"):
            group.period = cpu["period"]
        if cpu.get("quota"):
            group.quota = cpu["quota"] if cpu["quota"] > 0 else None
        if pids.get("limit"):
            group.pids_limit = pids["limit"] if pids["limit"] > 0 else None


def _check_memory(group: Cgroup, memory: Mapping[str, Any], least: int) -> None:
    limit = memory.get("limit") or 0
    if limit < -1:
        path = f"/sys/fs/cgroup/memory{group.path}/memory.limit_in_bytes"
        raise ValueError(f'failed to write "{limit}": write {path}: invalid argument')
    usage = group.memory + least
    if 0 < limit < usage:
        peak = max(group.peak, usage)
        raise ValueError(f"unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")
    swap = memory.get("swap") or 0
    if 0 < swap < limit:
        path = f"/sys/fs/cgroup/memory{group.path}/memory.memsw.limit_in_bytes"
        raise ValueError(f'failed to write "{swap}": write {path}: invalid argument')


def _check_cpu(group: Cgroup, cpu: Mapping[str, Any]) -> None:
    shares = cpu.get("shares") or 0
    if 0 < shares < _SHARES_MIN:
        raise ValueError(f"the minimum allowed cpu-shares is {_SHARES_MIN}")
    if shares > _SHARES_MAX:
        raise ValueError(f"the maximum allowed cpu-shares is {_SHARES_MAX}")
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    base = f"/sys/fs/cgroup/cpu{group.path}/cpu.cfs_"
    if 0 < quota < _QUOTA_MIN or quota < -1:
        raise ValueError(f'failed to write "{quota}": write {base}quota_us: invalid argument')
    if period and not _QUOTA_MIN <= period <= 10 * PERIOD:
        raise ValueError(f'failed to write "{period}": write {base}period_us: invalid argument')
