"""Writers of ingests: the commit that makes a record, and uploads that share the bytes of another namespace.

One transaction turns an ingest into content: the back end's commit, the new record, the end of the ingest's record, and
the lease that held the ingest and now holds the blob (CNT-017, LEA-019). The back end commits inside the transaction: a
crash between the two leaves a blob without a record, which is garbage, and never a record without a blob.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from refimpl.contract import content, kv
from refimpl.contract.context import CallContext
from refimpl.contract.encoding import encode_varint
from refimpl.contract.errors import AlreadyExists, FailedPrecondition
from refimpl.contract.quoting import quoted
from refimpl.metadata import buckets, leases
from refimpl.metadata.database import Database
from refimpl.metadata.labels import validated
from refimpl.metadata.locks import SharedLock

_COPY_CHUNK = 1 << 20
"""Bytes copied at a time when a shared upload gets bytes of its own."""


class NamespacedWriter:
    """A ``contract.content.Writer`` whose commit makes a record in a namespace.

    Args:
        lock: shared while bytes become a record; the clean-up of the back end holds it exclusively.
        ref: the client's name of the ingest.
        writer: the back end's writer, or a shared upload.
    """

    def __init__(self, database: Database, lock: SharedLock, namespace: str, ref: str, writer: content.Writer) -> None:
        self._database = database
        self._lock = lock
        self._namespace = namespace
        self._ref = ref
        self._writer = writer

    def write(self, data: bytes) -> int:
        """Append."""
        return self._writer.write(data)

    def digest(self) -> str:
        """Digest of what is there."""
        return self._writer.digest()

    def status(self) -> content.Status:
        """The state of the ingest, under the client's ref."""
        return replace(self._writer.status(), ref=self._ref)

    def truncate(self, size: int) -> None:
        """Drop what is behind ``size`` bytes."""
        self._writer.truncate(size)

    def close(self) -> None:
        """Let go of the ingest; what was received stays (CNT-035)."""
        self._writer.close()

    def commit(
        self, ctx: CallContext, size: int = 0, expected: str = "", labels: Mapping[str, str] | None = None
    ) -> None:
        """Make the blob content of the namespace; the writer is closed whatever happens.

        Raises:
            AlreadyExists: the namespace has this blob, and its labels stay; the ingest is gone, and the blob is in the
                caller's lease (CNT-027, CNT-087).
            FailedPrecondition: another size or digest than announced; the ingest stays (CNT-019, CNT-023, CNT-079).
            InvalidArgument: a label that is too long; the ingest stays (CNT-029).
            NotFound: a lease that does not exist (LEA-021).
        """
        try:
            self._commit(ctx.with_namespace(self._namespace), size, expected, labels)
        finally:
            self._writer.close()

    def _commit(self, ctx: CallContext, size: int, expected: str, given: Mapping[str, str] | None) -> None:
        kept = validated(given, "info")
        with self._lock.shared():
            with self._database.update() as v1:
                leases.require(ctx, v1)
                digest, length = self._commit_bytes(ctx, size, expected)
                created = self._record(v1, digest, length, kept)
                buckets.remove(buckets.make(v1, self._namespace, buckets.CONTENT, buckets.INGESTS), self._ref)
                leases.remove_ingest(ctx, v1, self._ref)
                leases.add_content(ctx, v1, digest)
            # Raised behind the transaction: the ingest is used up and the lease has the blob all the same.
            if not created:
                raise AlreadyExists(f"content {digest}")

    def _commit_bytes(self, ctx: CallContext, size: int, expected: str) -> tuple[str, int]:
        """Digest and size of the blob that the back end has now."""
        offset = self._writer.status().offset
        if size not in {0, offset}:
            raise FailedPrecondition(f"{quoted(self._ref)} failed size validation: {offset} != {size}")
        # Asked before the commit: a writer owes no digest once it is closed.
        digest = expected or self._writer.digest()
        # In another namespace, or left by a crash: those bytes are what the record is about to stand for (CNT-081).
        with contextlib.suppress(AlreadyExists):
            self._writer.commit(ctx.with_lease(""), offset, expected)
        return digest, offset

    def _record(self, v1: kv.Bucket, digest: str, size: int, kept: Mapping[str, str]) -> bool:
        """Make the blob's record; whether there was none."""
        blobs = buckets.make(v1, self._namespace, buckets.CONTENT, buckets.BLOB)
        if buckets.find(blobs, digest) is not None:
            return False
        record = buckets.create(blobs, digest)
        now = self._database.clock.now()
        buckets.write_times(record, now, now)
        buckets.write_labels(record, kept)
        record.put(buckets.SIZE, encode_varint(size))
        return True


class SharedUpload:
    """A ``contract.content.Writer`` that has all its bytes from the start: those of a blob in the back end.

    As long as nothing is written nothing is copied, and the ingest has no bytes of its own (CNT-078). The first write
    or truncation opens an ingest in the back end and goes on there (CNT-080).

    Args:
        ctx: the call that opened the upload; copies are made in its name.
        ref: the client's name of the ingest, for errors.
        backend_ref: of the ingest that a private copy goes to.
        opened_at: Unix nanoseconds.
    """

    def __init__(
        self,
        backend: content.ContentStore,
        ctx: CallContext,
        ref: str,
        backend_ref: str,
        digest: str,
        size: int,
        opened_at: int,
    ) -> None:
        self._backend = backend
        self._ctx = ctx
        self._ref = ref
        self._backend_ref = backend_ref
        self._digest = digest
        self._size = size
        self._opened_at = opened_at
        self._copy: content.Writer | None = None

    def write(self, data: bytes) -> int:
        """Append to a private copy."""
        if not data and self._copy is None:
            return 0
        return self._private(self._size).write(data)

    def digest(self) -> str:
        """That of the shared blob, or of the private copy."""
        return self._digest if self._copy is None else self._copy.digest()

    def status(self) -> content.Status:
        """Complete, while the bytes are shared."""
        if self._copy is not None:
            return self._copy.status()
        return content.Status(self._ref, self._size, self._size, self._digest, self._opened_at, self._opened_at)

    def truncate(self, size: int) -> None:
        """Go on with a private copy of the first ``size`` bytes."""
        if self._copy is None:
            self._private(size)
        else:
            self._copy.truncate(size)

    def commit(
        self, ctx: CallContext, size: int = 0, expected: str = "", labels: Mapping[str, str] | None = None
    ) -> None:
        """Check, and leave the bytes where they are; a private copy is committed.

        Raises:
            FailedPrecondition: another digest.
        """
        if self._copy is not None:
            self._copy.commit(ctx, size, expected, labels)
            return
        assert size in {0, self._size}, "compared with the status already"
        if expected not in {"", self._digest}:
            raise FailedPrecondition(f"{quoted(self._ref)} unexpected digest")

    def close(self) -> None:
        """Let go of the private copy, if there is one."""
        if self._copy is not None:
            self._copy.close()

    def _private(self, size: int) -> content.Writer:
        if self._copy is None:
            writer = self._backend.writer(self._ctx, self._backend_ref, total=size)
            try:
                if writer.status().offset:
                    # An earlier private copy that was given up: its bytes are not ours to continue.
                    writer.truncate(0)
                self._copy_to(writer, size)
            except BaseException:
                writer.close()
                raise
            self._copy = writer
        return self._copy

    def _copy_to(self, writer: content.Writer, size: int) -> None:
        if not size:
            return
        reader = self._backend.reader(self._ctx, self._digest)
        try:
            offset = 0
            while offset < size:
                chunk = reader.read_at(offset, min(_COPY_CHUNK, size - offset))
                if not chunk:
                    raise FailedPrecondition(f"{self._digest} ends after {offset} bytes, expected {size}")
                writer.write(chunk)
                offset += len(chunk)
        finally:
            reader.close()
