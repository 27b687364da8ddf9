"""The daemon among processes (DMN-038, DMN-039)."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from refimpl.daemon import process


def adjusted(score: int) -> tuple[str, str]:
    """The score of a process that sets it, and what it logs."""
    script = (
        "import logging, pathlib; from refimpl.daemon import process; logging.getLogger('refimpl').handlers.clear();"
        "logging.basicConfig(format='%(levelname)s %(message)s', level='INFO');"
        f"process.set_oom_score({score}); print(pathlib.Path('/proc/self/oom_score_adj').read_text().strip())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip(), done.stderr.strip()


def test_a_score_is_set() -> None:
    assert adjusted(300) == ("300", "")


def test_a_score_that_does_not_exist_is_only_logged() -> None:
    score, logged = adjusted(5000)
    assert score == Path("/proc/self/oom_score_adj").read_text().strip()
    assert logged == "ERROR failed to change OOM score to 5000"


def test_zero_leaves_it() -> None:
    assert adjusted(0) == (Path("/proc/self/oom_score_adj").read_text().strip(), "")


def test_lowering_it_without_the_right_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    logging.getLogger("refimpl").propagate = True
    monkeypatch.setattr(Path, "write_text", refuse)
    process.set_oom_score(-500)
    assert "failed" not in caplog.text


def controllers(base: Path, *names: str) -> None:
    for name in names:
        (base / name).mkdir()
        (base / name / "cgroup.procs").write_text("")


def test_version_1_means_every_controller(tmp_path: Path) -> None:
    controllers(tmp_path, "cpu", "memory", "cpuset")
    for name, value in (("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")):
        (tmp_path / "cpuset" / name).write_text(value)
        (tmp_path / "cpuset/c1").mkdir(exist_ok=True)
        (tmp_path / "cpuset/c1" / name).write_text("\n")
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text("")
    process.join_cgroup("/c1", tmp_path)
    me = str(os.getpid())
    assert [(tmp_path / name / "c1/cgroup.procs").read_text() for name in ("cpu", "memory", "cpuset")] == [me] * 3
    assert (tmp_path / "cpuset/c1/cpuset.cpus").read_text() == "0-1\n", "an empty set takes nobody in"
    assert not (tmp_path / "unified/c1").exists()


def test_version_2_means_a_group_that_exists(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("")
    with pytest.raises(FileNotFoundError):
        process.join_cgroup("/c1", tmp_path)
    controllers(tmp_path, "c1")
    process.join_cgroup("/c1", tmp_path)
    assert (tmp_path / "c1/cgroup.procs").read_text() == str(os.getpid())


def test_no_path_is_no_wish(tmp_path: Path) -> None:
    process.join_cgroup("", tmp_path / "nowhere")
