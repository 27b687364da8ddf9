"""Running ``refimpl conform`` as a user does, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from conformance.patience import VARIABLE

LIMIT = 240
"""Seconds within which any of these runs has to come to an end."""


def conform(*arguments: str, cwd: str | None = None, patience: str = "") -> subprocess.CompletedProcess[str]:
    """Run it and wait for its end; with the seconds of ``patience``, if there are any."""
    argv = [sys.executable, "-m", "refimpl", "conform", *arguments]
    env = {**os.environ, VARIABLE: patience} if patience else None
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False, cwd=cwd, env=env)


def summary(*arguments: str, cwd: str | None = None) -> tuple[int, dict[str, Any]]:
    """Exit status and what ``--json`` printed."""
    done = conform(*arguments, "--json", cwd=cwd)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)
