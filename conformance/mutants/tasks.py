"""Mutants of the tasks area: a service that says yes too often, and runtimes that mix up, forget or invent."""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks

from __future__ import annotations

import signal as signals
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.mutants.engine import change, mutant, mutants
from conformance.mutants.shapes import answers, answers_with, argument, does_nothing, drops, other_kind, silent
from refimpl.api import runc_v1_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.runtimes import IO, CreateOptions, Exit, ProcessState, Status
from refimpl.contract.tasks import CreateTask
from refimpl.contract.types import TypedAny

Method = Callable[..., Any]

PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
"""The type url that Go's client sends with a process."""

MOMENT = 0.05
"""Seconds between two looks."""


def owner(original: Method) -> Any:
    """The object whose method was replaced."""
    return original.args[0]  # type: ignore[attr-defined]  # the engine gives a partial


def memory(original: Method) -> dict[Any, Any]:
    """What a broken object remembers between its calls."""
    found: dict[Any, Any] = owner(original).__dict__.setdefault("_mutant_memory", {})
    return found


def status(original: Method, ctx: CallContext, id: str, exec_id: str = "") -> Status:
    """Where a process is in its life; UNKNOWN if it is not there."""
    try:
        found: ProcessState = owner(original).get(ctx, id, exec_id)
    except NotFound:
        return Status.UNKNOWN
    return found.status


def hang(ctx: CallContext) -> None:
    """Wait until the caller gives up.

    Raises:
        DeadlineExceeded: it did.
    """
    while True:
        ctx.check()
        time.sleep(MOMENT)


def refuses(*states: Status) -> Method:
    """Refuse calls about tasks in some states."""

    def method(original: Method, ctx: CallContext, id: str, *args: Any, **kwargs: Any) -> Any:
        if (found := status(original, ctx, id)) in states:
            raise Unknown(f"not in {found.name}")
        return original(ctx, id, *args, **kwargs)

    return method


def wishing(edit: Callable[[CreateTask], CreateTask]) -> Method:
    """A ``create`` of something else."""
    return argument(1, edit)


def streaming(edit: Callable[[IO], IO]) -> Method:
    """A ``create`` with other streams."""
    return wishing(lambda wish: replace(wish, io=edit(wish.io)))


def making(edit: Callable[[CreateOptions], CreateOptions]) -> Method:
    """A runtime's ``create`` with other options."""
    return argument(2, edit)


def tasks_with(**methods: Method) -> dict[str, Method]:
    """A runtime all of whose tasks are broken."""
    return {"create": answers(lambda task: change(task, methods))}


# ------------------------------------------------------------------------------- namespaces, containers and create


def _defaulting(ctx: CallContext) -> CallContext:
    return ctx if ctx.namespace else ctx.with_namespace("default")


def _no_empty_id(original: Method, ctx: CallContext, id: str, *args: Any, **kwargs: Any) -> Any:
    if not id:
        raise InvalidArgument("container id cannot be empty")
    return original(ctx, id, *args, **kwargs)


def _started_at_create(original: Method, ctx: CallContext, wish: CreateTask) -> int:
    pid: int = original(ctx, wish)
    owner(original).start(ctx, wish.container_id)
    return pid


def _replaces_stopped(original: Method, ctx: CallContext, wish: CreateTask) -> Any:
    if status(original, ctx, wish.container_id) is Status.STOPPED:
        owner(original).delete(ctx, wish.container_id)
    return original(ctx, wish)


def _loser_cleans_up(original: Method, ctx: CallContext, wish: CreateTask) -> Any:
    try:
        return original(ctx, wish)
    except AlreadyExists:
        deadline = time.monotonic() + 5
        while status(original, ctx, wish.container_id) is Status.UNKNOWN and time.monotonic() < deadline:
            time.sleep(MOMENT)
        with suppress(ContainerdError):
            owner(original).delete(ctx, wish.container_id)
        raise


def _half_made(original: Method, ctx: CallContext, wish: CreateTask) -> Any:
    key = ctx.namespace, wish.container_id
    if key in memory(original):
        raise AlreadyExists(f"task {wish.container_id}")
    try:
        return original(ctx, wish)
    except Unknown:
        memory(original)[key] = True
        raise


def _says_little(original: Method, ctx: CallContext, *args: Any) -> Any:
    try:
        return original(ctx, *args)
    except Unknown as error:
        raise Unknown("OCI runtime failed: exit status 1") from error


def _of_any_type(wish: CreateTask) -> CreateTask:
    given = wish.options
    return replace(wish, options=given if given is None or given.type_url.endswith(".Options") else None)


def _merged(options: CreateOptions) -> CreateOptions:
    if options.task_options is None or options.runtime_options is None:
        return options
    both = runc_v1_pb2.Options.FromString(options.runtime_options.value + options.task_options.value)
    return replace(options, task_options=TypedAny(options.task_options.type_url, both.SerializeToString()))


mutants(
    "tasks",
    {
        "TSK-001": (
            'falls back to "default"',
            {name: argument(0, _defaulting) for name in ("get", "list", "create", "metrics")},
        ),
        "TSK-002": ("answers InvalidArgument for the empty id", {"get": _no_empty_id}),
        "TSK-003": ("answers FailedPrecondition without a task", {"start": other_kind(FailedPrecondition, NotFound)}),
        "TSK-004": ("starts the program at create", {"create": _started_at_create}),
        "TSK-005": ("replaces a stopped task silently", {"create": _replaces_stopped}),
        "TSK-006": ("a loser's clean-up removes the winner's task", {"create": _loser_cleans_up}),
        "TSK-007": ("a half-made task blocks the id", {"create": _half_made}),
        "TSK-008": ("replaces the message by exit status 1", {"create": _says_little}),
        "TSK-010": ("does not look at the type of options", {"create": wishing(_of_any_type)}),
        "TSK-083": (
            "starts afresh in the place of a restore",
            {"create": wishing(lambda wish: replace(wish, checkpoint=None))},
        ),
    },
)
mutants("tasks", {"TSK-008": ("says little of a failing exec", {"start": _says_little})})

mutants(
    "runtime.v2",
    {
        "TSK-009": (
            "ignores the shim that a call names",
            {"create": making(lambda options: replace(options, runtime_path=""))},
        ),
        "TSK-011": ("merges the two messages field by field", {"create": making(_merged)}),
        "TSK-012": (
            "mounts only the first entry",
            {"create": making(lambda options: replace(options, rootfs=options.rootfs[:1]))},
        ),
        "TSK-014": (
            "leaves out a mount that fails",
            {
                "create": making(
                    lambda options: replace(options, rootfs=[m for m in options.rootfs if m.type != "nosuchfs"])
                )
            },
        ),
    },
)


# --------------------------------------------------------------------------------------------------------- streams


def _plain_path(uri: str) -> str:
    return uri.removeprefix("file://")


def _input_ends_with_the_client(original: Method, ctx: CallContext, id: str, exec_id: str = "") -> Any:
    pid = original(ctx, id, exec_id)
    # Nobody but the client holds the fifo open from here on.
    owner(original).close_io(ctx, id, exec_id, stdin=True)
    return pid


def _emptied(io: IO) -> IO:
    if io.stdout.startswith("file://") and (log := Path(_plain_path(io.stdout))).exists():
        log.write_bytes(b"")
    return io


def _one_argument(io: IO) -> IO:
    path, mark, query = io.stdout.partition("?")
    return replace(io, stdout=path + mark + query.replace("=", "%3D").replace("&", "%26"))


def _known_schemes(io: IO) -> IO:
    known = not io.stdout or io.stdout.startswith(("/", "file://", "binary://"))
    return io if known else IO(stdin=io.stdin, terminal=io.terminal)


def _needs_stdout(original: Method, ctx: CallContext, wish: CreateTask) -> Any:
    if not wish.io.stdout:
        raise Unknown("no stdout")
    return original(ctx, wish)


def _deaf_terminal(task: Any) -> Any:
    if task.part.io.terminal:
        task.part.process.streams.pop(2).close()
    return task


def _swapped(original: Method, ctx: CallContext, id: str, exec_id: str = "", *, width: int, height: int) -> None:
    original(ctx, id, exec_id, width=height, height=width)


mutants(
    "tasks",
    {
        "TSK-016": (
            "returns the resolved path of a file URI",
            {"get": answers_with(io=lambda io: replace(io, stdout=_plain_path(io.stdout)))},
        ),
        "TSK-017": (
            "merges stderr into stdout",
            {"create": streaming(lambda io: io if io.terminal else replace(io, stderr=io.stdout))},
        ),
        "TSK-018": ("input ends as soon as the client closes its end", {"start": _input_ends_with_the_client}),
        "TSK-020": ("empties the log on each start", {"create": streaming(_emptied)}),
        "TSK-021": ("passes the query string as one argument", {"create": streaming(_one_argument)}),
        "TSK-023": ("takes an unknown scheme for no stream", {"create": streaming(_known_schemes)}),
        "TSK-024": ("demands a stdout", {"create": _needs_stdout}),
        "TSK-027": ("swaps width and height", {"resize_pty": _swapped}),
    },
)
mutants("runtime.v2", {"TSK-025": ("a terminal without stderr", {"create": answers(_deaf_terminal)})})


# ------------------------------------------------------------------------------------------- start, list and delete


def _everywhere(original: Method, ctx: CallContext, **_: bool) -> Any:
    return original(ctx, everywhere=True)


def _by_id(original: Method, ctx: CallContext, id: str) -> Any:
    with suppress(NotFound):
        return original(ctx, id)
    for task in owner(original).tasks(ctx, everywhere=True):
        if task.id == id:
            return task
    raise NotFound(f"task {id} not found")


def _with_its_record(original: Method, ctx: CallContext, id: str) -> Any:
    found = original(ctx, id)
    owner(original)._containers.delete(ctx, id)
    return found


def _kills_first(original: Method, ctx: CallContext, id: str) -> Any:
    if status(original, ctx, id) in (Status.RUNNING, Status.PAUSED):
        owner(original).kill(ctx, id, signal=signals.SIGKILL)
        owner(original).wait(ctx, id)
    return original(ctx, id)


def _to_everybody(original: Method, ctx: CallContext, id: str) -> Any:
    key = ctx.namespace, id
    try:
        memory(original)[key] = original(ctx, id)
    except NotFound:
        if key not in memory(original):
            raise
    return memory(original)[key]


mutants(
    "tasks",
    {
        "TSK-030": ("returns pid 0", {"start": does_nothing(0)}),
        "TSK-031": ("a second start is as good as the first", {"start": silent(Unknown, answer=1)}),
        "TSK-046": ("removes the container record too", {"delete": _with_its_record}),
        "TSK-047": ("kills what it shall delete", {"delete": _kills_first}),
        "TSK-048": ("state error in CREATED", {"delete": refuses(Status.CREATED)}),
        "TSK-049": ("two callers both get the exit status", {"delete": _to_everybody}),
    },
)
mutants(
    "runtime.v2",
    {
        "TSK-032": ("lists the tasks of all namespaces", {"tasks": _everywhere}),
        "TSK-033": ("keys the tasks by id only", {"get": _by_id}),
    },
)


# ---------------------------------------------------------------------------------------------------- kill and wait


def _waits(original: Method, ctx: CallContext, id: str, exec_id: str = "", *, signal: int, all: bool = False) -> None:
    original(ctx, id, exec_id, signal=signal, all=all)
    if signal:
        owner(original).wait(ctx, id, exec_id)


def _in_a_byte(
    original: Method, ctx: CallContext, id: str, exec_id: str = "", *, signal: int, all: bool = False
) -> None:
    original(ctx, id, exec_id, signal=signal & 0xFF, all=all)


def _first_only(original: Method, ctx: CallContext, id: str, exec_id: str = "") -> Any:
    key = ctx.namespace, id, exec_id
    if memory(original).setdefault(key, threading.get_ident()) != threading.get_ident():
        hang(ctx)
    return original(ctx, id, exec_id)


def _detached(original: Method, ctx: CallContext, id: str, exec_id: str = "") -> Any:
    key = ctx.namespace, id, exec_id
    while True:
        if key in memory(original):
            hang(ctx)
        turn = time.monotonic() + MOMENT
        last = ctx.deadline is not None and ctx.deadline <= turn
        try:
            found = original(ctx if last else replace(ctx, deadline=turn), id, exec_id)
        except DeadlineExceeded:
            if last:
                memory(original)[key] = True
                raise
        else:
            if key not in memory(original):
                return found


def _after_a_restart(original: Method, ctx: CallContext, wish: CreateTask) -> Any:
    memory(original)[ctx.namespace, wish.container_id] = True
    return original(ctx, wish)


def _knows_its_own(original: Method, ctx: CallContext, id: str, exec_id: str = "") -> Any:
    if (ctx.namespace, id) not in memory(original):
        hang(ctx)
    return original(ctx, id, exec_id)


mutants(
    "tasks",
    {
        "TSK-036": ("waits for the exit", {"kill": _waits}),
        "TSK-037": ("a finished process can be killed", {"kill": silent(NotFound)}),
        "TSK-038": ("cuts the number of a signal to 8 bits", {"kill": _in_a_byte}),
        "TSK-039": ("a signal for all is for init alone", {"kill": drops("all")}),
        "TSK-041": (
            "reports signals as negative numbers",
            {"wait": answers_with(status=lambda status: 128 - status if status > 128 else status)},
        ),
        "TSK-042": (
            "computes a new time for every answer",
            {"wait": answers_with(exited_at=lambda _: time.time_ns())},
        ),
        "TSK-043": ("only the first waiter is told", {"wait": _first_only}),
        "TSK-044": ("a wait that is given up detaches the others", {"wait": _detached}),
        "TSK-088": (
            "a wait for an older task never returns",
            {"create": _after_a_restart, "wait": _knows_its_own},
        ),
    },
)


# ------------------------------------------------------------------------------------------------ further processes


def _any_exec_id(original: Method, ctx: CallContext, id: str, exec_id: str, *args: Any) -> None:
    try:
        original(ctx, id, exec_id, *args)
    except InvalidArgument:
        if not exec_id:
            raise
        original(ctx, id, f"x{abs(hash(exec_id))}", *args)


def _at_once(original: Method, ctx: CallContext, id: str, exec_id: str, *args: Any) -> None:
    original(ctx, id, exec_id, *args)
    owner(original).start(ctx, id, exec_id)


def _replaces_exec(original: Method, ctx: CallContext, id: str, exec_id: str, *args: Any) -> None:
    if status(original, ctx, id, exec_id) is Status.STOPPED:
        owner(original).delete_process(ctx, id, exec_id)
    original(ctx, id, exec_id, *args)


def _hangs_in_a_pause(original: Method, ctx: CallContext, id: str, *args: Any) -> None:
    if status(original, ctx, id) is Status.PAUSED:
        hang(ctx)
    original(ctx, id, *args)


def _one_type(original: Method, ctx: CallContext, id: str, exec_id: str, spec: TypedAny | None, io: IO) -> None:
    if spec is not None and spec.type_url != PROCESS:
        raise InvalidArgument(f"{spec.type_url} is no process")
    original(ctx, id, exec_id, spec, io)


def _stuck(original: Method, ctx: CallContext, id: str, exec_id: str) -> Any:
    if status(original, ctx, id, exec_id) is Status.CREATED:
        raise Unknown("process is not stopped")
    return original(ctx, id, exec_id)


def _as_if_init(original: Method, ctx: CallContext, id: str, exec_id: str) -> Any:
    found = original(ctx, id, exec_id)
    owner(original)._task(ctx, id).teller.deleted(found)
    return found


def _left_over(original: Method, ctx: CallContext, id: str) -> Any:
    if owner(original)._task(ctx, id)._execs:
        raise Unknown("there are processes left")
    return original(ctx, id)


def _mixed_up(original: Method, ctx: CallContext, id: str, exec_id: str = "") -> Any:
    found: Exit = original(ctx, id, exec_id)
    if not exec_id:
        return found
    # Everybody gets the status of whoever asked before.
    before = memory(original).get("last", found)
    memory(original)["last"] = found
    return replace(found, status=before.status)


def _init_instead(original: Method, ctx: CallContext, id: str, exec_id: str = "", **more: Any) -> Any:
    try:
        return original(ctx, id, exec_id, **more)
    except NotFound:
        return original(ctx, id, "", **more)


def _thinks_it_private(task: Any) -> Any:
    task.container.private = True
    return task


mutants(
    "tasks",
    {
        "TSK-051": ("takes any exec id", {"exec": _any_exec_id}),
        "TSK-052": ("starts an exec at once", {"exec": _at_once}),
        "TSK-053": ("a stopped exec is replaced silently", {"exec": _replaces_exec}),
        "TSK-054": ("an exec in a pause hangs", {"exec": _hangs_in_a_pause}),
        "TSK-055": ("insists on one type url", {"exec": _one_type}),
        "TSK-057": ("an exec that could not start cannot be removed", {"delete_process": _stuck}),
        "TSK-059": ("an exec in CREATED is not found", {"kill": other_kind(NotFound, FailedPrecondition)}),
        "TSK-060": ("the delete of an exec is told as that of the task", {"delete_process": _as_if_init}),
        "TSK-062": ("delete fails because of left-over execs", {"delete": _left_over}),
        "TSK-065": ("exit statuses get mixed up", {"wait": _mixed_up}),
        "TSK-066": ("acts on init instead", {"get": _init_instead, "close_io": _init_instead}),
    },
)
mutants("runtime.v2", {"TSK-063": ("leaves orphans running after the exit", {"create": answers(_thinks_it_private)})})


# ------------------------------------------------------------------------------------------- pause, limits, metrics


def _stops_init(original: Method, ctx: CallContext) -> None:
    original(ctx)
    task = owner(original)
    task._host.cgroups.thaw(task.container.group)
    task.part.process.signal(signals.SIGSTOP)


def _with_and(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    return original(ctx, [",".join(filters)] if filters else ())


def _without_stopped(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    found = original(ctx, filters)
    return [metric for metric in found if status(original, ctx, metric.id) is not Status.STOPPED]


def _told(original: Method, ctx: CallContext, id: str, *args: Any) -> None:
    original(ctx, id, *args)
    owner(original)._task(ctx, id).teller.paused()


mutants(
    "tasks",
    {
        "TSK-068": ("a resume of a running task is fine", {"resume": silent(Unknown)}),
        "TSK-069": ("limits cannot be changed in a pause", {"update": refuses(Status.PAUSED)}),
        "TSK-072": ("no list of processes in STOPPED", {"list_pids": refuses(Status.STOPPED)}),
        "TSK-073": ("checks no limits and applies none", {"update": does_nothing()}),
        "TSK-075": ("combines several filters with and", {"metrics": _with_and}),
        "TSK-076": ("drops stopped tasks", {"metrics": _without_stopped}),
        "TSK-078": ("a checkpoint works in every state", {"checkpoint": silent(Unknown, answer=[])}),
        "TSK-091": ("tells of an update", {"update": _told}),
    },
)
mutants("runtime.v2", {"TSK-067": ("stops init alone", tasks_with(pause=_stops_init))})


@mutant("TSK-073", "limits are applied in words only", at="tasks", method="update")
def _checked_only(original: Method, ctx: CallContext, id: str, resources: TypedAny | None, *more: Any) -> None:
    """JSON that does not parse is still refused."""
    if resources is not None and b"memory" not in resources.value and len(resources.value) > 1:
        resources = replace(resources, value=b"{}")
    original(ctx, id, resources, *more)


# ------------------------------------------------------------------------------------------------ one call of many


mutants("tasks", {"TSK-001": ("one call has a default namespace", {"resume": argument(0, _defaulting)})})


@mutant("TSK-033", "an end is told in one namespace for all", at="events", method="publish")
def _told_elsewhere(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    original(ctx.with_namespace("default") if topic == "/tasks/exit" else ctx, topic, event)


@mutant("TSK-060", "the answer has the id of the task", at="io.containerd.grpc.v1.tasks", method="DeleteProcess")
def _named_after_its_task(original: Method, request: Any, context: Any) -> Any:
    answer = original(request, context)
    answer.id = request.container_id
    return answer
