"""What tests of the runtimes share: bundles on the disk, scripted shims, and an exchange that remembers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from conformance.shim.scripted import ScriptedShim
from refimpl.backends.real.runtime.bundle import BundlePlaces
from refimpl.backends.real.runtime.commands import Daemon
from refimpl.backends.real.runtime.loading import load
from refimpl.backends.real.runtime.manager import ShimRuntime
from refimpl.backends.real.runtime.shim import Patience
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, NotFound
from refimpl.contract.runtimes import CreateOptions, Task
from refimpl.contract.types import TypedAny
from tests.services.fakes import Bus

SECONDS = 60.0
"""Longest that anything here may take: a machine that others use as well may stand still for a while."""

CTX = CallContext("ns")
DAEMON = Daemon("/d/c.sock", "/d/c.sock.ttrpc", "/d/program")


class World:
    """A second runtime, which can be started again, and scripted shims.

    Args:
        top: a directory of its own.

    Attributes:
        exchange: what all its lives have told.
        runtime: as it is now.
        records: runtimes' names by container id, as the metadata store would have them.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.exchange = Bus()
        self.records: dict[str, str] = {}
        self.places = BundlePlaces(top / "state", top / "root", linked=True)
        self.shims: list[ScriptedShim] = []
        # A test of a shim that does not answer has less of it.
        self.patience = Patience(load=SECONDS, cleanup=SECONDS, shutdown=SECONDS)
        self.runtime = self._runtime()

    def _runtime(self) -> ShimRuntime:
        return ShimRuntime(self.exchange, self.places, DAEMON, self.patience)

    def patient(self, **seconds: float) -> None:
        """From here on the runtime, another one on the same directories, waits so long and no longer."""
        self.patience = replace(self.patience, **seconds)
        self.restart()

    def restart(self, between: Callable[[], object] = lambda: None) -> None:
        """End the runtime and make another one on the same directories."""
        self.runtime.close()
        between()
        self.runtime = self._runtime()
        load(self.runtime, self._name_of)

    def _name_of(self, namespace: str, id: str) -> str:
        try:
            return self.records[id]
        except KeyError:
            raise NotFound(f"container {id} in {namespace}") from None

    def shim(self) -> ScriptedShim:
        """A shim that leaves its address where a daemon finds it again."""
        made = ScriptedShim(self.top / f"s{len(self.shims)}")
        made.plan("start", out=f"unix://{made.path}".encode(), address_file=f"unix://{made.path}")
        self.shims.append(made)
        return made

    def create(self, shim: ScriptedShim | str, id: str = "id", ctx: CallContext = CTX) -> Task:
        """Make a task."""
        name = shim if isinstance(shim, str) else str(shim.binary)
        self.records[id] = name
        return self.runtime.create(ctx, id, options(name))

    def bundle(self, id: str = "id") -> Path:
        """Its directory."""
        return self.places.bundle("ns", id).path

    def left(self) -> list[str]:
        """Names of all bundles and work directories."""
        return sorted(str(path.relative_to(self.top)) for path in self.top.glob("*/ns/*") if path.is_dir())

    def ends(self) -> list[tuple[str, str, int, int]]:
        """Namespace, topic, pid and exit status of all events: such as ends of tasks have."""
        told: list[tuple[str, str, Any]] = [*self.exchange.told]
        return [(namespace, topic, event.pid, event.exit_status) for namespace, topic, event in told]

    def close(self) -> None:
        """End all."""
        self.runtime.close()
        for shim in self.shims:
            shim.close()


@contextmanager
def world(top: Path) -> Iterator[World]:
    """A world, ended on leaving."""
    made = World(top)
    try:
        yield made
    finally:
        made.close()


def options(runtime: str, **more: object) -> CreateOptions:
    """Of a container with a spec of nearly nothing."""
    return CreateOptions(spec=TypedAny("spec", json.dumps({}).encode()), runtime=runtime, **more)  # type: ignore[arg-type]  # by name


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it does not, within ``SECONDS``.
    """
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


def refuses(shim: ScriptedShim, method: str, error: ContainerdError) -> None:
    """Have a shim answer with an error."""

    def answer(_request: object) -> Message:
        raise error

    shim.answers[method] = answer


def end(pid: int, status: int) -> list[tuple[str, str, int, int]]:
    """What is told of the end of a task in ``ns``, as ``World.ends`` has it."""
    return [("ns", topic, pid, status) for topic in ("/tasks/exit", "/tasks/delete")]


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
