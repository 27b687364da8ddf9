"""Durations as Go writes them: ``1h2m3s``, ``100ms``, ``1.5s``; counted in nanoseconds.

containerd's configuration and exports are full of them, and clients compare the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # both code points of the micro sign are in use
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time.

    Attributes:
        nanoseconds: its length; may be negative.
    """

    nanoseconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read Go's form: numbers with units, largest first by custom only; a bare ``0`` needs no unit.

        Raises:
            ValueError: another form; the message is Go's.
        """
        sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
        if rest == "0":
            return cls(0)
        total, place = Fraction(0), 0
        while match := _PART.match(rest, place):
            total += Fraction(match[1] if not match[1].endswith(".") else match[1] + "0") * _UNITS[match[2]]
            place = match.end()
        if not rest or place != len(rest):
            missing = bool(re.fullmatch(r"(?:.*[a-zµμ])?(\d+\.?\d*|\.\d+)", rest))
            raise ValueError(f'time: {"missing unit in" if missing else "invalid"} duration "{text}"')
        return cls(sign * int(total))

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.nanoseconds / 1e9

    def __str__(self) -> str:
        left = abs(self.nanoseconds)
        sign = "-" if self.nanoseconds < 0 else ""
        if left == 0:
            return "0s"
        for unit in ("ns", "µs", "ms"):
            if left < 1000 * _UNITS[unit]:
                return f"{sign}{_decimal(left, _UNITS[unit])}{unit}"
        hours, left = divmod(left, _UNITS["h"])
        minutes, left = divmod(left, _UNITS["m"])
        text = f"{hours}h" if hours else ""
        text += f"{minutes}m" if hours or minutes else ""
        return f"{sign}{text}{_decimal(left, _UNITS['s'])}s"


def _decimal(amount: int, unit: int) -> str:
    """``amount`` divided by ``unit`` (a power of ten), exactly, without trailing zeros."""
    whole, rest = divmod(amount, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else str(whole)
