"""An open ingest over gRPC: a ``contract.content.Writer`` on one Write stream.

The stream is the lock: it opens with STAT, every WRITE and COMMIT names the offset it continues from (an offset of 0
would start over, CNT-009 and 010), and its end, however it comes, frees the ref (CNT-035). The protocol answers each
message with one message, in order (CNT-014), so the writer sends one and waits for one.

Two threads serve a stream, because grpcio's blocking calls know no timeout: grpcio's own, which takes requests from a
queue, and a pump, which puts answers into another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from queue import Empty, SimpleQueue

import grpc

from refimpl.api import content_v1_pb2 as pb
from refimpl.api.content_v1_pb2_grpc import ContentStub
from refimpl.client import convert
from refimpl.client.connection import Connection, cancelling, error_of, headers_of
from refimpl.contract.content import Status
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    Canceled,
    ContainerdError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    Unimplemented,
)

CHUNK = 1024 * 1024
"""Bytes of data in one message; far below the 16 MiB that a daemon accepts (CNT-033)."""

_Request = pb.WriteContentRequest
_Response = pb.WriteContentResponse


class _End:
    """The end of a stream: clean, or with the error that ended it."""

    def __init__(self, failure: ContainerdError | None = None) -> None:
        self.failure = failure


class _Stream:
    """One Write stream with bounded waits."""

    def __init__(self, connection: Connection, stub: ContentStub, ctx: CallContext) -> None:
        ctx.check()
        self._connection = connection
        self._ctx = ctx
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        self._answers: SimpleQueue[_Response | _End] = SimpleQueue()
        # A deadline bounds the whole stream; without one a stream may stay open for ever, and each answer is bounded.
        seconds = None if ctx.deadline is None else connection.seconds(ctx)
        with connection.errors():
            self._call = stub.Write(iter(self._requests.get, None), timeout=seconds, metadata=headers_of(ctx))
        # grpcio's thread sits in the queue's `get`; whoever ends the call has to wake it, or it stays for good.
        if not self._call.add_callback(self._finish):
            self._finish()
        self._watch = ExitStack()
        self._watch.enter_context(cancelling(ctx, self._call.cancel))
        threading.Thread(target=self._pump, name="content-write", daemon=True).start()

    def ask(self, request: _Request, ctx: CallContext) -> _Response:
        """Send one message and wait for its answer; on any failure the stream is over.

        Raises:
            ContainerdError: what ended the stream, or that the answer did not come in time.
        """
        self._requests.put(request)
        answer = self._next(ctx)
        if isinstance(answer, _End):
            raise answer.failure or Internal("write stream ended without an answer")
        return answer

    def close(self) -> None:
        """Half-close and wait for the server's status, so that the ref is free afterwards; cancel if it stalls."""
        self._finish()
        try:
            while not isinstance(self._next(self._ctx), _End):
                pass  # The last answer comes a second time (CNT-015).
        except (DeadlineExceeded, Canceled):
            self._call.cancel()
        finally:
            self._watch.close()

    def _finish(self) -> None:
        self._requests.put(None)

    def _next(self, ctx: CallContext) -> _Response | _End:
        try:
            answer = self._answers.get(timeout=self._connection.seconds(ctx))
        except Empty:
            self._call.cancel()
            raise DeadlineExceeded from None
        if isinstance(answer, _End):
            self._answers.put(answer)  # An end stays the end, however often it is asked for.
        return answer

    def _pump(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
        except grpc.RpcError as failure:
            cancelled = self._ctx.cancel is not None and self._ctx.cancel.cancelled
            self._answers.put(_End(Canceled() if cancelled else error_of(failure)))
        else:
            self._answers.put(_End())


class RemoteWriter:
    """An open ingest of a daemon.

    Args:
        asked: ref, total and expected digest as the caller announced them.

    Raises:
        ContainerdError: the daemon refused the ingest.
    """

    def __init__(self, connection: Connection, stub: ContentStub, ctx: CallContext, asked: Status) -> None:
        self._ctx = ctx
        self._asked = asked
        self._open = True
        self._stream = _Stream(connection, stub, ctx)
        self._now = self._ask(_Request(action=pb.STAT, ref=asked.ref, total=asked.total, expected=asked.expected))

    def write(self, data: bytes) -> int:
        """Append, in messages of at most ``CHUNK`` bytes."""
        for chunk in _chunks(data):
            end = self._now.offset + len(chunk)
            self._now = self._ask(_Request(action=pb.WRITE, offset=self._now.offset, data=chunk))
            self._expect_offset(end)
        return len(data)

    def digest(self) -> str:
        """Digest of the bytes received so far."""
        return self._now.digest

    def status(self) -> Status:
        """The state of the ingest, asked for."""
        self._now = self._ask(_Request(action=pb.STAT))
        return replace(
            self._asked,
            offset=self._now.offset,
            total=self._now.total,
            started_at=convert.time_from_wire(self._now, "started_at"),
            updated_at=convert.time_from_wire(self._now, "updated_at"),
        )

    def truncate(self, size: int) -> None:
        """Start over; the protocol knows no other point to go back to (CNT-009)."""
        if size not in {0, self._now.offset}:
            raise Unimplemented(f"truncate ingest {self._asked.ref} to {size} of {self._now.offset} bytes")
        if size == 0 and self._now.offset != 0:
            self._now = self._ask(_Request(action=pb.WRITE, offset=0))
            self._expect_offset(0)

    def commit(
        self, ctx: CallContext, size: int = 0, expected: str = "", labels: Mapping[str, str] | None = None
    ) -> None:
        """Turn the ingest into a blob. ``ctx`` bounds the wait; namespace and lease are those of the opening."""
        request = _Request(action=pb.COMMIT, offset=self._now.offset, total=size, expected=expected, labels=labels)
        self._now = self._ask(request, ctx)
        self.close()
        if expected and self._now.digest != expected:
            raise Internal(f"ingest {self._asked.ref}: committed as {self._now.digest}, not as {expected}")

    def close(self) -> None:
        """Let go of the ingest; the daemon has released it when this returns."""
        if self._open:
            self._open = False
            self._stream.close()

    def _ask(self, request: _Request, ctx: CallContext | None = None) -> _Response:
        if not self._open:
            raise FailedPrecondition(f"writer of ingest {self._asked.ref} is closed")
        try:
            return self._stream.ask(request, ctx or self._ctx)
        except ContainerdError:
            self.close()
            raise

    def _expect_offset(self, offset: int) -> None:
        if self._now.offset != offset:
            self.close()
            raise Internal(f"ingest {self._asked.ref}: stands at {self._now.offset}, the write ended at {offset}")


def _chunks(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), CHUNK):
        yield bytes(view[start : start + CHUNK])
