"""Words for the checks of what keeps and watches tasks: boxes in a daemon of the check's own.

A restart monitor makes tasks without any mounts, so the root file system of these boxes is a directory: on a subject
that uses the machine a busybox tree, made once per process and only read; elsewhere the host's own, since programs are
built in there.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance import runc_state
from conformance.runc_state import HERE
from conformance.suites._events import Ear
from conformance.suites._tasks import PATIENCE, RUNTIME, SPEC, Box, packed, process
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, ContainerdError, NotFound
from refimpl.contract.runtimes import Status

STUBBORN = ("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
"""A program that does not care to be asked."""


def until(holds: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait for something that is about to come; answers with what it is.

    Raises:
        AssertionError: it did not come in time; ``what`` says what it was.
    """
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
    return found


@functools.cache
def tree() -> Path:
    """A busybox tree, on a machine that has busybox."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox here: containers need a program to run")
    top = Path(tempfile.mkdtemp(prefix="cfm-tree-"))
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    top.chmod(0o755)
    for name in ("bin", "proc", "dev", "tmp", "etc"):
        (top / name).mkdir()
    shutil.copy(busybox, top / "bin/busybox")
    for applet in ("sh", "sleep", "true", "false", "cat", "echo", "dd", "head", "kill"):
        (top / "bin" / applet).symlink_to("busybox")
    return top


class Boxes:
    """The boxes of one daemon.

    Args:
        instance: a daemon of the check's own.
    """

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self.ctx = CallContext(HERE)
        self._made: list[tuple[Box, Container]] = []
        self._ears: list[Ear] = []
        # Two daemons on one host whose containers share a cgroup kill each other's processes.
        self._mark = uuid.uuid4().hex[:10]

    @property
    def real(self) -> bool:
        """Whether the daemon's files and processes are those of this machine."""
        return "root" in self.instance.capabilities

    def cgroup(self, box: Box, controller: str) -> Path:
        """Directory of a box in a hierarchy of cgroup v1."""
        return Path("/sys/fs/cgroup") / controller / self._cgroup(box.id, box.ctx)

    def _cgroup(self, id: str, ctx: CallContext) -> str:
        return f"conform-{self._mark}-{ctx.namespace}-{id}"

    def box(
        self,
        *arguments: str,
        id: str = "",
        ns: str = HERE,
        labels: Mapping[str, str] | None = None,
        runtime: str = RUNTIME,
        resources: Mapping[str, Any] | None = None,
        snapshot: str = "",
        **fields: Any,
    ) -> Box:
        """A container without a task.

        Args:
            labels: under names without the prefix ``containerd.io/restart.``.
            resources: ``linux.resources`` of its spec.
            snapshot: key of the overlayfs snapshot with its root file system.
            fields: of the OCI process.
        """
        ctx = CallContext(ns)
        id = id or f"b{len(self._made)}-{self._mark}"
        spec = {
            "ociVersion": "1.0.2",
            "process": process(*arguments, **fields),
            "root": {"path": "rootfs" if snapshot else str(tree()) if self.real else "/", "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "cgroupsPath": f"/{self._cgroup(id, ctx)}",
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                **({"resources": dict(resources)} if resources else {}),
            },
        }
        record = Container(
            id,
            labels=restart(labels or {}),
            runtime=RuntimeInfo(runtime),
            spec=packed(spec, SPEC),
            snapshotter="overlayfs" if snapshot else "",
            snapshot_key=snapshot,
        )
        box = Box(ctx, self.instance.tasks, self.instance.containers, id)
        self._made.append((box, record))
        self.instance.expect_shim(ns, id)
        self.instance.containers.create(ctx, record)
        return box

    def run(self, *arguments: str, **options: Any) -> Box:
        """A box whose task runs."""
        box = self.box(*arguments, **options)
        box.run(rootfs=())
        return box

    def listen(self, *namespaces: str) -> Ear:
        """An ear for what is told of tasks and containers from now on."""
        filters = ['topic~="^/tasks/"', 'topic~="^/containers/"']
        names = frozenset(namespaces or (HERE,))
        ear = Ear(self.instance.events, filters, caller=CallContext(), speaker=self.ctx, namespaces=names)
        self._ears.append(ear)
        return ear

    def restart(self, *, kill: bool = False) -> None:
        """End the daemon and start it again."""
        self.instance.restart(kill=kill)
        for box, _ in self._made:
            box.tasks, box.containers = self.instance.tasks, self.instance.containers

    def close(self) -> None:
        """End every task, whatever became of it: what is left behind would outlive the run."""
        for ear in self._ears:
            ear.close()
        for box, record in self._made:
            # Tasks are reached through their container's record, and nobody may start them again meanwhile.
            plain = replace(record, labels={})
            try:
                self.instance.containers.update(box.ctx, plain, ["labels"])
            except NotFound:
                with suppress(AlreadyExists):
                    self.instance.containers.create(box.ctx, plain)
        for box, _ in self._made:
            deadline = time.monotonic() + PATIENCE
            # A pass that began before may still bring it back, once.
            while not _gone(box) and time.monotonic() < deadline:
                with suppress(ContainerdError):
                    box.resume()
                box.close()
        for namespace in {box.ctx.namespace for box, _ in self._made}:
            runc_state.forget(namespace)


def _gone(box: Box) -> bool:
    try:
        return box.gone()
    except ContainerdError:
        return False


def restart(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels by the end of their names: ``status`` is ``containerd.io/restart.status``."""
    return {f"containerd.io/restart.{key}": value for key, value in labels.items()}


def label(box: Box, **labels: str) -> None:
    """Replace the labels of a container."""
    record = box.containers.get(box.ctx, box.id)
    box.containers.update(box.ctx, replace(record, labels=restart(labels)), ["labels"])


def respec(box: Box, *arguments: str) -> None:
    """Give a container another program."""
    record = box.containers.get(box.ctx, box.id)
    assert record.spec is not None, "it was made with one"
    spec = json.loads(record.spec.value)
    spec["process"] = process(*arguments)
    box.containers.update(box.ctx, replace(record, spec=packed(spec, SPEC)), ["spec"])


def running(box: Box, *, instead_of: int = 0, seconds: float = PATIENCE) -> int:
    """Wait until there is a running task, another than that of pid ``instead_of``; answers with its pid."""

    def pid() -> int:
        try:
            task = box.get()
        except NotFound:
            return 0
        return task.pid if task.status is Status.RUNNING and task.pid != instead_of else 0

    other = f" other than the one of pid {instead_of}" if instead_of else ""
    found: int = until(pid, f"a running task of {box.id}{other}", seconds)
    return found


def ended(box: Box, *, by: int = signal.SIGKILL) -> int:
    """Send a signal and wait for the end; answers with the exit status."""
    box.kill(by)
    return box.wait().status


Daemon = Callable[..., Boxes]


@pytest.fixture
def daemon(own: Any) -> Iterator[Daemon]:
    """A daemon of the check's own, by what can be made in it: ``boxes = daemon(config)``."""
    made: list[Boxes] = []

    def start(config: str = "") -> Boxes:
        made.append(Boxes(own(config=config)))
        return made[-1]

    yield start
    for boxes in made:
        boxes.close()
