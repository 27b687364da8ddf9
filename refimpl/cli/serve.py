"""``refimpl serve``: the daemon in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refimpl.cli import plain
from refimpl.cli.options import Backends, ConfigFile


def serve(
    config: ConfigFile = None,
    root: Annotated[str, typer.Option(help="Directory for what survives a reboot.")] = "",
    state: Annotated[str, typer.Option(help="Directory for what does not.")] = "",
    address: Annotated[str, typer.Option("--address", "-a", help="Path of the gRPC socket.")] = "",
    log_level: Annotated[
        str, typer.Option("--log-level", "-l", help="trace, debug, info, warn, error, fatal or panic.")
    ] = "",
    log_format: Annotated[str, typer.Option(help="text or json.")] = "",
    backends: Backends = "",
    debug_address: Annotated[str, typer.Option(help="Debug endpoint: a socket's path, or host:port.")] = "",
    metrics_address: Annotated[str, typer.Option(help="Metrics endpoint: host:port.")] = "",
    hide_mounts: Annotated[
        bool,
        typer.Option(
            "--hide-mounts",
            help="Answer Snapshots.Mounts with nothing. `ctr run IMAGE` performs the mounts itself, which needs root "
            "and real directories: with fake backends it works only like this.",
        ),
    ] = False,
    strict_config: Annotated[
        bool, typer.Option("--strict-config", help="Refuse keys in the configuration that nobody knows.")
    ] = False,
) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    The configuration file is containerd's; flags win over it.
    """
    raise typer.Exit(
        plain.start(
            {
                "config": Path(config) if config else None,
                "root": root,
                "state": state,
                "address": address,
                "log_level": log_level,
                "log_format": log_format,
                "backends": backends,
                "debug_address": debug_address,
                "metrics_address": metrics_address,
                "hide_mounts": hide_mounts,
                "strict_config": strict_config,
            }
        )
    )
