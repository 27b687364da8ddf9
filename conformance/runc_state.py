"""What runc keeps of containers on this machine, and how a run takes away its own part of it.

Shims have runc keep its state below ``/run/containerd/runc/NAMESPACE``, wherever the daemon's own directories are. The
directory of a namespace is never removed by anybody, and that of a container not when its shim was killed.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

PREFIX = "conform-"
"""All namespaces of a run begin like this, so that a user of a live daemon can tell them from the own ones."""

HERE, THERE = (f"{PREFIX}{name}-{uuid.uuid4().hex[:8]}" for name in ("here", "there"))
"""Namespaces of this process alone, for checks that have a daemon to themselves; its containers are the machine's."""

ROOT = Path("/run/containerd/runc")

_SECONDS = 10.0


def forget(namespace: str) -> None:
    """End and remove what runc knows of a namespace of the run's own, once no daemon is asked about it any more.

    Never raises; nothing happens for a namespace that is not the run's, or where there is no such state.
    """
    folder = ROOT / namespace
    if not namespace.startswith(PREFIX) or "/" in namespace or not folder.is_dir():
        return
    with suppress(OSError, subprocess.TimeoutExpired):
        for state in folder.glob("*/state.json"):
            # It also ends a process that is still there, and removes its cgroup.
            command = ["runc", "--root", str(folder), "delete", "--force", state.parent.name]
            subprocess.run(command, check=False, capture_output=True, timeout=_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
