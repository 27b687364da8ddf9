"""Words for the checks of the first runtime: boxes of it, and what is kept of one on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.suites._events import Ear
from conformance.suites._tasks import Box, Bundle, bundle
from refimpl.contract.context import CallContext
from refimpl.contract.events import EventExchange

__all__ = ["bundle"]

NAME = "io.containerd.runtime.v1.linux"
"""The plugin, and the name of the runtime in a container's record."""

SECOND = "io.containerd.runtime.v2.task"
"""The plugin for all other names."""

LinuxBox = Callable[..., Box]


@pytest.fixture
def linux(bundle: Bundle, ctx: CallContext) -> LinuxBox:
    """``linux("sleep", "9")``: a container of the first runtime in the check's namespace; options as of ``bundle``."""
    return lambda *arguments, **options: bundle(ctx, arguments, **{"runtime": NAME, **options})


@pytest.fixture
def listen(ctx: CallContext, events: EventExchange) -> Iterator[Callable[[], Ear]]:
    """Begins to listen to what is told of tasks in the check's namespace."""
    ears: list[Ear] = []

    def begin() -> Ear:
        names = frozenset({ctx.namespace})
        ears.append(Ear(events, ['topic~="^/tasks/"'], caller=CallContext(), speaker=ctx, namespaces=names))
        return ears[-1]

    yield begin
    for ear in ears:
        ear.close()


class Files:
    """What a daemon that uses this machine keeps of one task.

    Args:
        subject: the daemon, whose directories can be looked into.
    """

    def __init__(self, subject: Any, box: Box) -> None:
        root: Path = subject.root
        self.bundle = root.parent / "state" / NAME / box.ctx.namespace / box.id
        self.work = root / NAME / box.ctx.namespace / box.id

    @property
    def shim(self) -> int:
        """Pid of the shim."""
        return int((self.bundle / "shim.pid").read_text())

    @property
    def address(self) -> str:
        """Path of the shim's socket."""
        return (self.bundle / "address").read_text().removeprefix("unix://")

    def gone(self) -> bool:
        """Whether no directory is left."""
        return not self.bundle.exists() and not self.work.exists()


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, process group, session, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def words(pid: int) -> list[str]:
    """The command line of a process."""
    return [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(pair).partition("=")[::2] for pair in pairs if pair)


def shims_for(box: Box) -> list[int]:
    """Pids of the shims that work for a task."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            argv = words(int(entry.name))
            cwd = (entry / "cwd").readlink()
        except OSError:
            continue
        if "-workdir" in argv and box.ctx.namespace in argv and cwd.name == box.id:
            found.append(int(entry.name))
    return found
