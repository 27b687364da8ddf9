"""Content: immutable blobs addressed by digest, and the ingests that produce them.

Plugin types: ``io.containerd.content.v1`` (bytes, no namespaces, no labels), the same protocol again above it in
``io.containerd.metadata.v1`` (one view per namespace) and in ``io.containerd.service.v1``.

Words: a *blob* is bytes named by their *digest*; an *ingest* is an upload under way, named by its *ref*, resumable
until *commit* turns it into a blob or *abort* drops it. Life of an ingest::

    writer(ref) -> write* -> commit -> blob        (a crash or close in between: writer(ref) goes on where it stood)
                         \\-> abort  -> nothing

Clauses CNT-001 to 106; those of the wire (streams, messages, blocks) are kept by ``refimpl.grpc.content``, those of the
files by the store on disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from refimpl.contract.context import CallContext

EMPTY_DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Digest of no bytes."""


@dataclass(frozen=True, slots=True)
class Info:
    """A blob's record (CNT-051).

    Attributes:
        size: bytes.
        created_at, updated_at: Unix nanoseconds. In a namespace the time of the commit there and of the latest update
            (CNT-058); in a bare store the file's times (CNT-105).
        labels: at most 4096 bytes each, key and value together; never an empty value (CNT-056, CNT-059).
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
        total: bytes announced when the ingest began; 0 when unknown (CNT-041).
        expected: digest announced; empty when unknown. Only a shared upload remembers one (CNT-044).
        started_at, updated_at: Unix nanoseconds: of the first opening, of the latest bytes.
    """

    ref: str
    offset: int = 0
    total: int = 0
    expected: str = ""
    started_at: int = 0
    updated_at: int = 0


class Reader(Protocol):
    """Random access to one blob. Whoever has one reads to the end, even if the blob is deleted meanwhile (CNT-072)."""

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
    """An open ingest. While it is open nobody else can open the same ref (CNT-034); shared uploads may (CNT-078)."""

    def write(self, data: bytes) -> int:
        """Append; returns the number of bytes taken: all, also beyond the announced total (CNT-007, CNT-021)."""
        ...

    def digest(self) -> str:
        """sha256 digest of the bytes received so far, in this life of the ingest or an earlier one (CNT-031)."""
        ...

    def status(self) -> Status:
        """The state of the ingest as of now."""
        ...

    def truncate(self, size: int) -> None:
        """Drop bytes so that ``size`` remain; only 0 is required of every store (CNT-009).

        Raises:
            Unimplemented: a size other than 0 that this store cannot do.
        """
        ...

    def commit(
        self, ctx: CallContext, size: int = 0, expected: str = "", labels: Mapping[str, str] | None = None
    ) -> None:
        """Turn the ingest into a blob, at once for everybody (CNT-017); the writer is closed whatever happens.

        Of many who commit the same bytes one succeeds (CNT-103). What is committed is on stable storage (CNT-095).

        Args:
            size: bytes the blob must have; 0 when unknown (CNT-022).
            expected: digest the blob must have; empty when unknown.
            labels: labels of the new record (kept by the metadata layer; a bare store drops them).

        Raises:
            FailedPrecondition: size or digest differ; the ingest stays (CNT-019, CNT-023, CNT-104).
            AlreadyExists: the blob is there already, and keeps its record; the ingest is gone (CNT-027).
            InvalidArgument: a label that is too long; the ingest stays (CNT-029).
            NotFound: the call's lease does not exist (CNT-088).
        """
        ...

    def close(self) -> None:
        """Let go of the ingest, keeping what was received for a later writer (CNT-035). Idempotent."""
        ...


class ContentStore(Protocol):
    """A store of blobs and ingests.

    With namespaces (the metadata layer), every call needs a valid one (CNT-074: FailedPrecondition without,
    InvalidArgument for a bad one), and what it makes, sees and drops is that namespace's alone (CNT-037, CNT-075). A
    bare store has no namespaces and no labels (CNT-105), and its error kinds are those of CNT-106.
    """

    def info(self, ctx: CallContext, digest: str) -> Info:
        """The record of a blob.

        Raises:
            NotFound: no such blob in this namespace (CNT-053).
            InvalidArgument: not a digest (CNT-052).
        """
        ...

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels; the answer is the record afterwards.

        Args:
            fieldpaths: ``labels.<key>`` takes over one label (CNT-054), ``labels`` or no path all of them (CNT-055). An
                empty or missing value removes a label (CNT-056).

        Raises:
            NotFound: no such blob (CNT-053).
            InvalidArgument: a path that names anything else (CNT-057); labels too long (CNT-059); not a digest.
            FailedPrecondition: a bare store has no labels (CNT-105).
        """
        ...

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The blobs for which any filter holds (CNT-063), all without filters; sorted in the metadata layer (CNT-061).

        Filters know ``digest`` and ``labels.<key>`` (CNT-064).

        Raises:
            InvalidArgument: a filter that does not parse, before anything is yielded (CNT-065).
        """
        ...

    def delete(self, ctx: CallContext, digest: str) -> None:
        """Forget a blob, at once, whatever refers to it (CNT-066); in the metadata layer the bytes go later (CNT-067).

        Raises:
            NotFound: no such blob (CNT-053). A bare store may pass over it in silence (CNT-106).
            InvalidArgument: not a digest.
        """
        ...

    def reader(self, ctx: CallContext, digest: str) -> Reader:
        """Open a blob.

        Raises:
            NotFound: no such blob, in this namespace or, behind its record, on disk (CNT-053, CNT-101).
            InvalidArgument: not a digest.
        """
        ...

    def status(self, ctx: CallContext, ref: str) -> Status:
        """The state of an ingest; needs no lock (CNT-044).

        Raises:
            NotFound: no such ingest; or a shared upload, which has no bytes of its own (CNT-078).
        """
        ...

    def list_statuses(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Status]:
        """The ingests for which any filter holds, in no particular order; filters know ``ref`` alone (CNT-045).

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        ...

    def writer(self, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> Writer:
        """Open an ingest, new or resumed (CNT-003, CNT-040).

        Without a lease it lives 24 hours from its latest opening (CNT-049), under one as long as the lease (CNT-050). A
        digest that another namespace has may give an upload that is complete already (CNT-076).

        Args:
            ref: any text that is not empty; never a path (CNT-039).
            total: bytes the blob will have; 0 when unknown. Another one than before starts over (CNT-042).
            expected: digest the blob will have; empty when unknown.

        Raises:
            AlreadyExists: ``expected`` names a blob that is there; the call's lease has it now (CNT-025, CNT-087).
            Unavailable: somebody else has the ref open (CNT-034).
            InvalidArgument: an empty ref; in a bare store also a bad digest, which the metadata layer leaves to the
                commit (CNT-024).
            NotFound: the call's lease does not exist (CNT-088).
        """
        ...

    def abort(self, ctx: CallContext, ref: str) -> None:
        """Drop an ingest and what it received, also under an open writer, whose commit then fails (CNT-046, CNT-047).

        Raises:
            NotFound: no such ingest. A bare store may pass over it in silence (CNT-106).
        """
        ...


@runtime_checkable
class IngestSweeper(Protocol):
    """A bare store that can drop ingests which have no status to be listed by: what a crash left of an opening."""

    def sweep_ingests(self, ctx: CallContext, keep: Collection[str]) -> None:
        """Drop every ingest but those of the refs in ``keep`` and those that are open (CNT-048, CNT-100).

        One that cannot be removed is logged, and the others go all the same.
        """
        ...
