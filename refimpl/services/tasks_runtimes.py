"""Whom tasks-service speaks to: the runtimes, found by a container's record, and the monitor.

Containers name the first runtime by its plugin's whole URI; every other name is a shim's, which the second runtime
looks up (RT1-001).
"""

from __future__ import annotations

from collections.abc import Mapping

from refimpl.contract.containers import Container
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound, Unknown
from refimpl.contract.runtimes import Runtime, Task, TaskMonitor
from refimpl.kernel import InitContext, SkipPlugin
from refimpl.services.plugin_types import MONITOR, RUNTIME_V1


class Unwatched:
    """A ``contract.runtimes.TaskMonitor`` for a daemon without one."""

    def monitor(self, task: Task, labels: Mapping[str, str]) -> None:
        """Nothing."""

    def stop(self, task: Task) -> None:
        """Nothing."""


class Runtimes:
    """Which runtime makes whose tasks.

    Args:
        first: the first runtime's plugins, by the name that containers call them by.
        second: serves all other names.
    """

    def __init__(self, first: Mapping[str, Runtime], second: Runtime) -> None:
        self._first, self._second = dict(first), second

    def of(self, container: Container) -> Runtime:
        """The runtime of a container (RT1-001)."""
        return self._first.get(container.runtime.name, self._second)

    def task_of(self, ctx: CallContext, container: Container) -> Task:
        """The task of a container.

        Raises:
            NotFound: it has none (TSK-003).
        """
        try:
            return self.of(container).get(ctx, container.id)
        except NotFound as error:
            raise NotFound(f"task {container.id} not found", bare=True) from error

    def tasks(self, ctx: CallContext, *, everywhere: bool = False) -> list[Task]:
        """The tasks of all runtimes together (RT1-023)."""
        return [
            task
            for runtime in (*self._first.values(), self._second)
            for task in runtime.tasks(ctx, everywhere=everywhere)
        ]


def watch(ctx: CallContext, monitor: TaskMonitor, runtime: Runtime, task: Task, labels: Mapping[str, str]) -> None:
    """Have a task watched, unless it is gone by then: whoever deletes it meanwhile finds no watch to end."""
    monitor.monitor(task, labels)
    try:
        runtime.get(ctx, task.id)
    except NotFound:
        monitor.stop(task)


def first_runtimes(ic: InitContext) -> dict[str, Runtime]:
    """The plugins of the first runtime's type that work, by URI.

    Raises:
        Unknown: none does (RT1-002).
        SkipPlugin: none does, and one was skipped.
    """
    working: dict[str, Runtime] = {}
    skipped: SkipPlugin | None = None
    for plugin in ic.get_by_type(RUNTIME_V1).values():
        try:
            working[plugin.uri] = plugin.instance()  # type: ignore[assignment]  # the kernel can only promise an object
        except SkipPlugin as reason:
            skipped = reason
        except Exception as error:  # noqa: BLE001  # any plugin's own error, raised again for us to see
            text = "could not load runtime instance due to initialization error"
            ic.log.warning(text, extra={"fields": {"error": error}})
    if not working:
        raise skipped or Unknown("no runtimes available to create task service")
    return working


def task_monitor(ic: InitContext) -> TaskMonitor:
    """The monitor, or one that watches nothing where there is none.

    Raises:
        Exception: its own error, if it did not load.
    """
    try:
        found: TaskMonitor = ic.get(MONITOR)
    except NotFound:
        return Unwatched()
    return found
