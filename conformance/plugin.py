"""The pytest plugin: options, collection and records. Loaded by pytest wherever refimpl is installed.

It does nothing until a test asks for one of the fixtures in ``conformance.fixtures`` or bears a ``clause`` mark.
"""

from __future__ import annotations

import signal
import types
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance import hookspecs, patience, runc_state, selection
from conformance.areas import SUITES
from conformance.fixtures import *  # noqa: F403  # pytest finds fixtures among the plugin's names
from conformance.fixtures import RECORDER
from conformance.results import record
from conformance.shim import sockets
from conformance.subjects.base import Subject, SubjectError
from conformance.subjects.pool import SubjectPool
from conformance.subjects.spec import parse
from refimpl.contract.errors import DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    from refimpl.contract.snapshots import Snapshotter

    _ = Snapshotter

pytest.register_assert_rewrite("conformance.suites")

CHECK_SECONDS = 20 + 8 * patience.SECONDS
"""Seconds one check may take before it is ended as hanging. Calls end long before that by their own deadlines."""

POOL = pytest.StashKey[SubjectPool]()
JUDGED = pytest.StashKey[list[Subject]]()
IDENTITIES = pytest.StashKey[dict[str, dict[str, Any]]]()


class CheckTimeout(Exception):
    """The check ran into ``CHECK_SECONDS``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a conformance run; ``refimpl conform`` has the same words."""
    group = parser.getgroup("conformance", "conformance of containerd implementations")
    group.addoption("--subject", action="append", default=[], metavar="SUBJECT", help="what is judged (repeatable)")
    group.addoption("--area", action="append", default=[], metavar="AREA", help="only this area (repeatable)")
    group.addoption("--clause", action="append", default=[], metavar="ID", help="only this clause (repeatable)")
    group.addoption(
        "--plugin-uri", action="append", default=[], metavar="URI", help="only clauses that bind this plugin"
    )
    group.addoption("--profile", default="", metavar="VERSION", help="only clauses whose `since` fits (1.6)")
    group.addoption("--snapshotter", action="append", default=[], metavar="ID", help="snapshotters to judge")


def pytest_configure(config: pytest.Config) -> None:
    """Announce the mark and set up the pool of subjects."""
    config.addinivalue_line("markers", "clause(*ids, needs): the clauses that a check decides and what it needs")
    config.stash[POOL] = SubjectPool()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell whom this process judged, while the subjects are still open."""
    identities = {name: asdict(identity) for name, identity in session.config.stash[POOL].identities().items()}
    session.config.stash[IDENTITIES] = identities
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["conformance-identities"] = identities


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what was opened."""
    if pool := config.stash.get(POOL, None):
        pool.close()
        runc_state.forget_all()
        sockets.forget_all()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the suites, whose modules are named after their areas and not ``test_*``."""
    if file_path.parent != SUITES or file_path.suffix != ".py" or file_path.name.startswith("_"):
        return None
    # A file that is named on the command line is collected by pytest itself.
    if parent.session.isinitpath(file_path):
        return None
    module: pytest.Collector = pytest.Module.from_parent(parent, path=file_path)
    return module


def subjects_of(config: pytest.Config) -> list[Subject]:
    """Those on the command line, else those that ``conformance_subjects`` gives, else ``fake``."""
    if JUDGED in config.stash:
        return config.stash[JUDGED]
    named: Sequence[str] = config.getoption("--subject")
    given = hookspecs.contributed_subjects(config)
    by_name = {subject.name: subject for subject in given}
    try:
        found = [by_name[name] if name in by_name else parse(name) for name in named] or given or [parse("fake")]
    except SubjectError as error:
        raise pytest.UsageError(str(error)) from None
    pool = config.stash[POOL]
    for subject in found:
        pool.add(subject)
    config.stash[JUDGED] = found
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a check once for each subject, and for each snapshotter where it judges one."""
    mark = metafunc.definition.get_closest_marker("clause")
    # Somebody's own fixture may be called `subject` too: only checks are ours.
    if mark is None or "subject" not in metafunc.fixturenames:
        return
    config = metafunc.config
    pool = config.stash[POOL]
    per_snapshotter = "snapshotter_id" in metafunc.fixturenames
    values: list[Any] = []
    for subject in subjects_of(config):
        if not selection.wanted(mark.args, subject, config) or subject.never & set(metafunc.fixturenames):
            continue
        chosen = (
            config.getoption("--snapshotter") or pool.snapshotters(subject.name) or ("",) if per_snapshotter else ()
        )
        ids = selection.snapshotters(mark.args, chosen) if per_snapshotter else [None]
        for id in ids:
            value = (subject.name, id) if per_snapshotter else subject.name
            values.append(pytest.param(value, id=f"{subject.name}/{id}" if id else subject.name))
    if per_snapshotter:
        metafunc.parametrize(
            ("subject", "snapshotter_id"),
            [pytest.param(*p.values[0], id=p.id) for p in values],
            indirect=["subject"],
        )
    else:
        metafunc.parametrize("subject", values, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out checks that are for none of the subjects: pytest would show each as a skip about an empty set."""
    kept = [item for item in items if not _is_check(item) or selection.subject_name(item) is not None]
    if len(kept) < len(items):
        chosen = set(map(id, kept))
        config.hook.pytest_deselected(items=[item for item in items if id(item) not in chosen])
        items[:] = kept


def _is_check(item: pytest.Item) -> bool:
    return item.get_closest_marker("clause") is not None and "subject" in getattr(item, "fixturenames", ())


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """The implementation under judgement."""
    pool = request.config.stash[POOL]
    try:
        found = pool.get(request.param)
    except SubjectError as error:
        pytest.fail(str(error), pytrace=False)
    yield found
    pool.done(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a check that needs what the subject does not offer, with the missing word."""
    mark = item.get_closest_marker("clause")
    name = selection.subject_name(item)
    if mark is None or name is None:
        return
    pool = item.config.stash[POOL]
    if pool.settled(name):
        pytest.skip("a check has failed already, and one is enough")
    subject = pool.peek(name)
    if pool.error(name):
        return  # the subject fixture says so
    if reason := selection.missing(item, mark, subject):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """End a check that hangs: in-process subjects have no socket whose deadline would do it."""
    if item.get_closest_marker("clause") is None:
        return (yield)

    def ring(_signal: int, _frame: types.FrameType | None) -> None:
        raise CheckTimeout(f"the check was ended after {CHECK_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, CHECK_SECONDS)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what a reader of a failure needs on the report, and notice subjects that died."""
    report = yield
    mark = item.get_closest_marker("clause")
    name = selection.subject_name(item)
    if mark is None or name is None:
        return report
    pool = item.config.stash[POOL]
    if call.when == "call" and report.passed:
        pool.saw_success(name)
    if report.failed:
        error = call.excinfo.value if call.excinfo is not None else None
        timed_out = isinstance(error, (CheckTimeout, DeadlineExceeded, Unavailable))
        pool.saw_failure(name, timed_out=timed_out, judged=call.when == "call")
    recorder = item.stash.get(RECORDER, None)
    report.user_properties.append(("conformance", record(item, mark, name, call, report, recorder)))
    return report
