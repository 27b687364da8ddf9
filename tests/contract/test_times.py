"""Times as text (refimpl.contract.times): what containerd's labels may hold, to the nanosecond."""

from __future__ import annotations

import pytest

from refimpl.contract.times import SECOND, ZERO_TIME, format_rfc3339, parse_rfc3339


@pytest.mark.parametrize(
    "text,expected",
    [
        ("1970-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00Z", ZERO_TIME),
        ("2023-05-01T12:00:00Z", 1_682_942_400 * SECOND),
        ("2023-05-01T14:00:00.5+02:00", 1_682_942_400 * SECOND + SECOND // 2),
        ("2023-05-01T06:30:00,000000001-05:30", 1_682_942_400 * SECOND + 1),
        ("1969-12-31T23:59:59.9999999999Z", -1),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * SECOND),
    ],
)
def test_an_instant_is_read_to_the_nanosecond(text: str, expected: int) -> None:
    assert parse_rfc3339(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2023-05-01",
        "2023-05-01T12:00:00",
        "2023-05-01 12:00:00Z",
        "2023-05-01t12:00:00z",
        "2023-02-29T00:00:00Z",
        "2023-05-01T24:00:00Z",
        "2023-05-01T12:00:60Z",
        "2023-05-01T12:00:00.Z",
        "2023-05-01T12:00:00+99:00",
        "2023-05-01T12:00:00+0200",
        " 2023-05-01T12:00:00Z",
        "\uff12023-05-01T12:00:00Z",
    ],
)
def test_what_is_no_rfc_3339_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an RFC 3339 time"):
        parse_rfc3339(text)


@pytest.mark.parametrize(
    "instant,expected",
    [
        (0, "1970-01-01T00:00:00Z"),
        (ZERO_TIME, "0001-01-01T00:00:00Z"),
        (1_682_942_400 * SECOND + SECOND // 2, "2023-05-01T12:00:00.5Z"),
        (1_682_942_400 * SECOND + 1, "2023-05-01T12:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (253_402_300_799 * SECOND, "9999-12-31T23:59:59Z"),
    ],
)
def test_an_instant_is_written_with_the_digits_it_has(instant: int, expected: str) -> None:
    assert format_rfc3339(instant) == expected
    assert parse_rfc3339(expected) == instant


def test_an_instant_of_the_year_10000_is_refused() -> None:
    with pytest.raises(OverflowError):
        format_rfc3339(253_402_300_800 * SECOND)
