"""The areas of the contract: which have checks, and why the others have none yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUITES = Path(__file__).parent / "suites"
"""Where the checks are."""


@dataclass(frozen=True, slots=True)
class Area:
    """One file of clauses and the modules of its checks.

    Attributes:
        reason: why there are no checks yet; empty where there are.
    """

    name: str
    title: str
    reason: str = ""

    @property
    def modules(self) -> list[str]:
        """Names in ``conformance.suites``: the area's own and, of a large area, ``<area>_<part>``."""
        return sorted(file.stem for file in SUITES.glob("*.py") if file.stem.partition("_")[0] == self.name)


_TASKS = "checks join with the runtimes that they judge"
_STORAGE = "checks join with the storage backends that they judge"
_DAEMON = "checks follow once every plugin that a daemon is made of is built"

AREAS: dict[str, Area] = {
    area.name: area
    for area in (
        Area("content", "Content store"),
        Area("snapshots", "Snapshots"),
        Area("images", "Images"),
        Area("namespaces", "Namespaces"),
        Area("containers", "Containers"),
        Area("leases", "Leases"),
        Area("gc", "Garbage collection"),
        Area("events", "Events"),
        Area("diff", "Differ"),
        Area("metadata", "Metadata database"),
        Area("mounts", "Mounts"),
        Area("snapshotters", "Snapshotters, one by one"),
        Area("tasks", "Tasks"),
        Area("shim", "Shims"),
        Area("runtime1", "Runtime v1"),
        Area("monitor", "Cgroup monitor"),
        Area("restart", "Restart monitor"),
        Area("kernel", "Plugin kernel", reason=_DAEMON),
        Area("daemon", "Daemon", reason=_DAEMON),
        Area("services", "Services", reason=_DAEMON),
        Area("cri", "Kubernetes runtime interface", reason="checks join with the CRI plugin"),
    )
}

BUILT = tuple(area.name for area in AREAS.values() if not area.reason)
"""Areas that have checks, in the order in which they run."""
