"""Content over gRPC: a ``contract.content.ContentStore`` (containerd.services.content.v1).

The same class reaches a daemon and a proxy plugin. Opening an ingest is in ``refimpl.client.ingest``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from refimpl.api import content_v1_pb2 as pb
from refimpl.api.content_v1_pb2_grpc import ContentStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.client.ingest import RemoteWriter
from refimpl.contract.content import Info, Status
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Internal, InvalidArgument

SLOWEST = 4 * 1024 * 1024
"""Bytes per second that a reader is given time for before it counts as hanging."""


class RemoteContent:
    """The blobs and ingests of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = ContentStub(connection.channel)

    def info(self, ctx: CallContext, digest: str) -> Info:
        """The record of a blob."""
        answer = self._connection.unary(ctx, self._stub.Info, pb.InfoRequest(digest=digest))
        return _info_from_wire(convert.present(answer, "info", answer.info))

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels."""
        question = pb.UpdateRequest(info=_info_to_wire(info), update_mask=convert.mask_to_wire(fieldpaths))
        answer = self._connection.unary(ctx, self._stub.Update, question)
        return _info_from_wire(convert.present(answer, "info", answer.info))

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The blobs for which any filter holds; all of them have arrived when this returns."""
        answers = self._connection.stream(ctx, self._stub.List, pb.ListContentRequest(filters=filters))
        return iter([_info_from_wire(info) for answer in answers for info in answer.info])

    def delete(self, ctx: CallContext, digest: str) -> None:
        """Forget a blob."""
        self._connection.unary(ctx, self._stub.Delete, pb.DeleteContentRequest(digest=digest))

    def reader(self, ctx: CallContext, digest: str) -> RemoteReader:
        """Open a blob. Every read is a call of its own under ``ctx``; the daemon holds nothing open in between."""
        return RemoteReader(self._connection, self._stub, ctx, self.info(ctx, digest))

    def status(self, ctx: CallContext, ref: str) -> Status:
        """The state of an ingest."""
        answer = self._connection.unary(ctx, self._stub.Status, pb.StatusRequest(ref=ref))
        return _status_from_wire(convert.present(answer, "status", answer.status))

    def list_statuses(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Status]:
        """The ingests for which any filter holds."""
        answer = self._connection.unary(ctx, self._stub.ListStatuses, pb.ListStatusesRequest(filters=filters))
        return [_status_from_wire(status) for status in answer.statuses]

    def writer(self, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> RemoteWriter:
        """Open an ingest, new or resumed."""
        return RemoteWriter(self._connection, self._stub, ctx, Status(ref, total=total, expected=expected))

    def abort(self, ctx: CallContext, ref: str) -> None:
        """Drop an ingest."""
        self._connection.unary(ctx, self._stub.Abort, pb.AbortRequest(ref=ref))


class RemoteReader:
    """A ``contract.content.Reader`` over Read calls."""

    def __init__(self, connection: Connection, stub: ContentStub, ctx: CallContext, info: Info) -> None:
        self._connection = connection
        self._stub = stub
        self._ctx = ctx
        self._info = info

    @property
    def size(self) -> int:
        """Bytes in the blob, as of opening."""
        return self._info.size

    def read_at(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; also fewer where the daemon's file was cut short (CNT-073).

        Raises:
            InvalidArgument: an offset below 0, which the wire would take for 0 (CNT-071).
            Internal: the daemon sent other bytes than those asked for.
        """
        if offset < 0:
            raise InvalidArgument(f"offset {offset} in blob {self._info.digest}")
        wanted = min(size, self.size - offset)
        if wanted <= 0:
            # On the wire a size of 0 means everything, and an offset past the end is an error.
            return b""
        question = pb.ReadContentRequest(digest=self._info.digest, offset=offset, size=wanted)
        data = bytearray()
        for answer in self._connection.stream(self._ctx, self._stub.Read, question, allowance=wanted / SLOWEST):
            # Offsets count from the start of the range (CNT-070).
            if answer.offset != len(data) or len(data) + len(answer.data) > wanted:
                got = f"{len(answer.data)} bytes at {answer.offset} after {len(data)}"
                raise Internal(f"blob {self._info.digest}: asked for {wanted} bytes from {offset}, got {got}")
            data += answer.data
        return bytes(data)

    def close(self) -> None:
        """Nothing is held."""


def _info_to_wire(info: Info) -> pb.Info:
    return pb.Info(
        digest=info.digest,
        size=info.size,
        created_at=convert.time_to_wire(info.created_at),
        updated_at=convert.time_to_wire(info.updated_at),
        labels=info.labels,
    )


def _info_from_wire(message: pb.Info) -> Info:
    return Info(
        digest=message.digest,
        size=message.size,
        created_at=convert.time_from_wire(message, "created_at"),
        updated_at=convert.time_from_wire(message, "updated_at"),
        labels=dict(message.labels),
    )


def _status_from_wire(message: pb.Status) -> Status:
    return Status(
        ref=message.ref,
        offset=message.offset,
        total=message.total,
        expected=message.expected,
        started_at=convert.time_from_wire(message, "started_at"),
        updated_at=convert.time_from_wire(message, "updated_at"),
    )
