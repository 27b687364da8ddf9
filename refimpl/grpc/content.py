"""io.containerd.grpc.v1.content: the wire in front of content-service. It keeps nothing; Write is in ``grpc.uploads``.

Clauses CNT-001 to 092, CNT-061 (blocks of List) and CNT-070, CNT-071 (pieces of Read) here.
"""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import content_v1_pb2 as pb
from refimpl.api import content_v1_pb2_grpc as wire
from refimpl.contract import digest as digests
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument, OutOfRange
from refimpl.contract.quoting import quoted
from refimpl.grpc import convert
from refimpl.grpc.calls import streaming, unary
from refimpl.grpc.fronts import service
from refimpl.grpc.pieces import Piece, register
from refimpl.grpc.uploads import answers
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE

BLOCK = 100
"""Most blobs in one message of List (CNT-061)."""

PIECE = 1 << 20
"""Most bytes in one message of Read (CNT-070)."""


class ContentFront(wire.ContentServicer):
    """containerd.services.content.v1.Content."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        register(self, server)

    @unary
    def Info(self, request: pb.InfoRequest, ctx: CallContext) -> pb.InfoResponse:
        """The record of a blob (CNT-051 to 053)."""
        _validate(request.digest)
        info = self._store.info(ctx, request.digest)
        return pb.InfoResponse(info=convert.blob_to(info))

    @unary
    def Update(self, request: pb.UpdateRequest, ctx: CallContext) -> pb.UpdateResponse:
        """Change labels (CNT-054 to 059); a request without a record names no digest (CNT-060)."""
        _validate(request.info.digest)
        info = self._store.update(ctx, convert.blob_from(request.info), list(request.update_mask.paths))
        return pb.UpdateResponse(info=convert.blob_to(info))

    @streaming
    def List(self, request: pb.ListContentRequest, ctx: CallContext) -> Iterator[pb.ListContentResponse]:
        """All blobs wanted, in blocks (CNT-061 to 065)."""
        infos = iter(self._store.walk(ctx, list(request.filters)))
        while block := list(islice(infos, BLOCK)):
            ctx.check()
            yield pb.ListContentResponse(info=map(convert.blob_to, block))

    @unary
    def Delete(self, request: pb.DeleteContentRequest, ctx: CallContext) -> Empty:
        """Forget a blob (CNT-066)."""
        _validate(request.digest, whole=False)
        self._store.delete(ctx, request.digest)
        return Empty()

    @streaming
    def Read(  # type: ignore[override]  # a piece stands for a message: grpc.pieces says why
        self, request: pb.ReadContentRequest, ctx: CallContext
    ) -> Iterator[Piece]:
        """A range of a blob, in pieces whose offsets count from its start (CNT-070, CNT-071).

        Raises:
            OutOfRange: the range starts beyond the blob.
        """
        _validate(request.digest, named=True)
        # Asked first, so that a record without bytes and bytes without a record both are NotFound (CNT-101).
        size = self._store.info(ctx, request.digest).size
        reader = self._store.reader(ctx, request.digest)
        try:
            start = max(request.offset, 0)
            if start > size:
                raise OutOfRange(f"read past object length {size} bytes", bare=True)
            # By the record, not by the file: of one that has grown behind our back no more is told (CNT-073).
            end = size if request.size <= 0 else min(start + request.size, size)
            offset = start
            while data := reader.read_at(offset, min(PIECE, end - offset)):
                ctx.check()
                yield Piece(offset - start, data)
                offset += len(data)
        finally:
            reader.close()

    @unary
    def Status(self, request: pb.StatusRequest, ctx: CallContext) -> pb.StatusResponse:
        """The state of an ingest (CNT-044)."""
        try:
            state = self._store.status(ctx, request.ref)
        except ContainerdError as error:
            raise type(error)(f"could not get status for ref {quoted(request.ref)}: {error.message}") from error
        return pb.StatusResponse(status=convert.ingest_to(state))

    @unary
    def ListStatuses(self, request: pb.ListStatusesRequest, ctx: CallContext) -> pb.ListStatusesResponse:
        """All ingests wanted (CNT-045)."""
        states = self._store.list_statuses(ctx, list(request.filters))
        return pb.ListStatusesResponse(statuses=map(convert.ingest_to, states))

    @streaming
    def Write(self, request: Iterator[pb.WriteContentRequest], ctx: CallContext) -> Iterator[pb.WriteContentResponse]:
        """An upload, message by message (CNT-001 to 050)."""
        yield from answers(self._store, ctx, request)

    @unary
    def Abort(self, request: pb.AbortRequest, ctx: CallContext) -> Empty:
        """Drop an ingest (CNT-046)."""
        self._store.abort(ctx, request.ref)
        return Empty()


def _validate(digest: str, *, named: bool = False, whole: bool = True) -> None:
    """Refuse what is no digest before the namespace is looked at, in the words of the call (CNT-052, SVC-059).

    Args:
        named: say what is wrong with the digest, and which one it is.
        whole: say only that it failed.
    """
    try:
        digests.validate(digest)
    except InvalidArgument as error:
        text = f"{quoted(digest)} failed validation" if whole else error.message
        text = f"{digest}: {error.message}" if named else text
        raise InvalidArgument(text, bare=True) from error


def init(ic: InitContext) -> ContentFront:
    """Stand before the service."""
    return ContentFront(service(ic, "content"))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "content", init=init, requires=(SERVICE,))]
