"""A small shim in Python: processes of this machine without any isolation, under the shim contract.

It shows that the checks of shims can pass and, with a mutant planted (``conformance.mutants.shim``), that they can
fail. Not for containers: there is no OCI runtime behind it, no mount and no cgroup.

Run as a file, ``stub.py [--mutant PLACE ID] FLAGS ACTION``. This half holds the commands, which need next to nothing;
what serves is in ``stub_server`` and is imported only by the process that serves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
"""Annotations that name a group, the first that is there wins (SHM-020)."""

LONGEST_PATH = 106
"""Most bytes of the path of a socket (SHM-019)."""

_PLACE = "shim.commands"
"""Where the mutants of this half are planted; those of the other half leave the commands as quick as they are."""

_VALUES = ("namespace", "address", "publish-binary", "id", "socket", "bundle")
_USAGE = "Usage of the stub shim:\n" + "".join(f"  -{name} value\n" for name in _VALUES) + "  -debug\n  -v\n"


class UsageError(Exception):
    """A command line that is none."""


class CommandError(Exception):
    """A command that failed; the message goes to standard error."""


@dataclass
class Flags:
    """The command line.

    Attributes:
        place, mutant: where a mutant is to be planted, and its id; empty for none.
    """

    namespace: str = ""
    address: str = ""
    publish_binary: str = ""
    id: str = ""
    socket: str = ""
    bundle: str = ""
    debug: bool = False
    v: bool = False
    action: str = ""
    place: str = ""
    mutant: str = ""


def parse(argv: list[str]) -> Flags:
    """Read a command line as Go's flag package does, one dash a flag.

    Raises:
        UsageError: an unknown flag, or one without its value.
    """
    flags, words = Flags(), list(argv)
    if words[:1] == ["--mutant"]:
        flags.place, flags.mutant, words = words[1], words[2], words[3:]
    while words and words[0].startswith("-"):
        name = words.pop(0)[1:]
        if name in ("debug", "v"):
            setattr(flags, name, True)
        elif name in _VALUES and words:
            setattr(flags, name.replace("-", "_"), words.pop(0))
        else:
            raise UsageError(name)
    flags.action = words[0] if words else ""
    return flags


class Commands:
    """What the binary does when it is run; each answers with the exit status."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.cwd = Path.cwd()

    def run(self) -> int:
        """Do what the command line says."""
        if self.flags.v:
            return self.version()
        self.check()
        match self.flags.action:
            case "start":
                return self.start()
            case "delete":
                return self.delete()
            case _:
                return self.serve()

    def version(self) -> int:
        """Say who it is (SHM-014)."""
        sys.stdout.write("stub shim:\n  Version:  1\n")
        return 0

    def check(self) -> None:
        """Refuse what lacks a namespace (SHM-012)."""
        if not self.flags.namespace:
            raise CommandError("shim namespace cannot be empty")

    # -- start

    def start(self) -> int:
        """Have a shim serve this bundle, and print its address (SHM-013 to 018)."""
        config = self.config()
        path = self.socket_path(self.group(config.get("annotations") or {}))
        if not self.live(path):
            listener = self.listen(path)
            pid = self.launch(listener)
            self.prefer(pid)
        (self.cwd / "address").write_text(f"unix://{path}")
        sys.stdout.write(f"unix://{path}")
        return 0

    def config(self) -> Any:
        """The bundle's configuration."""
        try:
            return json.loads((self.cwd / "config.json").read_text())
        except FileNotFoundError:
            raise CommandError("open config.json: no such file or directory") from None

    def group(self, annotations: dict[str, str]) -> str:
        """What the socket is named after."""
        return next((annotations[name] for name in GROUPS if name in annotations), self.flags.id)

    def socket_path(self, group: str) -> str:
        """Where a shim of this group listens (SHM-015)."""
        name = hashlib.sha256(os.path.join(self.flags.address, self.flags.namespace, group).encode()).hexdigest()  # noqa: PTH118
        folder = Path("/run/containerd/s") if os.geteuid() == 0 else Path(tempfile.gettempdir()) / f"s-{os.geteuid()}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return str(folder / name)

    def live(self, path: str) -> bool:
        """Whether somebody accepts connections there (SHM-017)."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(path) == 0

    def listen(self, path: str) -> socket.socket:
        """Listen there, in the place of whoever is gone (SHM-018)."""
        self.clear(path)
        return listen(path)

    def clear(self, path: str) -> None:
        """Remove a stale socket."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108

    def launch(self, listener: socket.socket) -> int:
        """Leave behind a process that serves, with the socket as its descriptor 3 (SHM-034)."""
        argv = self.serving_argv()
        pid = os.fork()
        if pid:
            return pid
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)
            self.detach()
            os.execv(argv[0], argv)  # noqa: S606  # our own interpreter
        finally:
            os._exit(127)

    def detach(self) -> None:
        """Leave the process group of the start command."""
        os.setpgid(0, 0)

    def serving_argv(self) -> list[str]:
        """The command line of the process that serves."""
        own = ["--mutant", self.flags.place, self.flags.mutant] if self.flags.mutant else []
        named = ["-namespace", self.flags.namespace, "-id", self.flags.id, "-address", self.flags.address]
        return [sys.executable, "-P", __file__, *own, *named, *(["-debug"] if self.flags.debug else [])]

    def prefer(self, pid: int) -> None:
        """Let the kernel prefer the shim to the daemon (SHM-035)."""
        score = int(Path(f"/proc/{os.getppid()}/oom_score_adj").read_text())
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(min(score + 1, 1000)))

    # -- delete

    def delete(self) -> int:
        """End what a shim left behind, and tell of it in one message (SHM-042, SHM-043)."""
        pid = self.init_pid()
        if pid:
            self.end(pid)
        self.tell(pid, 128 + signal.SIGKILL, time.time_ns())
        return 0

    def init_pid(self) -> int:
        """Of the container; 0 where none was created."""
        record = Path(self.flags.bundle or self.cwd) / "init.pid"
        return int(record.read_text()) if record.exists() else 0

    def end(self, pid: int) -> None:
        """Kill all processes of the container."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    def tell(self, pid: int, status: int, at: int) -> None:
        """Write the answer of ``delete``."""
        from refimpl.api.task_v2_pb2 import DeleteResponse  # noqa: PLC0415  # the start command is to be quick

        answer = DeleteResponse(pid=pid, exit_status=status)
        answer.exited_at.FromNanoseconds(at)
        sys.stdout.buffer.write(answer.SerializeToString())

    # -- serve

    def serve(self) -> int:
        """Serve until told to end."""
        if self.flags.socket:
            if len(os.fsencode(self.flags.socket)) > LONGEST_PATH:
                raise CommandError(f"{self.flags.socket}: unix socket path too long (> {LONGEST_PATH})")
            listener = listen(self.flags.socket)
        else:
            listener = socket.socket(fileno=3)
        from conformance.shim import stub_server  # noqa: PLC0415  # as above

        return stub_server.serve(self.flags, listener)


def listen(path: str) -> socket.socket:
    """A listening socket that only its owner may use (SHM-016)."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o600)  # noqa: PTH101
    listener.listen(128)
    return listener


def main(argv: list[str]) -> int:
    """The command line; answers with the exit status."""
    try:
        flags = parse(argv)
    except UsageError as error:
        sys.stderr.write(f"flag provided but not defined: -{error}\n{_USAGE}")
        return 2
    commands = Commands(flags)
    if flags.place == _PLACE:
        from conformance.mutants.shim import plant  # noqa: PLC0415  # only commands that are broken pay for the engine

        plant(flags.mutant, _PLACE, commands)
    try:
        return commands.run()
    except CommandError as error:
        sys.stderr.write(f"stub shim: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
