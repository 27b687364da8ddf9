"""What records add up to: one failure outweighs all, one pass outweighs skips."""

from __future__ import annotations

import pytest

from conformance.catalogue import Level
from conformance.results import Outcome, Result, Tally, merge
from conformance.run import Run, Wish

MUST, SHOULD = "SNP-016", "SNP-013"


def result(
    outcome: Outcome, *, check: str = "snapshots::test_a", clause: str = MUST, snapshotter: str = "", reason: str = ""
) -> Result:
    return Result("fake", check, [clause], outcome, snapshotter=snapshotter, reason=reason)


def tally(*results: Result) -> Tally:
    return Tally(list(results))


@pytest.mark.parametrize(
    "outcomes, sum_",
    [
        ((Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED), Outcome.FAILED),
        ((Outcome.SKIPPED, Outcome.PASSED), Outcome.PASSED),
        ((Outcome.SKIPPED, Outcome.SKIPPED), Outcome.SKIPPED),
        ((Outcome.FAILED, Outcome.ERROR), Outcome.ERROR),
        ((Outcome.KNOWN, Outcome.PASSED), Outcome.KNOWN),
    ],
)
def test_a_clause_is_what_the_gravest_of_its_checks_says(outcomes: tuple[Outcome, ...], sum_: Outcome) -> None:
    seen = tally(*(result(outcome, check=f"snapshots::test_{n}") for n, outcome in enumerate(outcomes)))
    assert seen.clauses("fake") == {MUST: sum_}


def test_only_a_broken_must_fails_a_run() -> None:
    assert Run(Wish(), tally(result(Outcome.PASSED), result(Outcome.FAILED, clause=SHOULD))).status() == 0
    assert Run(Wish(), tally(result(Outcome.PASSED), result(Outcome.FAILED))).status() == 1


def test_a_skipped_must_fails_a_strict_run_only() -> None:
    run = Run(Wish(), tally(result(Outcome.PASSED, clause=SHOULD), result(Outcome.SKIPPED)))
    assert (run.status(), run.status(strict=True)) == (0, 1)


def test_a_stale_known_failure_fails_a_run() -> None:
    assert Run(Wish(), tally(result(Outcome.PASSED)), complaints=["it passes"]).status() == 1


def test_a_subject_that_nobody_could_judge_is_not_a_pass() -> None:
    run = Run(Wish(), tally(Result("x", "snapshots::test_a", [MUST], Outcome.ERROR, message="no socket")))
    assert (run.status(), run.unreachable("x")) == (2, "no socket")
    assert Run(Wish()).status() == 2, "nothing ran"


def test_a_subject_that_dies_in_the_middle_is_broken_not_unreachable() -> None:
    run = Run(Wish(), tally(result(Outcome.PASSED), result(Outcome.ERROR, check="snapshots::test_b")))
    assert (run.status(), run.unreachable("fake")) == (1, "")


def test_the_matrix_counts_a_clause_once_for_each_plugin_and_names_the_snapshotter() -> None:
    seen = tally(*(result(Outcome.PASSED, check=f"snapshots::test_{n}", snapshotter="native") for n in range(2)))
    matrix = seen.matrix()
    assert matrix["io.containerd.snapshotter.v1.native"]["fake"][Outcome.PASSED] == 1
    assert "io.containerd.snapshotter.v1.*" not in matrix


def test_a_check_that_failed_and_could_not_clean_up_counts_once() -> None:
    assert merge([result(Outcome.FAILED), result(Outcome.ERROR), result(Outcome.PASSED)]) == [result(Outcome.ERROR)]


def test_a_record_survives_the_way_through_json() -> None:
    found = result(Outcome.KNOWN, reason="so")
    assert Result.from_dict(found.as_dict()) == found


def test_reasons_of_skips_are_counted() -> None:
    seen = tally(*(result(Outcome.SKIPPED, check=f"snapshots::test_{n}", reason=r) for n, r in enumerate("aba")))
    assert seen.skip_reasons("fake") == {"a": 2, "b": 1}
    assert [c.id for c in seen.skipped("fake")] == [MUST]
    assert seen.broken("fake", Level.SHOULD) == []
