"""A shim of the first runtime: one process for one task, started by the daemon itself and killed with its task.

It gets its listening socket as descriptor 3 and keeps both ends of its two log fifos open, so that it outlives the
daemon. That its process is over is what counts as its end, also for a shim that an earlier daemon has started.
Clauses RT1-004 to RT1-009, RT1-020 to RT1-022.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from refimpl.api import linux_runc_pb2, status
from refimpl.api import shim_v1_pb2 as pb
from refimpl.backends.real.runtime.bundle import Bundle
from refimpl.backends.real.runtime.shim import within
from refimpl.backends.real.runtime.translation import shim_context
from refimpl.backends.real.runtime.watcher import Watcher, copier, on_exit, open_log
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unavailable, Unknown
from refimpl.ttrpc.client import Client, Closed

log = logging.getLogger("refimpl.runtime")

SERVICE = "containerd.runtime.linux.shim.v1.Shim"
ADDRESS = "address"
SHIM_PID = "shim.pid"
INIT_PID = "init.pid"

_SOCKETS = Path("/run/containerd/s")
_SOCKET_FD = 3
_LOGS = {"shim.stdout.log": 1, "shim.stderr.log": 2}
_KILL_SECONDS = 5.0
_OOM_ADJUST_MOST = 1000

A = TypeVar("A", bound=Message)


@dataclass(frozen=True, slots=True)
class ShimSettings:
    """What shims of the first runtime are started with (RT1-003, RT1-006).

    Attributes:
        binary: the shim, a path or a name on PATH; empty where none is to be started.
        address: path of the daemon's socket.
        program: a program that publishes events (``runtime.program``).
        runtime_root: where the OCI runtime keeps its state; empty for its default.
        debug: let the shim log more, and where the daemon logs.
    """

    binary: str
    address: str
    program: str
    runtime_root: str = ""
    debug: bool = False


class LinuxShim:
    """The shim of one bundle.

    Args:
        ended: called once, in a thread of its own, when the process is over.

    Attributes:
        bundle: where it works.
        gone: set when the process is over.
    """

    def __init__(self, settings: ShimSettings, bundle: Bundle, watcher: Watcher, ended: Callable[[], None]) -> None:
        self.bundle = bundle
        self.gone = threading.Event()
        self._settings = settings
        self._watcher = watcher
        self._ended = ended
        self._client: Client | None = None
        self._pid = 0
        self._forgets: list[Callable[[], None]] = []
        self._address = socket_path(settings.address, bundle)

    def start(self, options: linux_runc_pb2.RuncOptions | None, cgroup: str) -> None:
        """Start the process and connect; a failure leaves nothing but the bundle.

        Args:
            cgroup: where to put the shim; empty to leave it where the daemon is.

        Raises:
            Unknown: it could not be started, or ended at once.
        """
        self._follow_logs()
        try:
            with contextlib.closing(self._listen()) as listener:
                self._pid = self._spawn(listener, self._arguments(options))
            self._forgets.append(on_exit(self._watcher, self._pid, self._over))
            self.bundle.record(ADDRESS, f"unix://{self._address}")
            self.bundle.record(SHIM_PID, str(self._pid))
            self._connect()
            _prefer(self._pid)
            if cgroup:
                _put_into(cgroup, self._pid)
        except BaseException as error:
            self.kill()
            if isinstance(error, OSError):
                raise Unknown(status.text_of(error)) from error
            raise

    def reload(self, seconds: float) -> None:
        """Find the shim of an earlier daemon (RT1-022).

        Raises:
            NotFound: it never made the task: the daemon died before.
            ContainerdError: nobody listens at its address, or not in time.
            OSError: its work directory is gone.
        """
        self._follow_logs()
        self._connect()
        ctx = within(seconds, self.bundle.namespace)
        self._pid = self.call(ctx, "ShimInfo", Empty(), pb.ShimInfoResponse).shim_pid
        try:
            self._forgets.append(on_exit(self._watcher, self._pid, self._over))
        except ProcessLookupError as error:
            self.gone.set()
            raise Unknown(f"shim {self._pid} has ended") from error
        self.call(ctx, "State", pb.StateRequest(id=self.bundle.id), pb.StateResponse)

    def call(self, ctx: CallContext, method: str, request: Message, answer: type[A]) -> A:
        """Ask the shim.

        Raises:
            Closed: there is none any more.
            ContainerdError: what it answers.
        """
        if self._client is None:
            raise Closed
        return self._client.call(shim_context(ctx, self.bundle.namespace), SERVICE, method, request, answer)

    def kill(self) -> None:
        """End the process, wait for its end, and remove its socket (RT1-020). Idempotent."""
        if self._pid and not self.gone.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            if not self.gone.wait(_KILL_SECONDS):
                log.error("failed to kill shim", extra={"fields": {"id": self.bundle.id, "pid": self._pid}})
        self._let_go()
        self._address.unlink(missing_ok=True)

    def leave(self) -> None:
        """Hang up and leave the shim as it is; its task goes on. Idempotent."""
        self._let_go()

    def _let_go(self) -> None:
        while self._forgets:
            self._forgets.pop()()
        if self._client is not None:
            self._client.close()

    def _over(self) -> None:
        self.gone.set()
        threading.Thread(target=self._ended, name="refimpl-shim-reaped", daemon=True).start()

    def _connect(self) -> None:
        try:
            self._client = Client.connect(f"unix://{self._address}")
        except Unavailable as error:
            raise Unknown(error.message) from error

    def _follow_logs(self) -> None:
        for name, target in _LOGS.items():
            descriptor = open_log(str(self.bundle.work / name))
            copy = copier(descriptor, target if self._settings.debug else None)
            self._forgets.append(self._watcher.watch(descriptor, copy))

    def _listen(self) -> socket.socket:
        """The socket that the shim will serve; one that is there already is replaced (RT1-008)."""
        with contextlib.suppress(FileExistsError):
            _SOCKETS.mkdir(mode=0o700, parents=True)
        self._address.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._address))
            os.chmod(self._address, 0o600)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
        return listener

    def _arguments(self, options: linux_runc_pb2.RuncOptions | None) -> list[str]:
        """In the order that shims are used to (RT1-006)."""
        settings = self._settings
        words = [settings.binary, "-namespace", self.bundle.namespace, "-workdir", str(self.bundle.work)]
        words += ["-address", settings.address, "-containerd-binary", settings.program]
        if options is not None and options.criu_path:
            words += ["-criu-path", options.criu_path]
        if root := (options.runtime_root if options is not None else "") or settings.runtime_root:
            words += ["-runtime-root", root]
        if options is not None and options.systemd_cgroup:
            words.append("-systemd-cgroup")
        if settings.debug:
            words.append("-debug")
        return words

    def _spawn(self, listener: socket.socket, arguments: Sequence[str]) -> int:
        if shutil.which(self._settings.binary) is None:
            raise Unknown(f'exec: "{self._settings.binary}": executable file not found in $PATH')
        log.debug("starting shim", extra={"fields": {"command": arguments, "path": self.bundle.path}})
        environment: Mapping[str, str] = {**os.environ, "GOMAXPROCS": "2"}
        # posix_spawn, because `subprocess` cannot give a descriptor another number without running Python in the
        # child, and env, because posix_spawn cannot change the directory.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            moves = [(os.POSIX_SPAWN_DUP2, null, standard) for standard in range(3)]
            moves.append((os.POSIX_SPAWN_DUP2, listener.fileno(), _SOCKET_FD))
            return os.posix_spawnp(
                "env",
                ["env", "-C", str(self.bundle.path), *arguments],
                environment,
                file_actions=moves,
                setpgroup=0,
                setsigdef=[signal.SIGPIPE],
            )
        finally:
            os.close(null)


def socket_path(address: str, bundle: Bundle) -> Path:
    """Where the shim of a bundle listens (RT1-008)."""
    name = os.path.normpath(f"{address}/{bundle.namespace}/{bundle.id}")
    return _SOCKETS / hashlib.sha256(os.fsencode(name)).hexdigest()


def _prefer(pid: int) -> None:
    """Have the kernel kill the shim rather than the daemon."""
    try:
        own = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(min(own + 1, _OOM_ADJUST_MOST)), encoding="ascii")
    except OSError as error:
        log.info("oom_score_adj of the shim is left as it is", extra={"fields": {"error": error}})


def _put_into(cgroup: str, pid: int) -> None:
    """Put a process into a group that is there, in every hierarchy that has it.

    Raises:
        Unknown: none has it.
    """
    top = Path("/sys/fs/cgroup")
    found = [file for file in top.glob(f"*/{cgroup.strip('/')}/cgroup.procs") if "unified" not in file.parts]
    if not found:
        raise Unknown(f"failed to load cgroup {cgroup}")
    for file in found:
        file.write_text(str(pid), encoding="ascii")
