"""The page of the ``refimpl`` command, made from the commands themselves: what it says is what ``--help`` says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from refimpl import cli
from refimpl.cli import root

_WORDS = re.compile(r"(?<![\w`])(--?[a-z][a-z-]*|CONTAINERD_[A-Z]+)(?![\w`])")


def tree() -> Iterator[tuple[str, Any]]:
    """Every command that does something: the words that call it, and typer's object (of a class that is private)."""
    group: Any = typer.main.get_command(root.app)
    group.targets = {command.name: command.target for command in cli.COMMANDS}
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        below = getattr(command, "commands", None)
        if below is None:
            yield f"refimpl {name}", command
        else:
            yield from ((f"refimpl {name} {sub}", found) for sub, found in below.items())


def _text(help_text: str) -> list[str]:
    """A command's help as Markdown; what ``\\b`` marks keeps its lines."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", help_text):
        if paragraph.startswith("\b"):
            lines += ["```text", *paragraph.splitlines()[1:], "```", ""]
        else:
            lines += [_cell(" ".join(paragraph.split())), ""]
    return lines


def _cell(text: str) -> str:
    return _WORDS.sub(r"`\1`", text.replace("|", "\\|").replace("<", "&lt;"))


def _usage(words: str, command: Any) -> str:
    parts = [words, "[OPTIONS]"]
    for parameter in _arguments(command):
        name = _name(parameter)
        parts.append(name if parameter.required or name.startswith("[") else f"[{name}]")
    return " ".join(parts)


def _arguments(command: Any) -> list[Any]:
    return [parameter for parameter in command.params if parameter.param_type_name == "argument"]


def _options(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "option" and not p.hidden]


def _name(argument: Any) -> str:
    many = "..." if argument.nargs == -1 and not argument.metavar else ""
    return f"{argument.metavar or argument.name.strip('_').upper()}{many}"


def _option(option: Any) -> str:
    spelt = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if not option.is_flag:
        spelt += f" *{option.metavar or option.name.strip('_').upper()}*"
    remarks = []
    if option.required:
        remarks.append("required")
    if option.default and not option.is_flag:
        remarks.append(f"default: `{option.default}`")
    if option.envvar:
        remarks.append(f"environment: `{option.envvar}`")
    remark = f" ({'; '.join(remarks)})" if remarks else ""
    return f"| {spelt} | {_cell(option.help or '')}{remark} |"


def entry(words: str, command: Any) -> str:
    """The section of one command."""
    lines = [f"## `{words}`", "", "```text", _usage(words, command), "```", "", *_text(command.help or "")]
    arguments, options = _arguments(command), _options(command)
    if arguments:
        lines += ["| argument | |", "| --- | --- |"]
        lines += [f"| `{_name(argument)}` | {_cell(argument.help or '')} |" for argument in arguments] + [""]
    if options:
        lines += ["| option | |", "| --- | --- |", *map(_option, options), ""]
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """The one page, by its path in the guide."""
    head = [
        "# Commands",
        "",
        "Made from the commands themselves; `refimpl COMMAND --help` says the same in the terminal. Where nothing else",
        "is said, the exit status is 0 for success, 1 for failure, 2 for a command line that makes no sense. Errors",
        "are one line on standard error.",
        "",
    ]
    return {"commands.md": "\n".join(head) + "\n" + "\n".join(entry(words, command) for words, command in tree())}
