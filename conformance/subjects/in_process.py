"""Plugins in this process, spoken to as objects: what ``fake`` and ``real`` have in common."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from conformance.subjects.base import Identity, OwnInstance, SubjectError
from conformance.subjects.configuration import merged
from conformance.subjects.proxied import registrations
from conformance.subjects.served import ServedPlugins
from refimpl import __version__
from refimpl.contract.mounts import Mounter
from refimpl.contract.snapshots import Snapshotter
from refimpl.kernel import Kernel, assemble
from refimpl.kernel.config import Configuration, load

_SERVICE = "io.containerd.service.v1"


class InProcess(OwnInstance):
    """The services over one kind of backends, in a kernel of this process.

    Args:
        backends: ``fake`` or ``real``.
        extra: modules or objects with hook implementations on top of the built-in ones (mutants come this way). One
            with a method ``conformance_kernel`` gets the kernel before it boots.
        config: TOML (version 2) for the plugins.
        whole: whether every service must work; an instance that a check configures may be meant to lack some.
    """

    def __init__(
        self, name: str, backends: str, *, extra: Sequence[object] = (), config: str = "", whole: bool = True
    ) -> None:
        super().__init__(name)
        self._backends, self._extra, self._config, self._whole = backends, extra, config, whole
        self._kernel: Kernel | None = None
        self._served = ServedPlugins()
        self.capabilities = frozenset({"config", "restart", "proxy", "in-process", "mknod", "xattr", "fifo"})

    def place(self) -> tuple[Path, Path]:
        """Root and state of the kernel that is about to boot."""
        raise NotImplementedError

    def world(self) -> Mapping[type[Any], object]:
        """Resources for the kernel that is about to boot, by class."""
        return {}

    def base(self) -> str:
        """What the configuration of every instance says, as TOML."""
        return "version = 2\n"

    def open(self) -> None:
        """Boot the kernel.

        Raises:
            SubjectError: it does not boot, or lacks a service.
        """
        try:
            self._boot()
        except SubjectError:
            raise
        # A mutant may break anything, at boot too: that is a subject that cannot be judged, not a crash of the run.
        except Exception as error:
            raise SubjectError(f"the plugins do not start: {type(error).__name__}: {error}") from error

    def _boot(self) -> None:
        root, state = self.place()
        configuration = _configuration(merged(self.base(), self._config))
        self._kernel = assemble(
            root=root,
            state=state,
            backends=self._backends,
            configuration=configuration,
            resources=self.world(),
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
        self.booted(self._kernel)

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

    def booted(self, kernel: Kernel) -> None:
        """What is to be done once the plugins are there."""

    def end(self) -> None:
        """End the kernel and the servers, in this order: a stream hears from its plugin that it is over."""
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            kernel.close()
        self._served.close()

    def close(self) -> None:
        """End it all; no socket stays."""
        self.end()
        self._served.remove()

    @property
    def address(self) -> str:  # type: ignore[override]  # the server is started when a check asks for its socket
        """A socket that serves the same plugins, for raw calls."""
        return self._served.serve_grpc(self.instances())

    @property
    def has_socket(self) -> bool:
        """Yes: it is made when it is wanted."""
        return True

    def instances(self) -> list[object]:
        """Of all plugins that work."""
        assert self._kernel is not None, "asked for only after open"
        return [p.made for p in self._kernel.plugins if p.error is None]

    def identity(self) -> Identity:
        """refimpl, with these backends."""
        assert self._kernel is not None, "asked for only after open"
        serves = {p.uri: p.registration.backend or "built in" for p in self._kernel.plugins if p.error is None}
        return Identity(f"refimpl ({self._backends} backends, in process)", __version__, serves)

    def plugin(self, type: str, id: str) -> object:
        """From the kernel's set."""
        assert self._kernel is not None, "asked for only after open"
        return self._kernel.plugins.get_by_id(type, id)

    def snapshotter(self, id: str) -> Snapshotter:
        """From the snapshots service, whose answer for an unknown id is its own."""
        return self._by_id[id]

    def another(self, config: str) -> InProcess:
        """A further instance of the same kind, which may lack services."""
        raise NotImplementedError

    @contextmanager
    def spawn(self, config: str = "") -> Iterator[OwnInstance]:
        """A second world."""
        instance = self.another(config)
        try:
            instance.open()
            yield instance
        finally:
            instance.close()

    def restart(self, *, kill: bool = False) -> None:  # see below
        """Boot a new kernel in the same world: its disk, its databases.

        A thread cannot be killed, so ``kill`` is a stop as well; real deaths are for subjects that are processes.
        """
        self.end()
        self.open()


def _configuration(text: str) -> Configuration:
    """The configuration in a text, read as a daemon reads its file."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        return load(Path(file.name))
