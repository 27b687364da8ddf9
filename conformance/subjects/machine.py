"""What this machine offers to a daemon that uses it for real."""

from __future__ import annotations

import shutil
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_LOOP_CONTROL, _FUSE = Path("/dev/loop-control"), Path("/dev/fuse")


def capabilities() -> frozenset[str]:
    """Words of ``conformance.needs`` that hold on this machine."""
    words = {"fifo"}
    # A hybrid host is one of version 1 for containerd: the controllers are there.
    words.add("cgroup-v2" if (_CGROUPS / "cgroup.controllers").exists() else "cgroup-v1")
    if shutil.which("criu") is not None:
        words.add("criu")
    if shutil.which("containerd-shim-runc-v2") is not None:
        words.add("shim")
    if _LOOP_CONTROL.exists() and shutil.which("mkfs.ext4") is not None:
        words.add("loop")
    if _FUSE.exists():
        words.add("fuse")
    return frozenset(words)
