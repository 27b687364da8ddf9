"""Proxy plugins for the fakes: what a configuration names under ``[proxy_plugins]``, reached with our client.

The daemon has its own way to them, which the suite may not import; the plugin that a kernel gets is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refimpl.client.connection import Connection
from refimpl.client.content import RemoteContent
from refimpl.client.diff import RemoteDiffer
from refimpl.client.snapshots import RemoteSnapshotter
from refimpl.kernel import InitContext, Registration
from refimpl.kernel.config import ProxyPlugin

SNAPSHOTTER, CONTENT = "io.containerd.snapshotter.v1", "io.containerd.content.v1"
DIFFER = "io.containerd.differ.v1"
_SHORT = {"snapshot": SNAPSHOTTER, "content": CONTENT, "diff": DIFFER}


class _Snapshotter(RemoteSnapshotter):
    """A snapshotter that owns its connection."""

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class _Content(RemoteContent):
    """A content store that owns its connection."""

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class _Differ(RemoteDiffer):
    """A differ that owns its connection."""

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def registrations(proxies: Mapping[str, ProxyPlugin]) -> list[Registration]:
    """A plugin for each proxy."""
    found = [(_SHORT.get(each.type, each.type), id, each.address) for id, each in proxies.items()]
    return [Registration(type, id, _init(type, id, address)) for type, id, address in found]


def _init(type: str, id: str, address: str) -> Callable[[InitContext], object]:
    def init(ic: InitContext) -> object:
        ic.exports["address"] = address
        connection = Connection(address)
        if type == SNAPSHOTTER:
            return _Snapshotter(connection, id)
        return _Content(connection) if type == CONTENT else _Differ(connection)

    return init
