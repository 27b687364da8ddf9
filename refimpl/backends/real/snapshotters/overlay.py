"""Layers that Linux's overlay file system stacks.

An entry of ROOT/snapshots is 0700 and holds ``fs`` (0755), the layer, and, if the snapshot is or was active, ``work``
(0711), which the kernel needs beside a layer that it writes to. Nothing is mounted here: the answer says what to mount.
Clauses SNX-007 to SNX-024, SNX-029. Twin: refimpl.backends.fake.snapshotters.directories.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from refimpl.backends.real.snapshotters.directories import Directories
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.linux.filesystems import filesystem_type, supports_d_type
from refimpl.linux.mount import mount, unmount
from refimpl.linux.userns import in_user_namespace
from refimpl.snapshots.layered import Prefixes, with_label
from refimpl.snapshots.record import Record, Snapshot

UPPERDIR_LABEL = "containerd.io/snapshot/overlay.upperdir"
"""Where the layer is, if the configuration asks for the label (SNX-022)."""

INDEX = Path("/sys/module/overlay/parameters/index")
"""There is a parameter to switch off, if this is there when the plugin starts (SNX-014)."""

_USERXATTR_SINCE = (5, 11)


class OverlayLayers(Directories):
    """The storage of overlayfs.

    Args:
        upperdir_label: answer with the label that says where the layer is.

    Raises:
        Unknown: the file system does not say what its directory entries are (SNX-023).
        OSError: the directories cannot be made.
    """

    prefixes = Prefixes()

    def __init__(self, root: Path, log: logging.Logger, *, upperdir_label: bool = False) -> None:
        os.makedirs(root, 0o700, exist_ok=True)
        if not supports_d_type(str(root)):
            raise Unknown(
                f"{root} does not support d_type. If the backing filesystem is xfs, please reformat with ftype=1 "
                "to enable d_type support"
            )
        super().__init__(root, log)
        self._upperdir_label = upperdir_label
        self._common: tuple[str, ...] = ("index=off",) if INDEX.exists() else ()
        if _needs_userxattr(str(root), log):
            self._common += ("userxattr",)

    def _fs(self, id: int) -> str:
        return f"{self._path(id)}/fs"

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """Make the layer's directory, owned as the parent's (SNX-007, SNX-016)."""
        with self._making(snapshot.id) as made:
            _mkdir(f"{made}/fs", 0o755)
            if snapshot.kind is Kind.ACTIVE:
                _mkdir(f"{made}/work", 0o711)
            if snapshot.parents:
                below = os.stat(self._fs(snapshot.parents[0]))
                os.lchown(f"{made}/fs", below.st_uid, below.st_gid)

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """A bind of the only layer there is, else an overlay (SNX-009 to SNX-014)."""
        if not snapshot.parents:
            mode = "ro" if snapshot.kind is Kind.VIEW else "rw"
            return [Mount("bind", self._fs(snapshot.id), options=(mode, "rbind"))]
        if snapshot.kind is Kind.VIEW and len(snapshot.parents) == 1:
            return [Mount("bind", self._fs(snapshot.parents[0]), options=("ro", "rbind"))]
        own: tuple[str, ...] = ()
        if snapshot.kind is Kind.ACTIVE:
            own = (f"workdir={self._path(snapshot.id)}/work", f"upperdir={self._fs(snapshot.id)}")
        lower = ":".join(self._fs(id) for id in snapshot.parents)
        return [Mount("overlay", "overlay", options=(*self._common, *own, f"lowerdir={lower}"))]

    def usage(self, ctx: CallContext, snapshot: Snapshot) -> Usage:
        """The layer's own directory, whiteouts included (SNX-024)."""
        return self._usage(ctx, self._fs(snapshot.id))

    def remove(self, record: Record) -> Sequence[str]:
        """Leave the directory for the next clean-up (SNX-019)."""
        return ()

    def strays(self, live: frozenset[int]) -> Sequence[str]:
        """Every entry that is no live snapshot's, whatever it is (SNX-021)."""
        names = {str(id) for id in live}
        return [self._aside(name) for name in os.listdir(self._snapshots) if name not in names]

    def shown(self, record: Record) -> Info:
        """With the label that says where the layer is, if asked for (SNX-022)."""
        return with_label(record.info, UPPERDIR_LABEL, self._fs(record.id)) if self._upperdir_label else record.info


def _mkdir(path: str, mode: int) -> None:
    os.mkdir(path)
    os.chmod(path, mode)  # whatever the umask is


def _needs_userxattr(root: str, log: logging.Logger) -> bool:
    """Whether the overlay has to keep its marks in attributes that an unprivileged user may write (SNX-015)."""
    if not in_user_namespace() or filesystem_type(root) == "tmpfs":
        return False
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if release and tuple(map(int, release.groups())) >= _USERXATTR_SINCE:
        return True
    # Some distributions let users mount overlays before that, without the option, which the kernel does not know then.
    try:
        return _mountable_with_userxattr(root)
    except OSError as error:
        log.warning("cannot tell whether userxattr is needed, assuming that it is not: %s", error)
        return False


def _mountable_with_userxattr(root: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="userxattr-check-", dir=root) as scratch:
        for name in ("lower1", "lower2", "upper", "work", "merged"):
            os.mkdir(f"{scratch}/{name}")
        layers = f"lowerdir={scratch}/lower2:{scratch}/lower1,upperdir={scratch}/upper,workdir={scratch}/work"
        try:
            mount("overlay", f"{scratch}/merged", "overlay", 0, f"userxattr,{layers}")
        except OSError:
            return False
        unmount(f"{scratch}/merged")
        return True
