"""Checks about checks: every clause of a built area is decided or excused, every MUST has a mutant."""

from __future__ import annotations

import inspect

import pytest

from conformance.areas import AREAS, BUILT
from conformance.catalogue import Level, load
from conformance.coverage import beyond_fakes, checks, checks_by_clause, mutants_by_clause, reasons, suites
from conformance.mutants.engine import mutants_of

each_area = pytest.mark.parametrize("area", BUILT)


@each_area
def test_every_clause_has_a_check_or_a_stated_reason(area: str) -> None:
    have = set(checks_by_clause(area)) | set(reasons())
    assert not [c.id for c in load().values() if c.area == area and c.id not in have]


@each_area
def test_no_clause_is_both_checked_and_excused(area: str) -> None:
    assert not set(checks_by_clause(area)) & set(reasons())


@each_area
def test_every_must_has_a_mutant(area: str) -> None:
    have = mutants_by_clause(area)
    excused = {*reasons(), *beyond_fakes()}
    must = [c for c in load().values() if c.area == area and c.level is Level.MUST and c.id not in excused]
    assert not [c.id for c in must if c.id not in have]


@each_area
def test_every_mutant_breaks_a_clause_that_is_checked(area: str) -> None:
    checked = checks_by_clause(area)
    assert not [id for id, mutant in mutants_of([area]).items() if mutant.clause not in checked]


@each_area
def test_every_check_says_what_it_rejects(area: str) -> None:
    functions = {
        name: function for module in suites(area) for name, function in inspect.getmembers(module, inspect.isfunction)
    }
    silent = [name for name, _ in checks(area) if "Rejects:" not in (functions[name].__doc__ or "")]
    assert not silent


@each_area
def test_every_test_in_a_suite_is_a_check(area: str) -> None:
    found = {name for module in suites(area) for name, _ in inspect.getmembers(module, inspect.isfunction)}
    cited = {name for name, _ in checks(area)}
    assert not [name for name in found if name.startswith("test_") and name not in cited]


@each_area
def test_an_area_cites_mostly_its_own_clauses(area: str) -> None:
    own = {c.id for c in load().values() if c.area == area}
    assert not [name for name, ids in checks(area) if not own & set(ids)]


def test_areas_without_checks_say_why() -> None:
    assert all(area.reason for area in AREAS.values() if area.name not in BUILT)
