"""Mutants of the restart area: labels misread, tasks ended or started in the wrong way, passes that stop or lag.

For the clauses of 2.x the fakes first become a monitor that knows policies (``_policies``), which is then broken.
"""

# ruff: noqa: SLF001, ARG001, ARG005  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from conformance.mutants._policies import POLICY, STATUS, introduced, policies
from conformance.mutants.engine import change, hooked, mutant, mutants
from conformance.mutants.shapes import answers, silent
from refimpl.contract.errors import ContainerdError, NotFound
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.tasks import CreateTask
from refimpl.kernel import Registration, hookimpl

Method = Callable[..., Any]


def changes(decide: Callable[[Any, Any, Any, Any], Any]) -> Method:
    """A pass that asks ``decide(monitor, container, task or None, right wish)`` for each container what to wish."""

    def method(original: Any, ctx: Any) -> list[Callable[[], None]]:
        monitor = original.args[0]
        found: list[Callable[[], None]] = []
        tasks = {task.id: task for task in monitor._services.tasks.list(ctx)}
        for container in monitor._services.containers.list(ctx, []):
            task = tasks.get(container.id)
            wish = decide(monitor, container, task, container.labels.get(STATUS))
            if wish == "running" and (task is None or task.status is not Status.RUNNING):
                found.append(partial(monitor._start, ctx, container))
            elif wish == "delete" or (wish == "stopped" and task is not None and task.status is not Status.STOPPED):
                found.append(partial(monitor._end, ctx, container.id))
        return found

    return method


def taken_for_running(*states: Status, exit_status: int | None = None) -> Method:
    """Tasks in some states count as running."""

    def method(original: Any, ctx: Any, id: str) -> Status | None:
        found: Status | None = original(ctx, id)
        if found not in states:
            return found
        if exit_status is not None:
            task = original.args[0]._services.tasks.get(ctx, id)
            return Status.RUNNING if task.exit_status == exit_status else found
        return Status.RUNNING

    return method


def starting(io: Callable[[Any, Any, Any], IO]) -> Method:
    """A start whose task has other streams."""

    def method(original: Any, ctx: Any, container: Any) -> None:
        monitor = original.args[0]
        streams = io(monitor, ctx, container)
        monitor._careful_end(ctx, container.id)
        monitor._services.tasks.create(ctx, CreateTask(container.id, monitor._rootfs(ctx, container), streams))
        monitor._services.tasks.start(ctx, container.id)

    return method


def _old_streams(monitor: Any, ctx: Any, container: Any) -> IO:
    try:
        found: IO = monitor._services.tasks.get(ctx, container.id).io
    except NotFound:
        return IO(stdout=monitor._log_of(container), stderr=monitor._log_of(container))
    return found


mutants(
    "restart",
    {
        "RST-001": (
            "every task that has ended is started again",
            {"_changes": changes(lambda m, c, task, wish: wish or (task and "running"))},
        ),
        "RST-002": (
            "only a task that has ended is started",
            {"_status": answers(lambda status: status or Status.RUNNING)},
        ),
        "RST-003": ("success is the end", {"_status": taken_for_running(Status.STOPPED, exit_status=0)}),
        "RST-004": ("a task that was created counts as running", {"_status": taken_for_running(Status.CREATED)}),
        "RST-007": (
            "a task that has stopped is deleted",
            {"_changes": changes(lambda m, c, task, wish: "delete" if wish == "stopped" and task else wish)},
        ),
        "RST-008": (
            "whatever is not stopped is running",
            {"_changes": changes(lambda m, c, task, wish: wish if wish in {None, "stopped"} else "running")},
        ),
        "RST-010": (
            "a task that was killed was meant to end",
            {"_status": taken_for_running(Status.STOPPED, exit_status=128 + signal.SIGKILL)},
        ),
        "RST-016": ("the streams of the old task", {"_start": starting(_old_streams)}),
        "RST-017": (
            "a log of one stream",
            {"_start": starting(lambda m, ctx, container: IO(stdout=m._log_of(container)))},
        ),
        "RST-018": ("a log that cannot be is left out", {"_log_of": silent(ContainerdError, answer="")}),
        "RST-023": (
            "policy no is honoured",
            {"_changes": changes(lambda m, c, task, wish: None if c.labels.get(POLICY) == "no" else wish)},
        ),
    },
)

_FIRST_LABELS: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


def _first_wish(monitor: Any, container: Any, task: Any, wish: Any) -> Any:
    return _FIRST_LABELS.setdefault(monitor, {}).setdefault(container.id, wish)


mutants("restart", {"RST-009": ("the labels of the first pass", {"_changes": changes(_first_wish)})})


@mutant("RST-005", "a paused task is resumed", at="restart", method="_start")
def _resumed(original: Any, ctx: Any, container: Any) -> None:
    tasks = original.args[0]._services.tasks
    if original.args[0]._status(ctx, container.id) is Status.PAUSED:
        tasks.resume(ctx, container.id)
    else:
        original(ctx, container)


@mutant("RST-006", "a running task is asked to end and no more", at="restart", method="_end")
def _asked(original: Any, ctx: Any, id: str) -> None:
    monitor = original.args[0]
    if monitor._status(ctx, id) is Status.RUNNING:
        monitor._services.tasks.kill(ctx, id, signal=signal.SIGTERM)
    else:
        original(ctx, id)


@hooked("RST-011", "a thousandth of the interval")
class _Hurried:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == "io.containerd.internal.v1.restart":
            instance._interval /= 1000
        return None


@hooked("RST-012", "the first pass finds nothing because services are not ready")
class _Late:
    def __init__(self) -> None:
        self._asked = False

    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == "io.containerd.service.v1.namespaces-service":
            self._asked = False
            change(instance, {"list": self._list})
        return None

    def _list(self, original: Method, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name == "refimpl-restart" and not self._asked:
            self._asked = True
            return []
        return original(*args, **kwargs)


@mutant("RST-013", "one namespace is watched", at="restart", method="_reconcile_namespace")
def _one(original: Method, namespace: str) -> None:
    if namespace in {"default", "one"}:
        original(namespace)


@mutant("RST-014", "a pass ends at the first failure", at="restart", method="_reconcile_namespace")
def _fragile(original: Any, namespace: str) -> None:
    monitor = original.args[0]
    for each in monitor._changes(monitor._context(namespace)):
        each()


@mutant("RST-019", "the older label wins", at="restart", method="_log_of")
def _older(original: Method, container: Any) -> str:
    labels = dict(container.labels)
    if "containerd.io/restart.logpath" in labels:
        labels.pop("containerd.io/restart.loguri", None)
    found: str = original(replace(container, labels=labels))
    return found


_SPECS: dict[tuple[str, str], Any] = {}


@mutant("RST-021", "a new task has the spec of the first", at="runtime.v2", method="create")
def _first_spec(original: Method, ctx: Any, id: str, options: Any) -> Any:
    return original(ctx, id, replace(options, spec=_SPECS.setdefault((ctx.namespace, id), options.spec)))


@mutant("RST-021", "a new task has no mounts", at="restart", method="_rootfs")
def _rootless(original: Method, ctx: Any, container: Any) -> tuple[()]:
    return ()


@hooked("RST-022", "a task ends with the record of its container")
class _Bound:
    def __init__(self) -> None:
        self._tasks: Any = None

    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == "io.containerd.service.v1.tasks-service":
            self._tasks = instance
        if registration.uri == "io.containerd.service.v1.containers-service":
            change(instance, {"delete": self._delete})
        return None

    def _delete(self, original: Method, ctx: Any, id: str) -> None:
        with suppress(ContainerdError):
            self._tasks.kill(ctx, id, signal=signal.SIGKILL, all=True)
        original(ctx, id)


mutants("service.introspection", {"RST-032": ("policies on 1.6", {"plugins": introduced()})})


# ------------------------------------------------------------------------------------------------- policies

policies("RST-024", "success is the last end", always_ends=0)
policies("RST-024", "a limit for always", readable=lambda p: p.partition(":")[0])
policies("RST-025", "a first start is no restart", missing=lambda p: p in {"always", "no"})
policies("RST-026", "a missing task counts as failed", missing=lambda p: p in {"always", "on-failure"})
policies("RST-027", "one restart too many", limit=lambda n: n + 1 if n else 0)
policies("RST-027", "a limit that cannot be read is none", readable=lambda p: p.replace(":x", ""))
policies("RST-028", "the label is not looked at", stopped=lambda value: False)
policies("RST-029", "unknown means always", readable=lambda p: p if p in {"no", "always"} else "always")
policies("RST-030", "starts that succeed are counted", counts="after")
policies("RST-030", "the first start is none", counts="restarts")
policies("RST-031", "a count that cannot be read is none", number=lambda text: 0)
