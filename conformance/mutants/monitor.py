"""Mutants of the monitor area: series that come, go and are named in other ways, numbers in other units, lost events.

What only a page over HTTP, a shim of its own or a host with cgroup v2 shows cannot be tried on the fakes.
"""

# ruff: noqa: SLF001, ARG001, ARG005  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from conformance.mutants.engine import change, hooked, mutant, mutants
from conformance.mutants.shapes import does_nothing
from refimpl.api import cgroups_v1_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound
from refimpl.contract.runtimes import Status, Task
from refimpl.contract.types import TypedAny
from refimpl.kernel import Registration, hookimpl

Method = Callable[..., Any]
Edit = Callable[[Any, str, dict[str, str], float], "tuple[str, dict[str, str], float] | None"]

PLUGIN = "io.containerd.monitor.v1.cgroups"


def showing(edit: Edit) -> Mapping[str, Method]:
    """Series as ``edit(monitor, name, labels, value)`` has them; None leaves one out."""

    def collect(original: Any) -> Any:
        families = list(original())
        for family in families:
            samples, family.samples = family.samples, []
            for sample in samples:
                changed = edit(original.args[0], sample.name, dict(sample.labels), sample.value)
                if changed is not None:
                    family.add_sample(*changed)
        return families

    return {"collect": collect}


def named(rename: Callable[[str], str]) -> Mapping[str, Method]:
    """Series under other names."""

    def collect(original: Any) -> Any:
        families = list(original())
        for family in families:
            samples, family.samples = family.samples, []
            family.name = rename(family.name)
            for sample in samples:
                family.add_sample(rename(sample.name), sample.labels, sample.value)
        return families

    return {"collect": collect}


def _living(monitor: Any, name: str, labels: dict[str, str], value: float) -> Any:
    task = monitor._tasks[labels["namespace"], labels["container_id"]].task
    ended = task.state(CallContext(labels["namespace"])).status is Status.STOPPED
    return None if ended else (name, labels, value)


def _other_label(monitor: Any, name: str, labels: dict[str, str], value: float) -> Any:
    return name, {"id" if key == "container_id" else key: text for key, text in labels.items()}, value


def _swapped(name: str) -> str:
    pair = ("container_pids_current", "container_pids_limit")
    return pair[1 - pair.index(name)] if name in pair else name


_FIRST: weakref.WeakKeyDictionary[Any, dict[Any, float]] = weakref.WeakKeyDictionary()


def _polled(monitor: Any, name: str, labels: dict[str, str], value: float) -> Any:
    seen = _FIRST.setdefault(monitor, {})
    return name, labels, seen.setdefault((name, *sorted(labels.items())), value)


mutants(
    "monitor",
    {
        "MON-002": ("series end with the program", showing(_living)),
        "MON-003": ("another name for the id", showing(_other_label)),
        "MON-006": ("number and limit are swapped", named(_swapped)),
        "MON-007": (
            "seconds",
            showing(lambda m, name, labels, v: (name, labels, v / 1e9 if "cpu" in name else v)),
        ),
        "MON-008": (
            "no swap",
            showing(lambda m, name, labels, v: None if "memory_swap_" in name else (name, labels, v)),
        ),
        "MON-009": (
            "page faults are counts",
            named(lambda name: name.replace("fault_bytes", "fault_total")),
        ),
        "MON-021": ("the values of the first scrape", showing(_polled)),
        "MON-025": (
            "ids are cut",
            showing(lambda m, name, labels, v: (name, {**labels, "container_id": labels["container_id"][:64]}, v)),
        ),
        "MON-030": (
            "only tasks of this daemon",
            {"monitor": lambda original, task, labels: original(task, labels) if labels else None},
        ),
    },
)


@mutant("MON-005", "what only grows is a counter", at="monitor", method="collect")
def _counters(original: Method) -> Any:
    families = list(original())
    for family in families:
        if family.name.endswith("_total"):
            family.type = "counter"
    return families


@mutant("MON-016", "a lack of memory is told twice", at="events", method="publish")
def _twice(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    original(ctx, topic, event)
    if topic == "/tasks/oom":
        original(ctx, topic, event)


@mutant("MON-016", "a count with the labels of all series", at="monitor", method="collect")
def _labelled(original: Any) -> Any:
    families = list(original())
    for family in families:
        if family.name == "container_memory_oom":
            samples, family.samples = family.samples, []
            for sample in samples:
                family.add_sample(
                    sample.name, {**sample.labels, "runtime": "io.containerd.runtime.v1.linux"}, sample.value
                )
    return families


@mutant("MON-017", "a lack of memory is told with the end", at="events", method="publish")
def _late(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    held = _HELD.setdefault(ctx.namespace, [])
    with _LOCK:
        if topic == "/tasks/oom":
            held.append((ctx, topic, event))
            return
        told, held[:] = ([*held], []) if topic == "/tasks/exit" else ([], held)
    original(ctx, topic, event)
    for each in told:
        original(*each)


_LOCK = threading.Lock()
_HELD: dict[str, list[tuple[CallContext, str, TypedAny]]] = {}


@hooked("MON-018", "no series and no events")
class _Off:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == PLUGIN and not instance._shown:
            change(instance, {"monitor": does_nothing()})
        return None


@hooked("MON-018", "the setting is not looked at")
class _On:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == PLUGIN:
            instance._shown = True
        return None


@mutant("MON-024", "ids without their namespaces", at="monitor", method="monitor")
def _by_id(original: Any, task: Task, labels: Mapping[str, str]) -> None:
    watched = original.args[0]._tasks
    for key in [key for key in watched if key[1] == task.id]:
        del watched[key]
    original(task, labels)


def _microseconds(original: Method, ctx: CallContext) -> TypedAny:
    found = original(ctx)
    message = cgroups_v1_pb2.Metrics.FromString(found.value)
    usage = message.cpu.usage
    usage.total, usage.user, usage.kernel = (n // 1000 for n in (usage.total, usage.user, usage.kernel))
    usage.per_cpu[:] = [n // 1000 for n in usage.per_cpu]
    return TypedAny(found.type_url, message.SerializeToString())


def _of_the_living(original: Any, ctx: CallContext) -> TypedAny:
    if original.args[0].state(ctx).status is Status.STOPPED:
        raise NotFound("no such process")
    found: TypedAny = original(ctx)
    return found


def _stats(method: Method) -> Mapping[str, Method]:
    return {"create": lambda original, *args: change(original(*args), {"stats": method})}


mutants(
    "runtime.v2",
    {
        "MON-026": ("microseconds", _stats(_microseconds)),
        "MON-028": ("a task that has stopped has no numbers", _stats(_of_the_living)),
    },
)
