"""A mounter for real mounts, in a scratch directory, undone whatever happens."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument
from refimpl.contract.mounts import Mount
from refimpl.linux.mount import mount, unmount
from refimpl.linux.tree import DirectoryTree

_FLAGS = {
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "remount": 32, "noatime": 1024, "nodiratime": 2048,
    "bind": 4096, "rbind": 4096 | 16384, "relatime": 1 << 21,
}  # fmt: skip
_NEUTRAL = {"rw", "defaults"}


class KernelMounter:
    """A ``contract.mounts.Mounter`` that lets Linux mount. Needs root.

    Args:
        scratch: where mount points are made; a directory of its own is made there for each.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = scratch

    @contextmanager
    def mounted(self, ctx: CallContext, mounts: Sequence[Mount], *, read_only: bool = False) -> Iterator[DirectoryTree]:
        """See ``contract.mounts.Mounter.mounted``."""
        target = tempfile.mkdtemp(prefix="refimpl-mount-", dir=self._scratch)
        done = 0
        try:
            for each in mounts:
                self._mount(each, target, read_only)
                done += 1
            yield DirectoryTree(target)
        finally:
            for _ in range(done):
                unmount(target)
            # rmdir, not rmtree: if an unmount failed, what lies below is the subject's, not ours.
            if done:
                os.rmdir(target)
            else:
                shutil.rmtree(target)

    def _mount(self, each: Mount, target: str, read_only: bool) -> None:
        flags, data = 0, []
        for option in each.options:
            if option in _FLAGS:
                flags |= _FLAGS[option]
            elif option not in _NEUTRAL:
                data.append(option)
        if each.target:
            raise InvalidArgument(f"mount target {each.target!r} is not supported here")
        if read_only:
            flags |= _FLAGS["ro"]
        if flags & _FLAGS["bind"]:
            mount(each.source, target, "", flags & ~_FLAGS["ro"], "")
            if flags & _FLAGS["ro"]:
                mount("", target, "", flags | _FLAGS["remount"], "")
        else:
            mount(each.source, target, each.type, flags, ",".join(data))
