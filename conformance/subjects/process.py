"""A daemon process of our own: started on a temporary root, waited for, ended, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from conformance import patience
from conformance.shim import processes, sockets
from conformance.shim.waiting import until
from conformance.subjects.base import SubjectError
from refimpl.linux import removal

START_SECONDS = 3 * patience.SECONDS
"""How long a daemon may take until its socket answers."""

STOP_SECONDS = patience.SECONDS
"""How long a daemon may take to end after SIGTERM before it is killed."""


_REMOVALS = 5


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one daemon keeps its things; all below one temporary directory."""

    top: Path

    @property
    def root(self) -> Path:
        """Persistent data."""
        return self.top / "root"

    @property
    def state(self) -> Path:
        """Runtime data."""
        return self.top / "state"

    @property
    def address(self) -> Path:
        """The gRPC socket."""
        return self.top / "c.sock"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.top / "config.toml"

    @property
    def log(self) -> Path:
        """Standard output and error."""
        return self.top / "log"

    def own_opt(self) -> str:
        """TOML for a daemon with real backends: what it would make outside its root and state is below ``top`` too."""
        return f'version = 2\n[plugins."io.containerd.internal.v1.opt"]\npath = "{self.top}/opt"\n'


Command = Callable[[Layout], Sequence[str]]


class DaemonProcess:
    """Start, stop and kill one daemon.

    Args:
        command: makes the argument list from the layout.
        config: makes the text of the configuration file from the layout; None for no file.
    """

    def __init__(self, command: Command, config: Callable[[Layout], str] | None = None) -> None:
        self._command, self._config = command, config
        self._process: subprocess.Popen[bytes] | None = None
        # Short on purpose: the path of a unix socket may not be longer than 107 bytes.
        self.layout = Layout(Path(tempfile.mkdtemp(prefix="cfm-")))

    @property
    def pid(self) -> int:
        """Process id; 0 when it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start and wait until the socket accepts connections.

        Raises:
            SubjectError: it cannot be started, ended at once, or does not answer in ``START_SECONDS``.
        """
        if self._config is not None:
            self.layout.config.write_text(self._config(self.layout))
        argv = [*_die_with_us(), *self._command(self.layout)]
        with self.layout.log.open("ab") as log:
            try:
                # containerd unpacks checkpoints there and leaves them (TSK-086).
                environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.layout.top)}
                self._process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
                )
            except OSError as error:
                raise SubjectError(f"cannot start {argv[0]}: {error.strerror}") from error
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(self.layout.address):
            if self._process.poll() is not None:
                raise SubjectError(f"the daemon ended with status {self._process.returncode}: {self._last_line()}")
            if time.monotonic() > deadline:
                raise SubjectError(
                    f"the daemon's socket did not answer within {START_SECONDS:g} s: {self._last_line()}"
                )
            time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """End the process: SIGTERM and, where that does not help in time or with ``kill``, SIGKILL. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if not kill:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                kill = True
        if kill:
            process.kill()
            process.wait()

    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """All that the daemon printed so far."""
        return self.layout.log.read_text(errors="replace") if self.layout.log.exists() else ""

    def remove(self) -> None:
        """Stop, end the daemon's shims, unmount what is mounted below its directories, and delete them. Idempotent."""
        self.stop()
        # Nobody will ask for them any more. 1.6.20 leaves a shim running whose Create it gave up (TSK-029).
        end_shims(str(self.layout.address), self.layout.state)
        remove_tree(self.layout.top)

    def _last_line(self) -> str:
        lines = [line for line in self.log().splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it printed nothing"


def end_shims(address: str, state: Path) -> None:
    """End the shims of the daemon that was at an address, and remove their sockets. Idempotent."""
    for pid in processes.serving(address):
        processes.kill(pid)
    until(lambda: not processes.serving(address), STOP_SECONDS)
    sockets.forget(address, state)


def remove_tree(top: Path) -> None:
    """Unmount all that is mounted below a directory, and remove the directory; what cannot be removed stays."""
    for target in processes.mounts_below(top):
        subprocess.run(["umount", "-l", target], check=False, capture_output=True)
    parent = os.open(top.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Somebody may remove something at the same time: a collection that goes on, a shim that ends.
        for _ in range(_REMOVALS):
            if not os.path.lexists(top):
                break
            with suppress(OSError):
                # Not shutil's: checks make snapshots that are deeper than it can follow.
                removal.remove_tree(parent, top.name)
    finally:
        os.close(parent)


def _die_with_us() -> list[str]:
    """A prefix that has the kernel end the daemon when we are killed; nothing where util-linux lacks it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def _accepts(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
        return True


def refimpl_command(backends: str) -> Command:
    """``refimpl serve`` of the interpreter that runs this."""

    def command(layout: Layout) -> Sequence[str]:
        return [
            sys.executable, "-m", "refimpl", "serve", "--backends", backends, "--config", str(layout.config),
            "--root", str(layout.root), "--state", str(layout.state), "--address", str(layout.address),
        ]  # fmt: skip

    return command


def containerd_command(layout: Layout) -> Sequence[str]:
    """The installed containerd."""
    return [
        "containerd", "--config", str(layout.config), "--root", str(layout.root), "--state", str(layout.state),
        "--address", str(layout.address), "--log-level", "debug",
    ]  # fmt: skip
