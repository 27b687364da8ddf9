"""What runc keeps of containers on this machine, and how a run takes away its own part of it.

Shims have runc keep its state below ``/run/containerd/runc/NAMESPACE``, wherever the daemon's own directories are. The
directory of a namespace is never removed by anybody, and that of a container not when its shim was killed. Nor is the
control group ``/NAMESPACE``, below which clients such as ``ctr`` put their containers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

from conformance import patience

PREFIX = "conform-"
"""All namespaces of a run begin like this, so that a user of a live daemon can tell them from the own ones."""

HERE, THERE = (f"{PREFIX}{name}-{uuid.uuid4().hex[:8]}" for name in ("here", "there"))
"""Namespaces of this process alone, for checks that have a daemon to themselves; its containers are the machine's."""

ROOT = Path("/run/containerd/runc")

CGROUPS = Path("/sys/fs/cgroup")

_SECONDS = 2 * patience.SECONDS

_forgotten: set[str] = set()


def forget(namespace: str) -> None:
    """End and remove what runc knows of a namespace of the run's own, once no daemon is asked about it any more.

    Never raises; nothing happens for a namespace that is not the run's, or where there is no such state.
    """
    if not namespace.startswith(PREFIX) or "/" in namespace:
        return
    _forgotten.add(namespace)
    folder = ROOT / namespace
    if folder.is_dir():
        _end_containers(folder)
    # One in each hierarchy, or a single one with version 2.
    for group in (CGROUPS / namespace, *CGROUPS.glob(f"*/{namespace}")):
        _remove_groups(group)


def forget_all() -> None:
    """Forget once more what this process has forgotten: a shim that was ending may have come back to it."""
    for namespace in list(_forgotten):
        forget(namespace)
    _forgotten.clear()


def _end_containers(folder: Path) -> None:
    with suppress(OSError, subprocess.TimeoutExpired):
        for state in folder.glob("*/state.json"):
            # It also ends a process that is still there, and removes its cgroup.
            command = ["runc", "--root", str(folder), "delete", "--force", state.parent.name]
            subprocess.run(command, check=False, capture_output=True, timeout=_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_groups(top: Path) -> None:
    """Remove control groups from the leaves up; those with processes in them stay."""
    for group, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):
            Path(group).rmdir()
