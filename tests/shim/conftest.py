"""A serving shim without root: its own socket, an OCI runtime without isolation, and a daemon that takes its events."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Packed

from conformance.shim import processes
from conformance.shim.bundle import Bundle, spec
from conformance.shim.events import EventServer
from conformance.shim.task import Task
from conformance.shim.waiting import until as within
from refimpl.api import runc_v1_pb2, typeurl

NAMESPACE = "shim-test"
MAIN = "import sys; from refimpl.shim.main import main; sys.exit(main())"

SECONDS = 60.0
"""Longest that anything here may take: a machine that others use as well may stand still for a while."""


def until(condition: Callable[[], object], seconds: float = SECONDS) -> bool:
    """Whether the condition came to hold within the time."""
    return within(condition, seconds)


class Events(EventServer):
    """A daemon that takes events, for whom they may take their time."""

    def wait(self, id: str, count: int, process: str | None = None, seconds: float = SECONDS) -> list[str]:
        """The topics once there are that many, or when the time is over."""
        return super().wait(id, count, process, seconds)


class Served:
    """A shim and what a daemon has of it.

    Args:
        publisher: the program that it publishes events by; empty for one that has the daemon's socket.
        main: its program.

    Attributes:
        runtime: path of the OCI runtime; it is named in the options of every container.
        process: the shim.
    """

    def __init__(self, top: Path, publisher: str = "", main: str = MAIN) -> None:
        self.top = top
        self.events = Events(top / "e.sock")
        self.events.start()
        self.runtime = top / "oci"
        script = Path(__file__).with_name("oci_runtime.py")
        self.runtime.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{script}" "$@"\n')
        self.runtime.chmod(0o755)
        self._bundles: list[Bundle] = []
        self.first = self.bundle("first", ["sleep", "1000"])
        self.address = f"unix://{top / 's.sock'}"
        argv = [sys.executable, "-c", main, "-namespace", NAMESPACE, "-id", "first", "-address", str(top / "c.sock")]
        if publisher:
            argv += ["-publish-binary", publisher]
        self.process = subprocess.Popen(
            [*argv, "-socket", str(top / "s.sock")],
            cwd=self.first.path,
            env={**os.environ, "TTRPC_ADDRESS": "" if publisher else self.events.address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        # The file is there a moment before somebody listens.
        if not until(lambda: _answers(top / "s.sock")):
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the shim did not start: {self.first.log.text}")
        self.task = Task(self.address, SECONDS)

    def bundle(self, id: str, args: Sequence[str], *, terminal: bool = False, private: bool = True) -> Bundle:
        """A bundle whose process is to run these arguments."""
        namespaces = ("pid",) if private else ()
        made = Bundle(self.top, id, spec(args, "/none", terminal=terminal, namespaces=namespaces))
        self._bundles.append(made)
        return made

    def create(self, bundle: Bundle, options: Packed | None = None, **stdio: Any) -> int:
        """Create a container in a bundle; its pid."""
        return int(self.task.create(bundle.id, bundle.path, None, options=options or self.options(), **stdio).pid)

    def options(self, **more: Any) -> Packed:
        """Options that name the runtime and a place for its state."""
        state = str(self.top / "oci-state")
        return typeurl.pack(runc_v1_pb2.Options(binary_name=str(self.runtime), root=state, **more))

    def running(self, id: str, args: Sequence[str], **more: Any) -> Bundle:
        """A running container."""
        bundle = self.bundle(id, args, **more)
        self.create(bundle)
        self.task.start(id)
        return bundle

    def close(self) -> None:
        """End the shim and all that it started."""
        self.task.close()
        # What execs have left in the background is the shim's child by now, and nobody's afterwards.
        until(lambda: self.process.poll() is not None or not self._kill_children(), 10.0)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            for path in self.top.glob("oci-state/*/*/*"):
                if path.name in {"pid", "others"}:
                    for pid in path.read_text().split():
                        _kill(int(pid))
            for bundle in self._bundles:
                bundle.close()
            self.events.close()

    def _kill_children(self) -> bool:
        """Whether there were any."""
        found = processes.children(self.process.pid)
        for pid in found:
            processes.kill(pid)
        return bool(found)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _kill(pid: int) -> None:
    # The session of a container's process is its own: a pid that came round again has another.
    try:
        if os.getsid(pid) == pid:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def served() -> Iterator[Served]:
    """A serving shim; it and its processes are ended afterwards."""
    # Sockets lie below it, so the path has to be short.
    with tempfile.TemporaryDirectory(prefix="shim-", dir="/tmp") as name:
        made = Served(Path(name))
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="shim-", dir="/tmp") as name:
        yield Path(name)
