"""The stub's containers: processes in groups of their own, held at a gate until they are started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from refimpl.contract.errors import Unknown

_GATE = 'read _ <&3; exec 3<&-; exec "$@"'
_SUBREAPER = 36


@dataclass(eq=False)
class Process:
    """An init or an exec.

    Attributes:
        id: of the container for an init.
        pid: 0 before there is one.
        gate: descriptor whose closing lets the process begin; -1 once it did.
        exited: set when the exit is known and told.
    """

    container: str
    id: str
    args: Sequence[str]
    stdio: Mapping[str, str]
    pid: int = 0
    gate: int = -1
    started: bool = False
    paused: bool = False
    exit_status: int = 0
    exited_at: int = 0
    exited: threading.Event = field(default_factory=threading.Event)

    @property
    def is_init(self) -> bool:
        """Whether it is the first of its container."""
        return self.id == self.container


class Children:
    """All processes of the shim, and the one who waits for them.

    Args:
        on_exit: called with the pid, the exit status and the time of each child that ends, strangers too.
    """

    def __init__(self, on_exit: Callable[[int, int, int], None]) -> None:
        self._on_exit = on_exit
        self._some = threading.Semaphore(0)

    def begin(self) -> None:
        """Wait for children from now on."""
        self.adopt()
        threading.Thread(target=self.reap, name="reaper", daemon=True).start()

    def adopt(self) -> None:
        """Become the parent of processes that lose theirs (SHM-036)."""
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)

    def spawn(self, process: Process) -> None:
        """Make the process and hold it at its gate.

        Raises:
            Unknown: there is no such program.
        """
        if shutil.which(process.args[0]) is None:
            raise Unknown(f"OCI runtime create failed: exec: {process.args[0]}: no such file or directory")
        reader, writer = os.pipe()
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, number, process.stdio.get(name) or os.devnull, os.O_RDWR, 0)
            for number, name in enumerate(("stdin", "stdout", "stderr"))
        ]
        # Shells know descriptors of one digit only; in the shim 3 is the socket, which is not for containers.
        actions.append((os.POSIX_SPAWN_DUP2, reader, 3))
        try:
            process.pid = os.posix_spawn(
                "/bin/sh", ["/bin/sh", "-c", _GATE, "sh", *process.args], {"PATH": os.defpath},
                file_actions=actions, setpgroup=0, setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGUSR1],
                setsigmask=[],
            )  # fmt: skip
        finally:
            os.close(reader)
        process.gate = writer
        self._some.release()

    def open_gate(self, process: Process) -> None:
        """Let the process begin."""
        gate, process.gate = process.gate, -1
        os.close(gate)

    def reap(self) -> None:
        """Wait for children for ever."""
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                # None at all: wait for the next to be made.
                self._some.acquire(timeout=1.0)
                continue
            code = os.waitstatus_to_exitcode(status)
            self._on_exit(pid, 128 - code if code < 0 else code, time.time_ns())


def send(pid: int, number: int, *, group: bool = False) -> bool:
    """Send a signal; False if there is nobody."""
    try:
        (os.killpg if group else os.kill)(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def pids_of_group(group: int) -> list[int]:
    """The processes of a group."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.getpgid(int(name)) == group:
                    found.append(int(name))
    return found
