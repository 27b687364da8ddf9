"""Snapshots kept as directories: what overlayfs and native have in common.

::

    ROOT/              0700
      metadata.db      0600, made at the first use
      snapshots/       0700
        ID/            of the snapshot with that number
        new-XXXX/      in the making
        rm-ID-XXXX/    put aside, to be deleted

A directory is made under a name of its own and renamed when all is in it, before its record is committed; it goes after
its record. So a crash leaves entries without a record, and never a record without its directory. An entry under a
number that was not given out yet is such litter: it gives way to the snapshot that gets the number.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from refimpl.contract.context import CallContext
from refimpl.contract.snapshots import Info, Usage
from refimpl.linux.removal import remove_tree
from refimpl.linux.usage import disk_usage
from refimpl.snapshots.record import Record, Snapshot

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
"""What rename(2) says of a directory when something else is in its place."""


class Directories:
    """ROOT/snapshots with an entry for each number.

    Args:
        root: made, with all above it, if it is missing.
        log: where to say what could not be deleted.

    Raises:
        OSError: the directories cannot be made.
    """

    def __init__(self, root: Path, log: logging.Logger) -> None:
        self.root = str(root)
        self._snapshots = f"{root}/snapshots"
        self._log = log
        os.makedirs(root, 0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self._snapshots, 0o700)

    def commit(self, snapshot: Snapshot) -> None:
        """Nothing moves: the layer becomes a lower one where it is (SNX-017)."""

    def labels(self, before: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
        """The caller's, and nothing inherited (SNP-061, SNP-062)."""
        return given

    def shown(self, record: Record) -> Info:
        """The record as it is."""
        return record.info

    def undo(self, snapshot: Snapshot) -> None:
        """Delete the directory."""
        self.discard([str(snapshot.id)])

    def discard(self, names: Sequence[str]) -> None:
        """Delete entries; one that is missing is no error (SNX-035)."""
        if not names:
            return
        snapshots = os.open(self._snapshots, _DIRECTORY)
        try:
            for name in names:
                try:
                    remove_tree(snapshots, name)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._log.warning("failed to remove directory %s/%s: %s", self._snapshots, name, error)
        finally:
            os.close(snapshots)

    def _path(self, id: int) -> str:
        return f"{self._snapshots}/{id}"

    @contextmanager
    def _making(self, id: int) -> Iterator[str]:
        """A fresh directory (0700), which becomes the snapshot's own when the block ends well."""
        made = tempfile.mkdtemp(prefix="new-", dir=self._snapshots)
        try:
            yield made
            self._place(made, self._path(id))
        except BaseException:
            self.discard([os.path.basename(made)])
            raise

    def _place(self, made: str, path: str) -> None:
        try:
            os.rename(made, path)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            self.discard([self._aside(os.path.basename(path))])
            os.rename(made, path)

    def _aside(self, name: str) -> str:
        """Free the place of a number; answers with the entry's new name."""
        if not name.isdecimal():
            return name
        away = f"rm-{name}-{uuid.uuid4().hex[:8]}"
        try:
            os.rename(f"{self._snapshots}/{name}", f"{self._snapshots}/{away}")
        except OSError:
            return name  # a mount point: it is deleted, if at all, where it is
        return away

    def _usage(self, ctx: CallContext, path: str) -> Usage:
        return Usage(*disk_usage(path, ctx.check))
