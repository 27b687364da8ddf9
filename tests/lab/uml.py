"""A machine of one process: the kernel of Debian's ``user-mode-linux``, booted on this machine's own files.

The guest sees the host's file system, read-only, and has what it writes in memory: ``/tmp``, ``/run`` and ``/dev``. Its
cgroups are of version 2 alone, and it can mount overlays. One directory of the host is shared, read and write, as
``SHARED``; what the command prints comes back through it. Nothing outlives the machine: when it is switched off, its
mounts, processes and cgroups are gone.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance import daemons

COMMAND = "linux.uml"
SHARED = Path("/run/lab")
"""Where the guest sees the directory that it shares with the host."""

_COVERED = ("/tmp", "/run")
"""What the guest has of its own where the host has files."""

_STOP_SECONDS = 5.0
_GONE_SECONDS = 60.0
"""What the host may need to end what was killed."""

_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir {shared}
mount -t hostfs -o {directory} lab {shared}
{visible}
insmod "/usr/lib/uml/modules/$(uname -r)/kernel/fs/overlayfs/overlay.ko"
ip link set lo up
{environment}
cd {folder}
{command} </dev/null >{shared}/output 2>&1
echo $? >{shared}/code
poweroff -f
"""


@dataclass(frozen=True)
class Outcome:
    """How a command in the guest ended.

    Attributes:
        code: its exit status; None if it did not end, because the guest crashed or was switched off.
        output: what it wrote on standard output and standard error.
        console: what the guest's kernel and its init said.
    """

    code: int | None
    output: str
    console: str


def run(
    command: Sequence[str],
    directory: Path,
    *,
    memory: str = "1024M",
    seconds: float = 90.0,
    cwd: Path | None = None,
    disk: Path | None = None,
) -> Outcome:
    """Boot a guest, run a command in it as root, and switch it off.

    Args:
        command: its words; ``python()`` names the Python that runs the tests.
        directory: of the host, empty; the guest's ``SHARED``.
        memory: how much the guest believes to have; the host gives it only when it is used.
        seconds: after which the guest is switched off, whatever it does.
        cwd: where the command runs; ``/`` if not given.
        disk: a file that is the guest's block device ``/dev/ubda``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    init = directory / "init"
    init.write_text(_init(command, directory, cwd or Path("/")), encoding="utf-8")
    init.chmod(0o755)
    words = [
        COMMAND, f"mem={memory}", "root=/dev/root", "rootfstype=hostfs", "ro", f"init={init}", "panic=-1", "quiet",
        "con=null", "con0=null,fd:1", f"uml_dir={directory}/", "umid=guest",
    ]  # fmt: skip
    if disk is not None:
        words.append(f"ubd0={disk}")
    console = directory / "console"
    with console.open("wb") as file:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd="/", start_new_session=True
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            file.write(f"switched off after {seconds:g} s\n".encode())
        finally:
            _switch_off(process, directory)
    code = _text(directory / "code").strip()
    return Outcome(int(code) if code else None, _text(directory / "output"), _text(console))


def python(*words: str) -> list[str]:
    """The words that run a Python program in the guest."""
    return [sys.executable, *words]


def _init(command: Sequence[str], directory: Path, cwd: Path) -> str:
    environment = {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(daemons._import_path()),
        "PYTHONDONTWRITEBYTECODE": "1",
        # Tests that run in there may fail once where ours may.
        **{name: os.environ[name] for name in ("CI",) if name in os.environ},
    }
    return _INIT.format(
        shared=SHARED,
        directory=shlex.quote(str(directory)),
        visible="\n".join(_show(path) for path in _hidden(daemons._import_path())),
        environment=_exports(environment),
        folder=shlex.quote(str(cwd)),
        command=shlex.join(command),
    )


def _exports(environment: Mapping[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())


def _hidden(paths: Sequence[str]) -> list[str]:
    """Those directories that the guest needs and would not see; a checkout or an environment may lie in /tmp."""
    needed = [*paths, sys.prefix, sys.base_prefix]
    return sorted({path for path in needed if path.startswith(tuple(f"{covered}/" for covered in _COVERED))})


def _show(path: str) -> str:
    quoted = shlex.quote(path)
    return f"mkdir -p {quoted}; mount -t hostfs -o {quoted},ro host {quoted}"


def _switch_off(process: subprocess.Popen[bytes], directory: Path) -> None:
    """End the kernel, and the processes of the host in which it runs those of the guest."""
    for how, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _GONE_SECONDS)):
        if process.poll() is None:
            process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
    # Those that were killed are there for another moment.
    deadline = time.monotonic() + _GONE_SECONDS
    while (left := remaining(directory)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def remaining(directory: Path) -> list[int]:
    """The processes of the host that belong to the guest of a directory."""
    mark = f"\0uml_dir={directory}/\0".encode()
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            if mark in file.read_bytes():
                found.append(int(file.parent.name))
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
