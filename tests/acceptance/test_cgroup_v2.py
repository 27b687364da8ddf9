"""Real tasks on a host with control groups of version 2 alone, where crun is itself: in a kernel of our own."""

from __future__ import annotations

import faulthandler
from pathlib import Path

import pytest

from tests.lab import uml

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.debian(uml.COMMAND, "insmod", "ctr", "containerd-shim-runc-v2", "runc", "crun", "busybox"),
]

SECONDS = 600.0
"""After which a guest is given up; on a busy machine two minutes have been seen."""

CLAUSES = ("MON-012", "MON-013", "MON-014", "MON-018", "MON-027", "RT1-029")
"""Of the second version, or of both."""

SAME = "not first and (metrics or limits or memory)"
"""Tests that look into control groups."""


@pytest.fixture(autouse=True)
def _take_time() -> None:
    # pytest gives one test less than a guest may need.
    faulthandler.cancel_dump_traceback_later()


def test_metrics_limits_and_kills_are_those_of_the_unified_groups(repository: Path, tmp_path: Path) -> None:
    tests = "tests/acceptance/test_ctr_real_tasks.py"
    command = uml.python("-m", "pytest", "-p", "no:cacheprovider", "-q", tests, "-k", SAME)

    outcome = uml.run(command, tmp_path, memory="2G", seconds=SECONDS, cwd=repository)

    assert outcome.code == 0, outcome.output + outcome.console


@pytest.mark.parametrize("subject", ["daemon:real", "daemon:containerd"])
def test_the_clauses_of_unified_groups_hold(repository: Path, tmp_path: Path, subject: str) -> None:
    clauses = [word for id in CLAUSES for word in ("--clause", id)]
    command = uml.python("-m", "refimpl", "conform", subject, "-n", "0", *clauses)

    outcome = uml.run(command, tmp_path, memory="2G", seconds=SECONDS, cwd=repository)

    assert outcome.code == 0, outcome.output + outcome.console
