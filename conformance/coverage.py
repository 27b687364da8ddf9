"""Coverage of the contract: which clauses have checks, which have mutants, and the stated reasons for those without."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType

from conformance.areas import AREAS, BUILT
from conformance.catalogue import load
from conformance.mutants.engine import mutants_of


def suites(area: str) -> list[ModuleType]:
    """The modules with the checks of a built area."""
    return [importlib.import_module(f"conformance.suites.{module}") for module in AREAS[area].modules]


def checks(area: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The checks of an area: name of the function and the clauses it decides."""
    found = [member for module in suites(area) for member in inspect.getmembers(module, inspect.isfunction)]
    for name, function in found:
        for mark in getattr(function, "pytestmark", []):
            if mark.name == "clause" and name.startswith("test_"):
                yield name, mark.args


def checks_by_clause(area: str) -> dict[str, list[str]]:
    """Clause id -> the checks that decide it."""
    found: dict[str, list[str]] = {}
    for name, ids in checks(area):
        for id in ids:
            found.setdefault(id, []).append(name)
    return found


def mutants_by_clause(area: str) -> dict[str, list[str]]:
    """Clause id -> ids of the mutants that break it; empty for an area that has no checks yet."""
    found: dict[str, list[str]] = {}
    for mutant in mutants_of([area] if area in BUILT else []).values():
        found.setdefault(mutant.clause, []).append(mutant.id)
    return found


@functools.cache
def reasons() -> Mapping[str, str]:
    """Why a clause has no check: what its suite says, or what holds for its whole area."""
    found = {clause.id: AREAS[clause.area].reason for clause in load().values() if clause.area not in BUILT}
    for area in BUILT:
        for module in suites(area):
            found.update(getattr(module, "NO_CHECK", {}))
    return found
