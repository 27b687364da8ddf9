"""Values as containerd 1.6 writes them into its databases, byte for byte.

Pure functions, each with its inverse. A database goes back and forth between refimpl and the real daemon, so an
encoding is right only if the bytes are the same (MET-004, MET-031 to 036, MET-041, MET-042).

======== ===============================================================================================
varint   signed LEB128 with zigzag: 3 = ``06``, -1 = ``01``
uvarint  unsigned LEB128: 300 = ``ac 02``
time     ``01``, int64 seconds since year 1, int32 nanoseconds, int16 minutes of zone (-1: UTC), big-endian
Any      protobuf: field 1 the type's name, field 2 the bytes, empty ones left out; an empty Any is no bytes
======== ===============================================================================================
"""

from __future__ import annotations

import struct

from refimpl.contract.times import SECOND
from refimpl.contract.types import TypedAny

_TIME = struct.Struct(">Bqih")
_TIME_VERSION = 1
_ZONE_UTC = -1
_YEAR_ONE = 62_135_596_800
"""Seconds from 0001-01-01 to 1970-01-01, both at 00:00:00 UTC."""

_MAX_VARINT = 10
"""Bytes of the longest 64-bit number."""

_TYPE_URL = 1
_VALUE = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class DecodeError(ValueError):
    """Bytes that are not what they should be. The message says what was expected."""


def encode_uvarint(number: int) -> bytes:
    """Seven bits a byte, low ones first; the high bit says that more follow."""
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{number} does not fit into 64 bits")
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def decode_uvarint(data: bytes, offset: int = 0) -> tuple[int, int]:
    """The number at ``offset`` and the offset behind it.

    Raises:
        DecodeError: the bytes end too early, or the number takes more than 64 bits.
    """
    number = 0
    for count in range(_MAX_VARINT):
        if offset + count >= len(data):
            raise DecodeError("a number ends too early")
        byte = data[offset + count]
        number |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if number >> 64:
                break
            return number, offset + count + 1
    raise DecodeError("a number takes more than 64 bits")


def encode_varint(number: int) -> bytes:
    """Zigzag, so that small negative numbers are short too."""
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{number} does not fit into 64 bits")
    return encode_uvarint(number << 1 if number >= 0 else (-number << 1) - 1)


def decode_varint(data: bytes) -> int:
    """The number that ``data`` begins with.

    Raises:
        DecodeError: as ``decode_uvarint``.
    """
    number, _ = decode_uvarint(data)
    return number >> 1 if not number & 1 else -(number >> 1) - 1


def encode_time(nanoseconds: int) -> bytes:
    """Fifteen bytes for an instant, given in nanoseconds since the Unix epoch; always marked as UTC (MET-033)."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return _TIME.pack(_TIME_VERSION, seconds + _YEAR_ONE, rest, _ZONE_UTC)


def decode_time(data: bytes) -> int:
    """The instant in nanoseconds since the Unix epoch. The zone is how somebody saw the instant, and is dropped.

    Raises:
        DecodeError: another length or version.
    """
    if len(data) != _TIME.size:
        raise DecodeError(f"a time takes {_TIME.size} bytes, not {len(data)}")
    version, seconds, rest, _zone = _TIME.unpack(data)
    if version != _TIME_VERSION:
        raise DecodeError(f"unknown time version {version}")
    return int((seconds - _YEAR_ONE) * SECOND + rest)


def encode_any(message: TypedAny) -> bytes:
    """A ``google.protobuf.Any``. By hand: two fields do not earn an import of protobuf in this room."""
    return _field(_TYPE_URL, message.type_url.encode()) + _field(_VALUE, message.value)


def decode_any(data: bytes) -> TypedAny:
    """The message; fields that are unknown are skipped, and of a field that is there twice the last one counts.

    Raises:
        DecodeError: not a protobuf message.
    """
    fields = {_TYPE_URL: b"", _VALUE: b""}
    offset = 0
    while offset < len(data):
        tag, offset = decode_uvarint(data, offset)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            size, offset = decode_uvarint(data, offset)
            content, offset = data[offset : offset + size], offset + size
            if number in fields:
                fields[number] = content
        elif kind == _VARINT:
            _, offset = decode_uvarint(data, offset)
        elif kind in {_FIXED32, _FIXED64}:
            offset += 4 if kind == _FIXED32 else 8
        else:
            raise DecodeError(f"unknown wire type {kind}")
    if offset > len(data):
        raise DecodeError("a message ends too early")
    try:
        return TypedAny(fields[_TYPE_URL].decode(), fields[_VALUE])
    except UnicodeDecodeError as err:
        raise DecodeError("a type's name is not UTF-8") from err


def _field(number: int, content: bytes) -> bytes:
    if not content:
        return b""
    return encode_uvarint(number << 3 | _BYTES) + encode_uvarint(len(content)) + content
