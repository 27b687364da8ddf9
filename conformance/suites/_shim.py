"""What the checks of shims share: the harness as a fixture, and the words for what they need."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import patience
from conformance.shim import processes
from conformance.shim.harness import Container, Harness
from conformance.shim.waiting import until
from refimpl.contract.errors import ContainerdError

SHIM = ("shim-binary",)
"""A shim binary alone."""

OCI = ("shim-binary", "oci")
"""The same, and its processes are in containers."""

FOREVER = ("/bin/sleep", "1000")

KILLED = 128 + signal.SIGKILL
"""The exit status of a process that was killed."""


@pytest.fixture
def shim(subject, recorder, request) -> Iterator[Harness]:
    """Plays containerd for the shim binary; whatever the check made is ended and removed afterwards."""
    harness: Harness = subject.harness(recorder)
    try:
        yield harness
    finally:
        if left := harness.close():
            request.node.user_properties.append(("conformance-left", left))


def died(pid: int, seconds: float = patience.SECONDS) -> bool:
    """Whether a process is gone within the time."""
    return until(lambda: not processes.alive(pid), seconds)


def gone(path: Path, seconds: float = patience.SECONDS) -> bool:
    """Whether a file is gone within the time."""
    return until(lambda: not path.exists(), seconds)


def refused(call, *args, **kwargs) -> ContainerdError | None:
    """The error of a call; None when it succeeds."""
    try:
        call(*args, **kwargs)
    except ContainerdError as error:
        return error
    return None


def stranger_reads(path: str) -> str:
    """What another user sees who connects to a socket and sends a request: ``refused``, ``closed`` or ``served``."""
    script = (
        "import socket,sys\n"
        "s=socket.socket(socket.AF_UNIX); s.settimeout(20)\n"
        "try: s.connect(sys.argv[1])\n"
        "except OSError: print('refused'); sys.exit()\n"
        "try:\n s.sendall(bytes.fromhex(sys.argv[2])); d=s.recv(100)\n"
        "except ConnectionError: d=b''\n"
        "print('served' if d else 'closed')\n"
    )
    body = b"\x0a\x17containerd.task.v2.Task\x12\x07Connect"
    frame = struct.pack(">IIBB", len(body), 1, 1, 0) + body
    # Not the interpreter of an environment that the other user may not enter.
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    found = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", python, "-c", script, path, frame.hex()],
        check=False, capture_output=True, text=True, timeout=60, cwd="/",
    )  # fmt: skip
    assert found.returncode == 0, f"the other user could not try: {found.stderr[-300:]}"
    return found.stdout.strip()


def finished(shim: Harness, args) -> Container:
    """A container that ran to its end and was deleted."""
    made = shim.running(args)
    made.wait()
    made.delete()
    return made
