"""Unix sockets: where they may be, what stands in their way, whose they are.

Anything but a directory at the path is replaced, except the socket of a daemon that answers. Clauses DMN-023 to DMN-028
and DMN-046.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_PATH = 104
"""Longest path of a socket, in bytes; sun_path has 108, and containerd keeps to what every Unix can do."""

MODE = 0o660
_UMASK = threading.Lock()
DIRECTORY_MODE = 0o770


Identity = tuple[int, int, int]
"""Device, inode and time of the last change: file systems give an inode number to the next file at once."""


class ListenError(Exception):
    """An endpoint that cannot be opened."""


def prepare(path: Path, uid: int, gid: int) -> None:
    """Make the directory of a socket and clear the socket's place.

    A missing directory is made with its parents; only the last one is given to the owner (DMN-024).

    Raises:
        ListenError: the path is too long, a directory is there, or a daemon answers on it.
        OSError: the directory cannot be made, or what is there cannot be removed.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise ListenError(f'"{path}": unix socket path too long (> {MAX_PATH})')
    if not path.parent.exists():
        path.parent.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        path.parent.mkdir(mode=DIRECTORY_MODE)
        chown(path.parent, uid, gid)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise ListenError(f"remove {path}: is a directory")
    if stat.S_ISSOCK(mode) and answers(path):
        # containerd would take the path away from a running daemon and leave it unreachable (DMN-027).
        raise ListenError(f"{path}: address already in use: another daemon answers there")
    path.unlink()


def answers(path: Path) -> bool:
    """Whether somebody takes connections on a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        # Never waits: a full queue of connections belongs to somebody who listens.
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in {0, errno.EAGAIN}


def chown(path: Path, uid: int, gid: int) -> None:
    """Give a file away. The default owner, root, is left out by a daemon that is not root: it has nothing to give.

    Raises:
        PermissionError: another owner was configured and we may not.
    """
    if os.geteuid() != 0 and (uid, gid) == (0, 0):
        return
    os.lchown(path, uid, gid)


@contextmanager
def only_for_owner() -> Iterator[None]:
    """Sockets made inside are closed to others from their first moment; a later chmod would leave a gap."""
    # The umask is the process's: two daemons that start in one process must not restore each other's.
    with _UMASK:
        before = os.umask(0o777 & ~MODE)
        try:
            yield
        finally:
            os.umask(before)


def listen(path: Path, uid: int, gid: int) -> socket.socket:
    """A listening stream socket at the path, mode 0660, given to the owner.

    Raises:
        ListenError, OSError: as ``prepare``, or it cannot be bound.
    """
    prepare(path, uid, gid)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with only_for_owner():
            listener.bind(str(path))
        chown(path, uid, gid)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def remove(path: Path, identity: Identity | None) -> None:
    """Remove a socket file if it is still the one that we made."""
    if identity is not None and identify(path) == identity:
        path.unlink(missing_ok=True)


def identify(path: Path) -> Identity | None:
    """Which file is at the path; None if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
