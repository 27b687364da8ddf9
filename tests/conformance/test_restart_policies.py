"""The checks of 2.x's restart policies let a right monitor pass: no daemon of 2.x is at hand to hold them against."""

from __future__ import annotations

from pathlib import Path

from conformance.catalogue import load
from conformance.mutants._policies import Decisions, NextMonitor
from conformance.subjects.fake import FakeSubject
from tests.conformance.command import summary

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = "tests.conformance.test_restart_policies"
CLAUSES = [clause.id for clause in load().values() if clause.area == "restart" and clause.since != "1.6"]


def next_monitor() -> FakeSubject:
    """The fakes with a monitor that knows policies."""
    return FakeSubject(extra=[NextMonitor(Decisions())])


def test_a_monitor_that_decides_rightly_passes_all_checks_of_policies() -> None:
    asked = [f"--clause={id}" for id in CLAUSES]
    code, found = summary(f"python:{HERE}:next_monitor", *asked, "-n", "0", cwd=str(REPOSITORY))
    (counts,) = found["subjects"].values()
    assert (code, counts["failed"], counts["skipped"]) == (0, 0, 0)
    assert counts["passed"] >= len(CLAUSES)
