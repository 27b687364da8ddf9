"""The harness: containerd for one shim binary and the length of one check, with nothing left behind."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.any_pb2 import Any as Packed

from conformance import patience, runc_state
from conformance.recorder import Recorder
from conformance.shim import processes, sockets
from conformance.shim.bundle import Bundle, spec
from conformance.shim.command import COMMAND_SECONDS, Output, run
from conformance.shim.events import EventServer
from conformance.shim.task import CALL_SECONDS, Task
from conformance.shim.waiting import until
from refimpl.ttrpc.client import Closed

GROUP = "io.containerd.runc.v2.group"
SANDBOX = "io.kubernetes.cri.sandbox-id"
"""The annotations that put containers into one shim (SHM-020)."""

_PUBLISH = "#!/bin/sh\necho \"$@\" >> '{}'\n"
_CGROUPS = Path("/sys/fs/cgroup")

T = TypeVar("T")


class Container:
    """One container in a shim, spoken to by its id.

    Attributes:
        pid: of its init, from ``Create``.
    """

    def __init__(self, harness: Harness, bundle: Bundle, task: Task, address: str) -> None:
        self._harness = harness
        self.bundle, self.task, self.id, self.address = bundle, task, bundle.id, address
        self.pid = 0

    def create(self, options: Packed | None = None, **stdio: Any) -> int:
        """Create the container; answer with the pid."""
        self.pid = self.task.create(self.id, self.bundle.path, self._harness.rootfs, options=options, **stdio).pid
        self._harness.remember(self.pid)
        return self.pid

    def start(self, exec_id: str = "") -> int:
        """Start the init or an exec; answer with the pid."""
        pid: int = self.task.start(self.id, exec_id).pid
        self._harness.remember(pid)
        return pid

    def exec(self, exec_id: str, args: Sequence[str], **more: Any) -> int:
        """Add an exec and start it; answer with the pid."""
        self.task.exec(self.id, exec_id, args, **more)
        return self.start(exec_id)

    def state(self, exec_id: str = "") -> Any:
        """How the init or an exec is."""
        return self.task.state(self.id, exec_id)

    def kill(self, number: int = signal.SIGKILL, exec_id: str = "", *, all: bool = False) -> None:
        """Send a signal."""
        self.task.kill(self.id, number, exec_id, all=all)

    def wait(self, exec_id: str = "", seconds: float = 0.0) -> Any:
        """Wait for the exit."""
        return self.task.wait(self.id, exec_id, seconds)

    def delete(self, exec_id: str = "") -> Any:
        """Delete the container or an exec."""
        return self.task.delete(self.id, exec_id)

    def shutdown(self) -> None:
        """Ask the shim to end. One that does may be gone before its answer is out."""
        with contextlib.suppress(Closed):
            self.task.shutdown(self.id)

    def end(self) -> Any:
        """Kill, wait and delete; the answer of ``Delete``."""
        self.kill()
        self.wait()
        return self.delete()

    @property
    def shim_pid(self) -> int:
        """The process that serves."""
        return int(self.task.connect(self.id).shim_pid)


class Harness:
    """What a check does to a shim binary.

    Args:
        binary: absolute path.
        rootfs: a root file system for containers; None where the shim needs none.
        recorder: takes the calls down.
        call_seconds: how long a call to the shim may take before it counts as hanging.

    Attributes:
        namespace: the check's own.
        address: the daemon address that the shim is told; nobody listens there.
        events: receives events; started.
        environment: what the commands get besides ``TTRPC_ADDRESS``.
        publish_record: a file that exists once the publish binary was run.
    """

    def __init__(
        self, binary: Path, rootfs: Path | None, recorder: Recorder | None = None, *,
        call_seconds: float = CALL_SECONDS,
    ) -> None:  # fmt: skip
        self.binary, self.rootfs, self.call_seconds = binary, rootfs, call_seconds
        self._recorder = recorder or Recorder()
        self.top = Path(tempfile.mkdtemp(prefix="cfs-"))
        self.namespace = f"{runc_state.PREFIX}{uuid.uuid4().hex[:16]}"
        self.address = str(self.top / "c.sock")
        self.events = EventServer(self.top / "e.sock")
        self.events.start()
        self.environment: dict[str, str] = {}
        self.publish_record = self.top / "published"
        self._publisher = self.top / "publish"
        self._publisher.write_text(_PUBLISH.format(self.publish_record))
        self._publisher.chmod(0o755)
        self._bundles: list[Bundle] = []
        self._tasks: list[Task] = []
        self._sockets: set[Path] = set()
        self._pids: set[tuple[int, str]] = set()
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="check")

    # -- bundles and commands

    def bundle(
        self, args: Sequence[str] = ("/bin/sleep", "100"), *, id: str = "", config: bool = True, log: bool = True,
        annotations: Mapping[str, str] | None = None, **more: Any,
    ) -> Bundle:  # fmt: skip
        """Lay out a bundle for a process with these arguments.

        Args:
            id: of the task; unique on this machine unless given.
            config: whether there is a ``config.json``.
            log: whether the log fifo is read.
            more: for ``conformance.shim.bundle.spec``.
        """
        id = id or f"c-{uuid.uuid4().hex[:12]}"
        written = spec(args, f"/conform-{id}", annotations=annotations, **more) if config else None
        made = Bundle(self.top, id, written, log=log)
        self._bundles.append(made)
        return made

    def command(
        self, bundle: Bundle, action: str, *flags: str, stdin: bytes = b"", namespace: str | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> Output:  # fmt: skip
        """Run a command of the shim in a bundle, with the daemon's arguments.

        Args:
            flags: further flags before the action.
            namespace: instead of the harness's; empty leaves the flag out.
        """
        name = self.namespace if namespace is None else namespace
        argv = [
            str(self.binary), *(["-namespace", name] if name else []), "-address", self.address,
            "-publish-binary", str(self._publisher), "-id", bundle.id, *flags, action,
        ]  # fmt: skip
        return self.run(argv, bundle.path, stdin, seconds)

    def run(
        self, argv: Sequence[str], cwd: Path | None = None, stdin: bytes = b"", seconds: float = COMMAND_SECONDS
    ) -> Output:
        """Run any command line with the environment that the daemon gives."""
        environment = {"TTRPC_ADDRESS": self.events.address, **self.environment}
        output = run(argv, cwd or self.top, environment, stdin, seconds)
        self._recorder.note(f"run in {cwd or self.top}", " ".join(argv), output.said, "", output.seconds)
        return output

    def serve(self, bundle: Bundle, options: Packed | None = None) -> str:
        """Run ``start`` and answer with the address.

        Raises:
            AssertionError: it failed, or printed no address.
        """
        stdin = options.SerializeToString() if options is not None else b""
        output = self.command(bundle, "start", stdin=stdin)
        assert output.status == 0, f"start failed: {output.said}"
        assert output.address, f"start printed no address: {output.said}"
        if (path := Path(output.address.removeprefix("unix://"))).is_absolute():
            self._sockets.add(path)
        return output.address

    def delete(self, bundle: Bundle) -> Output:
        """Run ``delete`` as the daemon does when it has lost the shim."""
        return self.command(bundle, "delete", "-bundle", str(bundle.path))

    # -- serving shims

    def task(self, address: str) -> Task:
        """A new connection to a serving shim."""
        made = Task(address, self.call_seconds)
        self._tasks.append(made)
        with contextlib.suppress(Exception):
            self.remember(made.connect("").shim_pid)
        return self._recorder.watch("task", made)

    def shim(self, args: Sequence[str] = ("/bin/sleep", "100"), **more: Any) -> Container:
        """A serving shim with a bundle; ``Create`` was not called."""
        bundle = self.bundle(args, **more)
        address = self.serve(bundle)
        return Container(self, bundle, self.task(address), address)

    def created(
        self, args: Sequence[str] = ("/bin/sleep", "100"), options: Packed | None = None, **more: Any
    ) -> Container:
        """A created container in a shim of its own."""
        made = self.shim(args, **more)
        made.create(options)
        return made

    def running(self, args: Sequence[str] = ("/bin/sleep", "100"), **more: Any) -> Container:
        """A running container in a shim of its own."""
        made = self.created(args, **more)
        made.start()
        return made

    def join(self, other: Container, args: Sequence[str] = ("/bin/sleep", "100"), **more: Any) -> Container:
        """One more container for a shim that serves already, without the start command; not created."""
        return Container(self, self.bundle(args, **more), other.task, other.address)

    def later(self, work: Callable[[], T]) -> Future[T]:
        """Do something at the same time."""
        return self._pool.submit(work)

    def socket_of(self, group: str) -> Path:
        """Where the reference shim for this id or group listens (SHM-015)."""
        path = sockets.of(self.address, self.namespace, group)
        self._sockets.add(path)
        return path

    def shim_processes(self) -> list[int]:
        """All processes that serve for this daemon, whatever namespace they think they are in."""
        return processes.serving(self.address)

    # -- the end

    def remember(self, pid: int) -> None:
        """End this process with the check, if it still is the same."""
        if pid > 1 and (begun := processes.begun(pid)):
            self._pids.add((pid, begun))

    def close(self) -> list[str]:
        """End all processes, unmount, and remove what there is of files, sockets and cgroups; what could not be."""
        for task in self._tasks:
            task.close()
        for pid in self.shim_processes():
            processes.kill(pid)
        for bundle in self._bundles:
            # The shim's own clean-up first: it knows which OCI runtime has the container.
            with contextlib.suppress(Exception):
                run(
                    [str(self.binary), "-namespace", self.namespace, "-address", self.address, "-publish-binary",
                     str(self._publisher), "-id", bundle.id, "-bundle", str(bundle.path), "delete"],
                    bundle.path, {"TTRPC_ADDRESS": self.events.address, **self.environment}, seconds=patience.SECONDS,
                )  # fmt: skip
        for pid, begun in self._pids:
            if processes.begun(pid) == begun:
                processes.kill(pid)
        until(lambda: not self.shim_processes())
        left = self.shim_processes()
        self.events.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for bundle in self._bundles:
            bundle.close()
            _forget_cgroups(bundle.id)
        runc_state.forget(self.namespace)
        for point in processes.mounts_below(self.top):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        for path in self._sockets:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.top, ignore_errors=True)
        return [f"process {pid} of the shim" for pid in left]


def _forget_cgroups(id: str) -> None:
    """Remove what an OCI runtime that was cut short leaves of a container."""
    for folder in (_CGROUPS / f"conform-{id}", *_CGROUPS.glob(f"*/conform-{id}")):
        with contextlib.suppress(OSError):
            folder.rmdir()
