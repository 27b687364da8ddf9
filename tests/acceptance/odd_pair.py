"""The two daemons that are asked the same: how they start alike, and how nothing is left of them."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from conformance import runc_state
from conformance.subjects.process import remove_tree
from tests.acceptance import daemons
from tests.acceptance.images import BUSYBOX
from tests.acceptance.real_tasks import CGROUPS

_NO_COLLECTION = "mutation_threshold = 0\npause_threshold = 0.00001\n"
"""Settings of the scheduler: a collection that comes by itself comes at another moment on either side."""


class Pair:
    """containerd and refimpl, each on a directory of its own, and the namespaces in which they are asked.

    Attributes:
        daemons: the real one first.
        world: the namespace in which there are tasks at the moment; empty if there is none.
    """

    def __init__(self, base: Path) -> None:
        self.daemons = [daemons.containerd(base / "c"), daemons.refimpl(base / "r", backends="real")]
        self.world = ""
        self._namespaces: list[str] = []
        for daemon in self.daemons:
            daemons.write_config(daemon, _NO_COLLECTION)
            (daemon.base / "tree").mkdir()
            (daemon.base / "tree/file").write_text("x")
            for name in ("bin", "proc", "dev"):
                (daemon.base / "box" / name).mkdir(parents=True)
            shutil.copy(BUSYBOX, daemon.base / "box/bin/busybox")
            for name in ("sleep", "true"):
                (daemon.base / "box/bin" / name).symlink_to("busybox")

    def start(self) -> None:
        """Start both."""
        for daemon in self.daemons:
            daemon.start()

    def namespace(self) -> str:
        """The name of one that nobody has used; a side adds its own letter."""
        ns = f"{runc_state.PREFIX}odd-{os.getpid()}-{len(self._namespaces)}"
        self._namespaces.append(ns)
        return ns

    def end(self) -> None:
        """Stop both, whatever state they are in, and leave nothing on the machine."""
        for daemon in self.daemons:
            daemon.end()
            for pid in _processes_of(daemon.base):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            remove_tree(daemon.base)
        for name in (f"{ns}-{end}" for ns in self._namespaces for end in ("c", "r")):
            runc_state.forget(name)
            for group in (*CGROUPS.glob(f"*/{name}"), CGROUPS / name):
                with suppress(OSError):
                    group.rmdir()


def _processes_of(base: Path) -> list[int]:
    """The shims that a daemon has left: each names its socket."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if os.fsencode(f"{base}/") in path.read_bytes():
                found.append(int(path.parent.name))
    return found
