"""``refimpl config``: the configuration by default, as it is in force, as version 2, and what is wrong with it.

Clauses DMN-057 to DMN-059.
"""

from __future__ import annotations

import sys
from typing import Any

import tomli_w
import typer

from refimpl.cli.failures import one_line_errors
from refimpl.cli.options import ConfigFile
from refimpl.kernel import ConfigError, Registration
from refimpl.kernel.assembly import built_in_hooks
from refimpl.kernel.backends import BackendPolicy, choose
from refimpl.kernel.config import DEFAULT_PATH, Configuration, Position, decode, document, load, migrate
from refimpl.kernel.config.reader import read

app = typer.Typer(help="Print, migrate and check configurations.", no_args_is_help=True, add_completion=False)


@app.command()
def default() -> None:
    """Print the complete default configuration."""
    with one_line_errors():
        _print(document(Configuration(), _registrations()))


@app.command()
def dump(config: ConfigFile = None) -> None:
    """Print the configuration in force: the file, its imports, and the defaults of all that they leave out."""
    with one_line_errors():
        _print(document(load(config, _ignore), _registrations(), _ignore))


@app.command("migrate")
def migrate_(config: ConfigFile = None) -> None:
    """Print the file (without its imports) as version 2."""
    with one_line_errors():
        result, missing = migrate(read(config or DEFAULT_PATH).values, _registrations())
        for id_ in missing:
            print(f"refimpl: no plugin has the id {id_}; taken for io.containerd.grpc.v1.{id_}", file=sys.stderr)
        _print(result)


@app.command()
def check(config: ConfigFile = None) -> None:
    """Look for mistakes, also those that the daemon tolerates: keys, plugins and sections that nobody knows."""
    with one_line_errors():
        problems: list[str] = []
        configuration = load(config, lambda position: problems.append(f"{position}: unknown key"))
        known = _registrations()
        names = {configuration.name(registration) for registration in known}
        proxied = {f"io.containerd.{kind}.v1.{id_}" for id_ in configuration.proxy_plugins for kind in _PROXY_KINDS}
        for key in ("disabled_plugins", "required_plugins"):
            problems += [
                f"{key}: no plugin {name}" for name in getattr(configuration, key) if name not in names | proxied
            ]
        for name, section in configuration.plugins.items():
            if name not in names:
                problems.append(f"{section.position}: no such plugin")
        for registration in known:
            problems += _mistakes(configuration, registration)
    for problem in problems:
        print(f"refimpl: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


_PROXY_KINDS = ("snapshotter", "content")


def _mistakes(configuration: Configuration, registration: Registration) -> list[str]:
    section = configuration.section(registration)
    if section is None or configuration.disables(registration):
        return []
    if registration.config is None:
        return [f"{section.position}: this plugin has no configuration"]
    problems: list[str] = []
    try:
        decode(
            registration.config,
            section.values,
            section.position,
            lambda position: problems.append(f"{position}: unknown key"),
        )
    except ConfigError as error:
        problems.append(str(error))
    return problems


def _registrations() -> list[Registration]:
    return choose(built_in_hooks().registry(), BackendPolicy())


def _ignore(_position: Position) -> None:
    """The daemon goes on in spite of an unknown key, so what is in force lacks it."""


def _print(result: dict[str, Any]) -> None:
    sys.stdout.write(tomli_w.dumps(result))
