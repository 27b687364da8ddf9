"""io.containerd.content.v1.content in memory: blobs by digest, and the ingests they come from.

The twin of the real store on disk: no namespaces, no labels, idempotent delete and abort (CNT-105, CNT-106); the
    exported root is a path in name only. Bytes are kept in the pieces in which they arrived and are never joined, so
    a blob is held once, however large. Clauses CNT-001 to 110 as far as a bare store keeps them; where they leave a
    choice: a busy ref is refused at once (CNT-036), and reopening with another total starts over cleanly (CNT-042).
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from refimpl.backends.fake.host import FakeHost
from refimpl.contract import digest as digests
from refimpl.contract import filters as filter_language
from refimpl.contract.content import Info, Status
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from refimpl.contract.ref_locks import RefLocks
from refimpl.contract.times import Clock
from refimpl.kernel import InitContext, Registration, hookimpl

_SMALL = 64 << 10
"""Pieces below this many bytes are joined: an upload byte by byte must not cost an object a byte."""


class _Bytes:
    """Bytes in pieces; grows at the end only."""

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self._starts: list[int] = []
        self.size = 0

    def append(self, data: bytes) -> None:
        last = self._pieces[-1] if self._pieces else b""
        if isinstance(last, bytearray) and len(last) + len(data) <= _SMALL:
            last += data
        else:
            self._starts.append(self.size)
            self._pieces.append(bytes(data) if len(data) >= _SMALL else bytearray(data))
        self.size += len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        found = []
        for index in range(bisect_right(self._starts, offset) - 1, len(self._pieces)):
            start = self._starts[index]
            if start >= end:
                break
            found.append(self._pieces[index][max(offset - start, 0) : end - start])
        return b"".join(found)


@dataclass(slots=True)
class _Ingest:
    """An upload: what arrived, and its running hash."""

    ref: str
    total: int
    started_at: int
    updated_at: int
    content: _Bytes = field(default_factory=_Bytes)
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def digest(self) -> str:
        return f"sha256:{self.hash.hexdigest()}"

    def status(self) -> Status:
        return Status(
            ref=self.ref,
            offset=self.content.size,
            total=self.total,
            started_at=self.started_at,
            updated_at=self.updated_at,
        )


@dataclass(frozen=True, slots=True)
class _Blob:
    content: _Bytes
    created_at: int


class MemoryReader:
    """A ``contract.content.Reader``: it keeps its blob, also when that is deleted meanwhile (CNT-072)."""

    def __init__(self, content: _Bytes) -> None:
        self._content = content

    @property
    def size(self) -> int:
        """Bytes in the blob."""
        return self._content.size

    def read_at(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; fewer only at the end."""
        return self._content.read_at(offset, size)

    def close(self) -> None:
        """Nothing to release."""


class MemoryWriter:
    """A ``contract.content.Writer``: the only one on its ref until it is closed (CNT-034, CNT-035)."""

    def __init__(self, store: MemoryContent, ingest: _Ingest) -> None:
        self._store, self._ingest = store, ingest
        self._open = True

    def write(self, data: bytes) -> int:
        """Append; the number of bytes taken, which is all of them.

        Raises:
            FailedPrecondition: the writer is closed.
        """
        self._require_open("write to")
        self._ingest.hash.update(data)
        self._ingest.content.append(data)
        self._ingest.updated_at = self._store.clock.now()
        return len(data)

    def digest(self) -> str:
        """Digest (sha256, CNT-031) of all bytes received so far; also after the end."""
        return self._ingest.digest()

    def status(self) -> Status:
        """The state as of now."""
        return self._ingest.status()

    def truncate(self, size: int) -> None:
        """Start over (CNT-009).

        Raises:
            Unimplemented: a size other than 0.
            FailedPrecondition: the writer is closed.
        """
        self._require_open("truncate")
        if size != 0:
            raise Unimplemented("truncate: unsupported size")
        self._ingest.content = _Bytes()
        self._ingest.hash = hashlib.sha256()
        self._ingest.updated_at = self._store.clock.now()

    def commit(
        self, ctx: CallContext, size: int = 0, expected: str = "", labels: Mapping[str, str] | None = None
    ) -> None:
        """Make the ingest a blob and close the writer, whatever happens; labels are dropped (CNT-105).

        Raises:
            FailedPrecondition: the size (CNT-019) or the digest (CNT-023) differs, and the ingest stays; or the
                writer is closed.
            AlreadyExists: the blob is there; the ingest is gone (CNT-027).
            Unknown: the ingest was aborted meanwhile (CNT-047).
        """
        self._require_open("commit on")
        try:
            self._store.finish(self._ingest, size, expected)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the ref; the bytes stay. Idempotent."""
        if self._open:
            self._open = False
            self._store.locks.unlock(self._ingest.ref)

    def _require_open(self, verb: str) -> None:
        if not self._open:
            raise FailedPrecondition(f"cannot {verb} closed writer")


@dataclass(slots=True)
class Shelf:
    """What one store holds, kept by its host: this survives a restart of the daemon (CNT-097, CNT-098)."""

    blobs: dict[str, _Blob] = field(default_factory=dict)
    ingests: dict[str, _Ingest] = field(default_factory=dict)


class MemoryContent:
    """A ``contract.content.ContentStore`` without a disk.

    Args:
        clock: for the times of blobs and ingests.
        shelf: where blobs and ingests are; a new one if left out.

    Attributes:
        clock, locks: for its writers.
    """

    def __init__(self, clock: Clock, shelf: Shelf | None = None) -> None:
        self.clock = clock
        self._mutex = threading.Lock()
        shelf = shelf or Shelf()
        self._blobs, self._ingests = shelf.blobs, shelf.ingests
        self.locks = RefLocks(clock)

    def info(self, ctx: CallContext, digest: str) -> Info:
        """Size and times of a blob.

        Raises:
            NotFound: no such blob.
            InvalidArgument: not a digest.
        """
        return _info(digest, self._blob(digest))

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """There is nothing to update: records are kept above (CNT-105).

        Raises:
            FailedPrecondition: always.
        """
        raise FailedPrecondition("update not supported on immutable content store")

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The blobs wanted, ordered by digest, as of this call.

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        wanted = filter_language.parse(filters)
        with self._mutex:
            infos = [_info(digest, blob) for digest, blob in sorted(self._blobs.items())]
        return iter([info for info in infos if wanted(_only("digest", info.digest))])

    def delete(self, ctx: CallContext, digest: str) -> None:
        """Forget a blob; one that is not there is no error (CNT-106).

        Raises:
            InvalidArgument: not a digest.
        """
        _validate(digest)
        with self._mutex:
            self._blobs.pop(digest, None)

    def reader(self, ctx: CallContext, digest: str) -> MemoryReader:
        """Open a blob.

        Raises:
            NotFound: no such blob.
            InvalidArgument: not a digest.
        """
        return MemoryReader(self._blob(digest).content)

    def status(self, ctx: CallContext, ref: str) -> Status:
        """The state of an ingest, also while somebody writes it (CNT-044).

        Raises:
            NotFound: no such ingest.
        """
        with self._mutex:
            if (ingest := self._ingests.get(ref)) is None:
                raise NotFound(f"ingest {ref}")
            return ingest.status()

    def list_statuses(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Status]:
        """The ingests wanted.

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        wanted = filter_language.parse(filters)
        with self._mutex:
            statuses = [ingest.status() for ingest in self._ingests.values()]
        return [status for status in statuses if wanted(_only("ref", status.ref))]

    def writer(self, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> MemoryWriter:
        """Open an ingest, new or resumed (CNT-040).

        Args:
            total: bytes to come; remembered if it is given first, and starts over if it differs from what is
                remembered.

        Raises:
            InvalidArgument: no ref, or ``expected`` is no digest.
            AlreadyExists: the blob ``expected`` is there.
            Unavailable: the ref is open elsewhere.
        """
        if not ref:
            raise InvalidArgument("ref must not be empty")
        if expected:
            _validate(expected)
        with self._mutex:
            if expected in self._blobs:
                raise AlreadyExists(f"content {expected}")
            self.locks.lock(ref)
            ingest = self._ingests.get(ref)
            if ingest is None or (total > 0 and ingest.total > 0 and ingest.total != total):
                now = self.clock.now()
                ingest = self._ingests[ref] = _Ingest(ref, max(total, 0), started_at=now, updated_at=now)
        return MemoryWriter(self, ingest)

    def abort(self, ctx: CallContext, ref: str) -> None:
        """Drop an ingest; one that is not there is no error (CNT-106). An open writer on it is doomed (CNT-047)."""
        with self._mutex:
            self._ingests.pop(ref, None)

    def finish(self, ingest: _Ingest, size: int, expected: str) -> None:
        """Make an ingest a blob, in one step for all who look (CNT-017, CNT-103); errors as ``Writer.commit``."""
        if size not in {0, ingest.content.size}:
            raise FailedPrecondition(f"unexpected commit size {ingest.content.size}, expected {size}")
        digest = ingest.digest()
        if expected and expected != digest:
            raise FailedPrecondition(f"unexpected commit digest {digest}, expected {expected}")
        with self._mutex:
            if self._ingests.get(ingest.ref) is not ingest:
                raise Unknown(f"ingest {ingest.ref} was aborted")
            del self._ingests[ingest.ref]
            if digest in self._blobs:
                raise AlreadyExists(f"content {digest}")
            self._blobs[digest] = _Blob(ingest.content, self.clock.now())

    def _blob(self, digest: str) -> _Blob:
        _validate(digest)
        with self._mutex:
            if (blob := self._blobs.get(digest)) is None:
                raise NotFound(f"content {digest}")
            return blob


def _info(digest: str, blob: _Blob) -> Info:
    return Info(digest, size=blob.content.size, created_at=blob.created_at, updated_at=blob.created_at)


def _only(name: str, value: str) -> Callable[[Sequence[str]], str | None]:
    """What filters can ask of a bare store's objects: their name."""
    return lambda fieldpath: value if fieldpath[0] == name else None


def _validate(digest: str) -> None:
    try:
        digests.validate(digest)
    except InvalidArgument as error:
        raise InvalidArgument(f"cannot calculate blob path from invalid digest: {error.message}") from error


def init(ic: InitContext) -> MemoryContent:
    """Make a store on the fake host. The exported root is where the real twin would be; nothing is made there."""
    ic.exports["root"] = str(ic.root)
    shelf = ic.resource(FakeHost).databases.setdefault(str(ic.root), Shelf())
    assert isinstance(shelf, Shelf), "the plugin's directory is its own"
    return MemoryContent(ic.clock, shelf)


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The store, in the fake world."""
    return [Registration("io.containerd.content.v1", "content", init=init, backend="fake")]
