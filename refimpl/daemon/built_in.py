"""One built-in plugin without the rest of its daemon, to be served to another one as a proxy plugin.

A snapshotter and a content store stand alone. A differ reads blobs from, and writes layers to, a content store, which
here is that of the daemon that will call it, asked over its socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from refimpl.client.connection import Connection
from refimpl.client.content import RemoteContent
from refimpl.contract.errors import InvalidArgument, NotFound
from refimpl.kernel import InitContext, Kernel, Registration
from refimpl.kernel.assembly import built_in_hooks

METADATA = "io.containerd.metadata.v1"

SERVED = ("io.containerd.snapshotter.v1", "io.containerd.content.v1", "io.containerd.differ.v1")
"""Types of plugins that another daemon can be given."""


@contextmanager
def built_in(uri: str, *, backends: str, root: Path, state: Path, host: str = "") -> Iterator[object]:
    """The plugin ``uri``, made alone and closed on leaving.

    Args:
        backends: ``real``, ``fake`` or ``auto``.
        root, state: directories below which the plugin has its own, ``<root>/<URI>``.
        host: path of the gRPC socket of the daemon whose content store a differ works with.

    Raises:
        InvalidArgument: a plugin that no other daemon takes, or a differ without a host.
        NotFound: no such plugin.
        Exception: the plugin's own error.
    """
    type, _, id = uri.rpartition(".")
    if type not in SERVED:
        raise InvalidArgument(f"{uri}: only plugins of the types {', '.join(SERVED)} can be served", bare=True)
    hooks = built_in_hooks()
    registrations = list(hooks.registry().candidates(uri).values())
    if not registrations:
        raise NotFound(f"plugin {uri}")
    if any(METADATA in registration.requires for registration in registrations):
        if not host:
            raise InvalidArgument(f"{uri} works with the content store of a daemon: say whose (--host)", bare=True)
        registrations.insert(0, _metadata_of(host))
    kernel = Kernel(registrations, root=root, state=state, backends=backends, hooks=hooks)
    try:
        yield kernel.boot().get_by_id(type, id)
    finally:
        kernel.close()


class _Metadata(SimpleNamespace):
    """As much of a metadata database as a differ asks for."""

    def close(self) -> None:
        """Hang up."""
        self.connection.close()


def _metadata_of(host: str) -> Registration:
    def init(_: InitContext) -> _Metadata:
        connection = Connection(host)
        return _Metadata(connection=connection, content=RemoteContent(connection))

    return Registration(METADATA, "host", init=init)
