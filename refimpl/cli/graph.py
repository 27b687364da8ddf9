"""Drawing which plugins require which, as Mermaid, DOT or SVG."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from refimpl.contract.errors import Unavailable
from refimpl.contract.introspection import PluginInfo

FORMATS = ("mermaid", "dot", "svg")
NODES = ("type", "plugin")

_PREFIX = "io.containerd."
_DOT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn.

    Attributes:
        nodes: lines of text by name.
        edges: who requires whom, each once, in the order of initialisation.
    """

    nodes: Mapping[str, tuple[str, ...]]
    edges: tuple[tuple[str, str], ...]


def draw(plugins: Sequence[PluginInfo], form: str, by: str) -> str:
    """The drawing.

    Args:
        form: one of ``FORMATS``.
        by: one of ``NODES``.

    Raises:
        Unavailable: SVG needs graphviz, and it is not installed or fails.
    """
    graph = _by_type(plugins) if by == "type" else _by_plugin(plugins)
    if form == "mermaid":
        return _mermaid(graph)
    return _dot(graph) if form == "dot" else _svg(_dot(graph))


def _by_type(plugins: Sequence[PluginInfo]) -> Graph:
    ids: dict[str, tuple[str, ...]] = {}
    for info in plugins:
        ids[info.type] = (*ids.get(info.type, ()), info.id)
    nodes = {type_: (type_.removeprefix(_PREFIX), *names) for type_, names in ids.items()}
    edges = ((info.type, type_) for info in plugins for type_ in info.requires if type_ in ids and type_ != info.type)
    return Graph(nodes, _once(edges))


def _by_plugin(plugins: Sequence[PluginInfo]) -> Graph:
    nodes = {info.uri: (info.type.removeprefix(_PREFIX), info.id) for info in plugins}
    edges = (
        (info.uri, other.uri)
        for info in plugins
        for type_ in info.requires
        for other in plugins
        if other.type == type_ and other.uri != info.uri
    )
    return Graph(nodes, _once(edges))


def _once(edges: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys(edges))


def _mermaid(graph: Graph) -> str:
    names = {name: f"n{number}" for number, name in enumerate(graph.nodes)}
    lines = ["graph LR"]
    lines += [f'    {names[name]}["{"<br/>".join(text)}"]' for name, text in graph.nodes.items()]
    lines += [f"    {names[above]} --> {names[below]}" for above, below in graph.edges]
    return "\n".join(lines) + "\n"


def _dot(graph: Graph) -> str:
    lines = ["digraph plugins {", "    rankdir=LR;", '    node [shape=box, fontname="sans-serif"];']
    labels = {name: "\\n".join(text) for name, text in graph.nodes.items()}
    lines += [f'    "{name}" [label="{label}"];' for name, label in labels.items()]
    lines += [f'    "{above}" -> "{below}";' for above, below in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _svg(dot: str) -> str:
    if shutil.which("dot") is None:
        raise Unavailable(
            "SVG is drawn by graphviz, and its command dot is not installed; --format dot or mermaid needs nothing",
            bare=True,
        )
    done = subprocess.run(
        ["dot", "-Tsvg"], input=dot, capture_output=True, text=True, timeout=_DOT_SECONDS, check=False
    )
    if done.returncode != 0:
        raise Unavailable(f"dot failed: {done.stderr.strip()}", bare=True)
    return done.stdout
