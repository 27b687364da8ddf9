"""io.containerd.internal.v1.restart: keeps containers in the state that a label asks for.

It keeps nothing: each pass reads the labels anew. The first pass runs when the plugin loads, further ones an interval
after the end of the one before::

    containerd.io/restart.status   running: start what does not run; stopped: end what does; anything else: nothing
    containerd.io/restart.loguri   where the tasks it starts write (file:// or binary://); without, nowhere
    containerd.io/restart.logpath  the same as a path, for older clients; loguri wins

The policy labels of the next release are not looked at (RST-023). Clauses RST-001 to 023, RST-032. There is one for
both worlds: it works through the services alone.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from refimpl.contract.containers import Container, ContainerStore
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import ContainerdError, InvalidArgument, NotFound, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.namespaces import NamespaceStore
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.tasks import CreateTask, TaskService
from refimpl.contract.times import Clock
from refimpl.kernel import Duration, InitContext, Registration, hookimpl
from refimpl.services.plugin_types import EVENT, INTERNAL, SERVICE
from refimpl.services.restart_logs import file_uri, parsed_uri

STATUS = "containerd.io/restart.status"
LOG_URI = "containerd.io/restart.loguri"
LOG_PATH = "containerd.io/restart.logpath"

CHANGE_SECONDS = 120.0
"""How long one change may take: containerd would let a single hanging one stop the monitor (RST-015)."""

_DEFAULT_INTERVAL = Duration.parse("10s")
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Config:
    """The plugin's section.

    Attributes:
        interval: from the end of a pass to the start of the next; 0 is the default (RST-011).
    """

    interval: Duration = _DEFAULT_INTERVAL


@dataclass(frozen=True, slots=True)
class Services:
    """What the monitor works with, all of them with namespaces."""

    namespaces: NamespaceStore
    containers: ContainerStore
    snapshotters: Mapping[str, Snapshotter]
    tasks: TaskService


class RestartMonitor:
    """Compares wish and state, and makes them equal. ``start`` it once.

    Args:
        interval: seconds of ``clock`` between passes.
    """

    def __init__(self, services: Services, clock: Clock, interval: float, log: logging.Logger) -> None:
        self._services = services
        self._clock = clock
        self._interval = interval
        self._log = log
        self._stop = threading.Event()
        self._cancel = CancelToken()
        self._thread = threading.Thread(target=self._run, name="refimpl-restart", daemon=True)

    def start(self) -> None:
        """Begin; the first pass starts at once (RST-012)."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what a pass is doing is cancelled. Idempotent."""
        self._stop.set()
        self._cancel.cancel()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)

    def reconcile(self) -> None:
        """One pass: all namespaces and all changes in them at once, each failing alone (RST-013, RST-014)."""
        names = [namespace.name for namespace in self._services.namespaces.list(self._context(""))]
        self._together([partial(self._reconcile_namespace, name) for name in names])

    def _run(self) -> None:
        while not self._stop.is_set():
            self._careful("reconcile", self.reconcile)
            self._clock.wait(self._stop, self._interval)

    def _reconcile_namespace(self, namespace: str) -> None:
        changes: list[Callable[[], None]] = []
        self._careful("monitor for changes", lambda: changes.extend(self._changes(self._context(namespace))))
        self._together([partial(self._careful, "apply change", change) for change in changes])

    def _changes(self, ctx: CallContext) -> list[Callable[[], None]]:
        """What has to be done in a namespace (RST-001 to 008)."""
        changes: list[Callable[[], None]] = []
        for container in self._services.containers.list(ctx, [f'labels."{STATUS}"']):
            wish, status = container.labels[STATUS], self._status(ctx, container.id)
            if wish == "running" and status is not Status.RUNNING:
                changes.append(partial(self._start, ctx, container))
            elif wish == "stopped" and status not in {None, Status.STOPPED}:
                changes.append(partial(self._end, ctx, container.id))
        return changes

    def _status(self, ctx: CallContext, id: str) -> Status | None:
        """Of a container's task; None if there is none, or nobody knows."""
        try:
            return self._services.tasks.get(ctx, id).status
        except ContainerdError:
            return None

    def _start(self, ctx: CallContext, container: Container) -> None:
        """Replace what there is of a task by a new one, from the record as it is now (RST-003 to 005, RST-021)."""
        tasks = self._services.tasks
        log = self._log_of(container)
        self._careful_end(ctx, container.id)
        rootfs = self._rootfs(ctx, container)
        tasks.create(ctx, CreateTask(container.id, rootfs, IO(stdout=log, stderr=log)))
        tasks.start(ctx, container.id)

    def _log_of(self, container: Container) -> str:
        """Where the task writes; never where the one before did, whose reader may be gone (RST-016 to 019)."""
        uri, path = container.labels.get(LOG_URI, ""), container.labels.get(LOG_PATH, "")
        if uri and path:
            self._log.warning("%s=%s has been deprecated, using %s=%s", LOG_PATH, path, LOG_URI, uri)
        return parsed_uri(uri) if uri else file_uri(path) if path else ""

    def _rootfs(self, ctx: CallContext, container: Container) -> Sequence[Mount]:
        if not container.snapshot_key:
            return ()
        snapshotter = self._services.snapshotters.get(container.snapshotter)
        if snapshotter is None:
            raise InvalidArgument(f"snapshotter not loaded: {container.snapshotter}")
        return snapshotter.mounts(ctx, container.snapshot_key)

    def _careful_end(self, ctx: CallContext, id: str) -> None:
        """End what is in the way; if that fails, the create says so better."""
        try:
            self._end(ctx, id)
        except ContainerdError as error:
            self._log.debug("failed to end task before its restart", extra={"fields": {"error": error, "id": id}})

    def _end(self, ctx: CallContext, id: str) -> None:
        """Kill all of a task and delete it (RST-006); one that is gone is no error."""
        tasks = self._services.tasks
        try:
            tasks.kill(ctx, id, signal=signal.SIGKILL, all=True)
            tasks.wait(ctx, id)
        except ContainerdError as error:
            # It ended before us, or never lived: then it can be deleted as it is.
            try:
                tasks.delete(ctx, id)
            except NotFound:
                return
            except ContainerdError:
                raise error from None
            return
        tasks.delete(ctx, id)

    def _context(self, namespace: str) -> CallContext:
        return CallContext(namespace, deadline=time.monotonic() + CHANGE_SECONDS, cancel=self._cancel)

    def _careful(self, doing: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001  # runtimes are anybody's code: the other containers have to be handled
            if not self._stop.is_set():
                self._log.error(doing, extra={"fields": {"error": error}})

    @staticmethod
    def _together(actions: Sequence[Callable[[], None]]) -> None:
        """Run all of them side by side, and wait for all: a slow one must not hold up the others (RST-015)."""
        threads = [threading.Thread(target=action, name="refimpl-restart-change", daemon=True) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def init(ic: InitContext) -> RestartMonitor:
    """Find the services and begin.

    Raises:
        Unknown: one of them is disabled.
        Exception: the error of one that did not load.
    """
    services = Services(
        _service(ic, "namespaces"), _service(ic, "containers"), _service(ic, "snapshots"), _service(ic, "tasks")
    )
    interval = ic.config.interval if ic.config.interval > Duration() else _DEFAULT_INTERVAL
    monitor = RestartMonitor(services, ic.clock, interval.seconds, ic.log)
    monitor.start()
    return monitor


def _service(ic: InitContext, name: str) -> Any:
    try:
        plugin = ic.get_by_type(SERVICE)[f"{name}-service"]
    except KeyError as error:
        raise Unknown(f'service "{name}-service" not found') from error
    return plugin.instance()


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The restart monitor."""
    return [Registration(INTERNAL, "restart", init=init, requires=(EVENT, SERVICE), config=Config)]
