"""Scratch directories on the real disk. A ``contract.scratch.Scratch``; twin: refimpl.backends.fake.scratch."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from refimpl.contract.mounts import RootFS
from refimpl.linux.tree import DirectoryTree


class RealScratch:
    """Directories where the machine keeps temporary files (``TMPDIR``, which the setting ``temp`` of a daemon moves).

    Args:
        parent: where they are made; None for that place as it is at the time of each call.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent

    def make(self, prefix: str) -> tuple[str, RootFS]:
        # abspath: TMPDIR may be relative, and a runtime that is given the path works in a directory of its own.
        path = os.path.abspath(tempfile.mkdtemp(prefix=prefix, dir=self._parent))
        return path, DirectoryTree(path)

    def remove(self, path: str) -> None:
        # Errors are told: what cannot be removed fills the disk if nobody hears of it.
        if os.path.lexists(path):
            shutil.rmtree(path)
