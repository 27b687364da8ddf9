"""A run: from a wish to an exit status. ``refimpl conform`` is this with a command line in front.

pytest does the work, in as many processes as asked for; a ``Collector`` in the first process turns its reports into
records, and a reporter shows them as they come.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from conformance import known
from conformance.areas import AREAS, BUILT, SUITES
from conformance.catalogue import load
from conformance.plugin import IDENTITIES
from conformance.results import Outcome, Result, Tally, merge
from conformance.subjects.base import Identity, SubjectError
from conformance.subjects.spec import parse

_HERE = Path(__file__).parent


class UsageError(Exception):
    """The run cannot begin; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to run.

    Attributes:
        workers: number of processes, or ``auto``; ``0`` is this process alone.
        profile: version whose clauses count; empty for all.
    """

    subjects: Sequence[str] = ("fake",)
    areas: Sequence[str] = ()
    clauses: Sequence[str] = ()
    plugins: Sequence[str] = ()
    snapshotters: Sequence[str] = ()
    profile: str = ""
    workers: str = "auto"
    known_failures: Path | None = None


class Reporter(Protocol):
    """Somebody who watches a run."""

    def total(self, checks: int) -> None:
        """How many checks will have their turn, as soon as that is known."""
        ...

    def result(self, result: Result) -> None:
        """One more check had its turn."""
        ...


@dataclass
class Run:
    """A run that ended.

    Attributes:
        identities: whose code answered, by subject.
        seconds: how long it took.
        complaints: what is wrong with the file of known failures.
    """

    wish: Wish
    tally: Tally = field(default_factory=Tally)
    identities: dict[str, Identity] = field(default_factory=dict)
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)

    def status(self, *, strict: bool = False) -> int:
        """0: every MUST held. 1: some did not. 2: a subject could not be judged, or nothing ran."""
        subjects = self.tally.subjects()
        if not subjects or any(self.unreachable(subject) for subject in subjects):
            return 2
        broken = self.complaints or any(self.tally.broken(subject) for subject in subjects)
        lenient = strict and any(self.tally.skipped(subject) for subject in subjects)
        return 1 if broken or lenient else 0

    def unreachable(self, subject: str) -> str:
        """Why not one check could judge the subject; empty if one could."""
        results = self.tally.of(subject)
        errors = [result for result in results if result.outcome is Outcome.ERROR]
        others = [result for result in results if result.outcome in (Outcome.PASSED, Outcome.FAILED)]
        return errors[0].message if errors and not others else ""

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {"subjects": {name: self.tally.counts(name) for name in self.tally.subjects()}}


def run(wish: Wish, reporter: Reporter | None = None) -> Run:
    """Run the checks.

    Raises:
        UsageError: an unknown area, clause or subject, or a bad file of known failures.
    """
    _validate(wish)
    entries = known.read(wish.known_failures) if wish.known_failures is not None else []
    collector = Collector(entries, reporter)
    started = time.monotonic()
    with _plain_environment():
        code = pytest.main(_arguments(wish), plugins=[collector])
    if (
        code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        or collector.errors
    ):
        raise UsageError(collector.errors[0] if collector.errors else f"the run broke off (pytest ended with {code!r})")
    # Workers report in any order; columns stand as the subjects were named.
    place = {name: number for number, name in enumerate(wish.subjects)}
    results = sorted(merge(collector.results), key=lambda result: place.get(result.subject, len(place)))
    return Run(wish, Tally(results), collector.identities, time.monotonic() - started, known.stale(entries, results))


def _validate(wish: Wish) -> None:
    for area in wish.areas:
        if area not in AREAS:
            raise UsageError(f"there is no area {area!r}; there are: {', '.join(AREAS)}")
        if area not in BUILT:
            raise UsageError(f"area {area} has no checks yet: {AREAS[area].reason}")
    for subject in wish.subjects:
        try:
            parse(subject)
        except SubjectError as error:
            raise UsageError(str(error)) from error
    for id in wish.clauses:
        if id not in load():
            raise UsageError(f"there is no clause {id!r}; `refimpl clauses ls` lists them")


def _arguments(wish: Wish) -> list[str]:
    areas = set(wish.areas) | {load()[id].area for id in wish.clauses}
    chosen = [AREAS[area] for area in BUILT if not areas or area in areas]
    files = [str(SUITES / f"{module}.py") for area in chosen for module in area.modules]
    arguments = [
        # Nothing of the directory in which somebody happens to stand may have a say: no ini file, conftest or cache.
        "-c", str(_HERE / "pytest.ini"), "--rootdir", str(_HERE), "--confcutdir", str(_HERE),
        "-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:logging",
        "-p", "conformance.plugin", "-p", "xdist.plugin", "--import-mode", "importlib",
    ]  # fmt: skip
    if wish.workers != "0":
        arguments += ["-n", wish.workers, "--dist", "worksteal"]
    for option, values in (
        ("--subject", wish.subjects), ("--area", wish.areas), ("--clause", wish.clauses),
        ("--plugin-uri", wish.plugins), ("--snapshotter", wish.snapshotters),
    ):  # fmt: skip
        arguments += [f"{option}={value}" for value in values]
    if wish.profile:
        arguments.append(f"--profile={wish.profile}")
    return arguments + files


@contextmanager
def _plain_environment() -> Iterator[None]:
    """A pytest without whatever else is installed or set for it here; the workers inherit it."""
    names = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Collector:
    """A pytest plugin in the first process: collects records from the reports of all."""

    def __init__(self, entries: Sequence[known.Known] = (), reporter: Reporter | None = None) -> None:
        self.results: list[Result] = []
        self.identities: dict[str, Identity] = {}
        self.errors: list[str] = []
        self._known, self._reporter = entries, reporter
        self._announced = False

    def _announce(self, checks: int) -> None:
        if self._reporter is not None and not self._announced:
            self._announced = True
            self._reporter.total(checks)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """In this process the items are known; with workers there are none here."""
        if session.items:
            self._announce(len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: Sequence[str]) -> None:
        """In a worker: all of them collect the same."""
        self._announce(len(ids))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A suite that cannot be imported is a broken run, not a failed check."""
        if report.failed:
            self.errors.append(str(report.longrepr).strip().splitlines()[-1])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record that the plugin put on the report."""
        for key, value in report.user_properties:
            if key == "conformance" and value is not None:
                result = known.apply(self._known, Result.from_dict(value))  # type: ignore[arg-type]  # JSON values
                self.results.append(result)
                if self._reporter is not None:
                    self._reporter.result(result)

    def pytest_internalerror(self, excrepr: object) -> None:
        """The machinery itself failed: say so instead of showing its insides."""
        self.errors.append(str(excrepr).strip().splitlines()[-1])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker ended: it tells whom it judged."""
        for name, values in getattr(node, "workeroutput", {}).get("conformance-identities", {}).items():
            self.identities.setdefault(name, Identity(**values))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Without workers: the subjects were judged here."""
        for name, values in session.config.stash.get(IDENTITIES, {}).items():
            self.identities.setdefault(name, Identity(**values))


def print_json(summary: dict[str, Any]) -> None:
    """A summary on standard output and nothing else."""
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
