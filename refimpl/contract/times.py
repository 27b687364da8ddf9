"""Time as the contract counts it: integer nanoseconds since the Unix epoch, UTC.

Python's ``datetime`` stops at microseconds; containerd stores and sends nanoseconds, and equality of timestamps is
part of the contract, so nothing may round.
"""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

SECOND = 1_000_000_000
"""Nanoseconds in a second."""

ZERO_TIME = -62_135_596_800 * SECOND
"""Go's zero time, 0001-01-01T00:00:00Z: what "no timestamp" looks like on the wire."""

_RFC3339 = re.compile(
    r"(?P<whole>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?"
    r"(?:Z|(?P<sign>[+-])(?P<hours>[0-9]{2}):(?P<minutes>[0-9]{2}))",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_rfc3339(text: str) -> int:
    """The instant that a text such as ``2023-05-01T12:00:00.5+02:00`` names, in Unix nanoseconds; the rest is cut.

    Raises:
        ValueError: not an RFC 3339 time with a zone.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    try:
        instant = datetime.strptime(match["whole"], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError as err:
        raise ValueError(f"{text!r} is not an RFC 3339 time: {err}") from err
    seconds = (instant - _EPOCH) // timedelta(seconds=1)
    if match["sign"]:
        hours, minutes = int(match["hours"]), int(match["minutes"])
        if hours > 24 or minutes > 60:
            raise ValueError(f"{text!r} is not an RFC 3339 time: no such zone")
        offset = hours * 3600 + minutes * 60
        seconds -= offset if match["sign"] == "+" else -offset
    return seconds * SECOND + int(f"{match['fraction'] or '':0<9}"[:9])


def format_rfc3339(instant: int) -> str:
    """An instant in UTC, with as many digits of nanoseconds as there are: Go's ``RFC3339Nano``.

    Args:
        instant: Unix nanoseconds, in the years 1 to 9999.

    Raises:
        OverflowError: in another year.
    """
    seconds, nanoseconds = divmod(instant, SECOND)
    # By parts: a datetime has microseconds only. isoformat, because strftime does not pad the year 1 on Linux.
    whole = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    fraction = f".{nanoseconds:09}".rstrip("0").rstrip(".")
    return f"{whole}{fraction}Z"


class Clock(Protocol):
    """Where plugins get the time. The fake one is moved by hand, so that a test owns time."""

    def now(self) -> int:
        """Wall time in nanoseconds since the Unix epoch; nothing promises that it grows from answer to answer."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait for ``event``, at most ``seconds`` of this clock's time (None: for ever); True if the event is set."""
        ...


class HandMovedClock(Clock, Protocol):
    """A clock that stands still until somebody moves it: the clock of a fake world."""

    def advance(self, seconds: float) -> None:
        """Let time pass and wake those whose wait is over; comes back before they have done anything."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Wall time in nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds on the machine's monotonic clock."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait for ``event`` in real time."""
        return event.wait(seconds)
