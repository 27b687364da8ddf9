"""The command as typer reads it: the options in front of the sub-command, and what is wrong with a command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from refimpl import __version__
from refimpl.cli.lazy import LazyGroup

if TYPE_CHECKING:
    from refimpl.cli import Command

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


def run(given: Sequence[str], commands: Sequence[Command]) -> int:
    """Run one of the commands.

    Args:
        given: the command line, without the program's name.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a command line that makes no sense.
    """
    group = typer.main.get_command(app)
    assert isinstance(group, LazyGroup)
    group.targets = {command.name: command.target for command in commands}
    group.summaries = {command.name: command.summary for command in commands}
    try:
        return int(group.main(list(given), prog_name="refimpl", standalone_mode=False) or 0)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return _INTERRUPTED
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
