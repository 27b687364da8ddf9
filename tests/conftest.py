"""What every test shares: the meaning of the markers ``root`` and ``debian``, and examples without a time limit.

A test says what it needs by a marker and is skipped where that is missing, with a reason a reader can act on. With
``REFIMPL_NO_SKIPS=1`` (continuous integration, ``tox -e real``) such a skip is a failure: tests for root that nobody
ran for two years have happened to others.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# How long one example takes is the machine's affair, and others may use it too.
settings.register_profile("refimpl", deadline=None)
settings.load_profile("refimpl")

_NEEDS = ("root", "debian")


def _skips_are_failures() -> bool:
    return os.environ.get("REFIMPL_NO_SKIPS", "") not in {"", "0"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a test fail once in continuous integration: the report names it as RERUN, and it runs again.

    Its machine is shared: a daemon may be late there, or a thread. Elsewhere the first failure is the one to look at.
    """
    if os.environ.get("CI"):
        for item in items:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, naming what is missing."""
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        pytest.skip("needs root: run it with `sudo tox -e real`")
    for marker in item.iter_markers("debian"):
        missing = [command for command in marker.args if shutil.which(command) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)} from Debian's packages")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test marked ``root`` or ``debian`` into a failure where skips are forbidden."""
    report = yield
    needs = [name for name in _NEEDS if item.get_closest_marker(name) is not None]
    # An expected failure is reported as skipped too; it did run.
    if _skips_are_failures() and needs and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} is marked {' and '.join(needs)} and REFIMPL_NO_SKIPS is set, but: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into a failure where skips are forbidden: it hides what would have run."""
    report = yield
    if _skips_are_failures() and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped as a whole and REFIMPL_NO_SKIPS is set: {reason}"
    return report


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parent.parent
