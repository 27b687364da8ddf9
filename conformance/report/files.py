"""``--report DIR``: report.json, junit.xml and index.html."""

from __future__ import annotations

import json
import platform
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from conformance.areas import AREAS
from conformance.catalogue import load
from conformance.report.page import page
from conformance.results import Outcome
from conformance.run import Run
from refimpl import __version__


def document(run: Run, command: str) -> dict[str, Any]:
    """The run as JSON values; what the page is made of and what ``report.json`` holds.

    Args:
        command: how to run it again.
    """
    subjects = run.tally.subjects()
    outcomes = {subject: run.tally.clauses(subject) for subject in subjects}
    tried = {id for found in outcomes.values() for id in found}
    return {
        "suite": {"name": "refimpl conformance", "version": __version__},
        "profile": run.wish.profile or "all",
        "command": command,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(run.seconds, 2),
        "host": f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        "subjects": {
            subject: {
                "product": identity.product if (identity := run.identities.get(subject)) else "",
                "version": identity.version if identity else "",
                "serves": identity.serves if identity else {},
                "unreachable": run.unreachable(subject),
                "checks": run.tally.counts(subject),
                "must_broken": [clause.id for clause in run.tally.broken(subject)],
                "must_undecided": [clause.id for clause in run.tally.skipped(subject)],
                "skips": run.tally.skip_reasons(subject),
            }
            for subject in subjects
        },
        "matrix": {
            plugin: {subject: {o.value: n for o, n in counts.items()} for subject, counts in row.items()}
            for plugin, row in run.tally.matrix().items()
        },
        "clauses": [
            {
                **clause.as_dict(),
                "outcomes": {s: outcomes[s][clause.id].value for s in subjects if clause.id in outcomes[s]},
            }
            for clause in load().values()
            if clause.id in tried
        ],
        "areas": {area.name: area.title for area in AREAS.values()},
        "results": [result.as_dict() for result in run.tally.results],
        "complaints": run.complaints,
    }


def junit(run: Run) -> ET.ElementTree[ET.Element]:
    """The run in the form that CI servers read: a suite per subject, a case per check."""
    top = ET.Element("testsuites", name="refimpl conformance", time=f"{run.seconds:.3f}")
    for subject in run.tally.subjects():
        counts = run.tally.counts(subject)
        suite = ET.SubElement(
            top, "testsuite", name=subject, tests=str(sum(counts.values())), failures=str(counts["failed"]),
            errors=str(counts["error"]), skipped=str(counts["skipped"] + counts["known"]),
        )  # fmt: skip
        for result in run.tally.of(subject):
            area = load()[result.clauses[0]].area
            name = f"{' '.join(result.clauses)} {result.name}"
            seconds = f"{result.seconds:.3f}"
            case = ET.SubElement(suite, "testcase", classname=f"{subject}.{area}", name=name, time=seconds)
            if result.outcome in (Outcome.FAILED, Outcome.ERROR):
                tag = "failure" if result.outcome is Outcome.FAILED else "error"
                body = "\n".join([result.message, result.location, "", *result.calls])
                ET.SubElement(case, tag, message=_clean(result.message[:300])).text = _clean(body)
            elif result.outcome in (Outcome.SKIPPED, Outcome.KNOWN):
                ET.SubElement(case, "skipped", message=_clean(result.reason))
    ET.indent(top)
    return ET.ElementTree(top)


def _clean(text: str) -> str:
    """XML has no way to write most control characters."""
    return "".join(
        c if c in "\n\t" or (c >= " " and c not in "\ufffe\uffff" and not 0xD800 <= ord(c) <= 0xDFFF) else "?"
        for c in text
    )


def write(run: Run, folder: Path, command: str) -> None:
    """Write all three files; the folder is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    values = document(run, command)
    (folder / "report.json").write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    junit(run).write(folder / "junit.xml", encoding="utf-8", xml_declaration=True)
    (folder / "index.html").write_text(page(values))
