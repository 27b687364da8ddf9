"""Running ``refimpl conform`` as a user does, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

LIMIT = 240
"""Seconds within which any of these runs has to come to an end."""


def conform(*arguments: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run it and wait for its end."""
    argv = [sys.executable, "-m", "refimpl", "conform", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False, cwd=cwd)


def summary(*arguments: str, cwd: str | None = None) -> tuple[int, dict[str, Any]]:
    """Exit status and what ``--json`` printed."""
    done = conform(*arguments, "--json", cwd=cwd)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)
