"""The daemon's own directories: root, state, temp, and the place of temporary mounts.

Clauses DMN-016 and DMN-019 to DMN-022.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

log = logging.getLogger("refimpl.daemon")

ROOT_MODE, STATE_MODE, TEMP_MODE = 0o700, 0o711, 0o700
TEMPORARY_MOUNTS = "tmpmounts"


class DirectoryError(Exception):
    """A directory that the daemon needs cannot be had."""


def check(root: str, state: str) -> None:
    """Root and state are two places; the text is compared, as containerd does (DMN-016).

    Raises:
        DirectoryError: they are one, or one is missing.
    """
    if not root:
        raise DirectoryError("root must be specified")
    if not state:
        raise DirectoryError("state must be specified")
    if root == state:
        raise DirectoryError("root and state must be different paths")


def make(root: Path, state: Path) -> None:
    """Make root (0700, also if it was there) and state (0711, unless it was there), and empty the temporary mounts.

    Raises:
        DirectoryError: one of them cannot be made.
    """
    _make(root, ROOT_MODE, "")
    root.chmod(ROOT_MODE)
    _make(state, STATE_MODE, "")
    mounts = root / TEMPORARY_MOUNTS
    _make(mounts, ROOT_MODE, "creating temp mount location: ")
    _clear(mounts)


def use_temporary(path: str) -> None:
    """Make ``path`` the directory for temporary files, also of child processes; nothing for an empty one (DMN-021).

    Raises:
        DirectoryError: it cannot be made.
    """
    if path:
        _make(Path(path), TEMP_MODE, "")
        os.environ["TMPDIR"] = path
        tempfile.tempdir = path


def _make(path: Path, mode: int, prefix: str) -> None:
    fresh = not path.exists()
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        if fresh:
            path.chmod(mode)  # whatever the umask took away
    except FileExistsError as error:
        raise DirectoryError(f"{prefix}mkdir {path}: not a directory") from error
    except OSError as error:
        raise DirectoryError(f"{prefix}mkdir {error.filename}: {(error.strerror or '').lower()}") from error


def _clear(mounts: Path) -> None:
    """Unmount and remove what an earlier run left behind."""
    if not any(mounts.iterdir()):
        return
    # ctypes costs ten milliseconds of every start, and there is hardly ever something to unmount.
    from refimpl.linux.mount import DETACH, unmount  # noqa: PLC0415
    from refimpl.linux.mounting import mount_points  # noqa: PLC0415

    targets = [target for target in mount_points(str(mounts)) if Path(target) != mounts.resolve()]
    for target in reversed(targets):
        try:
            unmount(target, DETACH)
        except OSError as error:
            log.warning("failed to unmount", extra={"fields": {"error": error, "path": target}})
    # Only what was mounted on, and never what is in it: a directory that was left for another reason stays (MNT-026).
    for left in sorted({Path(target) for target in targets}, reverse=True):
        try:
            left.rmdir()
        except FileNotFoundError:
            continue  # it was in the file system that is no longer there
        except OSError as error:
            log.warning("failed to remove temporary mount", extra={"fields": {"error": error, "path": left}})
