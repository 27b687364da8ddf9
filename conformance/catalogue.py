"""Clauses: the numbered statements of the contract, loaded from ``conformance/clauses/*.toml``.

An id is given once and never used again. ``load`` reads and validates everything once per process.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import Any, TypeVar

import pytest

from conformance.needs import NEEDS

_ID = re.compile(r"[A-Z][A-Z0-9]{1,4}-\d{3}\Z")
# A plugin URI, every plugin, or the name of a shim binary (a shim is no plugin, but it is bound like one).
_PLUGIN = re.compile(
    r"(\*|containerd-shim(-[a-z0-9*-]+)?|io\.containerd\.[a-z0-9-]+(\.[a-z0-9-]+)*\.v\d+\.(\*|[A-Za-z0-9<>. -]+))\Z"
)
_FIELDS = (
    "id", "title", "level", "text", "plugins", "surface", "needs", "check", "mutant", "source", "since", "observed",
)  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])


class ClauseError(ValueError):
    """A clause file that does not hold what it must; the message names the file and the clause."""


class Level(Enum):
    """How binding a clause is."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


@dataclass(frozen=True, slots=True)
class Clause:
    """One statement of the contract.

    Attributes:
        area: name of its file.
        plugins: URIs it binds; the last part may be ``*``.
        needs: words of ``conformance.needs`` without which no check can run.
        check, mutant: in words, what a check does and what it must catch.
        observed: what the real daemons did.
    """

    id: str
    area: str
    title: str
    level: Level
    text: str
    plugins: tuple[str, ...]
    surface: str
    needs: tuple[str, ...]
    check: str
    mutant: str
    source: tuple[str, ...]
    since: str
    observed: str

    def as_dict(self) -> dict[str, Any]:
        """The clause as JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            k: list(v) if isinstance(v, tuple) else v.value if isinstance(v, Level) else v for k, v in values.items()
        }


def parse(area: str, text: str) -> list[Clause]:
    """Read one area's file.

    Raises:
        ClauseError: not TOML, a field missing or unknown, a word outside its vocabulary, an id used twice.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ClauseError(f"{area}.toml: {error}") from error
    if set(table) != {"clause"}:
        raise ClauseError(f"{area}.toml: expected [[clause]] tables only, found {sorted(table)}")
    found: dict[str, Clause] = {}
    for raw in table["clause"]:
        clause = _from_table(area, raw)
        if clause.id in found:
            raise ClauseError(f"{area}.toml: {clause.id} stands there twice")
        found[clause.id] = clause
    return list(found.values())


def _from_table(area: str, raw: Mapping[str, Any]) -> Clause:
    where = f"{area}.toml: {raw.get('id', 'a clause without id')}"
    if missing := [name for name in _FIELDS if name not in raw]:
        raise ClauseError(f"{where}: missing {', '.join(missing)}")
    if unknown := sorted(set(raw) - set(_FIELDS)):
        raise ClauseError(f"{where}: unknown field {', '.join(unknown)}")
    if not _ID.match(raw["id"]):
        raise ClauseError(f"{where}: an id is letters, a dash and three digits")
    if raw["level"] not in Level.__members__:
        raise ClauseError(f"{where}: level {raw['level']!r} is none of {', '.join(Level.__members__)}")
    for need in raw["needs"]:
        if unknown := [word for word in need.split("|") if word not in NEEDS]:
            raise ClauseError(f"{where}: {unknown[0]!r} is no word of the needs")
    for plugin in raw["plugins"]:
        if not _PLUGIN.match(plugin):
            raise ClauseError(f"{where}: {plugin!r} is no plugin URI")
    for name in ("title", "text", "surface", "check", "mutant", "since", "observed"):
        if not raw[name].strip():
            raise ClauseError(f"{where}: {name} is empty")
    return Clause(
        area=area,
        level=Level[raw["level"]],
        plugins=tuple(raw["plugins"]),
        needs=tuple(raw["needs"]),
        source=tuple(raw["source"]),
        **{name: raw[name] for name in ("id", "title", "text", "surface", "check", "mutant", "since", "observed")},
    )


@functools.cache
def load() -> Mapping[str, Clause]:
    """All clauses by id, in the order of the files.

    Raises:
        ClauseError: see ``parse``; also when two areas share an id.
    """
    found: dict[str, Clause] = {}
    folder = resources.files("conformance") / "clauses"
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if not file.name.endswith(".toml"):
            continue
        for clause in parse(file.name.removesuffix(".toml"), file.read_text()):
            if clause.id in found:
                raise ClauseError(f"{clause.area}.toml: {clause.id} belongs to {found[clause.id].area}.toml")
            found[clause.id] = clause
    return found


def clause(*ids: str, needs: Iterable[str] | None = None) -> Callable[[F], F]:
    """Say which clauses a check decides.

    Args:
        ids: clause ids; the first is the one that the check is named after.
        needs: what this check needs instead of what the clause names (``conformance.needs``).

    Raises:
        ClauseError: an id that is no clause, a word that is no need.
    """
    clauses = load()
    if unknown := [name for name in ids if name not in clauses]:
        raise ClauseError(f"no clause {unknown[0]}")
    words = frozenset(needs) if needs is not None else frozenset(w for name in ids for w in clauses[name].needs)
    if strange := sorted(w for word in words for w in word.split("|") if w not in NEEDS):
        raise ClauseError(f"{strange[0]!r} is no word of the needs")

    def decorate(check: F) -> F:
        marked: F = pytest.mark.clause(*ids, needs=words)(check)
        return marked

    return decorate
