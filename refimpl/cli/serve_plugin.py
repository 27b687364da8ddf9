"""``refimpl serve-plugin``: a Python plugin object, or one of our own, as a proxy plugin for any containerd."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from refimpl.cli.failures import fail, one_line_errors
from refimpl.cli.options import Backends
from refimpl.daemon.built_in import built_in
from refimpl.daemon.plugin_server import PluginObjectError, serving
from refimpl.daemon.sockets import ListenError
from refimpl.kernel import SkipPlugin

_TYPES = {"snapshotter": "snapshot", "content": "content", "differ": "diff"}
"""How containerd's configuration calls the kinds."""

_OURS = "io.containerd."


def serve_plugin(
    plugin: Annotated[
        str,
        typer.Argument(
            metavar="PACKAGE.MODULE:FACTORY|URI",
            help="A factory, called without arguments, that makes the plugin; or the URI of a plugin of ours "
            "(io.containerd.snapshotter.v1.overlayfs).",
        ),
    ],
    address: Annotated[Path, typer.Option("--address", "-a", help="Path of the socket to serve on.")],
    root: Annotated[
        Path | None, typer.Option(help="Directory for what a plugin of ours keeps; not that of a daemon.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Socket of the daemon whose content store a differ of ours works with.")
    ] = "",
    backends: Backends = "auto",
) -> None:
    """Serve a snapshotter, content store or differ as a proxy plugin.

    Prints the lines for containerd's configuration and serves until SIGTERM or SIGINT. What an object is, is seen from
    its methods (refimpl.contract.snapshots.Snapshotter, content.ContentStore, diff.Differ). containerd 1.6 takes
    snapshotters and content stores; differs are for refimpl, and for containerd from 2.x on.
    """
    try:
        # The whole of it: with the working directory gone, already a relative path cannot be used.
        with one_line_errors():
            made, name = _made(plugin, root, host, backends)
            with made as served:
                _serve(served, address, name)
    except (PluginObjectError, ListenError, SkipPlugin) as error:
        raise fail(str(error)) from error


def _made(plugin: str, root: Path | None, host: str, backends: str) -> tuple[AbstractContextManager[object], str]:
    """The plugin, closed on leaving, and its name for containerd's configuration."""
    if not plugin.startswith(_OURS):
        return _made_by_factory(plugin), plugin.rpartition(":")[2]
    if root is None:
        raise fail("--root: in which directory does the plugin keep its files?", 2)
    directory = root.absolute()
    made = built_in(plugin, backends=backends, root=directory, state=directory / "state", host=host)
    return made, f"refimpl-{plugin.rpartition('.')[2]}"


def _serve(plugin: object, address: Path, name: str) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with serving(plugin, address.absolute()) as kind:
        print(f"serving a {kind} on {address}\n\n[proxy_plugins.{name}]")
        print(f'  type = "{_TYPES[kind]}"\n  address = "{address.absolute()}"')
        sys.stdout.flush()
        stop.wait()


def _made_by_factory(factory: str) -> AbstractContextManager[object]:
    """What a factory makes, closed on leaving if it can be."""
    module, _, name = factory.partition(":")
    if not module or not name:
        raise fail(f"{factory}: expected PACKAGE.MODULE:FACTORY, or the URI of a plugin", 2)
    # As with `python -m`: what lies in the current directory can be named.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        plugin: object = getattr(importlib.import_module(module), name)()
    except Exception as error:  # a stranger's module and factory may raise anything
        raise fail(f"{factory}: {type(error).__name__}: {error}") from error
    return _closed_afterwards(plugin)


@contextmanager
def _closed_afterwards(plugin: object) -> Iterator[object]:
    try:
        yield plugin
    finally:
        close = getattr(plugin, "close", None)
        if callable(close):
            close()
