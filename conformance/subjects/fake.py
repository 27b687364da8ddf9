"""``fake``: all plugins with fake backends, in this process.

No root, no network, and no files but one socket for raw calls.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc

from conformance.subjects.base import Identity, OwnInstance, SubjectError
from conformance.subjects.configuration import merged
from conformance.subjects.proxied import registrations
from conformance.wire import MAX_MESSAGE
from refimpl import __version__
from refimpl.contract.mounts import Mounter
from refimpl.contract.snapshots import Snapshotter
from refimpl.kernel import GRPCService, Kernel, assemble
from refimpl.kernel.config import Configuration, load

SNAPSHOTTERS = ("overlayfs", "aufs", "btrfs", "devmapper", "native", "zfs")
"""All work in the fake world. The first is the one for checks where any will do."""

ROOT, STATE = Path("/fake/root"), Path("/fake/state")
"""Directories of the fake world; nothing of these names is made on the disk."""

STOP_SECONDS = 0.5
"""How long calls under way may take to end by themselves."""

_SERVICE = "io.containerd.service.v1"


class FakeSubject(OwnInstance):
    """The fakes behind the services, spoken to as objects.

    Args:
        extra: modules or objects with hook implementations on top of the built-in ones (mutants come this way). One
            with a method ``conformance_kernel`` gets the kernel before it boots.
        config: TOML (version 2) for the plugins.
        world: resources that outlive a restart, by class; None for a fresh world.
        whole: whether every service must work; an instance that a check configures may be meant to lack some.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        extra: Sequence[object] = (),
        config: str = "",
        world: Mapping[type[Any], object] | None = None,
        whole: bool = True,
    ) -> None:
        super().__init__(name)
        self._extra, self._config, self._world, self._whole = extra, config, world, whole
        self._kernel: Kernel | None = None
        self._socket = _Socket()
        self.snapshotters = SNAPSHOTTERS
        self.capabilities = frozenset(
            {"config", "restart", "proxy", "in-process", "mknod", "xattr", "fifo", "cgroup-v1"}
        )

    def open(self) -> None:
        """Boot the kernel."""
        try:
            self._boot()
        # A mutant may break anything, at boot too: that is a subject that cannot be judged, not a crash of the run.
        except Exception as error:
            raise SubjectError(f"the fakes do not start: {type(error).__name__}: {error}") from error

    def _boot(self) -> None:
        configuration = _configuration(self._config)
        self._kernel = assemble(
            root=ROOT,
            state=STATE,
            backends="fake",
            configuration=configuration,
            resources=self._world,
            extra=self._extra,
            registrations=registrations(configuration.proxy_plugins),
            entry_points=False,
            # As containerd and as the daemon: a key that nobody knows is ignored.
            strict=False,
        )
        for hook in self._extra:
            if (adjust := getattr(hook, "conformance_kernel", None)) is not None:
                adjust(self._kernel)
        plugins = self._kernel.boot()
        self._world = self._kernel.resources.made()

        def service(id: str, *, optional: bool = False) -> Any:
            try:
                return plugins.get_by_id(_SERVICE, f"{id}-service")
            except Exception:  # a plugin's own error, of whatever kind
                if self._whole and not optional:
                    raise
                return None

        self.content, self.images, self.containers = service("content"), service("images"), service("containers")
        self.namespaces, self.leases, self.diff = service("namespaces"), service("leases"), service("diff")
        self.introspection = service("introspection")
        self.tasks = service("tasks", optional=True)
        self.events = cast("Any", plugins.get("io.containerd.event.v1"))
        self._by_id: Mapping[str, Snapshotter] = service("snapshots")
        self.mounter = self._kernel.resources.get(Mounter)  # type: ignore[type-abstract]  # a Protocol is the key

    def close(self) -> None:
        """End the kernel and the socket, in this order: a stream hears from its plugin that it is over."""
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            kernel.close()
        self._socket.close()

    @property
    def address(self) -> str:  # type: ignore[override]  # the server is started when a check asks for its socket
        """A socket that serves the same plugins, for raw calls."""
        assert self._kernel is not None, "asked for only after open"
        return self._socket.serve([p.made for p in self._kernel.plugins if p.error is None])

    @property
    def has_socket(self) -> bool:
        """Yes: it is made when it is wanted."""
        return True

    def identity(self) -> Identity:
        """refimpl, all fakes."""
        assert self._kernel is not None, "asked for only after open"
        serves = {p.uri: p.registration.backend or "built in" for p in self._kernel.plugins if p.error is None}
        return Identity("refimpl (fake backends, in process)", __version__, serves)

    def plugin(self, type: str, id: str) -> object:
        """From the kernel's set."""
        assert self._kernel is not None, "asked for only after open"
        return self._kernel.plugins.get_by_id(type, id)

    def snapshotter(self, id: str) -> Snapshotter:
        """From the snapshots service, whose answer for an unknown id is its own."""
        return self._by_id[id]

    @contextmanager
    def spawn(self, config: str = "") -> Iterator[OwnInstance]:
        """A second fake world."""
        instance = FakeSubject(f"{self.name} (own)", extra=self._extra, config=config, whole=False)
        try:
            instance.open()
            yield instance
        finally:
            instance.close()

    def restart(self, *, kill: bool = False) -> None:  # see below
        """Boot a new kernel in the same world: its disk, its databases.

        A thread cannot be killed, so ``kill`` is a stop as well; real deaths are for subjects that are processes.
        """
        self.close()
        self.open()


def _configuration(text: str) -> Configuration:
    """The configuration in a text, read as a daemon reads its file."""
    if not text:
        return Configuration()
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(merged("version = 2\n", text))
        file.flush()
        return load(Path(file.name))


class _Socket:
    """A gRPC server on a socket in a temporary directory, for as long as the kernel lives."""

    def __init__(self) -> None:
        self._server: grpc.Server | None = None
        self._folder = ""

    def serve(self, instances: Sequence[object]) -> str:
        """Serve the gRPC services among ``instances``, once; answer with the path of the socket."""
        if self._server is None:
            self._folder = tempfile.mkdtemp(prefix="cfm-")
            # Subscribers and open write streams hold a thread each; a single check has few of them.
            limits = [("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)]
            self._server = grpc.server(ThreadPoolExecutor(32), options=limits)
            for instance in instances:
                if isinstance(instance, GRPCService):
                    instance.register_grpc(self._server)
            self._server.add_insecure_port(f"unix:{self._folder}/fake.sock")
            self._server.start()
        return f"{self._folder}/fake.sock"

    def close(self) -> None:
        """Stop serving; calls under way are cancelled."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(STOP_SECONDS).wait(5)
            shutil.rmtree(self._folder, ignore_errors=True)
