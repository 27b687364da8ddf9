"""``start``: make the serving process of a group of containers, or find it, and say where it is.

The socket listens before there is a process to serve it, so the answer does not wait for that process: the daemon's
first call does, in the socket's queue. Clauses SHM-005 to SHM-008, SHM-013 to SHM-020, SHM-034, SHM-035, SHM-037.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys

from refimpl.shim.address import listen, record_address, socket_path
from refimpl.shim.flags import Flags
from refimpl.shim.main import ShimError
from refimpl.shim.wire import texts

GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
"""Annotations whose value is the name of the group; the first that is there counts (SHM-020)."""

OPTIONS = b"containerd.runc.v1.Options"
"""The type of options that name a cgroup for the shim."""

_SHIM_CGROUP = 3
_HIGHEST_SCORE = 1000
_CORE_SCHED_CREATE, _THREAD_GROUP = 1, 1


def start(flags: Flags) -> str:
    """Run the command in the bundle of a task; answers with the address.

    Raises:
        ShimError: the options or the configuration cannot be read, or name what is not there.
        OSError: the same, or the host refused.
    """
    group = _group() or flags.id
    if not group:
        raise ShimError("shim id cannot be empty")
    cgroups = _shim_cgroup()
    path = socket_path(flags.address, flags.namespace, group)
    address = f"unix://{path}"
    listener = listen(path)
    try:
        # First: a process that was made and of which nobody knows would be there for ever.
        record_address(".", address)
        if listener is not None:
            _serve(flags, listener, cgroups)
    except BaseException:
        if listener is not None:
            os.unlink(path)
        raise
    return address


def _group() -> str:
    with open("config.json", "rb") as file:
        try:
            annotations = json.load(file).get("annotations") or {}
            return next((str(annotations[name]) for name in GROUPS if name in annotations), "")
        except (ValueError, AttributeError, TypeError) as error:
            raise ShimError(f"config.json: {error}") from error


def _serve(flags: Flags, listener: socket.socket, cgroups: list[str]) -> None:
    """Make the serving process, and leave it alone."""
    if os.environ.get("SCHED_CORE"):
        _own_core_group()
    boot = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot.py")
    argv = [sys.executable, "-I", "-S", boot, ":".join(_path())]
    argv += ["-namespace", flags.namespace, "-id", flags.id, "-address", flags.address]
    if flags.debug:
        argv.append("-debug")
    if flags.publish_binary and not os.environ.get("TTRPC_ADDRESS"):
        argv += ["-publish-binary", flags.publish_binary]
    null = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)]
    actions = [*null, (os.POSIX_SPAWN_DUP2, listener.fileno(), 3)]
    pid = os.posix_spawn(
        sys.executable, argv, os.environ, file_actions=actions, setpgroup=0, setsigdef=[signal.SIGPIPE]
    )
    try:
        _prefer_to_daemon(pid)
        for folder in cgroups:
            with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(pid))
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _path() -> list[str]:
    """What the serving process, which does without ``site``, cannot find by itself: this package, and protobuf."""
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [own, *(entry for entry in sys.path if entry != own and os.path.isdir(os.path.join(entry, "google")))]


def _prefer_to_daemon(pid: int) -> None:
    """Have the kernel, when memory ends, take the shim before the daemon (SHM-035)."""
    with open(f"/proc/{os.getppid()}/oom_score_adj", encoding="ascii") as file:
        score = min(int(file.read()) + 1, _HIGHEST_SCORE)
    with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(score))


def _shim_cgroup() -> list[str]:
    """Directories of the cgroup that the options on standard input name; empty where they name none (SHM-037)."""
    if os.isatty(0):
        return []
    data = b""
    with contextlib.suppress(OSError):
        while piece := os.read(0, 65536):
            data += piece
    try:
        packed = texts(data)
        path = texts(packed.get(2, b"")).get(_SHIM_CGROUP, b"") if packed.get(1) == OPTIONS else b""
    except ValueError as error:
        raise ShimError(f"options cannot be read: {error}") from error
    if not path:
        return []
    # Not at the top: only who asks for a cgroup needs to know how they are mounted.
    from refimpl.shim.cgroups import existing  # noqa: PLC0415

    found = existing(path.decode())
    if not found:
        raise ShimError(f"failed to load cgroup {path.decode()}: cgroup deleted")
    return found


def _own_core_group() -> None:
    from refimpl.linux.prctl import PR_SCHED_CORE, prctl  # noqa: PLC0415  # as above

    try:
        prctl(PR_SCHED_CORE, _CORE_SCHED_CREATE, 0, _THREAD_GROUP)
    except OSError as error:
        raise ShimError(f"enable sched core support: {str(error.strerror).lower()}") from error
