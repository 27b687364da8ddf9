"""The ``refimpl`` command. A new sub-command is one line in ``COMMANDS``.

Nothing but typer is imported before a command is known: ``serve`` has to be ready in half a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from refimpl import __version__
from refimpl.cli.lazy import LazyGroup


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command: its name, and ``module:attribute`` of a function or of a ``typer.Typer``."""

    name: str
    target: str


COMMANDS: tuple[Command, ...] = (
    Command("serve", "refimpl.cli.serve:serve"),
    Command("plugins", "refimpl.cli.plugins:app"),
    Command("config", "refimpl.cli.config:app"),
    Command("publish", "refimpl.cli.publish:publish"),
    Command("oci-hook", "refimpl.cli.oci_hook:oci_hook"),
    Command("conform", "conformance.cli:conform"),
    Command("compare", "conformance.machines.cli:random_"),
    Command("clauses", "conformance.cli:clauses_app"),
    Command("serve-plugin", "refimpl.cli.serve_plugin:serve_plugin"),
    Command("gc", "refimpl.cli.gc:app"),
    Command("bolt", "refimpl.cli.bolt:app"),
    Command("version", "refimpl.cli.version:version"),
)

_INTERRUPTED = 130

app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        # Four words, as ``containerd --version`` prints; the last one, the revision, is unknown to a package.
        print(f"refimpl refimpl {__version__} ")
        raise typer.Exit


@app.callback()
def refimpl(
    context: typer.Context,
    address: Annotated[
        str, typer.Option("--address", "-a", help="The daemon's socket; the same option of a command wins.")
    ] = "",
    _version: Annotated[
        bool,
        typer.Option("--version", "-v", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """containerd's architecture in Python: a daemon, its plugins, and a conformance suite for their contract."""  # noqa: D403  # containerd's own spelling
    if address and context.invoked_subcommand:
        # Shims put it in front of the command: `--address ADDR publish ...` (EVT-011).
        assert isinstance(context.command, LazyGroup)
        called = context.command.get_command(context, context.invoked_subcommand)
        here = {"address": address}
        below = dict.fromkeys(getattr(called, "commands", {}), here)
        context.default_map = {context.invoked_subcommand: {**here, **below}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; None for the process's own.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a command line that makes no sense.
    """
    group = typer.main.get_command(app)
    assert isinstance(group, LazyGroup)
    group.targets = {command.name: command.target for command in COMMANDS}
    # gRPC's own remarks on standard error are for gRPC's developers; what matters comes as a status or an exception.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = int(group.main(given, prog_name="refimpl", standalone_mode=False) or 0)
        # Here, where a reader who has enough is expected, and not when the interpreter ends.
        sys.stdout.flush()
        return status
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        # Typer's own errors (also of its option parser, whose classes are private) know how to put themselves.
        tell = getattr(error, "format_message", None)
        if tell is None:
            raise
        return _misused(error, tell())


def _misused(error: Exception, message: str) -> int:
    """Tell one of typer's own errors in a line; a command line without a command has got the help already."""
    if message:
        context = getattr(error, "ctx", None)
        help_ = f" (see: {context.command_path} --help)" if context is not None else ""
        print(f"refimpl: {message}{help_}", file=sys.stderr)
    return int(getattr(error, "exit_code", 2))
