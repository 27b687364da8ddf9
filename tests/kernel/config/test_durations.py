"""Go's durations, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.kernel import Duration


@pytest.mark.parametrize(
    "text,nanoseconds",
    [
        ("0", 0),
        ("0s", 0),
        ("100ms", 100_000_000),
        ("1.5s", 1_500_000_000),
        ("1h2m3s", 3_723_000_000_000),
        ("-2s", -2_000_000_000),
        ("+1us", 1_000),
        ("1µs", 1_000),
        ("1μs", 1_000),
        (".5s", 500_000_000),
        ("5.s", 5_000_000_000),
        ("3ns", 3),
    ],
)
def test_a_duration_is_read(text: str, nanoseconds: int) -> None:
    assert Duration.parse(text).nanoseconds == nanoseconds


@pytest.mark.parametrize(
    "text,message",
    [
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("1s5", 'time: missing unit in duration "1s5"'),
        ("1 s", 'time: invalid duration "1 s"'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        ("1d", 'time: invalid duration "1d"'),
    ],
)
def test_anything_else_is_refused_in_gos_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="duration") as caught:
        Duration.parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "nanoseconds,text",
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (100_000_000, "100ms"),
        (1_000_000_000, "1s"),
        (60_000_000_000, "1m0s"),
        (3_600_000_000_000, "1h0m0s"),
        (14_400_000_000_001, "4h0m0.000000001s"),
        (-2_500_000_000, "-2.5s"),
    ],
)
def test_a_duration_is_written_as_go_writes_it(nanoseconds: int, text: str) -> None:
    assert str(Duration(nanoseconds)) == text


@given(st.integers(-(2**62), 2**62))
def test_what_is_written_is_read_back(nanoseconds: int) -> None:
    assert Duration.parse(str(Duration(nanoseconds))).nanoseconds == nanoseconds


def test_seconds_are_for_waiting() -> None:
    assert Duration.parse("250ms").seconds == 0.25
