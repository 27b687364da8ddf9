"""A task's bundle: the directory that its shim works in, and the work directory beside it.

::

    STATE/<plugin>/<namespace>/<id>/   0700  config.json, rootfs/ 0711, work -> WORK (second runtime only)
    ROOT/<plugin>/<namespace>/<id>/    0711  the work directory, WORK

What the shims add (addresses, pids, logs) is theirs. A bundle that is being removed is called ``.<id>`` for a moment,
so that a crash never leaves half of one under a task's name. Clauses TSK-006, SHM-024 to SHM-031, RT1-004, RT1-005.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refimpl.api import status
from refimpl.contract.errors import Unknown
from refimpl.linux.mount import unmount

_OPEN_TO_ENTER = 0o711


@dataclass(frozen=True, slots=True)
class BundlePlaces:
    """Where one runtime keeps bundles.

    Attributes:
        state, root: the plugin's directories.
        linked: whether a bundle has a link to its work directory, as those of the second runtime have.
    """

    state: Path
    root: Path
    linked: bool

    def bundle(self, namespace: str, id: str) -> Bundle:
        """The bundle of a task, whether it is there or not."""
        return Bundle(self, namespace, id)


class Bundle:
    """One bundle.

    Attributes:
        path: its directory.
        rootfs: where the root file system is mounted.
        work: the work directory.
    """

    def __init__(self, places: BundlePlaces, namespace: str, id: str) -> None:
        self._linked = places.linked
        self.namespace, self.id = namespace, id
        self.path = places.state / namespace / id
        self.rootfs = self.path / "rootfs"
        self.work = places.root / namespace / id

    def make(self, config: bytes) -> None:
        """Make the directories; a failure leaves none of them.

        Args:
            config: the container's spec, kept as it came.

        Raises:
            Unknown: the spec is no JSON (SHM-027); there is a bundle of that name (TSK-006, SHM-030); no room.
        """
        # First, so that a spec that nobody can read leaves nothing behind.
        gid = _root_gid(config)
        try:
            for directory in (self.path.parent, self.work.parent):
                _make_open(directory.parent)
                _make_open(directory)
            os.mkdir(self.path, 0o700)
        except FileExistsError as error:
            raise Unknown(f"mkdir {self.path}: file exists") from error
        except OSError as error:
            raise Unknown(status.text_of(error)) from error
        try:
            self._fill(config, gid)
        except OSError as error:
            self._drop()
            raise Unknown(status.text_of(error)) from error

    def _fill(self, config: bytes, gid: int) -> None:
        if gid:
            os.chown(self.path, 0, gid)
        os.chmod(self.path, 0o710 if gid else 0o700)
        _make(self.rootfs, _OPEN_TO_ENTER)
        if os.path.lexists(self.work):
            shutil.rmtree(self.work)
        _make(self.work, _OPEN_TO_ENTER)
        if self._linked:
            os.symlink(self.work, self.path / "work")
        (self.path / "config.json").write_bytes(config)
        os.chmod(self.path / "config.json", 0o644)

    def _drop(self) -> None:
        for path in (self.path, self.work):
            shutil.rmtree(path, ignore_errors=True)

    def read(self, name: str) -> str:
        """A file that somebody left in the bundle; empty if there is none."""
        try:
            return (self.path / name).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""

    def record(self, name: str, content: str) -> None:
        """Leave a file in the bundle, for root alone and as a whole: a reader never finds half of it."""
        temporary = self.path / f".{name}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
        os.rename(temporary, self.path / name)

    def unmount(self) -> None:
        """Undo all mounts of the root file system. Idempotent.

        Raises:
            OSError: one of them cannot be undone.
        """
        unmount_all(self.rootfs)

    def remove(self) -> None:
        """Remove bundle and work directory; what is gone already is no error.

        A root file system that holds files of its own, not only mounts, is somebody's: then all of it stays (SHM-030).

        Raises:
            OSError: something stands in the way; what is left is found again by the next start.
        """
        self.unmount()
        with contextlib.suppress(FileNotFoundError):
            # rmdir: whatever is left in there is not ours.
            os.rmdir(self.rootfs)
        for path in (self.path, self.work):
            _remove_at_once(path)


def unmount_all(target: Path) -> None:
    """Undo every mount on ``target``, the last first; none, or no such place, is no error.

    Raises:
        OSError: the kernel refuses.
    """
    while True:
        try:
            unmount(str(target))
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOENT}:  # not a mount point (any more)
                return
            raise


def _remove_at_once(path: Path) -> None:
    hidden = path.with_name(f".{path.name}")
    if os.path.lexists(hidden):
        # Of an earlier removal that was cut short; rename(2) does not replace a directory that is not empty.
        shutil.rmtree(hidden)
    try:
        os.rename(path, hidden)
    except FileNotFoundError:
        return
    shutil.rmtree(hidden)


def _make(path: Path, mode: int) -> None:
    os.mkdir(path, mode)
    os.chmod(path, mode)  # whatever the umask took away


def _make_open(directory: Path) -> None:
    """A directory that everybody may pass through; those above it are the daemon's and made like it."""
    try:
        _make(directory, _OPEN_TO_ENTER)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_open(directory.parent)
        _make_open(directory)


def _root_gid(config: bytes) -> int:
    """The host's group for the container's root, where it is another one (SHM-026).

    Raises:
        Unknown: not an OCI spec in JSON.
    """
    try:
        spec = _object(json.loads(config))
        mappings: Any = _object(spec.get("linux")).get("gidMappings") or []
        return next((int(m.get("hostID", 0)) for m in mappings if m.get("containerID", 0) == 0), 0)
    except (ValueError, TypeError, AttributeError) as error:
        raise Unknown(f"the container's spec cannot be read: {error}") from error


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict | None):
        raise TypeError(f"not an object: {value!r:.40}")
    return value or {}
