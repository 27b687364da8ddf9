"""The OCI runtime spec of a container: what containerd's clients give by default, an image's config, and wishes.

A container gets namespaces of its own, fourteen capabilities, the usual devices and file systems; an image's config
says what runs and as whom; whoever starts it may say otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refimpl.client.privileged import privileged
from refimpl.client.users import User
from refimpl.contract.errors import InvalidArgument

Document = dict[str, Any]

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PERIOD = 100_000
"""Microseconds in which a quota of CPU time is counted."""

_CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID"),
    *("SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)
_DEVICES = ((1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9), (5, 1), (136, None), (5, 2))
"""null, random, full, tty, zero, urandom, console, all of pts, ptmx."""

_MASKED = (
    *(f"/proc/{name}" for name in ("acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats")),
    *("/proc/sched_debug", "/sys/firmware", "/proc/scsi"),
)
_READ_ONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))
_STRICT = ("nosuid", "noexec", "nodev")
_SMALL = ("nosuid", "strictatime", "mode=755", "size=65536k")
_MOUNTS = (
    ("/proc", "proc", "proc", _STRICT),
    ("/dev", "tmpfs", "tmpfs", _SMALL),
    ("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    ("/dev/shm", "tmpfs", "shm", (*_STRICT, "mode=1777", "size=65536k")),  # noqa: S108  # inside the container
    ("/dev/mqueue", "mqueue", "mqueue", _STRICT),
    ("/sys", "sysfs", "sysfs", (*_STRICT, "ro")),
    ("/run", "tmpfs", "tmpfs", _SMALL),
)
_FROM_HOST = ("/etc/hosts", "/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked of a container beside its image; empty and zero leave it as the image or the defaults say.

    Attributes:
        args: the command; the image's entry point comes before it.
        env: ``NAME=VALUE``; these replace the image's of the same name.
        mounts: further mounts, as the spec has them.
        memory: bytes at most.
        cpus: how many CPUs' worth of time at most.
        host_network: the host's network instead of one of its own, which has nothing but an unconfigured loopback.
        privileged: every device of this machine, this process's capabilities, and nothing masked or read-only.
    """

    args: Sequence[str] = ()
    env: Sequence[str] = ()
    cwd: str = ""
    mounts: Sequence[Document] = ()
    memory: int = 0
    cpus: float = 0.0
    read_only: bool = False
    terminal: bool = False
    host_network: bool = False
    privileged: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


def spec_of(namespace: str, id: str, config: Mapping[str, Any], user: User, wishes: Wishes) -> Document:
    """The spec of a container.

    Args:
        config: the image's, without what is around it (``Env``, ``Cmd``, ...).

    Raises:
        InvalidArgument: neither the image nor the wishes say what to run.
    """
    args = [*(config.get("Entrypoint") or ()), *(wishes.args or config.get("Cmd") or ())]
    if not args:
        raise InvalidArgument("the image names no command, and none was given")
    env = merged(config.get("Env") or [DEFAULT_PATH], ["TERM=xterm"] if wishes.terminal else [], wishes.env)
    capabilities = [f"CAP_{name}" for name in _CAPABILITIES]
    process: Document = {
        "user": user.document(),
        "args": args,
        "env": env,
        "cwd": wishes.cwd or config.get("WorkingDir") or "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }
    if wishes.terminal:
        process["terminal"] = True
    mounts = [
        {"destination": where, "type": kind, "source": source, "options": list(options)}
        for where, kind, source, options in _MOUNTS
    ]
    if wishes.host_network:
        mounts += [bind(path, path, ("rbind", "ro")) for path in _FROM_HOST]
    kinds = ["pid", "ipc", "uts", "mount", *([] if wishes.host_network else ["network"])]
    spec: Document = {
        "ociVersion": "1.0.2-dev",
        "process": process,
        "root": {"path": "rootfs", **({"readonly": True} if wishes.read_only else {})},
        "mounts": [*mounts, *wishes.mounts],
        "linux": {
            "resources": _resources(wishes),
            "cgroupsPath": f"/{namespace}/{id}",
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
        },
    }
    return privileged(spec) if wishes.privileged else spec


def process_of(spec: Mapping[str, Any], args: Sequence[str], user: User | None, wishes: Wishes) -> Document:
    """The process of an exec: that of the container with another command, and with wishes.

    Raises:
        InvalidArgument: the container's spec has no process.
    """
    own = spec.get("process")
    if not isinstance(own, dict):
        raise InvalidArgument("the container's spec has no process")
    process: Document = {**own, "args": list(args), "terminal": wishes.terminal}
    process["env"] = merged(own.get("env") or [], ["TERM=xterm"] if wishes.terminal else [], wishes.env)
    if wishes.cwd:
        process["cwd"] = wishes.cwd
    if user is not None:
        process["user"] = user.document()
    return process


def parse_mount(text: str) -> Document:
    """Read ``type=bind,src=/a,dst=/b,options=rbind:ro``.

    Raises:
        InvalidArgument: a word that means nothing, or no destination.
    """
    names = {"type": "type", "dst": "destination", "destination": "destination", "target": "destination"}
    names |= {"src": "source", "source": "source"}
    found: Document = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if key == "options" and equals:
            found["options"] = value.split(":")
        elif key in names and equals:
            found[names[key]] = value
        else:
            raise InvalidArgument(f'mount "{text}": "{part}" is not type=, src=, dst= or options=')
    if not found.get("destination"):
        raise InvalidArgument(f'mount "{text}" has no dst=')
    return found


def bind(source: str, destination: str, options: Sequence[str]) -> Document:
    """A bind mount."""
    return {"destination": destination, "type": "bind", "source": source, "options": list(options)}


def merged(*environments: Sequence[str]) -> list[str]:
    """One environment of several: a later value takes an earlier one's place; a name alone means our own value.

    Raises:
        InvalidArgument: a variable without a name.
    """
    found: dict[str, str] = {}
    for variable in (one for environment in environments for one in environment):
        name, equals, value = variable.partition("=")
        if not name:
            raise InvalidArgument(f'environment variable "{variable}" has no name')
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return [f"{name}={value}" for name, value in found.items()]


def _resources(wishes: Wishes) -> Document:
    devices: list[Document] = [{"allow": False, "access": "rwm"}]
    for major, minor in _DEVICES:
        numbers = {"major": major} if minor is None else {"major": major, "minor": minor}
        devices.append({"allow": True, "type": "c", **numbers, "access": "rwm"})
    resources: Document = {"devices": devices}
    if wishes.memory:
        resources["memory"] = {"limit": wishes.memory}
    resources["cpu"] = {"shares": 1024}
    if wishes.cpus:
        resources["cpu"] |= {"quota": round(wishes.cpus * PERIOD), "period": PERIOD}
    return resources
