"""Reports: the same facts in four forms; what a subject said can spoil none of them."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from rich.console import Console

from conformance.report import files, terminal
from conformance.results import Outcome, Result, Tally
from conformance.run import Run, Wish
from conformance.subjects.base import Identity

NASTY = 'expected </script><b>"x" & \x00\x1b[31m\ud800'.encode("utf-8", "replace").decode()


def sample() -> Run:
    calls = ["snapshotter(native).prepare(ns='n', 'work') !! Unknown: boom"]
    failure: dict[str, Any] = {"message": NASTY, "location": "snapshots.py:7: assert", "calls": calls}
    results = [
        Result("fake", "snapshots::test_a", ["SNP-016"], Outcome.PASSED, "a title", "native", seconds=0.01),
        Result("fake", "snapshots::test_b", ["SNP-014"], Outcome.FAILED, **failure),
        Result("fake", "snapshots::test_c", ["SNP-012"], Outcome.SKIPPED, reason="needs mount: no"),
        Result("fake", "snapshots::test_d", ["SNP-020"], Outcome.KNOWN, reason="so (bug 1)"),
        Result("unix:///gone", "snapshots::test_a", ["SNP-016"], Outcome.ERROR, message="there is no socket"),
    ]
    identity = Identity("refimpl", "1", {"io.containerd.snapshotter.v1.native": "fake"})
    return Run(Wish(subjects=["fake", "unix:///gone"]), Tally(results), {"fake": identity}, 1.5)


def printed(run: Run, *, strict: bool = False) -> str:
    out = io.StringIO()
    terminal.show(run, Console(file=out, width=120), strict=strict)
    return out.getvalue()


def test_a_failure_in_the_terminal_names_the_rule_what_was_seen_said_and_observed() -> None:
    text = printed(sample())
    rule = ("SNP-014 MUST", "only a committed snapshot can be a parent", "source")
    for part in (*rule, "snapshots.py:7", "Unknown: boom", "observed", "1.6.20"):
        assert part in text, part


def test_the_terminal_counts_skips_and_names_what_could_not_be_judged() -> None:
    text = printed(sample(), strict=True)
    assert "1 skipped: needs mount: no" in text
    assert "unix:///gone could not be judged: there is no socket" in text
    assert "1 MUST undecided: SNP-012" in text
    assert "1 MUST broken: SNP-014" in text


def test_the_terminal_says_how_many_reasons_it_does_not_show_and_what_is_of_a_later_release() -> None:
    run = sample()
    for number in range(10):
        skipped = Result("fake", f"restart::test_{number}", ["RST-024"], Outcome.SKIPPED, reason=f"reason {number}")
        run.tally.add(skipped)
    text = printed(run)
    assert "1 skipped: reason 6" in text
    assert "reason 7" not in text
    assert "3 skipped for 3 more reasons, which --report DIR tells" in text
    assert "2 MUST undecided (1 of 2.x: --profile 1.6 leaves them out)" in text


def test_the_json_report_has_every_clause_and_every_result(tmp_path: Path) -> None:
    files.write(sample(), tmp_path, "refimpl conform fake")
    report = json.loads((tmp_path / "report.json").read_text())
    outcomes = {c["id"]: c["outcomes"] for c in report["clauses"]}
    assert outcomes == {
        "SNP-016": {"fake": "passed", "unix:///gone": "error"},
        "SNP-014": {"fake": "failed"},
        "SNP-012": {"fake": "skipped"},
        "SNP-020": {"fake": "known"},
    }
    assert report["subjects"]["fake"]["must_broken"] == ["SNP-014"]
    assert report["subjects"]["unix:///gone"]["unreachable"] == "there is no socket"
    assert len(report["results"]) == 5
    assert report["command"] == "refimpl conform fake"


def test_the_junit_file_is_xml_whatever_a_subject_said(tmp_path: Path) -> None:
    files.write(sample(), tmp_path, "x")
    suites = ET.parse(tmp_path / "junit.xml").getroot().findall("testsuite")
    assert [(s.get("name"), s.get("tests"), s.get("failures"), s.get("errors"), s.get("skipped")) for s in suites] == [
        ("fake", "4", "1", "0", "2"),
        ("unix:///gone", "1", "0", "1", "0"),
    ]


def test_the_page_is_one_file_and_carries_its_data_safely(tmp_path: Path) -> None:
    files.write(sample(), tmp_path, "x")
    page = (tmp_path / "index.html").read_text()
    before, _, rest = page.partition('<script type="application/json" id="data">')
    data, _, _ = rest.partition("</script>")
    assert json.loads(data) == json.loads((tmp_path / "report.json").read_text())
    assert "http://" not in before
    assert "src=" not in page


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    progress = terminal.Progressing(Console(file=out, width=120))
    progress.total(5)
    for result in sample().tally.results:
        progress.result(result)
    progress.close()
    assert "5 checks" in out.getvalue()
    assert "failed fake: SNP-014" in out.getvalue()


def test_progress_is_a_bar_on_a_terminal() -> None:
    out = io.StringIO()
    progress = terminal.Progressing(Console(file=out, width=120, force_terminal=True))
    progress.total(5)
    for result in sample().tally.results:
        progress.result(result)
    progress.close()
    assert "5/5" in out.getvalue()
