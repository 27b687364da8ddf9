"""Processes and mounts of this machine, as ``/proc`` tells of them."""

from __future__ import annotations

import contextlib
import os
import signal
from itertools import pairwise
from pathlib import Path

from refimpl.linux.mountinfo import mounted


def stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` after the name, the first being the state; empty without the process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    fields = stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def parent(pid: int) -> int:
    """The parent's pid; 0 without the process."""
    fields = stat(pid)
    return int(fields[1]) if fields else 0


def begun(pid: int) -> str:
    """When the process began, in ticks since boot: with the pid it names one process for good."""
    fields = stat(pid)
    return fields[19] if fields else ""


def children(pid: int) -> dict[int, str]:
    """The children of a process with their states."""
    found = {}
    for other in _all():
        fields = stat(other)
        if fields and int(fields[1]) == pid:
            found[other] = fields[0]
    return found


def arguments(pid: int) -> list[str]:
    """The command line of a process."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="replace").rstrip("\0").split("\0")


def serving(address: str) -> list[int]:
    """Processes of shims of the daemon at that address: their command lines say it."""
    return [pid for pid in _all() if pid != os.getpid() and _serves(arguments(pid), address) and alive(pid)]


def _serves(argv: list[str], address: str) -> bool:
    return any(first == "-address" and second == address for first, second in pairwise(argv))


def _all() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal; a process that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def mounts_below(top: Path) -> list[str]:
    """Mount points below a directory, deepest first."""
    points = [mount.point for mount in mounted()]
    return sorted((point for point in points if point.startswith(f"{top}/")), key=len, reverse=True)
