"""ttrpc's frames: ten bytes of header, then at most 4 MiB.

::

    0        4           8      9       10
    | length | stream id | type | flags | payload ... |      big endian; length is that of the payload

A client's streams have odd ids. There is no handshake, no keep-alive and no window: the end is the end of the socket.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

MAX_PAYLOAD = 4 << 20
"""Most bytes in one frame's payload; exactly that many are allowed."""

REQUEST, RESPONSE, DATA = 1, 2, 3

REMOTE_CLOSED, REMOTE_OPEN, NO_DATA = 1, 2, 4
"""Flags of streams: the sender sends no more; it will send data; this frame has no message (an empty one is one)."""

NAMESPACE_KEY = "containerd-namespace-ttrpc"
"""The metadata key under which a request says its namespace."""

_HEADER = struct.Struct(">IIBB")
_DISCARD = 1 << 16


class FrameTooLongError(Exception):
    """A frame over the limit; its payload was read and thrown away, so the connection can go on.

    Attributes:
        stream: the call that it belonged to.
        type: of the frame.
    """

    def __init__(self, stream: int, type: int, length: int) -> None:
        self.stream = stream
        self.type = type
        super().__init__(f"message length {length} exceed maximum message size of {MAX_PAYLOAD}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Attributes:
        stream: the call that it belongs to.
        type: ``REQUEST``, ``RESPONSE`` or ``DATA``; others are to be ignored.
        flags: zero for unary calls.
    """

    stream: int
    type: int
    payload: bytes = b""
    flags: int = 0

    def encode(self) -> bytes:
        """The frame as it goes over the wire.

        Raises:
            FrameTooLongError: the payload is over the limit.
        """
        if len(self.payload) > MAX_PAYLOAD:
            raise FrameTooLongError(self.stream, self.type, len(self.payload))
        return _HEADER.pack(len(self.payload), self.stream, self.type, self.flags) + self.payload


def read_frame(connection: socket.socket) -> Frame | None:
    """The next frame; None at the end of the connection, also when that end cuts a frame short.

    Raises:
        FrameTooLongError: the frame was over the limit and has been skipped.
        OSError: the connection broke.
    """
    header = _read(connection, _HEADER.size)
    if header is None:
        return None
    length, stream, type_, flags = _HEADER.unpack(header)
    if length > MAX_PAYLOAD:
        # Nothing is allocated for what a stranger announces.
        left = length
        while left:
            skipped = connection.recv(min(left, _DISCARD))
            if not skipped:
                return None
            left -= len(skipped)
        raise FrameTooLongError(stream, type_, length)
    payload = _read(connection, length)
    return None if payload is None else Frame(stream, type_, payload, flags)


def _read(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)
