"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_ADDRESS = "/run/containerd/containerd.sock"

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file (default: /etc/containerd/config.toml).")
]

Backends = Annotated[
    str,
    typer.Option(
        help="real, fake, or auto (real where there is one); the configuration (table refimpl.backends) wins."
    ),
]

Address = Annotated[str, typer.Option("--address", "-a", help="Ask the daemon at this socket.")]

Socket = Annotated[str, typer.Option("--address", "-a", envvar="CONTAINERD_ADDRESS", help="Socket of the daemon.")]

InNamespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="CONTAINERD_NAMESPACE", help="Namespace of what is meant.")
]

DEFAULT_NAMESPACE = "default"

Snapshotter = Annotated[str, typer.Option(envvar="CONTAINERD_SNAPSHOTTER", help="Snapshotter that has the layers.")]

DEFAULT_SNAPSHOTTER = "overlayfs"

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Terminal = Annotated[
    bool, typer.Option("--terminal", "-t", help="Give it a terminal: this one, which is then its input too.")
]

Interactive = Annotated[bool, typer.Option("--interactive", "-i", help="Let it read standard input.")]

Env = Annotated[
    list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE, or NAME for our own value; repeatable.")
]

Cwd = Annotated[str, typer.Option(help="Working directory.")]

User = Annotated[
    str, typer.Option("--user", "-u", help="UID or NAME, with :GID or :GROUP if wanted; names are the image's.")
]
