"""The fixture ``containerd``, for ``pytest_plugins = ["refimpl.testing.pytest_plugin"]`` in a root ``conftest.py``.

Each test gets a daemon of its own. ``@pytest.mark.fake_containerd(wall_time=True, config="...", namespace="...")``
passes arguments on to ``fake_containerd``. The report of a test that fails shows what the daemon was asked.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from refimpl.testing.instance import FakeContainerd, fake_containerd

_MARK = "fake_containerd"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", f"{_MARK}(**arguments): arguments of `fake_containerd` for the fixture")


@pytest.fixture
def containerd(request: pytest.FixtureRequest) -> Iterator[FakeContainerd]:
    """A fake containerd for this test alone."""
    mark = request.node.get_closest_marker(_MARK)
    with fake_containerd(**(mark.kwargs if mark is not None else {})) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the call log with a failure."""
    report = yield
    made = getattr(item, "funcargs", {}).get(containerd.name)
    if report.when == "call" and report.failed and isinstance(made, FakeContainerd):
        report.sections.append(("calls to the fake containerd", str(made.calls)))
    return report
