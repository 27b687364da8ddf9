"""Plugins from outside, served with one command and judged alone; three bugs each, and the clauses that name them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.command import LIMIT, conform

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def served(factory: str, address: Path) -> Iterator[None]:
    """``refimpl serve-plugin FACTORY`` for the length of the block."""
    argv = [sys.executable, "-m", "refimpl", "serve-plugin", factory, "--address", str(address)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("serving a "), line
        yield
    finally:
        process.terminate()
        assert process.wait(LIMIT) == 0
        process.stdout.close()
    assert not address.exists(), "the socket goes with the server"


def judged(kind: str, factory: str, chosen: str, folder: Path, patience: str = "") -> tuple[int, dict[str, Any]]:
    """Exit status and report of judging what a factory makes by the checks that an option chooses."""
    address = folder / "p.sock"
    with served(factory, address):
        done = conform(
            f"{kind}+unix://{address}", chosen, "-n", "0", "--report", str(folder / "report"), patience=patience
        )
    report: dict[str, Any] = json.loads((folder / "report" / "report.json").read_text())
    return done.returncode, report


def broken(report: dict[str, Any]) -> set[str]:
    """Clauses that do not hold."""
    return {c["id"] for c in report["clauses"] if set(c["outcomes"].values()) & {"failed", "error"}}


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose name leaves room for a socket's."""
    return tmp_path_factory.mktemp("o")


@pytest.mark.root
def test_the_copying_snapshotter_keeps_the_contract(folder: Path) -> None:
    status, report = judged("snapshotter", "tests.outsiders.copying:snapshotter", "--area=snapshots", folder)
    (subject,) = report["subjects"].values()
    assert (status, subject["must_broken"]) == (0, [])
    assert subject["checks"]["passed"] > 30


def test_the_shelf_keeps_the_contract(folder: Path) -> None:
    status, report = judged("content", "tests.outsiders.shelf:content", "--area=content", folder)
    (subject,) = report["subjects"].values()
    assert (status, subject["must_broken"]) == (0, [])
    assert subject["checks"]["passed"] > 10


@pytest.mark.root
@pytest.mark.parametrize(
    "bug, clause",
    [("quiet_replace", "SNP-016"), ("open_parent", "SNP-014"), ("writable_view", "SNP-036")],
)
def test_a_bug_in_the_snapshotter_is_named_by_its_clause(folder: Path, bug: str, clause: str) -> None:
    status, report = judged("snapshotter", f"tests.outsiders.bugs:{bug}", f"--clause={clause}", folder)
    assert status == 1
    assert clause in broken(report)


@pytest.mark.parametrize(
    "bug, clause",
    [("unlocked", "CNT-034"), ("trusting", "CNT-023"), ("forgetful", "CNT-035")],
)
def test_a_bug_in_the_content_store_is_named_by_its_clause(folder: Path, bug: str, clause: str) -> None:
    # What is forgotten never comes, however long one waits.
    status, report = judged("content", f"tests.outsiders.bugs:{bug}", f"--clause={clause}", folder, patience="5")
    assert status == 1
    assert clause in broken(report)


def test_what_is_no_plugin_is_refused_with_what_it_lacks(folder: Path) -> None:
    argv = [sys.executable, "-m", "refimpl", "serve-plugin", "builtins:dict", "--address", str(folder / "x.sock")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("refimpl: dict is no snapshotter, content, differ; as a ")
