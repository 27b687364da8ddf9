"""Known failures: told apart while they last, and an error as soon as they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.known import KnownFailuresError, apply, read, stale
from conformance.results import Outcome, Result

ENTRY = '[[known]]\nclause = "SNP-036"\nsubject = "unix://*"\nreason = "views are writable"\nreference = "bug 12"\n'


def result(outcome: Outcome, subject: str = "unix:///x", clause: str = "SNP-036") -> Result:
    return Result(subject, "snapshots::test_x", [clause], outcome)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "known.toml"
    path.write_text(ENTRY)
    return path


def test_a_failure_that_is_known_is_reported_apart(file: Path) -> None:
    known = read(file)
    seen = apply(known, result(Outcome.FAILED))
    assert (seen.outcome, seen.reason) == (Outcome.KNOWN, "views are writable (bug 12)")
    assert stale(known, [seen]) == []


@pytest.mark.parametrize(
    "other", [result(Outcome.FAILED, subject="fake"), result(Outcome.FAILED, clause="SNP-035"), result(Outcome.ERROR)]
)
def test_what_an_entry_does_not_describe_stays_what_it_is(file: Path, other: Result) -> None:
    assert apply(read(file), other) == other


def test_an_entry_that_passes_is_an_error(file: Path) -> None:
    known = read(file)
    assert stale(known, [apply(known, result(Outcome.PASSED))]) == ["SNP-036 on unix://* passes: remove the entry"]


def test_an_entry_that_matches_nothing_is_an_error(file: Path) -> None:
    assert stale(read(file), [result(Outcome.PASSED, subject="fake")]) == [
        "SNP-036 on unix://* matches nothing that ran"
    ]


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("not toml", "known.toml"),
        ("[[other]]\n", "expected .* tables only, found other"),
        (ENTRY.replace('reason = "views are writable"\n', ""), "entry 1 must have clause, reason, reference, subject"),
        (ENTRY.replace("SNP-036", "SNP-999"), "there is no clause SNP-999"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(KnownFailuresError, match=complaint):
        read(file)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(KnownFailuresError, match=r"none.toml: No such file"):
        read(tmp_path / "none.toml")
