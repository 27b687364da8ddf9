"""Between the messages of shims and the values of the contract. Clauses SHM-058, SHM-060, TSK-042."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from refimpl.api import task_types_v1_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    Canceled,
    ContainerdError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
    Unknown,
)
from refimpl.contract.runtimes import IO, ProcessInfo, ProcessState, Status
from refimpl.contract.times import SECOND
from refimpl.contract.types import TypedAny

_PASSED_ON = (
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    Unavailable,
    Unimplemented,
    Canceled,
    DeadlineExceeded,
)
"""Kinds of a shim that reach the client as they are; all others are Unknown to it (SHM-058)."""


class StateMessage(Protocol):
    """What the answers to State of both kinds of shims have in common."""

    pid: int
    status: task_types_v1_pb2.Status.ValueType
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    exit_status: int

    @property
    def exited_at(self) -> Timestamp: ...


@contextmanager
def shim_errors(prefix: str = "") -> Iterator[None]:
    """Give a shim's errors the kind and text that clients see.

    Args:
        prefix: what the text begins with.
    """
    try:
        yield
    except ContainerdError as error:
        raise as_seen(error, prefix) from error


def as_seen(error: ContainerdError, prefix: str = "", *, before: bool = False) -> ContainerdError:
    """A shim's error as a client sees it: it ends with its kind, once.

    Args:
        before: the error may be the daemon's own, from before there was a shim to ask: then its kind stays unsaid.
    """
    kind = type(error) if isinstance(error, _PASSED_ON) else Unknown
    text = str(error)
    text = "" if text == kind.text else text.removesuffix(f": {kind.text}")
    return kind(prefix + text if text else prefix.removesuffix(": "), bare=before and error.bare)


def shim_context(ctx: CallContext, namespace: str) -> CallContext:
    """What goes along to a shim: its namespace, and how long the caller waits (SHM-048, SHM-049)."""
    return CallContext(namespace, deadline=ctx.deadline, cancel=ctx.cancel)


def nanoseconds(time: Timestamp) -> int:
    """A time from the wire, in Unix nanoseconds."""
    return time.seconds * SECOND + time.nanos


def message(packed: TypedAny | None) -> Any | None:
    """A typed value as protobuf has it; None for none."""
    return None if packed is None else Any(type_url=packed.type_url, value=packed.value)


def value(packed: Any) -> TypedAny:
    """A typed value from protobuf."""
    return TypedAny(packed.type_url, packed.value)


def state(id: str, container_id: str, told: StateMessage) -> ProcessState:
    """A process as its shim tells of it (SHM-060)."""
    known = {status.value for status in Status}
    return ProcessState(
        id=id,
        container_id=container_id,
        pid=told.pid,
        status=Status(told.status) if told.status in known else Status.UNKNOWN,
        io=IO(told.stdin, told.stdout, told.stderr, told.terminal),
        exit_status=told.exit_status,
        exited_at=nanoseconds(told.exited_at),
    )


def processes(told: Sequence[task_types_v1_pb2.ProcessInfo]) -> list[ProcessInfo]:
    """The processes of a task as its shim tells of them (TSK-072)."""
    return [ProcessInfo(one.pid, value(one.info) if one.HasField("info") else None) for one in told]
