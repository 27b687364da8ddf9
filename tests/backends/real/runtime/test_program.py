"""The program that shims run to publish."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

from refimpl import __version__
from refimpl.backends.real.runtime.program import daemon_program


def test_the_program_is_this_daemons_own_wherever_it_is_run(tmp_path: Path) -> None:
    program = daemon_program(tmp_path / "root" / "plugin")
    # A module of that name in the directory of a container is not the daemon's.
    (tmp_path / "refimpl.py").write_text("raise SystemExit(9)")

    done = subprocess.run([program, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True, env={})

    assert done.stdout.split()[:3] == ["refimpl", "refimpl", __version__]
    assert Path(program).is_absolute()
    assert stat.S_IMODE(Path(program).stat().st_mode) == 0o755


def test_a_program_that_is_there_is_kept_and_an_old_one_replaced(tmp_path: Path) -> None:
    program = Path(daemon_program(tmp_path))
    first = program.stat()

    assert Path(daemon_program(tmp_path)).stat().st_ino == first.st_ino

    program.write_text("#!/bin/false\n")
    daemon_program(tmp_path)
    assert "refimpl" in program.read_text()
    assert [path.name for path in tmp_path.iterdir()] == [program.name]
