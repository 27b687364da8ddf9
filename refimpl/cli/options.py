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

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
