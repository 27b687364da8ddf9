"""Daemons behind a socket: one that we start (``daemon:KIND``) or one that runs already (``unix://``)."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conformance import patience
from conformance.subjects import machine
from conformance.subjects.base import Identity, OwnInstance, SubjectError
from conformance.subjects.configuration import merged
from conformance.subjects.process import Command, DaemonProcess, Layout, containerd_command, refimpl_command
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.snapshots import Snapshotter
from refimpl.linux.mounter import KernelMounter

PROBE_SECONDS = patience.SECONDS
"""How long a daemon may take for its first answer."""

_SNAPSHOTTERS = "io.containerd.snapshotter.v1"
_TASKS = "io.containerd.service.v1.tasks-service"


class DaemonSubject(OwnInstance):
    """A daemon spoken to over its gRPC socket with our client."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._client: Client | None = None
        self._identity = Identity(name)

    def connect(self, address: str) -> None:
        """Reach the daemon and fill in the protocols.

        Raises:
            SubjectError: no answer, or none of a containerd, in ``PROBE_SECONDS``.
        """
        self.address = address
        self._client = client = Client(address, timeout=2 * patience.SECONDS)
        probe = CallContext(deadline=_soon())
        try:
            version = client.version.version(probe)
            plugins = client.introspection.plugins(probe)
        except ContainerdError as error:
            self.disconnect()
            raise SubjectError(f"no containerd answers at {address}: {error}") from error
        self.content, self.images, self.containers = client.content, client.images, client.containers
        self.namespaces, self.leases, self.events = client.namespaces, client.leases, client.events
        self.diff, self.introspection, self.version = client.diff, client.introspection, client.version
        if Path(f"{address}.ttrpc").is_socket():
            self.capabilities |= {"ttrpc"}
        working = [p for p in plugins if p.init_err is None]
        # A daemon may be built without tasks, or lack what its runtimes need: then its plugin says so.
        self.tasks = client.tasks if any(p.uri == _TASKS for p in working) else None
        ids = [p.id for p in working if p.type == _SNAPSHOTTERS]
        # The one that everybody has first: checks for which any will do take it.
        self.snapshotters = sorted(ids, key=lambda id: (id != "overlayfs", id))
        serves = {p.uri: f"proxy {p.exports['address']}" if "address" in p.exports else "built in" for p in working}
        self._identity = Identity(self.product(), version.version, serves)

    def disconnect(self) -> None:
        """Let go of the connection. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def product(self) -> str:
        """What the daemon is called in reports."""
        return self.name

    def identity(self) -> Identity:
        """From Version and Introspection."""
        return self._identity

    def snapshotter(self, id: str) -> Snapshotter:
        """Through the Snapshots service."""
        assert self._client is not None, "asked for only after open"
        return self._client.snapshotter(id)

    def alive(self) -> str:
        """Ask for the version once more."""
        if self._client is None or self.version is None:
            return "not connected"
        try:
            self.version.version(CallContext(deadline=_soon()))
        except ContainerdError as error:
            return f"the daemon no longer answers: {error}"
        return ""

    def close(self) -> None:
        """Let go of the connection; the daemon stays."""
        self.disconnect()


class RunningDaemon(DaemonSubject):
    """A daemon that somebody uses. Nothing of theirs is touched: every check has a namespace of its own.

    Args:
        spec: as on the command line.
        socket: path of its socket; left out, the one in ``spec``.
    """

    def __init__(self, spec: str, socket: str = "") -> None:
        super().__init__(spec)
        self._socket = socket or spec.removeprefix("unix://")

    def open(self) -> None:
        """Connect.

        Raises:
            SubjectError: no socket there, or nobody answers.
        """
        if not Path(self._socket).exists():
            raise SubjectError(f"there is no socket {self._socket}")
        self.connect(self._socket)
        if os.geteuid() == 0:
            self.capabilities |= {"root", "mknod", "xattr"}
            # Mounts of a daemon in our own mount namespace name directories that we can see.
            if _same_mounts(self._socket):
                self.mounter = KernelMounter()


class SpawnedDaemon(DaemonSubject):
    """A daemon of ours on a temporary root.

    Args:
        command, config: as for ``DaemonProcess``.
        product: what it is called in reports.
        real: whether its mounts and files are the machine's.
        overrides: TOML appended to the configuration file.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        config: Callable[[Layout], str],
        *,
        product: str,
        real: bool,
        overrides: str = "",
    ) -> None:
        super().__init__(name)
        self._command, self._make_config, self._product, self._real = command, config, product, real
        self._overrides = overrides
        self._process: DaemonProcess | None = None
        self.capabilities = frozenset({"config", "spawn", "command", "log"})
        if not real:
            self.capabilities |= {"fifo", "cgroup-v1"}
        if real:
            self.capabilities |= machine.capabilities()
            # A fake world dies with its process: only a real one is there again after a restart.
            self.capabilities |= {"restart", "kill", "disk", "root", "mknod", "xattr"}
            if shutil.which("strace") is not None:
                self.capabilities |= {"strace"}

    def product(self) -> str:
        """As given."""
        return self._product

    def open(self) -> None:
        """Start and connect."""
        config, overrides = self._make_config, self._overrides
        self._process = DaemonProcess(self._command, lambda layout: merged(config(layout), overrides))
        self._start()

    def _start(self) -> None:
        assert self._process is not None, "made in open"
        self._process.start()
        self.connect(str(self._process.layout.address))
        if self._real:
            self.root = self._process.layout.root
            self.mounter = KernelMounter(self._process.layout.top)

    def close(self) -> None:
        """Disconnect, end the daemon, remove its directories."""
        self.disconnect()
        process, self._process = self._process, None
        if process is not None:
            process.remove()

    def alive(self) -> str:
        """A daemon that ended says more than one that does not answer."""
        if self._process is None or not self._process.running():
            return "the daemon ended"
        return super().alive()

    @contextmanager
    def spawn(self, config: str = "") -> Iterator[OwnInstance]:
        """One more of the same kind."""
        instance = SpawnedDaemon(
            f"{self.name} (own)",
            self._command,
            self._make_config,
            product=self._product,
            real=self._real,
            overrides=config,
        )
        try:
            instance.open()
            yield instance
        finally:
            instance.close()

    def restart(self, *, kill: bool = False) -> None:
        """End the process and start it again on the same root."""
        assert self._process is not None, "asked for only after open"
        self.disconnect()
        self._process.stop(kill=kill)
        self._start()

    def log(self) -> str:
        """Its standard output and error."""
        return self._process.log() if self._process is not None else ""


def spawned(spec: str) -> SpawnedDaemon:
    """The subject ``daemon:KIND``.

    Raises:
        SubjectError: an unknown kind, or one that cannot run here, with what to do about it.
    """
    kind = spec.removeprefix("daemon:")
    if kind not in _KINDS:
        raise SubjectError(f"{spec!r}: no such daemon; use {', '.join(f'daemon:{each}' for each in _KINDS)}")
    if kind == "containerd" and shutil.which("containerd") is None:
        raise SubjectError(f"{spec} needs containerd: apt-get install containerd runc")
    if kind != "fake" and os.geteuid() != 0:
        raise SubjectError(f"{spec} needs root")
    command, config = _KINDS[kind]
    product = "containerd" if kind == "containerd" else f"refimpl serve --backends {kind}"
    return SpawnedDaemon(spec, command, config, product=product, real=kind != "fake")


def _containerd_config(layout: Layout) -> str:
    # CRI stays off: it takes a second to start, watches the events of all namespaces and has an area of its own.
    return merged(layout.own_opt(), 'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n')


_KINDS: dict[str, tuple[Command, Callable[[Layout], str]]] = {
    "fake": (refimpl_command("fake"), lambda _: "version = 2\n"),
    "real": (refimpl_command("real"), Layout.own_opt),
    "containerd": (containerd_command, _containerd_config),
}


def _same_mounts(address: str) -> bool:
    """Whether the process behind a socket shares our mount namespace (so that its paths mean the same to us)."""
    with suppress(OSError):
        inode = next(
            line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(f" {address}")
        )
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if any(os.readlink(fd) == f"socket:[{inode}]" for fd in (process / "fd").iterdir()):
                    return os.readlink(process / "ns/mnt") == os.readlink("/proc/self/ns/mnt")
    return False


def _soon() -> float:
    return time.monotonic() + PROBE_SECONDS
