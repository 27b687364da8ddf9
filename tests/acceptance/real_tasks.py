"""Daemons whose tasks are real: which OCI runtime and which shim they use, and what must not be left of them.

Control groups, sockets of shims and the state of OCI runtimes are the machine's: each daemon has a namespace of its
own, so that nobody meets.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conformance import runc_state
from tests.acceptance import daemons

CGROUPS = Path("/sys/fs/cgroup")
SECONDS = 60.0
"""How long what is waited for may take: on a machine that others use as well, much longer than it does."""

FIRST = "io.containerd.runtime.v1.linux"

_CRUN = """#!/bin/sh
exec unshare --mount --propagation slave sh -c 'umount {unified} && exec crun "$@"' crun "$@"
"""
"""crun refuses hosts that have both versions of control groups; here it sees the first alone."""

_SHIM = """#!/bin/sh
exec {python} -c 'import sys; from refimpl.shim.main import main; sys.exit(main())' "$@"
"""


@dataclass
class RealDaemon(daemons.Daemon):
    """``refimpl serve`` with real backends, in a namespace of its own.

    Attributes:
        namespace: in which its ``ctr`` works.
        runtime: what is added to each ``ctr run``.
    """

    namespace: str = field(default_factory=lambda: f"{runc_state.PREFIX}{uuid.uuid4().hex[:12]}")
    runtime: Sequence[str] = ()

    def _argv(self, arguments: Sequence[str]) -> list[str]:
        words = list(arguments)
        if words[0] != "-n":
            words = ["-n", self.namespace, *words]
        if words[2] == "run":
            words[3:3] = self.runtime
        return super()._argv(words)

    def groups(self, id: str) -> Mapping[str, Path]:
        """The control groups of a task, by controller (cgroup v1) or under the empty name (cgroup v2)."""
        if (CGROUPS / "cgroup.controllers").exists():
            return {"": CGROUPS / self.namespace / id}
        return {path.parent.parent.name: path for path in CGROUPS.glob(f"*/{self.namespace}/{id}")}

    def shims(self) -> list[int]:
        """The processes that serve as shims of this daemon, other than zombies."""
        return [pid for pid in _processes() if str(self.socket) in _words(pid) and "serve" not in _words(pid)]

    def left(self) -> list[str]:
        """What there is of tasks on this machine: directories, mounts, groups, shims, and the OCI runtimes' state."""
        found = [str(path) for path in self.base.glob(f"*/io.containerd.runtime.*/{self.namespace}/*")]
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        found += [line.split()[1] for line in mounts if line.split()[1].startswith(f"{self.base}/")]
        found += [str(file.parent) for file in self._files("cgroup.procs")]
        found += [f"process {pid}" for pid in self.shims()]
        found += [str(path) for path in runc_state.ROOT.glob(f"{self.namespace}/*")]
        found += [str(path) for path in (self.work / "fifos").glob("*")] if (self.work / "fifos").exists() else []
        return found

    def clear(self) -> None:
        """End whatever a test has left; also without the daemon's help."""
        for pid in self.shims():
            _kill(pid)
        for file in (*self._files("freezer.state"), *self._files("cgroup.freeze")):
            # Frozen they could not die.
            with suppress(OSError):
                file.write_text("THAWED" if file.name == "freezer.state" else "0", encoding="ascii")
        with suppress(AssertionError):
            until(self._empty, "processes live on")
        for line in reversed(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()):
            if (target := line.split()[1]).startswith(f"{self.base}/"):
                subprocess.run(["umount", "-l", target], check=False)
        for file in self._files("cgroup.procs"):
            for group in (file.parent, file.parent.parent):
                with suppress(OSError):
                    group.rmdir()
        for group in [*CGROUPS.glob(f"*/{self.namespace}/"), CGROUPS / self.namespace]:
            with suppress(OSError):
                group.rmdir()
        runc_state.forget(self.namespace)

    def _files(self, name: str) -> list[Path]:
        """Files of the control groups of all tasks."""
        return [*CGROUPS.glob(f"*/{self.namespace}/*/{name}"), *CGROUPS.glob(f"{self.namespace}/*/{name}")]

    def _empty(self) -> bool:
        """Kill all processes in the tasks' control groups; whether there were none."""
        pids: set[int] = set()
        for file in self._files("cgroup.procs"):
            with suppress(OSError):  # it is being removed
                pids.update(map(int, file.read_text(encoding="ascii").split()))
        for pid in pids:
            _kill(pid)
        return not pids and not self.shims()


@contextmanager
def real(base: Path, runtime: str = "runc", extra: str = "") -> Iterator[RealDaemon]:
    """A daemon, not yet started, that has nothing left on the machine on leaving.

    Args:
        runtime: ``runc`` and ``crun`` (with the usual shim), ``refimpl`` (our own shim), or ``first`` (the first
            runtime).
        extra: TOML for the configuration.
    """
    plain = daemons.refimpl(base, backends="real")
    daemon = RealDaemon(plain.command, base, env=dict(plain.env))
    daemons.write_config(daemon, extra)
    _use(daemon, runtime)
    try:
        yield daemon
    finally:
        daemon.end()
        daemon.clear()


def _use(daemon: RealDaemon, runtime: str) -> None:
    tools = daemon.base / "bin"
    tools.mkdir(exist_ok=True)
    if runtime == "crun":
        program = "crun"
        if (CGROUPS / "unified").is_mount():
            program = str(_program(tools / "crun", _CRUN.format(unified=CGROUPS / "unified")))
        daemon.runtime = ("--runc-binary", program)
    elif runtime == "refimpl":
        _program(tools / "containerd-shim-refimpl-v1", _SHIM.format(python=sys.executable))
        daemon.env = {**daemon.env, "PATH": f"{tools}:{os.environ['PATH']}"}
        daemon.runtime = ("--runtime", "io.containerd.refimpl.v1")
    elif runtime == "first":
        if (CGROUPS / "cgroup.controllers").exists():
            pytest.skip("the first runtime needs cgroup v1")
        daemon.runtime = ("--runtime", FIRST)


def _program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it does not, within ``SECONDS``.
    """
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def gone(left: Callable[[], Sequence[str]]) -> None:
    """Wait until nothing is left: shims end in their own time.

    Raises:
        AssertionError: something is, after ``SECONDS``.
    """
    deadline = time.monotonic() + SECONDS
    while found := left():
        assert time.monotonic() < deadline, f"left: {found}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie has ended."""
    return _state(pid) not in {"", "Z"}


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    return [pid for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")) if alive(pid)]


def _state(pid: int) -> str:
    return _stat(pid)[0]


def _stat(pid: int) -> list[str]:
    """State, parent and so on; two empty words for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ["", ""]


def _words(pid: int) -> list[str]:
    try:
        return [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except OSError:
        return []
