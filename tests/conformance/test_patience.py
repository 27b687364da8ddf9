"""How long checks wait: by default, as the user says, and for mutants."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conformance import patience

SHOW = "from conformance import patience; print(patience.SECONDS)"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(patience.VARIABLE, raising=False)


def shown() -> tuple[int, str, str]:
    """What a process that begins now has: status, output, errors."""
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_workers_of_mutants_have_less_than_others() -> None:
    assert shown() == (0, "20.0\n", "")
    with patience.short():
        assert shown() == (0, "5.0\n", "")
    assert patience.VARIABLE not in os.environ


def test_what_the_user_says_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.VARIABLE, "7.5")
    with patience.short():
        assert shown() == (0, "7.5\n", "")
    assert os.environ[patience.VARIABLE] == "7.5"


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "inf", "nan"])
def test_what_is_no_time_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(patience.VARIABLE, text)
    told = f"refimpl: REFIMPL_CONFORM_PATIENCE takes a number of seconds, not {text!r}\n"
    assert shown() == (2, "", told)
