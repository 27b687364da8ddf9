"""Proxy plugins: what another process serves over gRPC (``[proxy_plugins.<id>]``).

Snapshotters and content stores as in 1.6, and differs as from 2.x on.

Nothing is dialled at the start: a proxy is ok whether or not anybody listens, and its calls are Unavailable meanwhile.
Clauses PLG-042 to PLG-050.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refimpl.client.connection import Connection
from refimpl.client.content import RemoteContent
from refimpl.client.diff import RemoteDiffer
from refimpl.client.snapshots import RemoteSnapshotter
from refimpl.kernel import ConfigError, InitContext, Registration
from refimpl.kernel.config import ProxyPlugin

SNAPSHOTTER, CONTENT = "io.containerd.snapshotter.v1", "io.containerd.content.v1"
DIFFER = "io.containerd.differ.v1"

TYPES: Mapping[str, str] = {
    "snapshot": SNAPSHOTTER,
    SNAPSHOTTER: SNAPSHOTTER,
    "content": CONTENT,
    CONTENT: CONTENT,
    "diff": DIFFER,
    DIFFER: DIFFER,
}
"""What may stand under ``type``, and the plugin type that it means."""


class ProxySnapshotter(RemoteSnapshotter):
    """A snapshotter that owns its connection; it is asked for by the proxy's id (PLG-047)."""

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._connection.close()


class ProxyContent(RemoteContent):
    """A content store that owns its connection."""

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._connection.close()


class ProxyDiffer(RemoteDiffer):
    """A differ that owns its connection."""

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._connection.close()


def registrations(proxies: Mapping[str, ProxyPlugin]) -> list[Registration]:
    """A plugin for each proxy of the configuration.

    Raises:
        ConfigError: a type that cannot be served by a proxy, or none (PLG-043).
    """
    result = []
    for id_, proxy in proxies.items():
        if proxy.type not in TYPES:
            raise ConfigError(f'proxy_plugins.{id_}: unknown proxy plugin type "{proxy.type}": plugin: no type')
        type_ = TYPES[proxy.type]
        result.append(Registration(type_, id_, _init(type_, id_, proxy.address)))
    return result


def _init(type_: str, id_: str, address: str) -> Callable[[InitContext], object]:
    def init(ic: InitContext) -> object:
        ic.exports["address"] = address
        connection = Connection(address)
        if type_ == SNAPSHOTTER:
            return ProxySnapshotter(connection, id_)
        return ProxyContent(connection) if type_ == CONTENT else ProxyDiffer(connection)

    return init
