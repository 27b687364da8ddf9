"""The daemon's place among processes: how likely it is killed, and in which cgroup it is. Clauses DMN-038, DMN-039."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger("refimpl.daemon")

_CGROUPS = Path("/sys/fs/cgroup")


def set_oom_score(score: int) -> None:
    """Write the score for the kernel's choice of whom to kill; 0 leaves it. A failure is logged, not fatal."""
    if score == 0:
        return
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score))
    except PermissionError as error:
        # Only root may ask for less than it has.
        log.info("oom_score_adj is left as it is", extra={"fields": {"error": error}})
    except OSError as error:
        log.error("failed to change OOM score to %d", score, extra={"fields": {"error": error}})


def join_cgroup(path: str, cgroups: Path = _CGROUPS) -> None:
    """Move this process into a cgroup; nothing for an empty path.

    With version 1 into the same path of every controller, made if missing; with version 2 into a group that exists.

    Raises:
        OSError: it cannot.
    """
    if not path:
        return
    inside = path.lstrip("/")
    if (cgroups / "cgroup.controllers").exists():
        _enter(cgroups / inside)
        return
    for hierarchy in sorted({entry.resolve() for entry in cgroups.iterdir() if entry.is_dir()}):
        if (hierarchy / "cgroup.procs").exists() and not (hierarchy / "cgroup.controllers").exists():
            group = hierarchy / inside
            group.mkdir(parents=True, exist_ok=True)
            _inherit_cpuset(hierarchy, group)
            _enter(group)


def _inherit_cpuset(hierarchy: Path, group: Path) -> None:
    """A new cpuset group has no processors and no memory, and takes nobody in until it is given some."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        for directory in reversed([group, *group.parents]):
            setting = directory / name
            inside = directory.is_relative_to(hierarchy) and directory != hierarchy and setting.exists()
            if inside and not setting.read_text().strip():
                setting.write_text((directory.parent / name).read_text())


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))
