"""Results: one record for each check that had its turn, and what they add up to.

Records are plain JSON values because they travel: from a worker process to the one that reports, and into
``report.json``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import pytest

from conformance.catalogue import Clause, Level, load
from conformance.recorder import Recorder

_SNAPSHOTTER = "io.containerd.snapshotter.v1."


class Outcome(Enum):
    """How a check, or a clause, came out. The order is that of what outweighs what."""

    ERROR = "error"
    """The subject could not be judged."""
    FAILED = "failed"
    """The clause does not hold."""
    KNOWN = "known"
    """It does not hold, and a file of known failures says so."""
    PASSED = "passed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """One check on one subject.

    Attributes:
        check: module and function.
        title: what the check says, in words.
        snapshotter: id, where the check judged one.
        reason: of a skip or a known failure.
        message: of a failure: expected and seen.
        location: file and line of the assertion that did not hold.
        calls: the conversation with the subject, one line a call.
        left: what could not be cleaned up.
        seconds: length of the check.
    """

    subject: str
    check: str
    clauses: Sequence[str]
    outcome: Outcome
    title: str = ""
    snapshotter: str = ""
    reason: str = ""
    message: str = ""
    location: str = ""
    calls: Sequence[str] = ()
    left: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The check with the snapshotter it ran on."""
        return f"{self.check}[{self.snapshotter}]" if self.snapshotter else self.check

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**asdict(self), "outcome": self.outcome.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """The other direction."""
        return cls(**{**values, "outcome": Outcome(values["outcome"])})

    def plugins(self) -> list[str]:
        """The URIs for which the result counts: what its clauses bind, the snapshotter by its name."""
        found: dict[str, None] = {}
        for id in self.clauses:
            for plugin in load()[id].plugins:
                judged = plugin.startswith(_SNAPSHOTTER) and self.snapshotter
                found[_SNAPSHOTTER + self.snapshotter if judged else plugin] = None
        return list(found)


def record(
    item: pytest.Item,
    mark: pytest.Mark,
    subject: str,
    call: pytest.CallInfo[None],
    report: pytest.TestReport,
    recorder: Recorder | None,
) -> dict[str, Any] | None:
    """The record of one phase of a check; None for a phase that says nothing (a setup that went well)."""
    if report.when != "call" and report.passed:
        return None
    outcome = Outcome.PASSED if report.passed else Outcome.SKIPPED if report.skipped else Outcome.FAILED
    if report.failed and report.when == "setup":
        outcome = Outcome.ERROR
    function = getattr(item, "function", None)
    doc = (getattr(function, "__doc__", None) or "").strip()
    values = Result(
        subject=subject,
        check=f"{item.path.stem}::{getattr(item, 'originalname', item.name)}{_variant(item)}",
        clauses=list(mark.args),
        outcome=outcome,
        title=doc.partition("\n")[0]
        or getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " "),
        snapshotter=getattr(getattr(item, "callspec", None), "params", {}).get("snapshotter_id", "") or "",
        reason=_skip_reason(report) if report.skipped else "",
        message=_message(call) if report.failed else "",
        location=_location(call) if report.failed else "",
        calls=[str(c) for c in recorder.calls] if recorder is not None and report.failed else [],
        left=_left(item),
        seconds=round(report.duration, 4),
    )
    return values.as_dict()


def _left(item: pytest.Item) -> list[str]:
    """What the clean-up noted on the item."""
    notes: list[tuple[str, Any]] = item.user_properties
    return [text for key, left in notes if key == "conformance-left" for text in left]


def _variant(item: pytest.Item) -> str:
    """The id of the check's own parameters, without subject and snapshotter."""
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return ""
    subject, snapshotter = callspec.params.get("subject"), callspec.params.get("snapshotter_id")
    # pytest keeps the ids of the parameters apart only here; its public id has them joined.
    own = [i for i in callspec._idlist if i not in (subject, f"{subject}/{snapshotter}")]  # noqa: SLF001
    return f"[{'-'.join(own)}]" if own else ""


def _skip_reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _message(call: pytest.CallInfo[None]) -> str:
    if call.excinfo is None:
        return ""
    error = call.excinfo.value
    if isinstance(error, pytest.fail.Exception):
        return str(error)
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return f"{kind}{error}" or type(error).__name__


def _location(call: pytest.CallInfo[None]) -> str:
    """The last line of the suite that was running; the frames below it are the subject's or ours."""
    if call.excinfo is None:
        return ""
    for entry in reversed(call.excinfo.traceback):
        path = str(entry.path)
        if "suites" in path:
            return f"{path.rpartition('/')[2]}:{entry.lineno + 1}: {str(entry.statement).strip()}"
    return ""


@dataclass
class Tally:
    """What the records of a run add up to.

    Attributes:
        results: all of them, in the order in which they came.
    """

    results: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one more."""
        self.results.append(result)

    def subjects(self) -> list[str]:
        """Names, in the order of their first record."""
        return list(dict.fromkeys(result.subject for result in self.results))

    def of(self, subject: str) -> list[Result]:
        """The records of one subject."""
        return [result for result in self.results if result.subject == subject]

    def counts(self, subject: str) -> dict[str, int]:
        """Checks by outcome."""
        seen = Counter(result.outcome for result in self.of(subject))
        return {
            outcome.value: seen[outcome]
            for outcome in (Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.KNOWN, Outcome.ERROR)
        }

    def clauses(self, subject: str) -> dict[str, Outcome]:
        """Clauses by what their checks came to: one failure outweighs all, one pass outweighs skips."""
        order = list(Outcome)
        found: dict[str, Outcome] = {}
        for result in self.of(subject):
            for id in result.clauses:
                found[id] = min(found.get(id, Outcome.SKIPPED), result.outcome, key=order.index)
        return found

    def broken(self, subject: str, level: Level = Level.MUST) -> list[Clause]:
        """Clauses of a level that do not hold."""
        return [
            load()[id]
            for id, outcome in self.clauses(subject).items()
            if outcome in (Outcome.FAILED, Outcome.ERROR) and load()[id].level is level
        ]

    def skipped(self, subject: str, level: Level = Level.MUST) -> list[Clause]:
        """Clauses of a level that no check decided."""
        return [
            load()[id]
            for id, outcome in self.clauses(subject).items()
            if outcome is Outcome.SKIPPED and load()[id].level is level
        ]

    def skip_reasons(self, subject: str) -> dict[str, int]:
        """Why checks were skipped, with how many, most first."""
        reasons = Counter(result.reason for result in self.of(subject) if result.outcome is Outcome.SKIPPED)
        return dict(reasons.most_common())

    def matrix(self) -> dict[str, dict[str, Counter[Outcome]]]:
        """Plugin URI -> subject -> clauses by outcome; the rows of the terminal's table."""
        order = list(Outcome)
        worst: dict[tuple[str, str, str], Outcome] = {}
        for result in self.results:
            for plugin in result.plugins():
                for id in result.clauses:
                    key = (plugin, result.subject, id)
                    worst[key] = min(worst.get(key, Outcome.SKIPPED), result.outcome, key=order.index)
        table: dict[str, dict[str, Counter[Outcome]]] = {}
        for (plugin, subject, _), outcome in worst.items():
            table.setdefault(plugin, {}).setdefault(subject, Counter())[outcome] += 1
        return dict(sorted(table.items()))


def merge(parts: Iterable[Result]) -> list[Result]:
    """One record per check: a failure while cleaning up must not count the check twice."""
    order = list(Outcome)
    found: dict[tuple[str, str], Result] = {}
    for part in parts:
        key = (part.subject, part.name)
        if key not in found or order.index(part.outcome) < order.index(found[key].outcome):
            found[key] = part
    return list(found.values())
