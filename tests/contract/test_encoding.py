"""Values are the bytes that containerd writes: every example is from a dump of its database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.contract import encoding
from refimpl.contract.times import SECOND, ZERO_TIME
from refimpl.contract.types import TypedAny

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize(
    "number,encoded",
    [(0, "00"), (3, "06"), (4, "08"), (11, "16"), (415, "be06"), (4096, "8040"), (-1, "01"), (99, "c601")],
)
def test_a_signed_number_is_zigzag_with_seven_bits_a_byte(number: int, encoded: str) -> None:
    assert encoding.encode_varint(number).hex() == encoded
    assert encoding.decode_varint(bytes.fromhex(encoded)) == number


@pytest.mark.parametrize("number,encoded", [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02")])
def test_an_unsigned_number_is_plain(number: int, encoded: str) -> None:
    assert encoding.encode_uvarint(number).hex() == encoded
    assert encoding.decode_uvarint(bytes.fromhex(encoded)) == (number, len(encoded) // 2)


@given(INT64)
def test_every_64_bit_number_comes_back(number: int) -> None:
    assert encoding.decode_varint(encoding.encode_varint(number)) == number


@pytest.mark.parametrize("encoded", ["", "ff", "ffff", "ff" * 9 + "02", "ff" * 11])
def test_a_number_that_ends_too_early_or_is_too_large_is_refused(encoded: str) -> None:
    with pytest.raises(encoding.DecodeError):
        encoding.decode_varint(bytes.fromhex(encoded))


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1])
def test_a_number_of_more_than_64_bits_is_not_written(number: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        encoding.encode_varint(number)


@pytest.mark.parametrize(
    "nanoseconds,encoded",
    [
        (ZERO_TIME, "010000000000000000" + "00000000" + "ffff"),
        (0, "010000000e7791f700" + "00000000" + "ffff"),
        (0xEE29660DA * SECOND + 0x22D527D5 + ZERO_TIME, "010000000ee29660da22d527d5ffff"),
        (-1, "010000000e7791f6ff" + "3b9ac9ff" + "ffff"),
    ],
)
def test_a_time_is_exact_to_the_nanosecond(nanoseconds: int, encoded: str) -> None:
    assert encoding.encode_time(nanoseconds).hex() == encoded
    assert encoding.decode_time(bytes.fromhex(encoded)) == nanoseconds


@given(st.integers(ZERO_TIME, 1 << 70))
def test_every_time_comes_back(nanoseconds: int) -> None:
    assert encoding.decode_time(encoding.encode_time(nanoseconds)) == nanoseconds


def test_a_time_seen_in_another_zone_is_the_same_time() -> None:
    assert encoding.decode_time(bytes.fromhex("010000000e7791f70000000000003c")) == 0


@pytest.mark.parametrize("encoded", ["", "01", "020000000e7791f70000000000ffff", "010000000e7791f70000000000ffff00"])
def test_what_is_no_time_is_refused(encoded: str) -> None:
    with pytest.raises(encoding.DecodeError):
        encoding.decode_time(bytes.fromhex(encoded))


@pytest.mark.parametrize(
    "message,encoded",
    [
        (TypedAny(), ""),
        (TypedAny("t/x", b"\x01"), "0a03742f78120101"),
        (TypedAny("s3", b"3"), "0a027333120133"),
        (TypedAny("", b"3"), "120133"),
        (TypedAny("s3"), "0a027333"),
    ],
)
def test_an_any_is_its_two_fields_without_empty_ones(message: TypedAny, encoded: str) -> None:
    assert encoding.encode_any(message).hex() == encoded
    assert encoding.decode_any(bytes.fromhex(encoded)) == message


@given(st.text(), st.binary(max_size=300))
def test_every_any_comes_back(type_url: str, value: bytes) -> None:
    message = TypedAny(type_url, value)

    assert encoding.decode_any(encoding.encode_any(message)) == message


def test_fields_that_a_newer_release_adds_to_any_are_skipped() -> None:
    newer = "1801" + "1d00000000" + "210000000000000000" + "2a0178"

    assert encoding.decode_any(bytes.fromhex("0a027333" + newer + "120133")) == TypedAny("s3", b"3")


@pytest.mark.parametrize("encoded", ["0a05", "0a", "0b", "1d00", "0a01ff"])
def test_what_is_no_message_is_refused(encoded: str) -> None:
    with pytest.raises(encoding.DecodeError):
        encoding.decode_any(bytes.fromhex(encoded))
