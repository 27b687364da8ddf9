"""Temporary mounts of the machine's own kernel, undone whatever happens."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from refimpl.contract.context import CallContext
from refimpl.contract.mount_options import read_only_mounts
from refimpl.contract.mounts import Mount
from refimpl.linux.mounting import mount_all, unmount_all
from refimpl.linux.tree import DirectoryTree


class KernelMounter:
    """A ``contract.mounts.Mounter`` that lets Linux mount. Needs root.

    Args:
        scratch: where mount points are made; a directory of its own is made there for each (MNT-024). By default the
            place of temporary files.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = scratch or Path(tempfile.gettempdir())

    @contextmanager
    def mounted(self, ctx: CallContext, mounts: Sequence[Mount], *, read_only: bool = False) -> Iterator[DirectoryTree]:
        """See ``contract.mounts.Mounter.mounted``.

        What is opened in the tree has to be closed before the block ends: an open file keeps the mount busy.

        Raises:
            OSError: besides what mounting gives, EBUSY on leaving while a file in the tree is open (MNT-022); then the
                mount and its directory stay.
        """
        ctx.check()
        target = self._new_directory()
        try:
            mount_all(read_only_mounts(mounts) if read_only else mounts, target)
            try:
                with DirectoryTree(target) as tree:
                    yield tree
            finally:
                unmount_all(target)
        finally:
            # Never recursively: should an unmount have failed, what lies below is a snapshot's (MNT-025).
            with suppress(OSError):
                os.rmdir(target)

    def _new_directory(self) -> str:
        while True:
            target = self._scratch / f"containerd-mount{secrets.randbelow(1 << 32)}"
            try:
                target.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return str(target)
