"""A container without walls: it has the capabilities of whoever makes it, every device, and nothing is hidden from it.

As ``ctr run --privileged`` means it. Namespaces and the limits of resources stay as they are.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Document = dict[str, Any]

_CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
"""Their names by the numbers of capabilities(7)."""

_OTHERS = {"pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"}
"""What a container has of its own in this directory, or what is none of its devices."""


def privileged(spec: Document, devices: Path = Path("/dev")) -> Document:
    """The spec of the same container without walls.

    Args:
        devices: where this machine has them; the container gets all that are below.
    """
    capabilities = [f"CAP_{name}" for name in _own_capabilities()]
    linux = {name: value for name, value in spec["linux"].items() if name not in {"maskedPaths", "readonlyPaths"}}
    return {
        **spec,
        "process": {
            **spec["process"],
            "capabilities": dict.fromkeys(spec["process"]["capabilities"], capabilities),
        },
        "mounts": [_writable(mount) for mount in spec["mounts"]],
        "linux": {
            **linux,
            "resources": {**linux["resources"], "devices": [{"allow": True, "access": "rwm"}]},
            "devices": sorted(_devices(devices), key=lambda device: str(device["path"])),
        },
    }


def _own_capabilities() -> Iterator[str]:
    """Those of this process, in the order of their numbers; one that has no name here cannot be asked for."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert effective is not None, "every Linux has this line"
    for number, name in enumerate(_CAPABILITIES):
        if int(effective[1], 16) >> number & 1:
            yield name


def _writable(mount: Document) -> Document:
    """The same, writable if it shows the kernel's own settings."""
    if mount["type"] not in {"sysfs", "cgroup"}:
        return mount
    return {**mount, "options": ["rw" if option == "ro" else option for option in mount["options"]]}


def _devices(directory: Path) -> Iterator[Document]:
    for entry in directory.iterdir():
        if entry.name in _OTHERS:
            continue
        try:
            found = entry.lstat()
        except FileNotFoundError:  # unplugged meanwhile
            continue
        if stat.S_ISDIR(found.st_mode):
            yield from _devices(entry)
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            yield {
                "path": str(entry),
                "type": "b" if stat.S_ISBLK(found.st_mode) else "c",
                "major": os.major(found.st_rdev),
                "minor": os.minor(found.st_rdev),
                "fileMode": stat.S_IMODE(found.st_mode),
                "uid": found.st_uid,
                "gid": found.st_gid,
            }
