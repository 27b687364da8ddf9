"""Clients of a proxy plugin: a snapshotter or a content store alone on a socket of its own.

A proxy plugin serves one service and knows no namespaces of its own; the classes are those that reach a daemon.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from refimpl.client.connection import TIMEOUT, Connection
from refimpl.client.content import RemoteContent
from refimpl.client.diff import RemoteDiffer
from refimpl.client.snapshots import RemoteSnapshotter


@contextmanager
def connected(address: str, *, timeout: float = TIMEOUT) -> Iterator[Connection]:
    """A connection to the socket of a proxy plugin, closed again at the end of the block."""
    connection = Connection(address, timeout=timeout)
    try:
        yield connection
    finally:
        connection.close()


def snapshotter(connection: Connection, name: str) -> RemoteSnapshotter:
    """The snapshotter that the plugin serves; ``name`` is what the requests call it, most plugins do not look at it."""
    return RemoteSnapshotter(connection, name)


def content(connection: Connection) -> RemoteContent:
    """The content store that the plugin serves."""
    return RemoteContent(connection)


def differ(connection: Connection) -> RemoteDiffer:
    """The differ that the plugin serves."""
    return RemoteDiffer(connection)
