"""Ending shims that do not end: none but the one that was meant."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from refimpl.backends.real.runtime.stuck import end_stuck
from tests.backends.real.runtime.worlds import SECONDS, runs

BINARY = sys.executable


@contextmanager
def _shim(*words: str, lives: float = 1000.0) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the command line of a shim."""
    script = f"import time; print(flush=True); time.sleep({lives})"
    with subprocess.Popen([BINARY, "-c", script, *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_shim_that_does_not_end_is_killed() -> None:
    with _shim("-namespace", "ns", "-id", "task") as process:
        end_stuck(process.pid, BINARY, "task", 0.0)

        assert process.wait(SECONDS) == -9


def test_a_shim_that_ends_in_time_is_left_alone() -> None:
    with _shim("-id", "task", lives=0.2) as process:
        end_stuck(process.pid, BINARY, "task", SECONDS)

        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize(
    "binary, id", [(BINARY, "other"), ("/usr/bin/containerd-shim-runc-v2", "task"), (BINARY, "ns"), (BINARY, "-id")]
)
def test_a_process_that_is_not_that_shim_is_not_touched(binary: str, id: str) -> None:
    with _shim("-namespace", "ns", "-id", "task") as process:
        end_stuck(process.pid, binary, id, 0.0)

        assert runs(process.pid)


def test_a_process_that_is_gone_is_no_error() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()

    end_stuck(process.pid, "true", "task", 0.0)
