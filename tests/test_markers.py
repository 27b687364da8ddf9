"""The markers ``root`` and ``debian``: a skip says what is missing, and fails where skips are forbidden."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import pytest

@pytest.mark.debian("no-such-command")
def test_needs_a_package(): pass

@pytest.mark.root
def test_gives_up(): pytest.skip("no overlayfs here")

@pytest.mark.root
@pytest.mark.xfail(reason="known")
def test_is_expected_to_fail(): assert False

def test_is_not_marked(): pytest.skip("any reason")
"""


@pytest.fixture
def place(tmp_path: Path, repository: Path) -> Path:
    """A folder that is under our conftest.py and under no other configuration."""
    shutil.copy(repository / "tests/conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    root\n    debian\n")
    return tmp_path


def run(place: Path, module: str, *, no_skips: str = "", ci: bool = False) -> str:
    """What pytest prints about a module, one line per test."""
    (place / "test_it.py").write_text(module)
    command = [sys.executable, "-m", "pytest", "-rAR", "--no-header", "-p", "no:cacheprovider", "--tb=line", str(place)]
    environment = {**os.environ, "REFIMPL_NO_SKIPS": no_skips, "CI": "yes" if ci else ""}
    return subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=240, check=False
    ).stdout


def outcomes(printed: str) -> dict[str, int]:
    """How many tests ended how, from pytest's closing line."""
    words = printed.strip().splitlines()[-1].strip("= ").split(" in ")[0].split(", ")
    return {word.split()[1].rstrip("s"): int(word.split()[0]) for word in words}


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user, the tests marked root are skipped before they give up")
def test_a_skip_names_what_is_missing(place: Path) -> None:
    printed = run(place, MODULE, no_skips="")

    assert outcomes(printed) == {"skipped": 3, "xfailed": 1}
    assert "needs no-such-command from Debian's packages" in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user, the tests marked root are skipped before they give up")
def test_where_skips_are_forbidden_only_those_of_marked_tests_fail(place: Path) -> None:
    printed = run(place, MODULE, no_skips="1")

    # A skip before the test began is reported as an error of its set-up.
    assert outcomes(printed) == {"failed": 1, "error": 1, "skipped": 1, "xfailed": 1}
    assert "REFIMPL_NO_SKIPS is set, but: Skipped: no overlayfs here" in printed


def test_where_skips_are_forbidden_a_whole_module_may_not_skip_itself(place: Path) -> None:
    module = "import pytest\npytest.skip('not today', allow_module_level=True)\n"

    assert outcomes(run(place, module, no_skips="")) == {"skipped": 1}
    assert outcomes(run(place, module, no_skips="1")) == {"error": 1}


def test_in_continuous_integration_a_test_may_fail_once_and_is_named(place: Path) -> None:
    module = """
turns = []

def test_is_late_once():
    turns.append(0)
    assert len(turns) == 2

def test_is_broken(): assert False
"""

    assert outcomes(run(place, module)) == {"failed": 2}
    printed = run(place, module, ci=True)
    assert outcomes(printed) == {"failed": 1, "passed": 1, "rerun": 2}
    assert "RERUN test_it.py::test_is_late_once" in printed
