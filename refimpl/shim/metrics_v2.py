"""What a container uses, read from cgroup v2: io.containerd.cgroups.v2.Metrics (SHM-068, TSK-076).

Loaded when somebody asks. A controller that is not switched on leaves its part out; so does a cgroup that is gone.
"""

from __future__ import annotations

import os
from typing import Any

from refimpl.api import cgroups_v2_pb2 as pb
from refimpl.linux.cgroup_files import number, rdma_entries, read, table
from refimpl.shim.cgroups import Cgroup

_PRESSURE = {"some", "full"}


def metrics(cgroup: Cgroup) -> pb.Metrics:
    """Everything that the host counts for a cgroup."""
    folder = cgroup.directory("")
    found = pb.Metrics()
    # Told also where there is nothing to tell.
    found.rdma.SetInParent()
    found.io.SetInParent()
    if read(folder, "pids.current"):
        found.pids.current = number(folder, "pids.current")
        found.pids.limit = number(folder, "pids.max")
    _table(found.cpu, table(folder, "cpu.stat"))
    _pressure(found.cpu, read(folder, "cpu.pressure"))
    _memory(found, folder)
    _io(found, folder)
    _rdma(found, folder)
    _hugetlb(found, folder)
    return found


def _table(message: Any, values: dict[str, int]) -> None:
    """Set the fields of a message that a file names."""
    for name, value in values.items():
        if name in message.DESCRIPTOR.fields_by_name:
            setattr(message, name, value)


def _memory(found: pb.Metrics, folder: str | None) -> None:
    stat = table(folder, "memory.stat")
    if not stat:
        return
    _table(found.memory, stat)
    memory = found.memory
    # Two counters that newer kernels keep for anonymous and file pages apart.
    for field in ("workingset_refault", "workingset_activate"):
        setattr(memory, field, stat.get(field, stat.get(f"{field}_anon", 0) + stat.get(f"{field}_file", 0)))
    memory.usage, memory.usage_limit = number(folder, "memory.current"), number(folder, "memory.max")
    memory.swap_usage, memory.swap_limit = number(folder, "memory.swap.current"), number(folder, "memory.swap.max")
    memory.max_usage, memory.swap_max_usage = number(folder, "memory.peak"), number(folder, "memory.swap.peak")
    _pressure(memory, read(folder, "memory.pressure"))
    _table(found.memory_events, table(folder, "memory.events"))


def _io(found: pb.Metrics, folder: str | None) -> None:
    for line in read(folder, "io.stat").splitlines():
        device, *words = line.split()
        major, colon, minor = device.partition(":")
        if colon:
            values = {name: int(value) for name, _, value in (word.partition("=") for word in words) if value.isdigit()}
            _table(found.io.usage.add(major=int(major), minor=int(minor)), values)
    _pressure(found.io, read(folder, "io.pressure"))


def _pressure(message: Any, text: str) -> None:
    """Lines such as ``some avg10=0.00 avg60=0.00 avg300=0.00 total=0``; none where the kernel does not count it."""
    for line in text.splitlines():
        kind, *words = line.split()
        if kind in _PRESSURE:
            values = dict(word.split("=", 1) for word in words)
            data = getattr(message.psi, kind)
            data.avg10, data.avg60 = float(values.get("avg10", 0)), float(values.get("avg60", 0))
            data.avg300, data.total = float(values.get("avg300", 0)), int(values.get("total", 0))


def _rdma(found: pb.Metrics, folder: str | None) -> None:
    for name, entries in (("rdma.current", found.rdma.current), ("rdma.max", found.rdma.limit)):
        for device, handles, objects in rdma_entries(folder, name):
            entries.add(device=device, hca_handles=handles, hca_objects=objects)


def _hugetlb(found: pb.Metrics, folder: str | None) -> None:
    if folder is None or not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        parts = name.split(".")
        if len(parts) == 3 and parts[0] == "hugetlb" and parts[2] == "current":
            size = parts[1]
            found.hugetlb.add(
                current=number(folder, name),
                max=number(folder, f"hugetlb.{size}.max"),
                failcnt=table(folder, f"hugetlb.{size}.events").get("max", 0),
                pagesize=size,
            )
