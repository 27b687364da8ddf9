"""What the checks of the daemon's side share: tasks whose shim is a scripted one."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conformance import patience
from conformance.shim.scripted import ScriptedShim
from conformance.shim.waiting import until
from refimpl.contract.containers import Container, ContainerStore, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.runtimes import Exit
from refimpl.contract.tasks import CreateTask, TaskService
from refimpl.contract.types import TypedAny

SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"

DAEMON = ("shim", "disk")
"""A daemon that starts shims, and whose directories can be looked into."""

OWN = (*DAEMON, "config", "restart", "command")
"""The same, as a process of its own that the check starts."""


def soon(ctx: CallContext, seconds: float = 2 * patience.SECONDS) -> CallContext:
    """The context with a deadline."""
    return CallContext(ctx.namespace, ctx.lease, time.monotonic() + seconds)


class World:
    """A daemon, a namespace and scripted shims.

    Args:
        instance: the daemon, a subject.
        folder: for files of the check; short, for it holds sockets.
    """

    def __init__(self, instance: Any, ctx: CallContext, folder: Path) -> None:
        self.instance, self.ctx, self.folder = instance, ctx, folder
        self.shims: list[ScriptedShim] = []
        self._made: list[str] = []

    @property
    def tasks(self) -> TaskService:
        """Of the daemon as it is now; it may have been restarted."""
        found: TaskService = self.instance.tasks
        return found

    @property
    def containers(self) -> ContainerStore:
        """Of the daemon as it is now."""
        found: ContainerStore = self.instance.containers
        return found

    def shim(self, name: str = "containerd-shim-scripted-v1", folder: str = "") -> ScriptedShim:
        """A shim of its own."""
        made = ScriptedShim(self.folder / (folder or f"s{len(self.shims)}"), name)
        self.shims.append(made)
        return made

    def container(
        self,
        runtime: str | ScriptedShim,
        *,
        options: TypedAny | None = None,
        spec: bytes | dict[str, Any] | None = None,
    ) -> str:
        """A record that names a runtime; answers with its id."""
        id = f"c{len(self._made)}-{uuid.uuid4().hex[:8]}"
        name = runtime if isinstance(runtime, str) else str(runtime.binary)
        value = spec if isinstance(spec, bytes) else json.dumps(spec or {"ociVersion": "1.0.2"}).encode()
        record = Container(id, runtime=RuntimeInfo(name, options), spec=TypedAny(SPEC, value))
        self.containers.create(self.ctx, record)
        self._made.append(id)
        return id

    def create(self, id: str, seconds: float = 2 * patience.SECONDS, **more: Any) -> int:
        """Make the task; its pid."""
        return self.tasks.create(soon(self.ctx, seconds), CreateTask(id, **more))

    def made(self, shim: ScriptedShim, **more: Any) -> str:
        """A task that was created; its id."""
        id = self.container(shim, **more)
        self.create(id)
        return id

    def started(self, shim: ScriptedShim) -> str:
        """A task that was started; its id."""
        id = self.made(shim)
        self.tasks.start(soon(self.ctx), id)
        return id

    def delete(self, id: str) -> Exit:
        """Delete the task."""
        return self.tasks.delete(soon(self.ctx), id)

    def there(self, id: str) -> bool:
        """Whether the daemon knows the task."""
        try:
            self.tasks.get(soon(self.ctx), id)
        except ContainerdError:
            return False
        return True

    def forgotten(self, id: str, seconds: float = patience.SECONDS) -> bool:
        """Whether the daemon has forgotten the task within the time."""
        return until(lambda: not self.there(id), seconds)

    @property
    def top(self) -> Path:
        """The directory of all that is the daemon's."""
        root: Path = self.instance.root
        return root.parent

    def bundle(self, id: str) -> Path:
        """BUNDLE."""
        return self.top / "state/io.containerd.runtime.v2.task" / self.ctx.namespace / id

    def work(self, id: str) -> Path:
        """WORK."""
        return self.top / "root/io.containerd.runtime.v2.task" / self.ctx.namespace / id

    def close(self) -> None:
        """Let all shims die, and have the daemon forget their tasks."""
        for shim in self.shims:
            with suppress(OSError):
                shim.plan("delete", out=ScriptedShim.exit(1, 0).SerializeToString())
            shim.cut()
        for id in self._made:
            self.forgotten(id, 2.0)
            with suppress(ContainerdError):
                self.containers.delete(soon(self.ctx), id)
            shutil.rmtree(self.bundle(id), ignore_errors=True)
        for shim in self.shims:
            shim.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="cfd-"))


@pytest.fixture
def world(subject, ctx) -> Iterator[World]:
    """The daemon under judgement, with scripted shims."""
    made = World(subject, ctx, _folder())
    yield made
    made.close()


OwnWorld = Callable[..., World]


@pytest.fixture
def own_world(own) -> Iterator[OwnWorld]:
    """Starts daemons of the check's own: ``own_world(config="...")``."""
    made: list[World] = []

    def start(config: str = "") -> World:
        made.append(World(own(config=config), CallContext(namespace="conform"), _folder()))
        return made[-1]

    yield start
    for world in made:
        world.close()
