"""Mutants of the first runtime: the second one's manners, other kinds of errors, ends that nobody hears of.

Clauses about the shim as a process, its socket and its protocol have none: the fakes start no shims.
"""

# ruff: noqa: SLF001, ARG005  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from conformance.mutants.engine import change, hooked, mutant, mutants
from conformance.mutants.shapes import answers, argument, does_nothing, each, other_kind
from refimpl.api import event_types_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, Unknown
from refimpl.contract.runtimes import Task
from refimpl.contract.types import TypedAny
from refimpl.kernel import Registration, hookimpl

Method = Callable[..., Any]

V1 = "io.containerd.runtime.v1.linux"


def made(methods: Mapping[str, Method]) -> Mapping[str, Method]:
    """Every task that the runtime makes has these methods."""
    return {"create": answers(lambda task: change(task, methods))}


def options(**edit: Callable[[Any], Any]) -> Mapping[str, Method]:
    """The runtime gets other options than were given."""
    changed = lambda given: replace(given, **{name: f(getattr(given, name)) for name, f in edit.items()})  # noqa: E731
    return {"create": argument(2, changed)}


def _of_this_runtime(given: TypedAny | None) -> TypedAny | None:
    return given if given is None or given.type_url.startswith("containerd.linux.runc.") else None


def _second_type(infos: Any) -> Any:
    def typed(info: TypedAny | None) -> TypedAny | None:
        return info and TypedAny("containerd.runc.v1.ProcessDetails", info.value)

    return [replace(info, info=typed(info.info)) for info in infos]


def _named_like_the_task(original: Any, ctx: Any, id: str, *args: Any) -> Any:
    task = original.args[0]
    if id != task.id:
        return original(ctx, id, *args)
    return task


mutants(
    "runtime.v1",
    {
        "RT1-012": (
            "states have a kind of their own",
            made({name: other_kind(FailedPrecondition, Unknown) for name in ("start", "pause", "resume", "delete")}),
        ),
        "RT1-014": ("a process may be named like the task", made({"exec": _named_like_the_task})),
        "RT1-016": ("details of the second runtime", made({"pids": answers(_second_type)})),
        "RT1-017": (
            "options of other types are passed over",
            options(runtime_options=_of_this_runtime, task_options=_of_this_runtime),
        ),
        "RT1-019": (
            "another scheme is that of a file",
            options(io=lambda io: replace(io, stdout=io.stdout.replace("npipe:", "file:"))),
        ),
        "RT1-023": ("tasks of the second runtime only", {"tasks": does_nothing([])}),
        "RT1-030": ("resources are passed over", made({"update": does_nothing()})),
    },
)

mutants(
    "service.introspection",
    {
        "RT1-002": (
            "no platform",
            {"plugins": each(lambda plugin: replace(plugin, platforms=()) if plugin.uri == V1 else plugin)},
        )
    },
)


@hooked("RT1-001", "the name is that of a shim of the second runtime")
class _NoFirst:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == "io.containerd.service.v1.tasks-service":
            change(instance._runtimes, {"of": lambda original, container: original.args[0]._second})
        return None


@hooked("RT1-001", "every name that begins alike")
class _Alike:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        def of(original: Any, container: Any) -> Any:
            first = container.runtime.name.startswith("io.containerd.runtime.v1")
            return original.args[0]._first[V1] if first else original(container)

        if registration.uri == "io.containerd.service.v1.tasks-service":
            change(instance._runtimes, {"of": of})
        return None


@hooked("RT1-003", "the OCI runtime is always runc")
class _AlwaysRunc:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == V1:
            instance._oci = "runc"
        return None


@hooked("RT1-004", "bundles of the second runtime")
class _SecondBundles:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == V1:
            instance._places = replace(instance._places, first=False)
        return None


@mutant("RT1-010", "an added process is told", at="events", method="publish")
def _added(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    if topic == "/tasks/exec-started":
        started = event_types_pb2.TaskExecStarted.FromString(event.value)
        added = event_types_pb2.TaskExecAdded(container_id=started.container_id, exec_id=started.exec_id)
        original(ctx, "/tasks/exec-added", TypedAny("containerd.events.TaskExecAdded", added.SerializeToString()))
    original(ctx, topic, event)


@mutant("RT1-010", "the daemon tells of ends too", at="events", method="publish")
def _twice(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    original(ctx, topic, event)
    if topic == "/tasks/exit":
        original(ctx, topic, event)


@mutant("RT1-018", "a failed creation keeps the id", at="runtime.v1", method="create")
def _kept(original: Any, ctx: CallContext, id: str, given: Any) -> Task:
    try:
        task: Task = original(ctx, id, given)
    except AlreadyExists:
        raise
    except Exception:
        original.args[0]._shims.creating.add((ctx.namespace, id))
        raise
    return task


def _unmounting(original: Any, ctx: CallContext) -> Any:
    end = original(ctx)
    original.args[0].bundle.unmount()
    return end


mutants("runtime.v1", {"RT1-019": ("the root file system goes with the program", made({"wait": _unmounting}))})


@mutant("RT1-020", "the removal is not told", at="events", method="publish")
def _silent(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    if topic != "/tasks/delete":
        original(ctx, topic, event)


@mutant("RT1-020", "the bundle stays", at="runtime.v1", method="create")
def _littering(original: Method, *args: Any) -> Task:
    task: Task = original(*args)
    change(task.bundle, {"remove": does_nothing()})  # type: ignore[attr-defined]  # the fake runtime's own
    return task


@hooked("RT1-022", "processes are forgotten in a restart")
class _Forgetful:
    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: Any) -> object | None:
        if registration.uri == V1:
            for task in instance.tasks(CallContext(), everywhere=True):
                task._execs.clear()
        return None


mutants("monitor", {"RT1-024": ("a lack of memory is counted and not told", {"_killed": does_nothing()})})


@mutant("RT1-026", "a process without a spec ends the task", at="tasks", method="exec")
def _panics(original: Any, ctx: CallContext, container_id: str, exec_id: str, spec: Any, io: Any) -> None:
    if spec is None:
        original.args[0].kill(ctx, container_id, signal=9, all=True)
        raise Unknown("ttrpc: closed")
    original(ctx, container_id, exec_id, spec, io)
