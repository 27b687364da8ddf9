"""The few bytes of protobuf that the commands ``start`` and ``delete`` read and write.

By hand, since each of them ends at once, the daemon waits for it, and loading protobuf would take longer than all the
rest of it. The serving process has the real thing.
"""

from __future__ import annotations

_NUMBER, _EIGHT_BYTES, _TEXT, _FOUR_BYTES = 0, 1, 2, 5
_SECOND = 1_000_000_000


def texts(data: bytes) -> dict[int, bytes]:
    """The text, bytes and message fields of a message, by number; of several the last.

    Raises:
        ValueError: the bytes are no message.
    """
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind, size = key & 7, 0
        if kind == _NUMBER:
            _, at = _varint(data, at)
        elif kind in {_EIGHT_BYTES, _FOUR_BYTES}:
            size = 8 if kind == _EIGHT_BYTES else 4
        elif kind == _TEXT:
            size, at = _varint(data, at)
            found[key >> 3] = data[at : at + size]
        else:
            raise ValueError(f"invalid wire type {kind}")
        at += size
        if at > len(data):
            raise ValueError("unexpected end of message")
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("unexpected end of number")


def delete_response(pid: int, status: int, at: int) -> bytes:
    """A marshalled ``containerd.task.v2.DeleteResponse``.

    Args:
        at: nanoseconds since 1970.
    """
    seconds, nanoseconds = divmod(at, _SECOND)
    time = _number(1, seconds) + _number(2, nanoseconds)
    return _number(1, pid) + _number(2, status) + bytes([3 << 3 | _TEXT, len(time)]) + time


def _number(field: int, value: int) -> bytes:
    """A field of a number; none for 0, which is what a missing one means."""
    if not value:
        return b""
    data = bytearray([field << 3 | _NUMBER])
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
