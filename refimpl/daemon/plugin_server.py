"""One plugin object behind a socket: what containerd calls a proxy plugin.

The same fronts as in the daemon, over one object of a stranger's. A snapshotter is asked for under the name that the
host's configuration gives it, which it need not know: any name is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc

from refimpl.contract.snapshots import Snapshotter
from refimpl.daemon import sockets
from refimpl.daemon.rpc import Register, build
from refimpl.daemon.threads import LazyThreads
from refimpl.grpc.content import ContentFront
from refimpl.grpc.diff import DiffFront
from refimpl.grpc.snapshots import SnapshotsFront

MESSAGE_SIZE = 16 << 20
"""Largest message either way, in bytes: containerd's own limit."""

CALLS = 256
"""Calls at a time; each holds a thread while it runs."""

_STOP_SECONDS = 5.0


class _AnyName(Mapping[str, Snapshotter]):
    """One snapshotter under every name."""

    def __init__(self, snapshotter: Snapshotter) -> None:
        self._snapshotter = snapshotter

    def __getitem__(self, name: str) -> Snapshotter:
        return self._snapshotter

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


_FRONTS: dict[str, tuple[tuple[str, ...], Callable[[Any], Register]]] = {
    "snapshotter": (
        ("stat", "update", "usage", "mounts", "prepare", "view", "commit", "remove", "walk", "close"),
        lambda plugin: SnapshotsFront(_AnyName(plugin)).register_grpc,
    ),
    "content": (
        ("info", "update", "walk", "delete", "reader", "status", "list_statuses", "writer", "abort"),
        lambda plugin: ContentFront(plugin).register_grpc,
    ),
    "differ": (("apply", "compare"), lambda plugin: DiffFront(plugin).register_grpc),
}
"""What a plugin of each kind must be able to do, and the front that serves it."""

KINDS = tuple(_FRONTS)


class PluginObjectError(Exception):
    """An object that cannot be served."""


def kind_of(plugin: object) -> str:
    """What kind of plugin an object is, by its methods.

    Raises:
        PluginObjectError: none; the message says what comes nearest and what it lacks.
    """
    lacking = {
        kind: [n for n in names if not callable(getattr(plugin, n, None))] for kind, (names, _) in _FRONTS.items()
    }
    for kind, names in lacking.items():
        if not names:
            return kind
    kind, names = min(lacking.items(), key=lambda item: len(item[1]) / len(_FRONTS[item[0]][0]))
    raise PluginObjectError(
        f"{type(plugin).__name__} is no {', '.join(KINDS)}; as a {kind} it lacks {', '.join(names)}"
    )


@contextmanager
def serving(plugin: object, address: Path) -> Iterator[str]:
    """Serve a plugin on a unix socket for the length of the block; gives its kind.

    Raises:
        PluginObjectError: the object is no plugin.
        ListenError: the socket cannot be opened, or somebody else answers on it.
    """
    kind = kind_of(plugin)
    pool = LazyThreads(CALLS)
    server, _ = build([_FRONTS[kind][1](plugin)], pool, MESSAGE_SIZE, MESSAGE_SIZE)
    sockets.prepare(address, 0, 0)
    with sockets.only_for_owner():
        try:
            server.add_insecure_port(f"unix:{quote(str(address))}")
        except RuntimeError as error:
            raise sockets.ListenError(f"{address}: {error}") from error
    identity = sockets.identify(address)
    server.start()
    try:
        yield kind
    finally:
        _stop(server)
        sockets.remove(address, identity)
        pool.shutdown()


def _stop(server: grpc.Server) -> None:
    server.stop(grace=None).wait(_STOP_SECONDS)
