"""The call log: what a daemon was asked and what it answered, to look at and to assert on.

A call stands in the log from its first moment, so one that still waits is there too. It is complete before its caller
has the status: who got an answer finds the call that gave it. Messages are kept as they are, uploads included; a test
that moves much data clears the log now and then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from refimpl.testing.methods import Methods

_SHOWN = 160
"""Characters of a message in a printed log."""


@dataclass(eq=False)
class Call:
    """One call.

    Attributes:
        method: full name, ``containerd.services.images.v1.Images/Get``.
        namespace: of the request's headers; empty for none.
        metadata: all headers of the request, the first value of each.
        requests, responses: protobuf messages in order; one each for a unary method.
        code: the status; None while the call is under way.
        details: the status's text.
        started_at: Unix nanoseconds of the daemon's clock.
        begun: the same moment on its monotonic clock, in seconds.
        seconds: how long it took, in real time; None while it is under way.
    """

    method: str
    namespace: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    responses: list[Any] = field(default_factory=list)
    code: grpc.StatusCode | None = None
    details: str = ""
    started_at: int = 0
    begun: float = 0.0
    seconds: float | None = None

    @property
    def request(self) -> Any:
        """The first request message; None if there is none yet."""
        return self.requests[0] if self.requests else None

    @property
    def response(self) -> Any:
        """The last answer; None if there is none."""
        return self.responses[-1] if self.responses else None

    def __str__(self) -> str:
        asked = ", ".join(_line(message) for message in self.requests[:2])
        more = f", and {len(self.requests) - 2} more" if len(self.requests) > 2 else ""
        end = "under way" if self.code is None else f"{self.code.name}{f' {self.details!r}' if self.details else ''}"
        return f"{self.method}({asked}{more}) {f'in {self.namespace} ' if self.namespace else ''}-> {end}"


When = Callable[[Call], bool]
"""Chooses among calls of a method. Of a streaming request nothing is there yet when a fault asks."""


class CallLog:
    """The calls of one daemon, oldest first.

    Args:
        methods: what names in here can mean.
    """

    def __init__(self, methods: Methods) -> None:
        self._methods = methods
        self._calls: list[Call] = []
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[Call]:
        with self._changed:
            return iter(list(self._calls))

    def __len__(self) -> int:
        with self._changed:
            return len(self._calls)

    def __getitem__(self, index: int) -> Call:
        with self._changed:
            return self._calls[index]

    def __str__(self) -> str:
        return "\n".join(f"  {call}" for call in self) or "  (no calls)"

    def of(self, method: str, *, when: When | None = None) -> list[Call]:
        """The calls of a method.

        Args:
            method: as ``refimpl.testing.methods`` reads it: ``Images/Get``, ``Images/*``.
            when: leaves out those for which it does not hold.

        Raises:
            UnknownMethod: no such method is served.
        """
        names = self._methods.find(method)
        return [call for call in self if call.method in names and (when is None or when(call))]

    def assert_called(self, method: str, *, times: int | None = None, when: When | None = None) -> list[Call]:
        """The calls of a method, which was called.

        Args:
            times: how often exactly; None for at least once.

        Raises:
            AssertionError: it was not; the message holds the log.
            UnknownMethod: as for ``of``.
        """
        found = self.of(method, when=when)
        if not found if times is None else len(found) != times:
            expected = "at least once" if times is None else f"{times} times"
            raise AssertionError(
                f"{method} was called {len(found)} times{_such(when)}, not {expected}; the log:\n{self}"
            )
        return found

    def assert_not_called(self, method: str, *, when: When | None = None) -> None:
        """Nothing, for a method that was not called.

        Raises:
            AssertionError, UnknownMethod: as for ``assert_called``.
        """
        self.assert_called(method, times=0, when=when)

    def wait_for(
        self, method: str, *, times: int = 1, when: When | None = None, ended: bool = False, seconds: float = 5.0
    ) -> list[Call]:
        """Wait until a method was called, for code that calls from a thread or process of its own.

        Args:
            times: how often at least.
            ended: whether the calls must be over, not only begun.
            seconds: of real time.

        Raises:
            AssertionError: the time is over; the message holds the log.
            UnknownMethod: as for ``of``.
        """

        def found() -> list[Call]:
            return [call for call in self.of(method, when=when) if not ended or call.code is not None]

        with self._changed:
            if not self._changed.wait_for(lambda: len(found()) >= times, seconds):
                raise AssertionError(f"{method} was not called {times} times in {seconds:g} s; the log:\n{self}")
            return found()

    def clear(self) -> None:
        """Forget all calls so far; those under way do not come back when they end."""
        with self._changed:
            self._calls.clear()

    def begin(self, call: Call) -> None:
        """Enter a call (the interceptor does)."""
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()

    def end(self, call: Call, code: grpc.StatusCode, details: str, seconds: float) -> None:
        """Complete a call (the interceptor does); the first end counts."""
        with self._changed:
            if call.code is None:
                call.code, call.details, call.seconds = code, details, seconds
                self._changed.notify_all()


def _line(message: Any) -> str:
    text = " ".join(str(message).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _such(when: When | None) -> str:
    return "" if when is None else " such that `when` holds"
