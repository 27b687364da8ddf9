"""From the wire to a call context, and from an error to a status."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import grpc
import pytest

from refimpl.contract.context import CallContext
from refimpl.contract.errors import Canceled, ContainerdError, DeadlineExceeded, NotFound, OutOfRange
from refimpl.grpc.calls import call_context, streaming, unary
from tests.grpc.world import Aborted, FakeContext


def context_of(context: FakeContext) -> CallContext:
    return call_context(cast("grpc.ServicerContext", context))


def test_of_several_headers_the_first_counts() -> None:
    metadata: list[tuple[str, str | bytes]] = [
        ("containerd-namespace", "aa"),
        ("containerd-namespace", "b b"),
        ("containerd-lease", "l1"),
        ("containerd-lease", "l2"),
        ("traceparent", "00-1"),
        ("raw-bin", b"\xff"),
    ]
    ctx = context_of(FakeContext(metadata))
    assert (ctx.namespace, ctx.lease) == ("aa", "l1")
    assert ctx.headers == {"traceparent": "00-1", "raw-bin": "\xff"}


def test_without_headers_there_is_no_namespace_and_no_lease() -> None:
    ctx = context_of(FakeContext([("containerd-namespace-ttrpc", "aa")]))
    assert (ctx.namespace, ctx.lease) == ("", "")


def test_an_empty_lease_header_is_a_lease_that_does_not_exist() -> None:
    ctx = context_of(FakeContext([("containerd-lease", "")]))
    assert ctx.lease
    assert not ctx.lease.isprintable(), "no client can name it"


def test_the_deadline_is_on_our_own_clock() -> None:
    assert context_of(FakeContext()).deadline is None
    assert context_of(FakeContext(remaining=9e18)).deadline is None, "what grpc says when there is none"
    deadline = context_of(FakeContext(remaining=100.0)).deadline
    assert deadline is not None
    assert 99 < deadline - time.monotonic() <= 100


def test_the_end_of_the_call_cancels_also_when_it_came_first() -> None:
    context = FakeContext()
    ctx = context_of(context)
    ctx.check()
    context.end()
    with pytest.raises(Canceled):
        ctx.check()
    with pytest.raises(Canceled):
        context_of(context).check()


class Front:
    """One method of each form, which answers or raises what it is asked for."""

    @unary
    def one(self, request: object, ctx: CallContext) -> object:
        if isinstance(request, Exception):
            raise request
        return (request, ctx.namespace)

    @streaming
    def many(self, request: object, ctx: CallContext) -> Iterator[object]:
        yield ctx.namespace
        if isinstance(request, Exception):
            raise request
        yield request


@pytest.mark.parametrize(
    "error,code,details",
    [
        (NotFound("x"), grpc.StatusCode.NOT_FOUND, "x: not found"),
        (OutOfRange("bare", bare=True), grpc.StatusCode.OUT_OF_RANGE, "bare"),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            grpc.StatusCode.UNKNOWN,
            "/x: no such file or directory",
        ),
        (ZeroDivisionError("boom"), grpc.StatusCode.UNKNOWN, "boom"),
    ],
)
def test_what_is_raised_becomes_a_status(error: Exception, code: grpc.StatusCode, details: str) -> None:
    context = FakeContext()
    with pytest.raises(Aborted):
        Front().one(error, cast("grpc.ServicerContext", context))
    assert (context.code, context.details) == (code, details)

    context = FakeContext()
    answers = Front().many(error, cast("grpc.ServicerContext", context))
    assert next(answers) == "ns"
    with pytest.raises(Aborted):
        next(answers)
    assert (context.code, context.details) == (code, details)


def test_an_error_of_our_own_is_logged_with_its_trace_and_a_refusal_is_not(caplog: pytest.LogCaptureFixture) -> None:
    for error in (NotFound("x"), ZeroDivisionError("boom")):
        with pytest.raises(Aborted):
            Front().one(error, cast("grpc.ServicerContext", FakeContext()))
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_nobody_is_sent_a_status_when_the_client_is_gone() -> None:
    context = FakeContext(active=False)
    with pytest.raises(NotFound):
        Front().one(NotFound("x"), cast("grpc.ServicerContext", context))
    assert context.code is None


@pytest.mark.parametrize("error", [Canceled(), DeadlineExceeded()])
def test_work_that_stops_because_the_client_is_gone_ends_in_silence(
    error: ContainerdError, caplog: pytest.LogCaptureFixture
) -> None:
    """Rejects: a trace in grpc's log for every wait that is given up."""
    with pytest.raises(Aborted):
        Front().one(error, cast("grpc.ServicerContext", FakeContext(active=False)))
    assert caplog.records == []


def test_answers_pass_unchanged() -> None:
    context = cast("grpc.ServicerContext", FakeContext())
    assert Front().one("asked", context) == ("asked", "ns")
    assert list(Front().many("asked", context)) == ["ns", "asked"]
