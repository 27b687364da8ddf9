"""``refimpl serve`` as a process of its own, on fakes, below a directory that a test gives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.client.signals import heard

WAIT = 60.0
"""Seconds after which a test gives up waiting."""

_PAUSE = 0.01


@dataclass
class Running:
    """A daemon's process.

    Attributes:
        base: holds ``root``, ``state``, ``c.sock`` and ``log``.
    """

    base: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        return self.base / "c.sock"

    @property
    def log(self) -> str:
        return (self.base / "log").read_text()

    def until_logged(self, text: str) -> str:
        """Wait for a text in the log; the whole log."""
        end = time.monotonic() + WAIT
        while text not in self.log:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < end, f"no {text!r} in:\n{self.log}"
            time.sleep(_PAUSE)
        return self.log

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end, at most ``WAIT`` seconds; the exit status."""
        self.process.send_signal(how)
        return self.process.wait(WAIT)


def arguments(base: Path, *flags: str) -> list[str]:
    """The command line."""
    places = ["--root", str(base / "root"), "--state", str(base / "state"), "--address", str(base / "c.sock")]
    return [sys.executable, "-m", "refimpl", "serve", "--backends", "fake", *places, *flags]


@contextmanager
def spawned(base: Path, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A daemon that was just started; killed on leaving if it is still there."""
    with (base / "log").open("wb") as log, (base / "out").open("wb") as out, heard(signal.SIGHUP, signal.SIG_DFL):
        process = subprocess.Popen(
            arguments(base, *flags),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            cwd=base,
            env={**os.environ, **(env or {})},
        )
    try:
        yield Running(base, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(WAIT)


@contextmanager
def serving(base: Path, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A daemon that has told that it is ready."""
    with spawned(base, *flags, env=env) as running:
        running.until_logged("successfully booted")
        yield running


def refused(base: Path, *flags: str) -> tuple[int, str]:
    """How a start ends that is expected to fail: status and standard error."""
    done = subprocess.run(arguments(base, *flags), capture_output=True, text=True, timeout=WAIT, cwd=base, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def answers(path: Path) -> bool:
    """Whether somebody takes connections."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
