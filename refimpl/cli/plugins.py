"""``refimpl plugins``: what a daemon, or this package, is made of."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from refimpl.cli import graph as drawing
from refimpl.cli.failures import fail, one_line_errors
from refimpl.cli.options import Address, Backends, ConfigFile, Json
from refimpl.cli.table import table
from refimpl.contract.context import CallContext
from refimpl.contract.introspection import Introspection, PluginInfo
from refimpl.kernel.backends import AUTO
from refimpl.kernel.config import Configuration, Section, load

app = typer.Typer(help="List, draw and describe plugins.", no_args_is_help=True, add_completion=False)

_INTROSPECTION = ("io.containerd.service.v1", "introspection-service")
_OPT = "io.containerd.internal.v1.opt"

Filters = Annotated[list[str] | None, typer.Argument(help="Filters on type and id, such as id==content.")]


@app.command("ls")
def list_(
    filters: Filters = None,
    backends: Backends = AUTO,
    address: Address = "",
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """List plugins in the order of initialisation: of this package, or with --address of a daemon."""
    found = _plugins(filters or [], backends, address, config)
    if as_json:
        print(json.dumps([_as_json(info) for info in found], indent=2))
        return
    rows = [(info.type, info.id, _platforms(info), _status(info)) for info in found]
    print(table([("TYPE", "ID", "PLATFORMS", "STATUS"), *rows]))


@app.command()
def graph(
    backends: Backends = AUTO,
    address: Address = "",
    config: ConfigFile = None,
    form: Annotated[str, typer.Option("--format", help="mermaid, dot or svg.")] = "mermaid",
    by: Annotated[str, typer.Option(help="A box for each type or for each plugin.")] = "type",
) -> None:
    """Draw which plugins require which."""
    if form not in drawing.FORMATS:
        raise fail(f"--format must be one of {', '.join(drawing.FORMATS)}, not {form}", 2)
    if by not in drawing.NODES:
        raise fail(f"--by must be one of {', '.join(drawing.NODES)}, not {by}", 2)
    found = _plugins([], backends, address, config)
    with one_line_errors():
        sys.stdout.write(drawing.draw(found, form, by))


@app.command()
def show(
    uri: Annotated[str, typer.Argument(help="The plugin's URI, or its id if only one has it.")],
    backends: Backends = AUTO,
    address: Address = "",
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Describe one plugin."""
    everything = _plugins([], backends, address, config)
    found = [info for info in everything if info.uri == uri] or [info for info in everything if info.id == uri]
    if not found:
        raise fail(f"no plugin {uri}")
    if len(found) > 1:
        raise fail(f"several plugins have the id {uri}: {', '.join(info.uri for info in found)}")
    if as_json:
        print(json.dumps(_as_json(found[0]), indent=2))
        return
    for key, value in _described(found[0]):
        print(f"{key + ':':<14}{value}".rstrip())


def _plugins(filters: Sequence[str], backends: str, address: str, config: Path | None) -> list[PluginInfo]:
    with one_line_errors():
        if not address:
            return _own(filters, backends, config)
        # Only for daemons: gRPC costs a tenth of a second.
        from refimpl.client import Client  # noqa: PLC0415

        with Client(address) as client:
            return client.introspection.plugins(CallContext(), filters)


def _own(filters: Sequence[str], backends: str, config: Path | None) -> list[PluginInfo]:
    """Initialise the plugins of this package somewhere they can do no harm, and ask them."""
    # Loads every plugin module, which a look at a daemon does not need.
    from refimpl.kernel.assembly import assembled  # noqa: PLC0415

    configuration = load(config) if config is not None else Configuration()
    with tempfile.TemporaryDirectory(prefix="refimpl-plugins-") as base:
        sections = {_OPT: Section({"path": f"{base}/opt"}), **configuration.plugins}
        with assembled(
            root=Path(base, "root"),
            state=Path(base, "state"),
            backends=backends,
            configuration=dataclasses.replace(configuration, plugins=sections),
        ) as plugins:
            service = cast("Introspection", plugins.get_by_id(*_INTROSPECTION))
            return service.plugins(CallContext(), filters)


def _platforms(info: PluginInfo) -> str:
    return ",".join(str(platform) for platform in info.platforms) or "-"


def _status(info: PluginInfo) -> str:
    if info.init_err is None:
        return "ok"
    # The text is all that a client has to tell the two apart (PLG-028).
    return "skip" if "skip plugin" in info.init_err.message else "error"


def _as_json(info: PluginInfo) -> dict[str, object]:
    return {
        "type": info.type,
        "id": info.id,
        "requires": list(info.requires),
        "platforms": [str(platform) for platform in info.platforms],
        "exports": dict(info.exports),
        "capabilities": list(info.capabilities),
        "status": _status(info),
        "error": dataclasses.asdict(info.init_err) if info.init_err is not None else None,
    }


def _described(info: PluginInfo) -> list[tuple[str, str]]:
    lines = [("Type", info.type), ("ID", info.id), ("Status", _status(info))]
    if info.init_err is not None:
        lines.append(("Error", info.init_err.message))
    lines += [("Requires", type_) for type_ in info.requires]
    lines += [("Platform", str(platform)) for platform in info.platforms]
    lines += [("Export", f"{key}={value}") for key, value in sorted(info.exports.items())]
    lines += [("Capability", capability) for capability in info.capabilities]
    return lines
