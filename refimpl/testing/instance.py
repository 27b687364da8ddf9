"""One fake containerd: a daemon on fakes, its client, its clock, its call log and its faults.

Everything that is on the real disk lies in one temporary directory, which goes with the daemon. Instances share
nothing; a process may have many at a time.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.runtimes import ProcessState, Status
from refimpl.contract.tasks import TaskService
from refimpl.contract.times import Clock, HandMovedClock, SystemClock
from refimpl.daemon.serve import Daemon, Options, overridden
from refimpl.kernel import Resources
from refimpl.kernel.assembly import built_in_hooks
from refimpl.kernel.backends import FAKE, BackendPolicy
from refimpl.kernel.config import Configuration, load
from refimpl.testing.calls import CallLog
from refimpl.testing.connections import cut
from refimpl.testing.faults import FaultPlan
from refimpl.testing.interceptor import UNSEEN, Interceptor
from refimpl.testing.methods import Methods
from refimpl.testing.seeding import Seed

STOP_SECONDS = 5.0
"""Real seconds that calls under way get to notice that the daemon stops."""

_SHORT = 48
"""Bytes of a temporary directory's name that leave room for a socket below it (sun_path has 108)."""


class FakeContainerd:
    """A fake containerd; ``fake_containerd`` makes, starts and stops it.

    Args:
        config: TOML (version 2), as in containerd's ``config.toml``; root, state and address are set here.
        namespace: of ``ctx``, ``unseen``, ``seed`` and ``environment``.
        wall_time: whether the daemon lives in real time. Otherwise its clock stands still but for ``clock.advance``:
            no collection begins, no fake program wakes from its sleep before that.

    Attributes:
        address: path of the socket.
        calls: what it was asked.
        faults: what goes wrong.
        seed: makes images, containers and tasks.
        client: a client like any other.
        ctx: a context for its calls.
        unseen: a context for calls that are neither logged nor struck by faults, to prepare and to look.
    """

    def __init__(self, *, config: str = "", namespace: str = "default", wall_time: bool = False) -> None:
        self._hand_moved = None if wall_time else _hand_moved()
        self._clock: Clock = self._hand_moved or SystemClock()
        self._folder = Path(tempfile.mkdtemp(prefix="ctd-", dir=_short_directory()))
        self.address = str(self._folder / "c.sock")
        self.namespace = namespace
        self.ctx = CallContext(namespace=namespace)
        self.unseen = CallContext(namespace=namespace, headers={UNSEEN: "1"})
        self.client = Client(self.address)
        self.seed = Seed(self.client, self.unseen)
        self._methods = Methods()
        self.calls = CallLog(self._methods)
        self.faults = FaultPlan(self._methods, self._clock, self.cut_connections)
        self._interceptor = Interceptor(self.calls, self.faults, self._clock)
        self._config = config
        self._daemon: Daemon | None = None

    @property
    def clock(self) -> HandMovedClock:
        """The daemon's clock, to be moved by ``advance(seconds)``.

        Raises:
            RuntimeError: it lives in real time.
        """
        if self._hand_moved is None:
            raise RuntimeError("this fake containerd was asked to live in real time (wall_time=True)")
        return self._hand_moved

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, with the variables by which ``ctr`` and others find the daemon."""
        found = {"CONTAINERD_ADDRESS": self.address, "CONTAINERD_NAMESPACE": self.namespace}
        return {**os.environ, **found}

    def start(self, world: Mapping[type[Any], object] | None = None) -> None:
        """Start; clients are answered when this returns.

        Raises:
            ConfigError: the configuration cannot be used.
        """
        daemon = Daemon(
            self._configuration(),
            FAKE,
            strict=True,
            clock=self._clock,
            world=world,
            interceptors=[self._interceptor],
        )
        self._daemon = daemon
        daemon.boot()
        daemon.open()
        self._methods.know(daemon.methods)

    def restart(self) -> None:
        """Stop the daemon and start it anew in the same world: connections are cut, what it kept is there again."""
        assert self._daemon is not None, "start() comes first"
        world = self._daemon.world
        self._end(self._daemon)
        self.start(world)

    def stop(self) -> None:
        """Stop, and leave nothing: no thread, no socket, no file. Idempotent."""
        self.faults.clear()
        daemon, self._daemon = self._daemon, None
        # From the last to the first, whatever fails on the way.
        with ExitStack() as steps:
            steps.callback(shutil.rmtree, self._folder, ignore_errors=True)
            if daemon is not None:
                steps.callback(self._end, daemon)
            steps.callback(self.client.close)
            if daemon is not None:
                steps.callback(self._kill_tasks)

    def cut_connections(self) -> int:
        """Cut all connections to the socket, as a crash would; how many there were."""
        return cut(self.address)

    def _end(self, daemon: Daemon) -> None:
        # Before the server says good-bye, which gRPC's clients in this process would print on standard error.
        self.cut_connections()
        daemon.stop(STOP_SECONDS)

    def _kill_tasks(self) -> None:
        """End all fake processes, which are threads; a daemon leaves its tasks running when it stops."""
        # Whatever a configuration or a test made of this daemon, it is about to go.
        with suppress(ContainerdError), Client(self.address) as client:
            for namespace in client.namespaces.list(self.unseen):
                ctx = replace(self.unseen, namespace=namespace.name, deadline=time.monotonic() + STOP_SECONDS)
                for task in client.tasks.list(ctx):
                    _kill(ctx, client.tasks, task)

    def _configuration(self) -> Configuration:
        configuration = Configuration()
        if self._config:
            file = self._folder / "config.toml"
            top = self._config.partition("\n[")[0]
            given = re.search(r"^version\s*=", top, re.MULTILINE)
            file.write_text(self._config if given else f"version = 2\n{self._config}", encoding="utf-8")
            configuration = load(file)
        places = Options(root=str(self._folder / "root"), state=str(self._folder / "state"), address=self.address)
        return overridden(configuration, places)


@contextmanager
def fake_containerd(
    *, config: str = "", namespace: str = "default", wall_time: bool = False
) -> Iterator[FakeContainerd]:
    """A running fake containerd for as long as the block lasts. Arguments as for ``FakeContainerd``."""
    made = FakeContainerd(config=config, namespace=namespace, wall_time=wall_time)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _kill(ctx: CallContext, tasks: TaskService, task: ProcessState) -> None:
    if task.status not in {Status.RUNNING, Status.PAUSED, Status.PAUSING}:
        return
    with suppress(ContainerdError):  # it may end by itself meanwhile, and others have to end in any case
        tasks.kill(ctx, task.container_id, signal=signal.SIGKILL, all=True)
        if task.status is not Status.RUNNING:
            # The frozen hear nothing, not even this.
            tasks.resume(ctx, task.container_id)
        tasks.wait(ctx, task.container_id)


def _hand_moved() -> HandMovedClock:
    """The fake world's own clock. Asked for by class, as plugins ask: nobody imports a backend."""
    offers = built_in_hooks(entry_points=False).resources()
    return Resources({}, offers, BackendPolicy(FAKE)).get(HandMovedClock)  # type: ignore[type-abstract]


def _short_directory() -> str | None:
    """Where sockets fit: the usual place, unless its name is too long."""
    return None if len(os.fsencode(tempfile.gettempdir())) <= _SHORT else "/tmp"  # noqa: S108  # mkdtemp makes it ours
