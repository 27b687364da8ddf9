"""A restart monitor that knows policies, made of the fake one: the right one, and the same with one mistake.

The fakes are those of 1.6, so the clauses of 2.x could not be tried on them. ``policies(clause, says, ...)`` registers
the monitor of 2.x with one of its decisions replaced; without a replacement it is what all its clauses ask for.
"""

# ruff: noqa: SLF001  # the decisions of the monitor of 2.x are put into that of 1.6

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from conformance.mutants.engine import change, hooked
from conformance.mutants.shapes import each
from refimpl.contract.errors import NotFound
from refimpl.contract.runtimes import Status
from refimpl.kernel import Registration, hookimpl

STATUS = "containerd.io/restart.status"
POLICY = "containerd.io/restart.policy"
COUNT = "containerd.io/restart.count"
EXPLICIT = "containerd.io/restart.explicitly-stopped"

NAMES = ("always", "no", "on-failure", "unless-stopped")

_TRUE = {"1", "t", "T", "TRUE", "true", "True"}


def introduced() -> Callable[..., Any]:
    """An introspection in which the monitor says that it knows policies."""
    return each(lambda plugin: replace(plugin, capabilities=list(NAMES)) if plugin.id == "restart" else plugin)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a monitor of 2.x decides, each to be replaced by a mistake.

    Attributes:
        readable: the policy that a label is read as.
        always_ends: exit status after which "always" does nothing; -1 for none.
        missing: whether a policy starts a task where there is none.
        limit: the number of restarts that a label's number allows; 0 for no limit.
        stopped: whether a label says that the user stopped the container.
        number: the count that a label says, for a policy with a limit.
        counts: ``before`` every start, only ``after`` one, or ``restarts`` but not first starts.
    """

    readable: Callable[[str], str] = str
    always_ends: int = -1
    missing: Callable[[str], bool] = lambda policy: policy in {"always", "unless-stopped"}
    limit: Callable[[int], int] = int
    stopped: Callable[[str], bool] = lambda value: value in _TRUE
    number: Callable[[str], int] = int
    counts: str = "before"

    def allows(self, labels: Any, task: Any) -> bool:
        """Whether the policy lets a task be started."""
        name, colon, number = self.readable(labels.get(POLICY, "") or "always").partition(":")
        if name not in NAMES or (colon and name != "on-failure"):
            return False
        if task is None and not self.missing(name):
            return False
        if name == "always":
            return task is None or task.exit_status != self.always_ends
        if name == "unless-stopped":
            return not self.stopped(labels.get(EXPLICIT, ""))
        if name == "no":
            return task is None
        try:
            limit = self.limit(int(number)) if number else 0
            count = self.number(labels[COUNT]) if labels.get(COUNT) else 0
        except ValueError:
            return False
        return (task is None or task.exit_status != 0) and (not limit or count < limit)


class NextMonitor:
    """The hook that makes the fake monitor one of 2.x."""

    def __init__(self, decisions: Decisions) -> None:
        self._decide = decisions

    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        """Give the monitor its decisions, and say so."""
        if registration.uri == "io.containerd.service.v1.introspection-service":
            change(instance, {"plugins": introduced()})
        if registration.uri == "io.containerd.internal.v1.restart":
            change(instance, {"_changes": self._changes, "_start": self._start})
        return None

    def _changes(self, original: Any, ctx: Any) -> list[Callable[[], None]]:
        monitor = original.args[0]
        found: list[Callable[[], None]] = []
        for container in monitor._services.containers.list(ctx, [f'labels."{STATUS}"']):
            wish, task = container.labels[STATUS], _task(monitor, ctx, container.id)
            alive = task is not None and task.status in {Status.RUNNING, Status.PAUSED, Status.PAUSING}
            if wish == "running" and not alive and self._decide.allows(container.labels, task):
                found.append(partial(monitor._start, ctx, container))
            elif wish == "stopped" and task is not None and task.status is not Status.STOPPED:
                found.append(partial(monitor._end, ctx, container.id))
        return found

    def _start(self, original: Any, ctx: Any, container: Any) -> None:
        counts, monitor = self._decide.counts, original.args[0]
        first = _task(monitor, ctx, container.id) is None
        if counts == "before" or (counts == "restarts" and not first):
            _count(monitor, ctx, container)
        original(ctx, container)
        if counts == "after":
            _count(monitor, ctx, container)


def _task(monitor: Any, ctx: Any, id: str) -> Any:
    try:
        return monitor._services.tasks.get(ctx, id)
    except NotFound:
        return None


def _count(monitor: Any, ctx: Any, container: Any) -> None:
    text = container.labels.get(COUNT, "")
    count = int(text) + 1 if text.isdigit() else 1
    labels = {**container.labels, COUNT: str(count)}
    monitor._services.containers.update(ctx, replace(container, labels=labels), [f"labels.{COUNT}"])


def policies(clause: str, says: str, **mistake: Any) -> None:
    """Register the monitor of 2.x with one decision replaced."""

    class Mistaken(NextMonitor):
        def __init__(self) -> None:
            super().__init__(Decisions(**mistake))

    hooked(clause, says)(Mistaken)
