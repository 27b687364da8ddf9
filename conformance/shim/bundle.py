"""Bundles: what containerd lays out for a task before it starts the shim (SHM-006, SHM-024)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance import patience
from conformance.shim.waiting import until

_NAMESPACES = ("pid", "ipc", "uts", "mount")
_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID")


def spec(
    args: Sequence[str], cgroup: str, *, annotations: Mapping[str, str] | None = None, terminal: bool = False,
    namespaces: Sequence[str] = _NAMESPACES, memory: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """A configuration for the OCI runtime (1.0.2) with little isolation, so that it works on any kernel.

    Args:
        cgroup: absolute path in the cgroup tree.
        namespaces: kinds of namespaces of the container's own.
        memory: limit in bytes; 0 for none.
    """
    resources: dict[str, Any] = {"memory": {"limit": memory, "swap": memory}} if memory else {}
    return {
        "ociVersion": "1.0.2",
        "process": process(args, terminal=terminal),
        "root": {"path": "rootfs"},
        "hostname": "conformance",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},  # noqa: S108  # in the container
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
        ],
        "annotations": dict(annotations or {}),
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces], "cgroupsPath": cgroup, "resources": resources,
        },
    }  # fmt: skip


def process(args: Sequence[str], *, terminal: bool = False) -> dict[str, Any]:
    """The process part of a configuration; for ``Exec`` too."""
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
    }


def shell(script: str) -> list[str]:
    """Arguments that run a script."""
    return ["/bin/sh", "-c", script]


def make_rootfs(target: Path) -> bool:
    """Make a root file system of a static busybox; False where there is none."""
    busybox = shutil.which("busybox")
    if busybox is None:
        return False
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (target / name).mkdir(parents=True)
    shutil.copy(busybox, target / "bin" / "busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in {*applets, "sh", "sleep", "cat", "true", "false"} - {"busybox"}:
        (target / "bin" / applet).symlink_to("busybox")
    return True


class Fifo:
    """A fifo whose reading end is kept open here, so that writers never wait; what comes out is collected."""

    def __init__(self, path: Path, mode: int = 0o700, *, read: bool = True) -> None:
        self.path = path
        self._data = bytearray()
        self._descriptor = -1
        self._reader: threading.Thread | None = None
        os.mkfifo(path, mode)
        if read:
            self.open()

    def open(self) -> None:
        """Begin to read."""
        # For reading and writing: opening waits for nobody, and there is no end of file between two writers.
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._reader = threading.Thread(target=self._collect, name="fifo", daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        # A line of our own that no writer writes ends the reader: closing a descriptor does not wake it.
        while not self._data.endswith(_END):
            self._data += os.read(self._descriptor, 65536)

    @property
    def text(self) -> str:
        """All that came out so far."""
        return self._data.removesuffix(_END).decode(errors="replace")

    def has(self, text: str, seconds: float = patience.SECONDS) -> bool:
        """Whether the text came out within the time."""
        return until(lambda: text in self.text, seconds)

    def close(self) -> None:
        """Stop reading. Idempotent."""
        if self._reader is not None:
            os.write(self._descriptor, _END)
            self._reader.join(5)
            os.close(self._descriptor)
            self._reader = None


_END = b"\x00the conformance harness has read enough\x00"


class Bundle:
    """One bundle: ``config.json``, ``rootfs``, ``work`` and ``log``, as containerd makes them.

    Args:
        top: directory in which bundles of one namespace lie; made if need be.
        config: what ``config.json`` holds; None for a bundle without one.
        log: whether the log fifo has a reader.
    """

    def __init__(self, top: Path, id: str, config: Mapping[str, Any] | None, *, log: bool = True) -> None:
        self.id, self.path, self.work = id, top / "state" / id, top / "work" / id
        self.path.mkdir(parents=True, mode=0o700)
        self.work.mkdir(parents=True, mode=0o711)
        (self.path / "rootfs").mkdir(mode=0o711)
        (self.path / "work").symlink_to(self.work)
        if config is not None:
            (self.path / "config.json").write_text(json.dumps(config))
        self.log = Fifo(self.path / "log", read=log)
        self._fifos = [self.log]

    def fifo(self, name: str) -> Fifo:
        """A fifo for stdio, outside the bundle's own files."""
        made = Fifo(self.work / name)
        self._fifos.append(made)
        return made

    def listing(self) -> list[str]:
        """Names in the bundle."""
        return sorted(entry.name for entry in self.path.iterdir())

    def close(self) -> None:
        """Stop reading from its fifos."""
        for fifo in self._fifos:
            fifo.close()
