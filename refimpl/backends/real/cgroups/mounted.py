"""Where the groups of a process are: the hierarchies that are mounted, and its place in each.

A host shows version 1 (a hierarchy for each controller), version 2 (one for all), or both: a *hybrid* host keeps its
controllers in version 1 and counts as that, as it does for containerd.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refimpl.contract.errors import Unknown
from refimpl.linux.mountinfo import unescaped

V1_CONTROLLERS = frozenset({"blkio", "cpu", "cpuacct", "hugetlb", "memory", "pids", "rdma"})
"""Those with numbers to show."""

_UNIFIED = ""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy.

    Attributes:
        point: where it is mounted.
        root: the group that is seen there; ``/`` but in a container.
    """

    point: Path
    root: str

    def directory(self, group: str) -> Path:
        """The directory of a group, by its path in /proc/PID/cgroup."""
        relative = os.path.relpath(group, self.root)
        return self.point / (group.lstrip("/") if relative.startswith("..") else relative)


def hierarchies(table: str) -> dict[str, Hierarchy]:
    """The hierarchies of version 1 by controller, and that of version 2 under the empty name.

    Args:
        table: text of /proc/self/mountinfo.
    """
    found: dict[str, Hierarchy] = {}
    # Mount points of any users may be in it, with whatever else ends a line of text.
    for line in filter(None, table.split("\n")):
        before, _, after = line.partition(" - ")
        root, point = (unescaped(os.fsencode(field)) for field in before.split(" ")[3:5])
        kind, _, options = after.split(" ", 2)
        hierarchy = Hierarchy(Path(point), root)
        if kind == "cgroup2":
            found.setdefault(_UNIFIED, hierarchy)
        elif kind == "cgroup":
            for controller in V1_CONTROLLERS.intersection(options.split(",")):
                found.setdefault(controller, hierarchy)
    return found


def groups(table: str) -> dict[str, str]:
    """The groups of a process: their paths by controller, that of version 2 under the empty name.

    Args:
        table: text of /proc/PID/cgroup.
    """
    found: dict[str, str] = {}
    for line in filter(None, table.split("\n")):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def v1_directories(pid: int) -> Mapping[str, Path]:
    """The directories of a process's groups in version 1, by controller.

    Raises:
        Unknown: there is no hierarchy of version 1 here (RT1-029), or no such process.
    """
    mounted = hierarchies(_read("/proc/self/mountinfo"))
    if not mounted.keys() & V1_CONTROLLERS:
        raise Unknown("cgroups: cgroup mountpoint does not exist")
    own = groups(_read(f"/proc/{pid}/cgroup"))
    return {name: mounted[name].directory(own[name]) for name in V1_CONTROLLERS & mounted.keys() & own.keys()}


def _read(path: str) -> str:
    try:
        # Not as text: that would make newlines of carriage returns.
        return os.fsdecode(Path(path).read_bytes())
    except OSError as error:
        raise Unknown(f"open {path}: {(error.strerror or '').lower()}") from error
