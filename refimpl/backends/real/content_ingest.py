"""One upload on disk: the directory ``ingest/<sha256 of the ref>`` of the content store (CNT-094).

::

    ref         the ref as text
    startedat   RFC 3339 with nanoseconds, UTC: when it was first opened
    updatedat   the same: when a writer last let go of it
    total       decimal bytes announced; only if they were
    data        the bytes, made last: without it there is no ingest

A crash may leave any beginning of this. What is not whole has no status, and the next opening starts over (CNT-048).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from refimpl.contract.content import Status
from refimpl.contract.errors import NotFound, Unknown
from refimpl.contract.times import format_rfc3339, parse_rfc3339

_PIECE = 1 << 20
"""Bytes that are hashed at once when an upload is resumed."""

_GONE = (FileNotFoundError, NotADirectoryError)


class IngestDirectory:
    """The files of one ingest. Knows nothing of locks: whoever writes holds the ref.

    Args:
        path: the directory; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"

    def status(self) -> Status:
        """What the files say.

        Raises:
            NotFound: a file without which there is no ingest is missing.
            Unknown: a time that is none.
        """
        try:
            found = self.data.stat()
            ref = self.ref()
            started_at, updated_at = self._time("startedat"), self._time("updatedat")
        except _GONE as error:
            raise NotFound(f"ingest {self.path.name}") from error
        return Status(
            ref=ref,
            offset=found.st_size,
            total=self._total(),
            started_at=started_at,
            # The file with the time is written when a writer lets go: of one that is at work, or was killed, the data
            # know more.
            updated_at=max(updated_at, found.st_mtime_ns),
        )

    def ref(self) -> str:
        """Whose it is.

        Raises:
            OSError: no such file.
        """
        return (self.path / "ref").read_text(encoding="utf-8", errors="surrogateescape")

    def begin(self, ref: str, total: int, now: int) -> Status:
        """Start over, whatever is there.

        Args:
            total: bytes announced; 0 for none.
            now: Unix nanoseconds.
        """
        self.remove()
        self.path.mkdir(mode=0o755, parents=True)
        _write(self.path / "ref", ref.encode("utf-8", "surrogateescape"))
        self._write_time("startedat", now)
        self._write_time("updatedat", now)
        if total > 0:
            _write(self.path / "total", str(total).encode())
        self.data.touch(mode=0o666)
        return Status(ref=ref, total=max(total, 0), started_at=now, updated_at=now)

    def resume(self, ref: str, total: int) -> tuple[Status, hashlib._Hash] | None:
        """The state of an upload that can go on, and the hash of its bytes, all of which are read; None for no such.

        Args:
            total: bytes announced now; another number than before is another upload (CNT-042). 0 for none.
        """
        try:
            found = self.status()
        except (NotFound, Unknown):
            return None
        if found.ref != ref or (total > 0 and found.total > 0 and found.total != total):
            return None
        running, size = hashlib.sha256(), 0
        piece = bytearray(_PIECE)
        view = memoryview(piece)
        try:
            with self.data.open("rb", buffering=0) as file:
                while length := file.readinto(piece):
                    running.update(view[:length])
                    size += length
        except IsADirectoryError:
            return None
        return Status(ref, size, found.total, "", found.started_at, found.updated_at), running

    def updated(self, now: int) -> None:
        """Write down when the latest bytes came; nothing if the ingest was aborted meanwhile."""
        with suppress(*_GONE):
            self._write_time("updatedat", now)

    def remove(self) -> None:
        """Remove it with all its bytes; one that is not there is no error."""
        try:
            shutil.rmtree(self.path)
        except NotADirectoryError:
            self.path.unlink()
        except FileNotFoundError:
            # Also when somebody else removes it at the same time; what they leave is theirs to report.
            pass

    def _time(self, name: str) -> int:
        path = self.path / name
        try:
            return parse_rfc3339(path.read_text(encoding="utf-8", errors="replace"))
        except ValueError as error:
            raise Unknown(f"could not read {name}: could not parse timestamp file {path}: {error}") from error

    def _total(self) -> int:
        """What was announced; a file that is missing or spoilt loses no more than this."""
        try:
            return max(int((self.path / "total").read_bytes()), 0)
        except (OSError, ValueError):
            return 0

    def _write_time(self, name: str, now: int) -> None:
        """Replace the file at once, so that no crash leaves half of one (CNT-096)."""
        path = self.path / name
        temporary = self.path / f"{name}.tmp"
        _write(temporary, format_rfc3339(now).encode(), os.O_SYNC)
        temporary.replace(path)


def _write(path: Path, data: bytes, flags: int = 0) -> None:
    """Make a file with all of these bytes, or say which one could not be made."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        error.filename = str(path)
        raise
