"""``refimpl serve-plugin``: a Python plugin object as a proxy plugin, for any containerd."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from refimpl.cli.failures import fail, one_line_errors
from refimpl.daemon.plugin_server import PluginObjectError, serving
from refimpl.daemon.sockets import ListenError

_TYPES = {"snapshotter": "snapshot", "content": "content", "differ": "diff"}
"""How containerd's configuration calls the kinds."""


def serve_plugin(
    factory: Annotated[
        str, typer.Argument(metavar="PACKAGE.MODULE:FACTORY", help="Called without arguments; makes the plugin.")
    ],
    address: Annotated[Path, typer.Option("--address", "-a", help="Path of the socket to serve on.")],
) -> None:
    """Serve a snapshotter, content store or differ written in Python as a proxy plugin.

    Prints the lines for containerd's configuration and serves until SIGTERM or SIGINT. What the object is, is seen
    from its methods (refimpl.contract.snapshots.Snapshotter, content.ContentStore, diff.Differ).
    """
    plugin = _made(factory)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with one_line_errors(), serving(plugin, address.absolute()) as kind:
            name = factory.rpartition(":")[2]
            print(f"serving a {kind} on {address}\n\n[proxy_plugins.{name}]")
            print(f'  type = "{_TYPES[kind]}"\n  address = "{address.absolute()}"')
            sys.stdout.flush()
            stop.wait()
    except (PluginObjectError, ListenError) as error:
        raise fail(str(error)) from error
    finally:
        close = getattr(plugin, "close", None)
        if callable(close):
            close()


def _made(factory: str) -> object:
    module, _, name = factory.partition(":")
    if not module or not name:
        raise fail(f"{factory}: expected PACKAGE.MODULE:FACTORY", 2)
    # As with `python -m`: what lies in the current directory can be named.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), name)()
    except Exception as error:  # a stranger's module and factory may raise anything
        raise fail(f"{factory}: {type(error).__name__}: {error}") from error
