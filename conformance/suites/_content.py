"""Words for the checks of content: uploads in a line, the messages of a Write stream, and blobs read whole."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from conformance import patience
from conformance.recorder import Recorder
from conformance.subjects.base import Subject
from conformance.wire import TIMEOUT, Answer, Wire
from refimpl.api import content_v1_pb2 as pb
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound, Unavailable

SERVICE = "containerd.services.content.v1.Content"
PATIENCE = patience.SECONDS
"""Seconds that a check waits for what happens in its own time."""

ROOTED = {"containerd.io/gc.root": "1"}
"""Labels of a blob that no collection may take."""


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def fresh(size: int = 24) -> bytes:
    """Bytes that nobody else has: back ends share blobs between namespaces, and runs leave some behind."""
    return os.urandom(size)


def store(
    content: ContentStore, ctx: CallContext, data: bytes, labels: Mapping[str, str] | None = None, *, ref: str = ""
) -> str:
    """Upload and commit; answers with the digest."""
    digest = digest_of(data)
    writer = content.writer(ctx, ref or f"store-{uuid.uuid4().hex}", total=len(data))
    try:
        if data:
            writer.write(data)
        writer.commit(ctx, len(data), digest, labels)
    finally:
        writer.close()
    return digest


def begin(content: ContentStore, ctx: CallContext, ref: str, data: bytes, *, total: int = 0) -> None:
    """Upload without an end: the ingest stays with these bytes, and nobody holds it."""
    writer = content.writer(ctx, ref, total=total)
    try:
        if data:
            writer.write(data)
    finally:
        writer.close()


def read(content: ContentStore, ctx: CallContext, digest: str) -> bytes:
    """A whole blob."""
    reader = content.reader(ctx, digest)
    try:
        return reader.read_at(0, reader.size)
    finally:
        reader.close()


def has(content: ContentStore, ctx: CallContext, digest: str) -> bool:
    """Whether the namespace has the blob."""
    try:
        content.info(ctx, digest)
    except NotFound:
        return False
    return True


def offset_of(content: ContentStore, ctx: CallContext, ref: str) -> int | None:
    """How far an ingest is; None if there is none."""
    try:
        return content.status(ctx, ref).offset
    except NotFound:
        return None


def opens_at(content: ContentStore, ctx: CallContext, ref: str) -> int | None:
    """Where a new writer of the ref stands; None while somebody else has it."""
    try:
        writer = content.writer(ctx, ref)
    except Unavailable:
        return None
    try:
        return writer.status().offset
    finally:
        writer.close()


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether a condition comes to hold within ``PATIENCE``."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def stat(ref: str = "", **fields: Any) -> pb.WriteContentRequest:
    """A STAT message."""
    return pb.WriteContentRequest(action=pb.STAT, ref=ref, **fields)


def write(data: bytes = b"", offset: int = 0, **fields: Any) -> pb.WriteContentRequest:
    """A WRITE message."""
    return pb.WriteContentRequest(action=pb.WRITE, data=data, offset=offset, **fields)


def commit(data: bytes = b"", offset: int = 0, **fields: Any) -> pb.WriteContentRequest:
    """A COMMIT message."""
    return pb.WriteContentRequest(action=pb.COMMIT, data=data, offset=offset, **fields)


def progress(answer: Answer) -> list[tuple[int, int]]:
    """Action and offset of each answer."""
    return [(int(message.action), int(message.offset)) for message in answer.messages]


class Uploads:
    """Write streams: ``upload(stat(ref), write(b"..."))`` sends messages and waits for the end.

    Args:
        alone: whether the subject is a store without a metadata layer; its refs are then those that ``ScopedContent``
            makes, so that a check meets one ingest on the wire and through the protocol.
    """

    def __init__(self, wire: Wire, ctx: CallContext, *, alone: bool) -> None:
        self._wire, self._ctx, self._alone = wire, ctx, alone

    def __call__(self, *messages: pb.WriteContentRequest, ctx: CallContext | None = None) -> Answer:
        return self.stream(messages, ctx=ctx)

    def stream(
        self,
        messages: Iterable[pb.WriteContentRequest],
        *,
        ctx: CallContext | None = None,
        wire: Wire | None = None,
        limit: int | None = None,
        timeout: float = TIMEOUT,
    ) -> Answer:
        """The same with messages that may take their time.

        Args:
            ctx: another namespace or lease than the check's.
            wire: another connection than the check's.
            limit, timeout: as for ``Wire.call``.
        """
        where = ctx or self._ctx
        return (wire or self._wire).stream(
            f"{SERVICE}/Write",
            (self._scoped(message, where) for message in messages),
            namespace=where.namespace,
            lease=where.lease or None,
            limit=limit,
            timeout=timeout,
        )

    def _scoped(self, message: pb.WriteContentRequest, ctx: CallContext) -> pb.WriteContentRequest:
        if not self._alone or not message.ref:
            return message
        scoped = pb.WriteContentRequest()
        scoped.CopyFrom(message)
        scoped.ref = f"{ctx.namespace}/1/{message.ref}"
        return scoped


@pytest.fixture
def upload(wire: Wire, ctx: CallContext, subject: Subject) -> Uploads:
    """Write streams in the check's namespace, under its lease."""
    return Uploads(wire, ctx, alone=subject.types is not None)


@pytest.fixture
def call(wire: Wire, ctx: CallContext) -> Callable[..., Answer]:
    """Makes any other raw call of the content service: ``call("Read", pb.ReadContentRequest(...))``."""
    return lambda method, request: wire.call(f"{SERVICE}/{method}", request, namespace=ctx.namespace)


@contextmanager
def reading(
    address: str, recorder: Recorder, ctx: CallContext, request: pb.ReadContentRequest
) -> Iterator[Iterator[Any]]:
    """A Read stream whose messages the check takes one by one."""
    with grpc.insecure_channel(f"unix:{address}", options=[("grpc.default_authority", "localhost")]) as channel:
        method = channel.unary_stream(
            f"/{SERVICE}/Read",
            request_serializer=pb.ReadContentRequest.SerializeToString,
            response_deserializer=pb.ReadContentResponse.FromString,
        )
        recorder.note(f"wire {SERVICE}/Read ns={ctx.namespace!r}", repr(request), "(a stream)", "", 0.0)
        stream = method(request, metadata=(("containerd-namespace", ctx.namespace),), timeout=TIMEOUT)
        try:
            yield stream
        finally:
            stream.cancel()
