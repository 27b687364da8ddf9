"""``refimpl ps``: the containers of a namespace and what their tasks do, on any daemon."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from refimpl.cli.failures import one_line_errors
from refimpl.cli.options import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, InNamespace, Json, Socket
from refimpl.cli.table import table
from refimpl.client import Client
from refimpl.contract.containers import Container
from refimpl.contract.context import CallContext
from refimpl.contract.runtimes import ProcessState, Status
from refimpl.contract.times import SECOND, ZERO_TIME, format_rfc3339

_LIVING = frozenset({Status.RUNNING, Status.PAUSED, Status.PAUSING})
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def ps(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print ids only.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Also containers that do not run.")] = False,
    address: Socket = DEFAULT_ADDRESS,
    namespace: InNamespace = DEFAULT_NAMESPACE,
    as_json: Json = False,
) -> None:
    """List the containers that run; with --all also those that do not.

    \b
    refimpl ps --all
    refimpl rm --force $(refimpl ps -q)

    The status is the task's (created, running, paused, stopped), or none for a container without a task.
    """
    ctx = CallContext(namespace=namespace)
    with one_line_errors(), Client(address) as client:
        tasks = {task.container_id: task for task in client.tasks.list(ctx)}
        found = [(one, tasks.get(one.id)) for one in client.containers.list(ctx)]
    if not every:
        found = [(one, task) for one, task in found if task is not None and task.status in _LIVING]
    if as_json:
        print(json.dumps([_values(one, task) for one, task in found], indent=2))
    elif quiet:
        for one, _ in found:
            print(one.id)
    else:
        now = time.time_ns()
        rows = [
            (one.id, one.image or "-", _pid(task), _status(task), _age(now - one.created_at)) for one, task in found
        ]
        print(table([("CONTAINER", "IMAGE", "PID", "STATUS", "AGE"), *rows]))


def _values(container: Container, task: ProcessState | None) -> dict[str, Any]:
    values = {
        "id": container.id,
        "image": container.image,
        "status": task.status.name.lower() if task is not None else "none",
        "pid": task.pid if task is not None else 0,
        "createdAt": format_rfc3339(container.created_at),
    }
    if task is not None and task.status is Status.STOPPED:
        values["exitStatus"] = task.exit_status
        if task.exited_at != ZERO_TIME:
            values["exitedAt"] = format_rfc3339(task.exited_at)
    return values


def _pid(task: ProcessState | None) -> str:
    return str(task.pid) if task is not None and task.pid else "-"


def _status(task: ProcessState | None) -> str:
    if task is None:
        return "none"
    name = task.status.name.lower()
    return f"{name} ({task.exit_status})" if task.status is Status.STOPPED else name


def _age(nanoseconds: int) -> str:
    """In the largest unit of which there is at least one."""
    seconds = max(nanoseconds // SECOND, 0)
    length, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
    return f"{seconds // length}{unit}"
