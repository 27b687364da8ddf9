"""A command group whose sub-commands are imported when they are called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class LazyGroup(TyperGroup):
    """Knows its sub-commands by name, and what its own help says about each.

    Attributes:
        targets: ``module:attribute`` by name, in the order of the help.
        summaries: a sentence by name. To ask all commands for theirs would take a second.
    """

    targets: Mapping[str, str] = {}
    summaries: Mapping[str, str] = {}
    _listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help of the group."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all sub-commands."""
        return list(self.targets)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One sub-command; None if there is none of that name."""
        target = self.targets.get(cmd_name)
        if target is None:
            return None
        if self._listing and cmd_name in self.summaries:
            return TyperCommand(cmd_name, help=self.summaries[cmd_name])
        module, _, attribute = target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command
