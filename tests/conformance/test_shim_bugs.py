"""Bugs that shims have had in the field, planted in the stub: each is caught by the clause that names it."""

from __future__ import annotations

import pytest

from conformance import patience
from conformance.coverage import checks_by_clause
from conformance.results import Outcome
from conformance.run import Wish, run

FIELD = {
    "SHM-071/tells-the-exit-twice": "twice",
    "SHM-071/tells-the-exit-before-the-start": "before the start",
    "SHM-043/fails-when-there-is-nothing-left-to-do": "delete that works once",
    "SHM-063/does-not-answer-a-shutdown": "hang on shutdown",
    "SHM-060/tells-the-bare-number-of-a-signal": "wrong status of a signal",
    "SHM-079/ends-with-events-in-its-hands": "last event lost",
    "SHM-078/never-dials-again": "no event after the daemon's restart",
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", FIELD, ids=FIELD.values())
def test_a_bug_of_the_field_is_caught_by_its_clause(mutant: str) -> None:
    # Much is waited for that never comes: the worker has the patience of a run of mutants.
    with patience.short():
        found = run(Wish(subjects=[f"mutant:{mutant}"], areas=["shim"], workers="1"))

    failed = [result for result in found.tally.results if result.outcome is Outcome.FAILED]
    assert failed, "the suite is blind to it"
    assert all(mutant.partition("/")[0] in result.clauses for result in failed)


@pytest.mark.slow
def test_a_bug_that_is_caught_is_not_looked_for_any_longer() -> None:
    subject = "mutant:SHM-047/dies-of-a-container-that-is-not-there"

    found = run(Wish(subjects=[subject], areas=["shim"], workers="0"))

    counts = found.tally.counts(subject)
    assert counts["failed"] == 1
    assert counts["skipped"] > 10
    assert [*found.tally.skip_reasons(subject)] == ["a check has failed already, and one is enough"]


PARTS = 6
"""Tests into which the whole area goes: in one it would come near ``faulthandler_timeout`` on a busy machine."""

WHOLE = "python:conformance.subjects.shim_stub:whole"


def part(number: int) -> list[str]:
    """A part of the clauses of shims that have checks; neighbours stay together, for they share checks."""
    clauses = sorted(checks_by_clause("shim"))
    return clauses[number * len(clauses) // PARTS : (number + 1) * len(clauses) // PARTS]


def test_the_parts_are_the_whole() -> None:
    assert sorted(clause for number in range(PARTS) for clause in part(number)) == sorted(checks_by_clause("shim"))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(PARTS))
def test_a_shim_without_bugs_is_left_in_peace(number: int) -> None:
    found = run(Wish(subjects=[WHOLE], areas=["shim"], clauses=part(number), workers="0"))

    broken = [(result.check, result.message) for result in found.tally.results if result.outcome is Outcome.FAILED]
    assert broken == []
    assert found.tally.counts(WHOLE)["passed"] > len(part(number)) // 2
    assert all("oci" in reason or "cgroup" in reason for reason in found.tally.skip_reasons(WHOLE))
