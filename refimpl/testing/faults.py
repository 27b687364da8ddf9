"""The fault plan: which calls go wrong, and how.

A fault is planned for a method and strikes every call of it, or those chosen by number (``on``) or by what they ask
(``when``). Numbers count from the planning of the fault, beginning with 1, and only the calls for which ``when`` holds.
It strikes before the daemon does anything, or with ``after=True`` when the work is done: then the answer is lost and
the effect stays, which is what a caller that repeats its calls has to live with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

import grpc

from refimpl.api import status
from refimpl.contract.errors import ContainerdError
from refimpl.contract.times import Clock
from refimpl.testing.calls import Call, When
from refimpl.testing.methods import Methods

CUT_SECONDS = 5.0
"""Real seconds within which a connection that was cut has to be gone."""

_STATUS = {each.value[0]: each for each in grpc.StatusCode}

Strike = Callable[[Call, grpc.ServicerContext], None]
"""What a fault does to a call: comes back to let it go on, or ends it by ``context.abort``."""


class Fault:
    """One planned fault; ``FaultPlan`` makes it.

    Attributes:
        after: whether it strikes when the work is done.
    """

    def __init__(
        self,
        name: str,
        methods: Collection[str],
        strike: Strike,
        on: Collection[int] | None,
        when: When | None,
        after: bool,
    ) -> None:
        self.after = after
        self._name = name
        self._methods, self._on, self._when = methods, on, when
        self._strike = strike
        self._lock = threading.Lock()
        self._seen = self._hits = 0
        self._lifted = False

    @property
    def hits(self) -> int:
        """How many calls it has struck."""
        return self._hits

    def lift(self) -> None:
        """Strike no more calls. Idempotent."""
        self._lifted = True

    def is_due(self, call: Call) -> bool:
        """Count a call; whether it is to be struck."""
        if self._lifted or call.method not in self._methods or (self._when is not None and not self._when(call)):
            return False
        with self._lock:
            self._seen += 1
            due = self._on is None or self._seen in self._on
            self._hits += due
        return due

    def strike(self, call: Call, context: grpc.ServicerContext) -> None:
        """Do to a call what was planned."""
        self._strike(call, context)

    def __repr__(self) -> str:
        return f"<fault {self._name}, {self._hits} hits>"


class FaultPlan:
    """What goes wrong in one daemon. May be changed at any time, from any thread.

    Args:
        methods: what names in here can mean.
        clock: the daemon's; delays pass on it.
        cut: cuts the daemon's connections.
    """

    def __init__(self, methods: Methods, clock: Clock, cut: Callable[[], object]) -> None:
        self._methods, self._clock, self._cut = methods, clock, cut
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def fail(
        self,
        method: str,
        *,
        with_: ContainerdError,
        on: int | Collection[int] | None = None,
        when: When | None = None,
        after: bool = False,
    ) -> Fault:
        """Answer with an error, as the daemon would if it had raised it.

        Args:
            method: as ``refimpl.testing.methods`` reads it: ``Images/Get``, ``Images/*``.
            on: the number of the call, or several; None for every call.
            when: chooses among the calls.
            after: do the work first.

        Raises:
            UnknownMethod: no such method is served.
        """
        code, text = _STATUS[status.code_of(with_)], status.text_of(with_)
        return self._plan(f"fail {method}", method, lambda _call, context: context.abort(code, text), on, when, after)

    def delay(
        self, method: str, seconds: float, *, on: int | Collection[int] | None = None, when: When | None = None
    ) -> Fault:
        """Begin the work late.

        Args:
            seconds: on the daemon's clock: with a hand-moved one, until ``clock.advance`` has passed them.
            method, on, when: as for ``fail``.

        Raises:
            UnknownMethod: as for ``fail``.
        """

        def strike(call: Call, context: grpc.ServicerContext) -> None:
            # From the call's first moment: who saw it in the log and moves the clock then moves it far enough.
            if self._clock.wait(_gone(context), call.begun + seconds - self._clock.monotonic()):
                _abandon(context)

        return self._plan(f"delay {method}", method, strike, on, when)

    def hang(
        self,
        method: str,
        *,
        on: int | Collection[int] | None = None,
        when: When | None = None,
        after: bool = False,
    ) -> Fault:
        """Never answer: the call ends when its caller gives up, or with the daemon. Arguments as for ``fail``.

        Raises:
            UnknownMethod: as for ``fail``.
        """

        def strike(_call: Call, context: grpc.ServicerContext) -> None:
            _gone(context).wait()  # no caller waits for ever: the daemon's stop ends its calls
            _abandon(context)

        return self._plan(f"hang {method}", method, strike, on, when, after)

    def drop(
        self,
        method: str,
        *,
        on: int | Collection[int] | None = None,
        when: When | None = None,
        after: bool = False,
    ) -> Fault:
        """Cut the connection instead of answering. Arguments as for ``fail``.

        All connections to the daemon are cut, as in a crash; the daemon lives on, and takes new ones. Other calls that
        are under way end as well.

        Raises:
            UnknownMethod: as for ``fail``.
        """

        def strike(_call: Call, context: grpc.ServicerContext) -> None:
            gone = _gone(context)
            self._cut()
            gone.wait(CUT_SECONDS)
            _abandon(context)

        return self._plan(f"drop {method}", method, strike, on, when, after)

    def clear(self) -> None:
        """Lift all faults."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.lift()

    def due(self, call: Call) -> list[Fault]:
        """What strikes a call, in the order of planning (the interceptor asks, once for each call)."""
        with self._lock:
            faults = list(self._faults)
        return [fault for fault in faults if fault.is_due(call)]

    def _plan(
        self,
        name: str,
        method: str,
        strike: Strike,
        on: int | Collection[int] | None,
        when: When | None,
        after: bool = False,
    ) -> Fault:
        numbers = {on} if isinstance(on, int) else on
        if numbers is not None and any(number < 1 for number in numbers):
            raise ValueError(f"{name}: calls are counted from 1, not {on}")
        fault = Fault(name, self._methods.find(method), strike, numbers, when, after)
        with self._lock:
            self._faults.append(fault)
        return fault


def ending(context: Any) -> grpc.StatusCode:
    """The status of a call whose caller is gone, as far as this side can tell."""
    remaining = context.time_remaining()
    over = remaining is not None and remaining <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if over else grpc.StatusCode.CANCELLED


def _gone(context: grpc.ServicerContext) -> threading.Event:
    """Set when the caller is."""
    gone = threading.Event()
    if not context.add_callback(gone.set):
        gone.set()
    return gone


def _abandon(context: grpc.ServicerContext) -> None:
    context.abort(ending(context), "nobody waits for the answer")
