"""Content: immutable blobs addressed by digest, and the ingests that produce them.

Plugin types: ``io.containerd.content.v1`` (bytes, no namespaces, no labels), the same protocol again above it in
``io.containerd.metadata.v1`` (one view per namespace) and in ``io.containerd.service.v1``.

Words: a *blob* is bytes named by their *digest*; an *ingest* is an upload under way, named by its *ref*, resumable
until *commit* turns it into a blob or *abort* drops it. Life of an ingest::

    writer(ref) -> write* -> commit -> blob        (a crash or close in between: writer(ref) goes on where it stood)
                         \\-> abort  -> nothing
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from refimpl.contract.context import CallContext

EMPTY_DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Digest of no bytes."""


@dataclass(frozen=True, slots=True)
class Info:
    """A blob's record.

    Attributes:
        size: bytes.
        created_at, updated_at: Unix nanoseconds.
    """

    digest: str
    size: int = 0
    created_at: int = 0
    updated_at: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """An ingest's state.

    Attributes:
        ref: the ingest's name.
        offset: bytes received so far.
        total: bytes announced; 0 when unknown.
        expected: digest announced; empty when unknown.
        started_at, updated_at: Unix nanoseconds.
    """

    ref: str
    offset: int = 0
    total: int = 0
    expected: str = ""
    started_at: int = 0
    updated_at: int = 0


class Reader(Protocol):
    """Random access to one blob."""

    @property
    def size(self) -> int:
        """Bytes in the blob."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; fewer only at the end."""
        ...

    def close(self) -> None:
        """Release what the reader holds. Idempotent."""
        ...


class Writer(Protocol):
    """An open ingest. While it is open nobody else can open the same ref."""

    def write(self, data: bytes) -> int:
        """Append; returns the number of bytes taken (all of them)."""
        ...

    def digest(self) -> str:
        """Digest of the bytes received so far (in this life of the ingest or an earlier one)."""
        ...

    def status(self) -> Status:
        """The state of the ingest as of now."""
        ...

    def truncate(self, size: int) -> None:
        """Drop bytes so that ``size`` remain; only 0 is required of every store.

        Raises:
            Unimplemented: a size other than 0 that this store cannot do.
        """
        ...

    def commit(self, ctx: CallContext, size: int = 0, expected: str = "", labels: Mapping[str, str] | None = None) -> None:
        """Turn the ingest into a blob; the writer is closed whatever happens.

        Args:
            size: bytes the blob must have; 0 when unknown.
            expected: digest the blob must have; empty when unknown.
            labels: labels of the new record (kept by the metadata layer; a bare store drops them).

        Raises:
            FailedPrecondition: size or digest differ; the ingest stays.
            AlreadyExists: the blob is there already; the ingest is gone.
        """
        ...

    def close(self) -> None:
        """Let go of the ingest, keeping what was received for a later writer. Idempotent."""
        ...


class ContentStore(Protocol):
    """A store of blobs and ingests."""

    def info(self, ctx: CallContext, digest: str) -> Info:
        """The record of a blob.

        Raises:
            NotFound: no such blob in this namespace.
            InvalidArgument: not a digest.
        """
        ...

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels (all of them without ``fieldpaths``); the answer is the record afterwards.

        Raises:
            NotFound: no such blob.
            InvalidArgument: a path that names an immutable field; labels too long.
        """
        ...

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The blobs for which any filter holds (all without filters), ordered by digest in the metadata layer.

        Raises:
            InvalidArgument: a filter that does not parse, before anything is yielded.
        """
        ...

    def delete(self, ctx: CallContext, digest: str) -> None:
        """Forget a blob.

        Raises:
            NotFound: no such blob.
        """
        ...

    def reader(self, ctx: CallContext, digest: str) -> Reader:
        """Open a blob.

        Raises:
            NotFound: no such blob.
        """
        ...

    def status(self, ctx: CallContext, ref: str) -> Status:
        """The state of an ingest.

        Raises:
            NotFound: no such ingest.
        """
        ...

    def list_statuses(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Status]:
        """The ingests for which any filter holds.

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        ...

    def writer(self, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> Writer:
        """Open an ingest, new or resumed.

        Args:
            total: bytes the blob will have; 0 when unknown.
            expected: digest the blob will have; empty when unknown.

        Raises:
            AlreadyExists: ``expected`` names a blob that is there.
            Unavailable: somebody else has the ref open.
            InvalidArgument: an empty or bad ref, a bad digest.
        """
        ...

    def abort(self, ctx: CallContext, ref: str) -> None:
        """Drop an ingest and what it received.

        Raises:
            NotFound: no such ingest.
        """
        ...
