"""Pages of the plugins: one per URI, made from the live registrations, so that none can be forgotten.

A page shows what the registration says (requires, configuration, platforms), what the module's docstring says (what it
is, what it keeps on disk, how its twin differs) and which clauses bind the plugin.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import sys
import tempfile
from fnmatch import fnmatchcase
from html import escape
from itertools import groupby
from pathlib import Path
from types import ModuleType

import refimpl
from conformance.catalogue import Clause
from docs.hooks import clauses
from refimpl.kernel.assembly import assembled
from refimpl.kernel.config import Configuration, document
from refimpl.kernel.config.decode import key_of
from refimpl.kernel.registration import Registration

# At the margin: the specification of the hook is a method.
_DEFINES = re.compile(r"^def refimpl_registrations\(", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A registration and the module that a reader should open to understand it."""

    registration: Registration
    module: ModuleType

    @property
    def uri(self) -> str:
        """Type and id joined by a dot, containerd's way to name a plugin."""
        return self.registration.uri

    @property
    def backend(self) -> str:
        """``real``, ``fake``, or empty where the plugin is written once for both."""
        return self.registration.backend


def modules() -> list[ModuleType]:
    """Every module of refimpl that defines registrations; one that cannot be imported ends the build."""
    found = []
    for info in pkgutil.walk_packages(refimpl.__path__, "refimpl."):
        spec = importlib.util.find_spec(info.name)
        # Read before imported: a plugin module has no effect when imported, but others may be slow or not for import.
        if (
            spec is not None
            and spec.origin is not None
            and _DEFINES.search(Path(spec.origin).read_text(encoding="utf-8"))
        ):
            found.append(importlib.import_module(info.name))
    return found


def entries() -> list[Entry]:
    """All registrations of this tree, ordered by URI, real before fake."""
    found = []
    for module in modules():
        for registration in module.refimpl_registrations():
            # Where one module registers several plugins, each is explained where it is built.
            home = sys.modules.get(getattr(registration.init, "__module__", ""), module)
            found.append(Entry(registration, home if home.__name__.startswith("refimpl.") else module))
    return sorted(found, key=lambda entry: (entry.uri, entry.backend != "real", entry.backend))


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """What became of a plugin when it was started on fakes: only its ``init`` knows."""

    status: str = "not started"
    reason: str = ""
    exports: dict[str, str] = dataclasses.field(default_factory=dict)


def started() -> dict[str, Started]:
    """Every plugin's start on fakes, by URI."""
    with tempfile.TemporaryDirectory() as place:
        wish = {"root": Path(place) / "ROOT", "state": Path(place) / "STATE", "backends": "fake", "entry_points": False}
        with assembled(**wish) as plugins:
            return {
                plugin.uri: Started(
                    plugin.status,
                    "" if plugin.error is None else str(plugin.error),
                    {key: value.replace(f"{place}/", "") for key, value in plugin.exports.items()},
                )
                for plugin in plugins
            }


def by_uri() -> dict[str, list[Entry]]:
    """The entries of each URI: one, or a real and a fake one."""
    grouped: dict[str, list[Entry]] = {}
    for entry in entries():
        grouped.setdefault(entry.uri, []).append(entry)
    return grouped


def markdown(docstring: str) -> str:
    """A module's docstring as Markdown: roles become code, ``::`` opens an indented block as it does there."""
    text = inspect.cleandoc(docstring)
    text = re.sub(r":[a-z:]+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"::\n", ":\n", text)
    return "\n".join(
        line if line.startswith("    ") or "`" in line else escape(line, quote=False) for line in text.split("\n")
    )


def first_sentence(docstring: str) -> str:
    """The summary line, without the URI that opens it."""
    summary = inspect.cleandoc(docstring or "").partition("\n")[0]
    return re.sub(r"^`*io\.containerd\.[^ ]*: ", "", summary)


def _configuration(registration: Registration) -> list[str]:
    if registration.config is None:
        return ["No keys.", ""]
    lines = ["| key | type | default |", "| --- | --- | --- |"]
    values = document(Configuration(), [registration])["plugins"][registration.uri]
    for field in dataclasses.fields(registration.config):
        # Under `from __future__ import annotations` a type is text, and reads best as such.
        kind = field.type if isinstance(field.type, str) else field.type.__name__
        # JSON's strings, numbers, booleans and lists are TOML's.
        default = json.dumps(values.get(key_of(field)), ensure_ascii=False)
        lines.append(f"| `{key_of(field)}` | `{kind}` | `{default}` |".replace(" | None", ""))
    return [*lines, ""]


def _requires(entry: Entry, known: dict[str, list[Entry]]) -> list[str]:
    lines = []
    for wanted in entry.registration.requires:
        links = [f"[{uri}]({uri}.md)" for uri in known if fnmatchcase(uri, f"{wanted}.*") or fnmatchcase(uri, wanted)]
        lines.append(f"- `{wanted}`: {', '.join(links) or 'whatever is registered'}")
    return [*(lines or ["Nothing."]), ""]


def _binds(clause: Clause, uri: str) -> bool:
    # The bare star binds the kernel; repeating it on every page would say nothing about this plugin.
    return any(pattern != "*" and fnmatchcase(uri, pattern) for pattern in clause.plugins)


def _clauses(uri: str, areas: dict[str, list[Clause]]) -> list[str]:
    lines = []
    for area, members in areas.items():
        runs = [list(run) for binds, run in groupby(members, key=lambda clause: _binds(clause, uri)) if binds]
        if runs:
            ends = [[clauses.link(run[0]), clauses.link(run[-1])][: len(run)] for run in runs]
            lines.append(f"- {area} ({sum(map(len, runs))}): " + ", ".join(" to ".join(end) for end in ends))
    return [*(lines or ["None names this plugin."]), ""]


def _backend(entry: Entry, twins: list[Entry]) -> list[str]:
    title = entry.backend.capitalize() if entry.backend else "The module"
    twin = next((other for other in twins if other is not entry), None)
    lines = [f"## {title}: `{entry.module.__name__}`", "", markdown(entry.module.__doc__ or ""), ""]
    if entry.backend and twin is None:
        lines += [f"There is no other backend: only the {entry.backend} one is registered under this URI.", ""]
    return lines


def _exports(values: dict[str, str]) -> list[str]:
    if not values:
        return ["Nothing.", ""]
    return ["| name | value |", "| --- | --- |", *(f"| `{key}` | `{value}` |" for key, value in values.items()), ""]


def plugin_page(uri: str, known: dict[str, list[Entry]], areas: dict[str, list[Clause]], start: Started) -> str:
    """The page of one plugin."""
    twins = known[uri]
    entry = twins[0]
    backends = " and ".join(twin.backend for twin in twins if twin.backend) or "written once, above the backends"
    platforms = entry.registration.platforms
    served = "the machine's own" if platforms is True else ", ".join(f"`{one}`" for one in platforms or ()) or "any"
    lines = [
        f"# {uri}",
        "",
        first_sentence(entry.module.__doc__ or ""),
        "",
        f"- Type: `{entry.registration.type}`, id: `{entry.registration.id}`",
        f"- Backends: {backends}",
        f"- Platforms: {served}",
        f"- With fake backends: {start.status}" + (f" (`{start.reason}`)" if start.reason else ""),
        "",
        "## Requires",
        "",
        *_requires(entry, known),
        "## Configuration",
        "",
        f'Section `[plugins."{uri}"]`. An unknown key is refused by name under `--strict-config`.',
        "",
        *_configuration(entry.registration),
        "## Exports",
        "",
        "With fake backends; `ROOT` and `STATE` are the daemon's directories.",
        "",
        *_exports(start.exports),
    ]
    for twin in twins:
        lines += _backend(twin, twins)
    return "\n".join([*lines, "## Clauses", "", *_clauses(uri, areas)])


def index_page(known: dict[str, list[Entry]]) -> str:
    """The table of all plugins."""
    lines = [
        "# Plugins",
        "",
        "Every plugin that this tree registers. The list and its pages are made from the live registrations.",
        "",
    ]
    if not known:
        return "\n".join([*lines, "No plugin is registered in this tree yet.", ""])
    lines += ["| URI | what it is | backends |", "| --- | --- | --- |"]
    for uri, twins in known.items():
        backends = ", ".join(twin.backend for twin in twins if twin.backend) or "once"
        lines.append(f"| [{uri}]({uri}.md) | {first_sentence(twins[0].module.__doc__ or '')} | {backends} |")
    return "\n".join([*lines, ""])


def pages() -> dict[str, str]:
    """All pages of the plugins: path in the guide to Markdown text."""
    known, areas, starts = by_uri(), clauses.by_area(), started()
    result = {"plugins/index.md": index_page(known)}
    for uri in known:
        result[f"plugins/{uri}.md"] = plugin_page(uri, known, areas, starts.get(uri, Started()))
    return result
