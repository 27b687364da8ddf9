"""The commands of a shim binary: what the daemon runs, and what comes back (SHM-005, SHM-040)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance import patience

COMMAND_SECONDS = 3 * patience.SECONDS
"""Seconds that one command of a shim may take before it counts as hanging."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a command left behind.

    Attributes:
        status: exit status; negative for a signal.
        seconds: how long it took.
    """

    status: int
    out: bytes
    err: bytes
    seconds: float

    @property
    def address(self) -> str:
        """The address that a start command answered with (SHM-008, SHM-093)."""
        text = self.out.decode(errors="replace").strip()
        if text.startswith("{"):
            return str(json.loads(text).get("address", ""))
        return text

    @property
    def said(self) -> str:
        """Both streams as text, for messages."""
        return f"status {self.status}, stdout {self.out[:300]!r}, stderr {self.err[:300]!r}"


def run(
    argv: Sequence[str], cwd: Path, environment: Mapping[str, str], stdin: bytes = b"", seconds: float = COMMAND_SECONDS
) -> Output:
    """Run a command as the daemon does: in a process group of its own, its output read to the end.

    Raises:
        TimeoutError: it, or a process that it left behind, holds the output open for longer than that.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        argv, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
        env={**os.environ, "GOMAXPROCS": "2", **environment},
    )  # fmt: skip
    try:
        out, err = process.communicate(stdin, seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        raise TimeoutError(f"{argv[0]} {argv[-1]} did not end, or left its output open, for {seconds:g} s") from None
    return Output(process.returncode, out, err, time.monotonic() - started)
