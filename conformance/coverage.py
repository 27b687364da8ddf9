"""Coverage of the contract: which clauses have checks, which have mutants, and the stated reasons for those without."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

import pytest

from conformance import needs, selection
from conformance.areas import AREAS, BUILT
from conformance.catalogue import load
from conformance.mutants.engine import mutants_of
from conformance.subjects.base import opened
from conformance.subjects.fake import FakeSubject


def suites(area: str) -> list[ModuleType]:
    """The modules with the checks of a built area."""
    return [importlib.import_module(f"conformance.suites.{module}") for module in AREAS[area].modules]


def _marked(area: str) -> Iterator[tuple[str, Callable[..., object], pytest.Mark]]:
    """The checks of an area with their marks."""
    found = [member for module in suites(area) for member in inspect.getmembers(module, inspect.isfunction)]
    for name, function in found:
        for mark in getattr(function, "pytestmark", []):
            if mark.name == "clause" and name.startswith("test_"):
                yield name, function, mark


def checks(area: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The checks of an area: name of the function and the clauses it decides."""
    for name, _, mark in _marked(area):
        yield name, mark.args


def checks_by_clause(area: str) -> dict[str, list[str]]:
    """Clause id -> the checks that decide it."""
    found: dict[str, list[str]] = {}
    for name, ids in checks(area):
        for id in ids:
            found.setdefault(id, []).append(name)
    return found


@functools.cache
def beyond_fakes() -> frozenset[str]:
    """Clauses of which no check runs on the fakes: a mutant of the fakes could show nothing about them.

    They are about what fakes have not: files of a daemon, its command line, its ttrpc socket, a real death.
    """
    with opened(FakeSubject()) as fake:
        offers = fake.offers
    within: set[str] = set()
    cited: set[str] = set()
    for area in BUILT:
        for _, function, mark in _marked(area):
            words = selection.words(mark, inspect.signature(function).parameters)
            cited |= set(mark.args)
            if not needs.missing(words, offers):
                within |= set(mark.args)
    return frozenset(cited - within)


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
