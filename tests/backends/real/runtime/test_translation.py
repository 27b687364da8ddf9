"""What clients see of a shim's answers."""

from __future__ import annotations

import pytest

from refimpl.api import task_types_v1_pb2, types_pb2
from refimpl.api import task_v2_pb2 as pb
from refimpl.api.task_events import mount_messages, timestamp
from refimpl.backends.real.runtime import translation
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import (
    AlreadyExists,
    Canceled,
    ContainerdError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    Unknown,
)
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import TypedAny
from refimpl.ttrpc.client import Closed


@pytest.mark.parametrize(
    "kind",
    [
        AlreadyExists,
        Canceled,
        DeadlineExceeded,
        FailedPrecondition,
        InvalidArgument,
        NotFound,
        Unavailable,
        Unimplemented,
    ],
)
@pytest.mark.parametrize("bare", [False, True])
def test_kinds_that_mean_something_stay_and_are_told_once(kind: type[ContainerdError], bare: bool) -> None:
    seen = translation.as_seen(kind("why", bare=bare), "what failed: ")

    assert type(seen) is kind
    assert str(seen) == f"what failed: why: {kind.text}"


@pytest.mark.parametrize("kind", [Internal, PermissionDenied, ResourceExhausted, Unknown])
def test_all_others_are_of_no_kind(kind: type[ContainerdError]) -> None:
    seen = translation.as_seen(kind("why", bare=True))

    assert type(seen) is Unknown
    assert str(seen) == "why: unknown"


def test_a_text_that_is_the_kind_alone_is_not_told_twice() -> None:
    assert str(translation.as_seen(DeadlineExceeded())) == "context deadline exceeded"
    assert str(translation.as_seen(NotFound(), "failed: ")) == "failed: not found"


def test_a_connection_that_ended_is_of_no_kind() -> None:
    with pytest.raises(Unknown, match=r"^ttrpc: closed: unknown$"), translation.shim_errors():
        raise Closed


def test_only_namespace_and_patience_go_along() -> None:
    cancel = CancelToken()
    ctx = CallContext("other", "lease", 12.5, cancel, {"header": "x"})

    assert translation.shim_context(ctx, "ns") == CallContext("ns", "", 12.5, cancel)


@pytest.mark.parametrize("time", [ZERO_TIME, 0, 1, 1_700_000_000_123_456_789])
def test_a_time_survives_the_wire(time: int) -> None:
    assert translation.nanoseconds(timestamp(time)) == time


def test_a_mount_loses_its_target_alone() -> None:
    (made,) = mount_messages([Mount("bind", "/a", "sub", ("ro", "bind"))])

    assert made == types_pb2.Mount(type="bind", source="/a", options=["ro", "bind"])


def test_a_state_is_told_in_full() -> None:
    told = pb.StateResponse(
        id="c", pid=7, status=task_types_v1_pb2.PAUSED, stdin="i", stdout="o", stderr="e", terminal=True, exit_status=3
    )
    told.exited_at.seconds = 5

    state = translation.state("e1", "c", told)

    assert (state.id, state.container_id, state.pid, state.status) == ("e1", "c", 7, Status.PAUSED)
    assert state.io == IO("i", "o", "e", terminal=True)
    assert (state.exit_status, state.exited_at) == (3, 5_000_000_000)


def test_a_status_that_nobody_knows_is_unknown() -> None:
    told = pb.StateResponse()
    told.ParseFromString(b"\x20\x63")  # status 99

    assert translation.state("c", "c", told).status is Status.UNKNOWN


def test_details_of_a_process_are_there_or_not() -> None:
    plain, detailed = task_types_v1_pb2.ProcessInfo(pid=1), task_types_v1_pb2.ProcessInfo(pid=2)
    detailed.info.type_url, detailed.info.value = "t", b"v"

    assert [one.info for one in translation.processes([plain, detailed])] == [None, TypedAny("t", b"v")]
