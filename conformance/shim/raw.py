"""Single ttrpc frames on a socket, well formed or not, for the clauses about bytes (SHM-097 to SHM-105).

On purpose not built on ``refimpl.ttrpc``: what is judged must not be what judges.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from google.protobuf.message import Message

from conformance import patience
from refimpl.api.ttrpc_pb2 import KeyValue, Request, Response

LIMIT = 4194304
"""Most bytes of payload in one frame."""

_HEADER = struct.Struct(">IIBB")


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame as it came.

    Attributes:
        payload: as it came.
    """

    stream: int
    type: int
    flags: int
    payload: bytes

    @property
    def code(self) -> int:
        """The code of the status in a response; 0 for success."""
        return int(Response.FromString(self.payload).status.code)

    @property
    def message(self) -> str:
        """The text of the status."""
        return str(Response.FromString(self.payload).status.message)


def request(
    service: str, method: str, message: Message | bytes = b"", *, metadata: dict[str, str] | None = None, nano: int = 0
) -> bytes:
    """The payload of a request frame."""
    payload = message if isinstance(message, bytes) else message.SerializeToString()
    pairs = [KeyValue(key=key, value=value) for key, value in (metadata or {}).items()]
    return Request(
        service=service, method=method, payload=payload, metadata=pairs, timeout_nano=nano
    ).SerializeToString()


class Raw:
    """A connection that frames are put on by hand.

    Args:
        address: as a shim prints it, or the path of a socket.
    """

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(patience.SECONDS)
        self.socket.connect(address.removeprefix("unix://"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, stream: int, payload: bytes = b"", *, type: int = 1, flags: int = 0) -> None:
        """Send one frame."""
        self.socket.settimeout(3 * patience.SECONDS)
        self.socket.sendall(_HEADER.pack(len(payload), stream, type, flags) + payload)

    def receive(self, seconds: float = patience.SECONDS) -> Heard | None:
        """The next frame; None at the end of the connection.

        Raises:
            TimeoutError: nothing, or only a part of a frame, came in that time.
        """
        deadline = time.monotonic() + seconds
        header = self._exactly(_HEADER.size, deadline)
        if header is None:
            return None
        length, stream, type, flags = _HEADER.unpack(header)
        payload = self._exactly(length, deadline)
        return None if payload is None else Heard(stream, type, flags, payload)

    def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes in that time; the end of the connection is not silence."""
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False

    def ask(self, stream: int, payload: bytes, *, flags: int = 0) -> Heard:
        """Send a request and take the next frame as its answer.

        Raises:
            TimeoutError: no answer.
            ConnectionError: the connection was closed instead.
        """
        self.send(stream, payload, flags=flags)
        heard = self.receive()
        if heard is None:
            raise ConnectionError("the server closed the connection instead of answering")
        return heard

    def _exactly(self, count: int, deadline: float) -> bytes | None:
        data = b""
        while len(data) < count:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                part = self.socket.recv(min(count - len(data), 1 << 20))
            except ConnectionResetError:
                return None
            if not part:
                return None
            data += part
        return data
