"""``refimpl serve`` without typer, for the lines that services and scripts write: whole options, each with its value.

Typer and what it brings (pydantic, rich) take a fifth of the daemon's start, and ten megabytes for as long as it runs.
So a line that leaves nothing to decide is read here. Every other one, also a wrong one, is typer's, and what is read
here is what typer would read (docs/adr/0012).
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SERVE = "serve"

_VALUES = {
    "--config": "config",
    "-c": "config",
    "--root": "root",
    "--state": "state",
    "--address": "address",
    "-a": "address",
    "--log-level": "log_level",
    "-l": "log_level",
    "--log-format": "log_format",
    "--backends": "backends",
    "--debug-address": "debug_address",
    "--metrics-address": "metrics_address",
}

_FLAGS = {"--hide-mounts": "hide_mounts", "--strict-config": "strict_config"}


def read(given: Sequence[str]) -> dict[str, Any] | None:
    """What a command line says, by the names of ``daemon.serve.Options``; None if it is not for us to read."""
    if list(given[:1]) != [SERVE]:
        return None
    found: dict[str, Any] = {}
    words = iter(given[1:])
    for word in words:
        option, equals, value = word.partition("=")
        if option in _FLAGS and not equals:
            found[_FLAGS[option]] = True
        elif option in _VALUES and (option.startswith("--") or not equals):
            value = value if equals else next(words, "")
            # Nothing, another option, and letters that have no place in a name: typer has its own thoughts about them.
            if not value or value.startswith("-") or not value.isprintable():
                return None
            found[_VALUES[option]] = Path(value) if _VALUES[option] == "config" else value
        else:
            return None
    return found


def start(options: dict[str, Any]) -> int:
    """Run a daemon until it is told to stop; the exit status."""
    # What is made until the daemon is ready stays as long as it does: looking through it for garbage, again and again
    # while it grows, would be a tenth of the start. The daemon turns this on when it is ready.
    gc.disable()
    try:
        # Only this command needs the daemon.
        from refimpl.daemon.serve import Options, serve  # noqa: PLC0415

        return serve(Options(**options))
    finally:
        gc.enable()
