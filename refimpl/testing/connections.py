"""Cutting connections: the other side sees what it would see if the daemon had died, and the daemon lives on.

gRPC has no word for it: a server ends calls politely. So the sockets themselves are shut down, found among this
process's own descriptors (Linux: ``/proc/self/fd``).
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def cut(address: str) -> int:
    """Shut down all connections that were accepted on a unix socket, not the listener; how many there were."""
    return sum(_cut(int(entry.name), address) for entry in Path("/proc/self/fd").iterdir())


def _cut(descriptor: int, address: str) -> bool:
    try:
        # A copy: the descriptor may be closed and used anew at any moment, and whose the copy is can be looked at.
        copy = os.dup(descriptor)
    except OSError:
        return False
    try:
        connection = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return False
    with connection:
        if connection.family != socket.AF_UNIX or connection.getsockname() != address:
            return False
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False  # the other side was faster
        return True
