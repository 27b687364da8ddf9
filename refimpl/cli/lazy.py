"""A command group whose sub-commands are imported when they are called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup


class LazyGroup(TyperGroup):
    """Knows its sub-commands by name; to list them with their help, it has to import them all.

    Attributes:
        targets: ``module:attribute`` by name, in the order of the help.
    """

    targets: Mapping[str, str] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all sub-commands."""
        return list(self.targets)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One sub-command; None if there is none of that name."""
        target = self.targets.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command
