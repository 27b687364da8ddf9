"""The answers of Content.Read, put on the wire by hand.

protobuf copies a blob's bytes three times on their way, into the message, into a buffer and out of it, each time into
fresh memory; that is most of what a download costs. Here they are copied once, behind the few bytes in front of them
(docs/adr/0012).
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import methodcaller
from typing import Any

import grpc

from refimpl.api import content_v1_pb2 as pb
from refimpl.api import content_v1_pb2_grpc as wire

_DATA = bytes([pb.ReadContentResponse.DATA_FIELD_NUMBER << 3 | 2])
"""What stands before the length of ``data``: the field's number, and that a length follows."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a ``ReadContentResponse`` says, as far as a server is concerned.

    Attributes:
        offset: of the first byte, from the start of the range (CNT-070).
        data: at least one byte: protobuf leaves an empty field out.
    """

    offset: int
    data: bytes

    def message(self) -> pb.ReadContentResponse:
        """The message itself, for who looks at answers."""
        return pb.ReadContentResponse(offset=self.offset, data=self.data)

    def SerializeToString(self) -> bytes:  # noqa: N802  # protobuf's name: an answer may be a message as well
        """The message as it goes over the wire."""
        offset = pb.ReadContentResponse(offset=self.offset).SerializeToString()
        return b"".join((offset, _DATA, _varint(len(self.data)), self.data))


def register(front: wire.ContentServicer, server: grpc.Server) -> None:
    """Put the service on the server; its Read may answer with pieces."""
    wire.add_ContentServicer_to_server(front, _Registrar(server))


class _Registrar(grpc.Server):
    """Passes the generated registration on, with another serialiser for Read."""

    def __init__(self, server: grpc.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Left out: it holds the same methods as the call below, which knows them by name."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        read = method_handlers["Read"]
        by_hand = grpc.unary_stream_rpc_method_handler(
            read.unary_stream, read.request_deserializer, methodcaller("SerializeToString")
        )
        handlers = {**method_handlers, "Read": by_hand}
        generic = grpc.method_handlers_generic_handler(service_name, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service_name, handlers)

    def _never(self, *_: object, **__: object) -> Any:
        raise AssertionError("addresses and the start of a server are not a front's")

    add_insecure_port = add_secure_port = start = stop = wait_for_termination = _never


def _varint(number: int) -> bytes:
    """A number that is not negative in protobuf's form: seven bits a byte, the lowest first."""
    form = bytearray()
    while number > 0x7F:
        form.append(number & 0x7F | 0x80)
        number >>= 7
    form.append(number)
    return bytes(form)
