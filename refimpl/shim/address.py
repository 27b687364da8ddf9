"""Where a shim listens, and how it gets there before anybody else (SHM-015 to SHM-019)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator

SOCKETS = "/run/containerd/s"
"""Directory of the sockets of all shims, whichever daemon they belong to."""


def socket_path(address: str, namespace: str, group: str) -> str:
    """The socket of a group of containers: named after daemon, namespace and group, which no two groups share.

    Args:
        address: gRPC address of the daemon.
        group: the id of the task, or the name that several tasks share.
    """
    joined = os.path.normpath("/".join(part for part in (address, namespace, group) if part))
    name = "/" + joined.lstrip("/") if joined.startswith("/") else joined
    return f"{SOCKETS}/{hashlib.sha256(name.encode()).hexdigest()}"


def listen(path: str) -> socket.socket | None:
    """Listen at a path, for this user alone; None when somebody serves there already.

    A file that nobody serves is replaced. Whoever else starts a shim for the same group at the same moment waits until
    this one listens, and so finds it.

    Raises:
        OSError: the path is too long, or cannot be used.
    """
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with _alone_in(directory):
        if _served(path):
            return None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return _bind(path)


def remove_stale(path: str) -> None:
    """Remove the socket of a shim that had no time to do so, unless somebody serves there by now."""
    # What else an address may name is somebody else's.
    if os.path.dirname(path) != SOCKETS or not os.path.exists(path):
        return
    with _alone_in(SOCKETS):
        if not _served(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


@contextlib.contextmanager
def _alone_in(directory: str) -> Iterator[None]:
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        # Not waiting: the queue of a shim that has stopped may be full, and everybody else waits for the lock.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            return True
        return True


def _bind(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    # Private from the first moment, not only after a chmod.
    before = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def record_address(directory: str, address: str) -> None:
    """Write the file ``address`` of a bundle, whole or not at all: a daemon that restarts finds its shim by it."""
    temporary = os.path.join(directory, ".address")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(address)
    os.rename(temporary, os.path.join(directory, "address"))
