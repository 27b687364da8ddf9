"""io.containerd.content.v1.content on disk: blobs by digest, and the ingests they come from.

On disk, below the plugin's root (CNT-093)::

    blobs/<algorithm>/<hex>     a blob, mode 0444, modified when it was committed; never changed, only removed
    ingest/<hex>/               an upload under way: see refimpl.backends.real.content_ingest

The twin of ``refimpl.backends.fake.content``: no namespaces, no labels, idempotent delete and abort (CNT-105,
CNT-106). Nothing is kept in memory but which refs are open, so there is nothing to repair after a crash: a commit is
one rename, before which the bytes are an ingest and after which they are a blob. Where the clauses leave a choice: a
busy ref is refused at once (CNT-036), reopening with another total starts over cleanly (CNT-042), an ingest with a
spoilt file is left out of lists (CNT-048), and strangers' files among the blobs are passed over (CNT-102).
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from refimpl.backends.real.content_ingest import IngestDirectory
from refimpl.backends.real.content_writer import FileWriter
from refimpl.contract import digest as digests
from refimpl.contract import filters as filter_language
from refimpl.contract.content import Info, Status
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unknown
from refimpl.contract.ref_locks import RefLocks
from refimpl.contract.times import Clock
from refimpl.kernel import InitContext, Registration, hookimpl

log = logging.getLogger("refimpl.content")


class FileReader:
    """A ``contract.content.Reader``: an open file keeps its blob, also when that is deleted meanwhile (CNT-072)."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._size = os.fstat(file).st_size

    @property
    def size(self) -> int:
        """Bytes in the blob."""
        return self._size

    def read_at(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; fewer only at the end."""
        pieces = []
        # Linux reads at most 2 GiB at a time.
        while size > 0 and (piece := os.pread(self._file, size, offset)):
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class FileContent:
    """A ``contract.content.ContentStore`` and ``IngestSweeper`` on disk.

    Args:
        root: its directory; made if missing.
        clock: for the times of blobs and ingests.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._blobs, self._ingests = root / "blobs", root / "ingest"
        self._clock = clock
        self._locks = RefLocks(clock)
        # Two commits of the same bytes: the second must see the blob of the first, and rename(2) would not.
        self._naming = threading.Lock()
        self._ingests.mkdir(parents=True, exist_ok=True)

    def info(self, ctx: CallContext, digest: str) -> Info:
        """Size and times of a blob.

        Raises:
            NotFound: no such blob.
            InvalidArgument: not a digest.
        """
        try:
            return _info(digest, self._blob(digest))
        except FileNotFoundError as error:
            raise NotFound(f"content {digest}") from error

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """There is nothing to update: records are kept above (CNT-105).

        Raises:
            FailedPrecondition: always.
        """
        raise FailedPrecondition("update not supported on immutable content store")

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The blobs wanted, ordered by digest.

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        wanted = filter_language.parse(filters)
        found = [digest for digest in self._digests() if wanted(_only("digest", digest))]
        return self._infos(found)

    def delete(self, ctx: CallContext, digest: str) -> None:
        """Remove a blob; one that is not there is no error (CNT-106).

        Raises:
            InvalidArgument: not a digest.
        """
        self._blob(digest).unlink(missing_ok=True)

    def reader(self, ctx: CallContext, digest: str) -> FileReader:
        """Open a blob.

        Raises:
            NotFound: no such blob.
            InvalidArgument: not a digest.
        """
        path = self._blob(digest)
        try:
            return FileReader(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError as error:
            raise NotFound(f"blob {digest} expected at {path}: blob not found") from error

    def status(self, ctx: CallContext, ref: str) -> Status:
        """The state of an ingest, also while somebody writes it (CNT-044).

        Raises:
            NotFound: no such ingest, or one that lacks a file.
            Unknown: one of its times is none (CNT-048).
        """
        try:
            return self._ingest(ref).status()
        except NotFound as error:
            raise NotFound(f"ingest {ref}") from error
        except Unknown as error:
            raise Unknown(f'could not get status for ref "{ref}": {error}') from error

    def list_statuses(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Status]:
        """The ingests wanted; a broken one has no status and is left out.

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        wanted = filter_language.parse(filters)
        found = []
        for path in self._ingests.iterdir():
            try:
                status = IngestDirectory(path).status()
            except NotFound:
                # Also one that is committed while we look.
                continue
            except Unknown as error:
                log.warning("ingest without a status", extra={"fields": {"error": error, "path": path}})
                continue
            if wanted(_only("ref", status.ref)):
                found.append(status)
        return found

    def writer(self, ctx: CallContext, ref: str, *, total: int = 0, expected: str = "") -> FileWriter:
        """Open an ingest, new or resumed: then all its bytes are read once (CNT-040).

        Raises:
            InvalidArgument: an empty ref, or a bad digest.
            Unavailable: somebody else writes it (CNT-034).
            AlreadyExists: ``expected`` names a blob that is there (CNT-025).
        """
        if not ref:
            raise InvalidArgument("ref must not be empty")
        if expected and self._blob(expected).exists():
            raise AlreadyExists(f"content {expected}")
        self._locks.lock(ref)
        try:
            ingest = self._ingest(ref)
            resumed = ingest.resume(ref, total)
            status, running = resumed or (ingest.begin(ref, total, self._clock.now()), hashlib.sha256())
            unlock = partial(self._locks.unlock, ref)
            return FileWriter(ingest, status, running, self._clock, self._adopt, unlock)
        except BaseException:
            self._locks.unlock(ref)
            raise

    def abort(self, ctx: CallContext, ref: str) -> None:
        """Drop an ingest; one that is not there is no error (CNT-106). An open writer on it is doomed (CNT-047)."""
        self._ingest(ref).remove()

    def sweep_ingests(self, ctx: CallContext, keep: Collection[str]) -> None:
        """Drop every ingest but those of ``keep`` and those that are open, also what has no status (CNT-100)."""
        kept = {_name(ref) for ref in {*keep, *self._locks.held()}}
        for path in list(self._ingests.iterdir()):
            # What is not named like one is a stranger's.
            if path.name in kept or len(path.name) != len(_name("")) or path.is_symlink():
                continue
            try:
                IngestDirectory(path).remove()
            except OSError as error:
                log.warning("ingest cannot be removed", extra={"fields": {"error": error, "path": path}})

    def _adopt(self, ingest: IngestDirectory, digest: str) -> None:
        """Give the bytes of an ingest their name among the blobs (CNT-017, CNT-103); errors as ``Writer.commit``."""
        path = self._blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._naming:
            if path.exists():
                raise AlreadyExists(f"content {digest}")
            try:
                ingest.data.rename(path)
            except FileNotFoundError as error:
                raise Unknown(f"rename {ingest.data} {path}: no such file or directory") from error
        # As containerd 2 does: what was acknowledged stays after a loss of power, too.
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _digests(self) -> list[str]:
        """Of all files among the blobs that are named by one, in order."""
        found = []
        for algorithm in _listed(self._blobs):
            for name in _listed(algorithm):
                digest = f"{algorithm.name}:{name.name}"
                try:
                    digests.validate(digest)
                except InvalidArgument as error:
                    log.debug("no blob", extra={"fields": {"error": error, "path": name}})
                else:
                    found.append(digest)
        return found

    def _infos(self, wanted: Sequence[str]) -> Iterator[Info]:
        for digest in wanted:
            # One that was deleted since is not there.
            with suppress(FileNotFoundError):
                yield _info(digest, self._blob(digest))

    def _blob(self, digest: str) -> Path:
        """Where a blob is, or would be. A digest that is valid is no path (CNT-052)."""
        try:
            algorithm, encoded = digests.split(digest)
        except InvalidArgument as error:
            raise InvalidArgument(f"cannot calculate blob path from invalid digest: {error.message}") from error
        return self._blobs / algorithm / encoded

    def _ingest(self, ref: str) -> IngestDirectory:
        return IngestDirectory(self._ingests / _name(ref))


def _name(ref: str) -> str:
    """The directory of a ref: its hash, because a ref is any text and no path (CNT-039)."""
    return hashlib.sha256(ref.encode("utf-8", "surrogateescape")).hexdigest()


def _listed(directory: Path) -> list[Path]:
    """What is in a directory, by name; nothing if it is not there, or none."""
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _info(digest: str, path: Path) -> Info:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(str(path))
    return Info(digest, size=found.st_size, created_at=found.st_mtime_ns, updated_at=found.st_atime_ns)


def _only(name: str, value: str) -> Callable[[Sequence[str]], str | None]:
    """What filters can ask of a bare store's objects: their name."""
    return lambda fieldpath: value if fieldpath[0] == name else None


def init(ic: InitContext) -> FileContent:
    """Open the store below the plugin's root."""
    ic.exports["root"] = str(ic.root)
    return FileContent(ic.root, ic.clock)


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The store, in the real world."""
    return [Registration("io.containerd.content.v1", "content", init=init, backend="real")]
