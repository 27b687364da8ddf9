"""The conformance suite's judgement of our shim: as one that groups and runs containers, which its own name hides."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.debian("runc", "busybox"), pytest.mark.slow]

SECONDS = 900
"""How long a run may take: half a minute on a machine of its own, and ten times that on one that others use."""

MAIN = "import sys\nsys.path[:0] = {path!r}\nfrom refimpl.shim.main import main\nsys.exit(main())\n"


@pytest.mark.parametrize("name", ["containerd-shim-refimpl-v1", "containerd-shim-runc-v2"])
def test_every_clause_holds(short: Path, name: str) -> None:
    (short / "shim.py").write_text(MAIN.format(path=sys.path))
    binary = short / name
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{short}/shim.py" "$@"\n')
    binary.chmod(0o755)

    # pytest gives one test less than that.
    faulthandler.cancel_dump_traceback_later()
    # Its checks mostly wait, so more of them than cores run at a time.
    done = subprocess.run(
        [sys.executable, "-m", "refimpl", "conform", f"shim:{binary}", "-n", "4"],
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-6000:]
    assert "every MUST that was decided holds" in done.stdout
