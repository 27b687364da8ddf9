"""``refimpl gc why``: what keeps a blob or a snapshot from being collected, on any daemon."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from refimpl.cli.failures import fail, one_line_errors
from refimpl.cli.options import DEFAULT_ADDRESS, Json
from refimpl.client import Client
from refimpl.client.holders import Chain, Holders, Object, read
from refimpl.contract.context import CallContext

app = typer.Typer(help="Ask about garbage collection.", no_args_is_help=True, add_completion=False)

FORMATS = ("text", "json", "mermaid", "dot")


@app.callback()
def group() -> None:
    """Ask about garbage collection."""


@app.command()
def why(
    object_: Annotated[
        str, typer.Argument(metavar="OBJECT", help="Digest (or its beginning), SNAPSHOTTER/KEY, or ingest ref.")
    ],
    address: Annotated[
        str, typer.Option("--address", "-a", envvar="CONTAINERD_ADDRESS", help="Socket of the daemon.")
    ] = DEFAULT_ADDRESS,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", envvar="CONTAINERD_NAMESPACE", help="Namespace of the object.")
    ] = "default",
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "text",
    as_json: Json = False,
) -> None:
    """Say which image, container, lease or label keeps OBJECT, and through which references; or that nothing does.

    Exit status: 0 something keeps it, 1 nothing does or there is no such object, 2 usage.
    """
    if form not in FORMATS:
        raise fail(f"--format must be one of {', '.join(FORMATS)}, not {form}", 2)
    with one_line_errors(), Client(address) as client:
        holders = read(client, CallContext(namespace=namespace))
        wanted = holders.find(object_)
        chains = holders.chains(wanted)
    typer.echo(_WRITERS["json" if as_json else form](holders, wanted, chains))
    raise typer.Exit(0 if chains else 1)


def _text(holders: Holders, wanted: Object, chains: Sequence[Chain]) -> str:
    if not chains:
        lines = [f"{wanted} in namespace {holders.namespace}: nothing keeps it; the next collection removes it"]
        lines += [f"  (lease {id} has expired)" for id in holders.expired]
        return "\n".join(lines)
    lines = [f"{wanted} in namespace {holders.namespace} is kept by"]
    for chain in chains:
        lines.append(f"{chain.root.type} {chain.root.key}")
        lines += [f"{'  ' * depth}-> {step.object} ({step.because})" for depth, step in enumerate(chain.steps, 1)]
    return "\n".join(lines)


def _json(holders: Holders, wanted: Object, chains: Sequence[Chain]) -> str:
    values: dict[str, Any] = {
        "namespace": holders.namespace,
        "object": wanted._asdict(),
        "kept": bool(chains),
        "chains": [
            {
                "root": chain.root._asdict(),
                "steps": [{"object": step.object._asdict(), "because": step.because} for step in chain.steps],
            }
            for chain in chains
        ],
        "expired_leases": holders.expired,
    }
    return json.dumps(values, indent=2)


def _edges(chains: Sequence[Chain]) -> list[tuple[Object, Object, str]]:
    """Every link of every chain, once."""
    found: dict[tuple[Object, Object, str], None] = {}
    for chain in chains:
        above = chain.root
        for step in chain.steps:
            found[above, step.object, step.because] = None
            above = step.object
    return list(found)


def _names(wanted: Object, chains: Sequence[Chain]) -> dict[Object, str]:
    found = [wanted, *(end for above, below, _ in _edges(chains) for end in (above, below))]
    return {each: f"n{number}" for number, each in enumerate(dict.fromkeys(found))}


def _mermaid(holders: Holders, wanted: Object, chains: Sequence[Chain]) -> str:
    names = _names(wanted, chains)
    lines = [f"%% what keeps {wanted} in namespace {holders.namespace}", "graph TD"]
    lines += [f'    {name}["{_label(each, "<br/>")}"]' for each, name in names.items()]
    lines += [f'    {names[above]} -->|"{because}"| {names[below]}' for above, below, because in _edges(chains)]
    return "\n".join(lines)


def _dot(holders: Holders, wanted: Object, chains: Sequence[Chain]) -> str:
    names = _names(wanted, chains)
    lines = [
        "digraph why {",
        f'    label="namespace {holders.namespace}";',
        '    node [shape=box, fontname="sans-serif"];',
    ]
    lines += [f'    {name} [label="{_label(each, chr(92) + "n")}"];' for each, name in names.items()]
    lines += [f'    {names[above]} -> {names[below]} [label="{because}"];' for above, below, because in _edges(chains)]
    return "\n".join([*lines, "}"])


def _label(each: Object, newline: str) -> str:
    """Type and key; quotes would end the text in both languages, and keys may hold anything."""
    key = "".join(c if c.isprintable() and c not in '"\\[]<>' else "?" for c in each.key)
    return f"{each.type}{newline}{key}"


_WRITERS = {"text": _text, "json": _json, "mermaid": _mermaid, "dot": _dot}
