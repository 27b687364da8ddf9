"""Where the cgroups of a process are, on cgroup v1, v2 and hosts with both (SHM-037, SHM-068, SHM-080, TSK-072)."""

from __future__ import annotations

import contextlib
import os

PROC = "/proc"
_TOP = "/sys/fs/cgroup"


def unified() -> bool:
    """Whether the host has version 2 alone; a hybrid host counts as version 1."""
    return os.path.exists(f"{_TOP}/cgroup.controllers")


class Cgroup:
    """The cgroup of a container, as it was when its init was made; the directories may be gone by now.

    Attributes:
        paths: the directory of each controller of version 1 (``memory``, ``cpuacct``, ...); of version 2 under ``""``.
    """

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths = paths

    @property
    def version(self) -> int:
        """1 or 2."""
        return 2 if "" in self.paths else 1

    def directory(self, controller: str) -> str | None:
        """The directory of a controller, if the host has it."""
        return self.paths.get("" if self.version == 2 else controller)

    def pids(self) -> list[int]:
        """Processes in it and below; none when it is gone."""
        top = self.paths.get("") or self.paths.get("freezer") or next(iter(self.paths.values()), "")
        found = []
        for folder, _, files in os.walk(top):
            if "cgroup.procs" in files:
                # Gone, or (version 2) of a kind that has no processes of its own.
                with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs", encoding="ascii") as file:
                    found += [int(line) for line in file]
        return found


def cgroup_of(pid: int) -> Cgroup | None:
    """The cgroup of a process; None when it is gone, or the host has none."""
    try:
        with open(f"{PROC}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    mounted = _mounts()
    paths = {}
    for _, controllers, path in lines:
        if unified() and not controllers:
            paths[""] = _below(mounted[""], path) if "" in mounted else _TOP + path
        elif not unified() and controllers:
            for name in controllers.split(","):
                if name in mounted:
                    paths[name] = _below(mounted[name], path)
    return Cgroup(paths) if paths else None


def existing(path: str) -> list[str]:
    """The directories of a cgroup that is named by its path, in every hierarchy that has it; empty if none has."""
    mounted = _mounts()
    wanted = [""] if unified() else [name for name in mounted if name]
    folders = {_below(mounted[name], path) for name in wanted if name in mounted}
    return sorted(folder for folder in folders if os.path.isdir(folder))


def _mounts() -> dict[str, tuple[str, str]]:
    """Mount point, and the cgroup that is mounted there, of each controller; of version 2 under ``""``."""
    found: dict[str, tuple[str, str]] = {}
    # Lines end at a newline only, and words at a blank: a mount point may hold whatever else Python takes for one.
    with open(f"{PROC}/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            words = line.rstrip("\n").split(" ")
            dash = words.index("-", 6)
            kind, options = words[dash + 1], words[-1].split(",")
            if kind == "cgroup2":
                found.setdefault("", (words[4], words[3]))
            elif kind == "cgroup":
                for name in options:
                    if name not in {"rw", "ro"} and not name.startswith(("name=", "xattr", "release_agent")):
                        found.setdefault(name, (words[4], words[3]))
    return found


def _below(mounted: tuple[str, str], path: str) -> str:
    point, root = mounted
    inner = path
    if root != "/" and (path == root or path.startswith(root + "/")):
        inner = path[len(root) :]
    return os.path.normpath(f"{point}/{inner}")
