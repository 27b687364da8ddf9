"""The fixture in somebody else's project, alone and under pytest-xdist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = 'pytest_plugins = ["refimpl.testing.pytest_plugin"]\n'

PASSING = """
import pytest

@pytest.mark.parametrize("number", range(8))
def test_each_test_has_its_own(containerd, number):
    assert containerd.client.images.list(containerd.ctx) == []
    containerd.seed.image(f"registry.test/app:{number}")
    assert len(containerd.client.images.list(containerd.ctx)) == 1

@pytest.mark.fake_containerd(namespace="mine", wall_time=True)
def test_a_mark_passes_arguments_on(containerd):
    assert containerd.namespace == "mine"
    with pytest.raises(RuntimeError):
        containerd.clock
"""

FAILING = """
def test_a_failure_shows_the_calls(containerd):
    containerd.client.images.list(containerd.ctx)
    assert False
"""


def run(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "test_it.py").write_text(tests, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--strict-markers", "-W", "error", "-q", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_each_test_gets_a_daemon_of_its_own(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, PASSING, *options)

    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout


def test_a_failed_test_shows_what_the_daemon_was_asked(tmp_path: Path) -> None:
    done = run(tmp_path, FAILING)

    assert done.returncode == 1
    assert "- calls to the fake containerd -" in done.stdout
    assert "containerd.services.images.v1.Images/List() in default -> OK" in done.stdout
