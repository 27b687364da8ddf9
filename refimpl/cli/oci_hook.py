"""``refimpl oci-hook -- CMD ARGS...``: an OCI runtime hook that puts the container's facts into a command.

``{{id}}``, ``{{bundle}}``, ``{{rootfs}}``, ``{{pid}}``, ``{{status}}`` and ``{{annotation "K"}}`` are expanded in the
arguments and in every environment variable; then CMD takes this process's place. Clauses DMN-064, DMN-065.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from refimpl.cli.failures import fail, one_line_errors

_ACTION = re.compile(r"\{\{\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?:\"(?P<argument>[^\"]*)\")?\s*\}\}")

Functions = Mapping[str, Callable[[str], str]]


def oci_hook(
    command: Annotated[list[str] | None, typer.Argument(help="The command (a path; PATH is not searched).")] = None,
) -> None:
    """Run a command as an OCI hook, with the container's facts in its arguments and environment."""
    if not command:
        raise fail("oci-hook needs a command after --")
    with one_line_errors():
        try:
            functions = _functions(json.load(sys.stdin.buffer))
            arguments = [expand(argument, functions) for argument in command]
            environment = {name: expand(value, functions) for name, value in os.environ.items()}
        except ValueError as error:
            raise fail(str(error)) from error
        os.execve(arguments[0], arguments, environment)  # noqa: S606  # taking our place is what a hook's command is for


def expand(text: str, functions: Functions) -> str:
    """The text with every ``{{...}}`` replaced.

    Raises:
        ValueError: a function that does not exist, or braces that do not close.
    """

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in functions:
            raise ValueError(f'template: function "{name}" not defined')
        return functions[name](match["argument"] or "")

    # A value may itself hold braces; only what was in the text is an action.
    if "{{" in _ACTION.sub("", text):
        raise ValueError(f"template: unexpected action in {text!r}")
    return _ACTION.sub(replaced, text)


def _functions(state: Any) -> Functions:
    if not isinstance(state, dict):
        raise ValueError("the OCI state on standard input is no JSON object")  # noqa: TRY004  # bad input, not a bad call
    bundle = Path(state.get("bundle") or "")
    spec = json.loads((bundle / "config.json").read_bytes())
    rootfs = bundle / spec.get("root", {}).get("path", "")
    annotations = state.get("annotations") or {}
    return {
        "id": lambda _: str(state.get("id", "")),
        "bundle": lambda _: str(state.get("bundle", "")),
        "rootfs": lambda _: str(rootfs),
        "pid": lambda _: str(state.get("pid", 0)),
        "status": lambda _: str(state.get("status", "")),
        "annotation": lambda key: str(annotations.get(key, "")),
    }
