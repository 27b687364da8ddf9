"""A Write stream: one ingest from its opening to commit, abandonment or refusal.

::

    first message (names the ref) -> writer --> STAT    describe it
                                        ^  \\--> WRITE   [start over at offset 0] append
                                        |   \\-> COMMIT  [start over at offset 0] append, become a blob, end
                                        +------ every message has one answer; the last one is sent twice (CNT-015)

However the stream ends, the ref is let go, and what was received stays unless it was committed (CNT-035).
Clauses CNT-001 to 028, CNT-076 to 080.
"""

from __future__ import annotations

from collections.abc import Iterator

from refimpl.api import content_v1_pb2 as pb
from refimpl.contract.content import ContentStore, Writer
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound, OutOfRange, Unknown
from refimpl.contract.times import ZERO_TIME
from refimpl.grpc import convert


def answers(
    store: ContentStore, ctx: CallContext, requests: Iterator[pb.WriteContentRequest]
) -> Iterator[pb.WriteContentResponse]:
    """Serve one stream.

    Raises:
        Unknown: it ends before its first message (CNT-002).
        InvalidArgument: the first message has no ref (CNT-001).
        AlreadyExists: the content is there (CNT-025 to 027).
        OutOfRange: an offset that is not the end (CNT-008).
        ContainerdError: what opening, writing and committing refuse.
    """
    first = next(requests, None)
    if first is None:
        raise Unknown("EOF")
    if not first.ref:
        raise InvalidArgument("first message must have a reference", bare=True)
    # A digest that is none can never be found, only fail to match: CNT-024 lets such a stream begin.
    writer = store.writer(ctx, first.ref, total=first.total, expected=first.expected)
    upload = _Upload(store, ctx, first, writer)
    try:
        request: pb.WriteContentRequest | None = first
        while request is not None:
            yield upload.answer(request)
            if request.action == pb.COMMIT:
                break
            request = next(requests, None)
        yield upload.last
    finally:
        writer.close()


class _Upload:
    """What a stream knows between messages: the latest declarations (CNT-020), and what STAT last said (CNT-016)."""

    def __init__(self, store: ContentStore, ctx: CallContext, first: pb.WriteContentRequest, writer: Writer) -> None:
        self._store, self._ctx, self._writer = store, ctx, writer
        self._ref, self._total, self._expected = first.ref, first.total, first.expected
        unset = convert.time_to(ZERO_TIME)
        self.last = pb.WriteContentResponse(started_at=unset, updated_at=unset)

    def answer(self, request: pb.WriteContentRequest) -> pb.WriteContentResponse:
        """Do what one message says; its ref does not count any more (CNT-006)."""
        self._declare(request)
        offset = self._writer.status().offset
        if request.action in {pb.WRITE, pb.COMMIT}:
            offset = self._append(request, offset)
        self.last.action, self.last.offset = request.action, offset
        if request.action in {pb.STAT, pb.WRITE, pb.COMMIT}:
            self.last.digest = self._writer.digest()
        if request.action == pb.STAT:
            self._describe()
        if request.action == pb.COMMIT:
            self._writer.commit(self._ctx, self._total, self._expected, dict(request.labels))
        # A copy: this one is changed by the next message, perhaps before grpc has sent it.
        answer = pb.WriteContentResponse()
        answer.CopyFrom(self.last)
        return answer

    def _declare(self, request: pb.WriteContentRequest) -> None:
        """Take over what is newly declared; an ingest of content that is there is given up (CNT-026)."""
        if request.total > 0:
            self._total = request.total
        if not request.expected:
            return
        self._expected = request.expected
        try:
            self._store.info(self._ctx, request.expected)
        except (NotFound, InvalidArgument):
            return
        self._writer.close()
        self._store.abort(self._ctx, self._ref)
        raise AlreadyExists(f"blob with expected digest {request.expected} exists", bare=True)

    def _append(self, request: pb.WriteContentRequest, offset: int) -> int:
        """Add the data at its offset: the end, 0 to start over (CNT-009, CNT-010), negative for unchecked (CNT-011)."""
        if request.offset > 0 and request.offset != offset:
            raise OutOfRange(f"write @{request.offset} must occur at current offset {offset}", bare=True)
        if request.offset == 0 and offset > 0:
            self._writer.truncate(0)
            offset = 0
        return offset + self._writer.write(request.data) if request.data else offset

    def _describe(self) -> None:
        status = self._writer.status()
        self.last.started_at.CopyFrom(convert.time_to(status.started_at))
        self.last.updated_at.CopyFrom(convert.time_to(status.updated_at))
        self.last.total = self._total
