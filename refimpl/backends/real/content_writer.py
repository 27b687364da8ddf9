"""The open end of an upload on disk: bytes are appended and hashed as they come, and never held."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from refimpl.backends.real.content_ingest import IngestDirectory
from refimpl.contract.content import Status
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, Unimplemented
from refimpl.contract.times import Clock


class FileWriter:
    """A ``contract.content.Writer``: the only one on its ref until it is closed (CNT-034, CNT-035).

    Args:
        ingest: its files.
        status: how the ingest stands; so many bytes of the file count.
        running: hash of these bytes.
        adopt: makes the data file the blob of a digest.
        unlock: lets the next writer have the ref.
    """

    def __init__(
        self,
        ingest: IngestDirectory,
        status: Status,
        running: hashlib._Hash,
        clock: Clock,
        adopt: Callable[[IngestDirectory, str], None],
        unlock: Callable[[], None],
    ) -> None:
        self._ingest, self._status, self._hash, self._clock = ingest, status, running, clock
        self._adopt, self._unlock = adopt, unlock
        self._file = os.open(ingest.data, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._open = True
        os.lseek(self._file, status.offset, os.SEEK_SET)

    def write(self, data: bytes) -> int:
        """Append; the number of bytes taken, which is all of them.

        Raises:
            FailedPrecondition: the writer is closed.
            OSError: the disk took only a part of them, which is kept.
        """
        self._require_open("write to")
        rest = memoryview(data)
        while rest:
            try:
                taken = os.write(self._file, rest)
            except OSError as error:
                error.filename = str(self._ingest.data)
                raise
            self._hash.update(rest[:taken])
            self._status = replace(self._status, offset=self._status.offset + taken, updated_at=self._clock.now())
            rest = rest[taken:]
        return len(data)

    def digest(self) -> str:
        """Digest (sha256, CNT-031) of all bytes received so far; also after the end."""
        return f"sha256:{self._hash.hexdigest()}"

    def status(self) -> Status:
        """The state as of now."""
        return self._status

    def truncate(self, size: int) -> None:
        """Start over (CNT-009).

        Raises:
            Unimplemented: a size other than 0.
            FailedPrecondition: the writer is closed.
        """
        self._require_open("truncate")
        if size != 0:
            raise Unimplemented("truncate: unsupported size")
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self._status = replace(self._status, offset=0, updated_at=self._clock.now())

    def commit(
        self, ctx: CallContext, size: int = 0, expected: str = "", labels: Mapping[str, str] | None = None
    ) -> None:
        """Make the ingest a blob and close the writer, whatever happens; labels are dropped (CNT-105).

        Raises:
            FailedPrecondition: the size (CNT-019, CNT-104) or the digest (CNT-023) differs, and the ingest stays; or
                the writer is closed.
            AlreadyExists: the blob is there; the ingest is gone (CNT-027).
            Unknown: the ingest was aborted meanwhile (CNT-047).
        """
        self._require_open("commit on")
        try:
            self._check(size, expected)
            now = self._clock.now()
            os.utime(self._file, ns=(now, now))
            # The bytes before the name: a blob is whole whatever happens to the machine (CNT-095).
            os.fsync(self._file)
            self._adopt(self._ingest, self.digest())
            # Through the open file: the name is somebody else's to delete from now on.
            os.fchmod(self._file, os.fstat(self._file).st_mode & 0o444)
        except AlreadyExists:
            self._end(remove=True)
            raise
        except BaseException:
            self.close()
            raise
        self._end(remove=True)

    def close(self) -> None:
        """Let go of the ref; the bytes stay, and are on the disk. Idempotent."""
        if not self._open:
            return
        try:
            os.fsync(self._file)
            # Without it the data's own time counts, and on a full disk that must not hide what the caller was told.
            with suppress(OSError):
                self._ingest.updated(self._status.updated_at)
        finally:
            self._end(remove=False)

    def _check(self, size: int, expected: str) -> None:
        there = os.fstat(self._file).st_size
        # Somebody may have cut the file behind our back: then these are not the bytes that were hashed.
        for wanted in (size or self._status.offset, self._status.offset):
            if wanted != there:
                raise FailedPrecondition(f"unexpected commit size {there}, expected {wanted}")
        if expected and expected != self.digest():
            raise FailedPrecondition(f"unexpected commit digest {self.digest()}, expected {expected}")

    def _end(self, *, remove: bool) -> None:
        self._open = False
        try:
            os.close(self._file)
            if remove:
                self._ingest.remove()
        finally:
            self._unlock()

    def _require_open(self, verb: str) -> None:
        if not self._open:
            raise FailedPrecondition(f"cannot {verb} closed writer")
