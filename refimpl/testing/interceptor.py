"""One gRPC interceptor that writes the call log and lets the planned faults strike.

Calls with the header ``UNSEEN`` pass by untouched: a test's own preparations are not what it tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from refimpl.contract.times import Clock
from refimpl.daemon.rpc import behaviour_of, with_behaviour
from refimpl.grpc.pieces import Piece
from refimpl.testing.calls import Call, CallLog
from refimpl.testing.faults import FaultPlan, ending

UNSEEN = "refimpl-testing-unseen"
"""Header of calls that are neither logged nor struck."""


class Interceptor(grpc.ServerInterceptor):
    """What every call of one daemon passes through."""

    def __init__(self, log: CallLog, faults: FaultPlan, clock: Clock) -> None:
        self._log, self._faults, self._clock = log, faults, clock

    def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Put the log and the faults around a method, also around one that is not served."""
        handler = continuation(handler_call_details)
        headers: dict[str, str] = {}
        for key, value in handler_call_details.invocation_metadata or ():
            headers.setdefault(key, value if isinstance(value, str) else value.decode("latin-1"))
        if handler is None or UNSEEN in headers:
            return handler

        def call() -> Call:
            method = handler_call_details.method.removeprefix("/")
            namespace, clock = headers.get("containerd-namespace", ""), self._clock
            return Call(method, namespace, headers, started_at=clock.now(), begun=clock.monotonic())

        return self._around(handler, call)

    def _around(self, handler: Any, new: Callable[[], Call]) -> Any:
        behaviour = behaviour_of(handler)

        def asked(call: Call, request: Any) -> Any:
            if handler.request_streaming:
                return _kept(request, call.requests)
            call.requests.append(request)
            return request

        def one(request: Any, context: Any) -> Any:
            call = new()
            request = asked(call, request)
            with self._logged(call, context), self._struck(call, context):
                answer = behaviour(request, context)
                call.responses.append(answer)
            return answer

        def many(request: Any, context: Any) -> Iterator[Any]:
            call = new()
            request = asked(call, request)
            with self._logged(call, context), self._struck(call, context):
                yield from _kept(behaviour(request, context), call.responses)

        return with_behaviour(handler, many if handler.response_streaming else one)

    @contextmanager
    def _logged(self, call: Call, context: Any) -> Iterator[None]:
        begin = time.monotonic()

        def end(otherwise: grpc.StatusCode) -> None:
            code = context.code() or (otherwise if context.is_active() else ending(context))
            self._log.end(call, code, _text(context.details()), time.monotonic() - begin)

        self._log.begin(call)
        # A stream whose caller goes away is not always told to its generator.
        context.add_callback(lambda: end(grpc.StatusCode.CANCELLED))
        try:
            yield
        except BaseException:
            end(grpc.StatusCode.UNKNOWN)
            raise
        end(grpc.StatusCode.OK)

    @contextmanager
    def _struck(self, call: Call, context: Any) -> Iterator[None]:
        due = self._faults.due(call)
        for fault in due:
            if not fault.after:
                fault.strike(call, context)
        yield
        for fault in due:
            if fault.after:
                fault.strike(call, context)


def _text(details: str | bytes | None) -> str:
    """A status's text; grpcio gives it as it was set or as it goes over the wire."""
    return details.decode(errors="replace") if isinstance(details, bytes) else details or ""


def _kept(messages: Iterator[Any], kept: list[Any]) -> Iterator[Any]:
    for message in messages:
        # A log is of messages; what a blob is read by is made into one where somebody looks.
        kept.append(message.message() if isinstance(message, Piece) else message)
        yield message
