"""Sockets of shims: where they are, and how a run takes away what its own shims leave.

Shims listen below ``/run/containerd/s``, wherever their daemon's own directories are, under a name that is made of the
daemon's address, the namespace and the container's id or group (SHM-015). A shim that is killed leaves its socket, and
nobody removes it later.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

FOLDER = Path("/run/containerd/s")

_SECONDS = 1.0

_expected: dict[str, set[Path]] = {}
"""Address of a daemon -> sockets that shims may have made for it in this process's checks."""


def of(address: str, namespace: str, group: str) -> Path:
    """Where the reference shims listen for an id or a group."""
    return FOLDER / sha256(f"{address}/{namespace}/{group}".encode()).hexdigest()


def expect(address: str, namespace: str, group: str) -> Path:
    """Remember that a shim may have been started there; answers with its socket."""
    path = of(address, namespace, group)
    _expected.setdefault(address, set()).add(path)
    return path


def forget(address: str, state: Path | None = None) -> None:
    """Remove the sockets of a daemon's shims that nobody serves any more. Idempotent; never raises.

    Args:
        state: the daemon's state directory, whose bundles may tell of more of them.
    """
    paths = _expected.pop(address, set())
    for record in state.glob("io.containerd.runtime.v*/*/*/address") if state is not None else ():
        with suppress(OSError):
            path = Path(record.read_text().strip().removeprefix("unix://"))
            # Whatever else a bundle names is not what this is about.
            paths |= {path} if path.parent == FOLDER else set()
    for path in paths:
        with suppress(OSError):
            if path.is_socket() and not _served(path):
                path.unlink()


def forget_all() -> None:
    """The same for all daemons that are remembered."""
    for address in list(_expected):
        forget(address)


def _served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True
