"""``refimpl serve``: a start, a wait, a stop.

The order is containerd's: configuration, directories, the process, all plugins, all sockets, readiness; and back: the
announcement, the sockets, the plugins in reverse. What a start cannot do without ends it with status 1, one line, and
nothing left behind. Clauses DMN-001 to DMN-070.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refimpl.api.status import text_of
from refimpl.contract.mounts import ClientMounts, TemporaryMounts
from refimpl.contract.times import Clock
from refimpl.daemon import directories, notify, plugin_dir, process
from refimpl.daemon import log as daemon_log
from refimpl.daemon.endpoints import Endpoints
from refimpl.daemon.signals import Signals, Stopped
from refimpl.daemon.sockets import ListenError
from refimpl.grpc.version import BUILD
from refimpl.kernel import ConfigError, Configuration, Kernel, Registration, RegistrationError, RequiredPluginError
from refimpl.kernel.assembly import assemble
from refimpl.kernel.backends import AUTO, FAKE
from refimpl.kernel.config import Position, load, refuse_unknown
from refimpl.kernel.kernel import machine_platform
from refimpl.linux.malloc import limit_arenas

if TYPE_CHECKING:
    import grpc

log = logging.getLogger("refimpl.daemon")

HEAPS = 2
"""Heaps for all threads: Python runs one at a time, and gRPC's own allocate little."""

REFUSALS = (
    ConfigError,
    ListenError,
    OSError,
    RegistrationError,
    RequiredPluginError,
    daemon_log.LogSettingError,
    directories.DirectoryError,
    plugin_dir.PluginFileError,
)
"""What a start may fail with, other than by a mistake of ours."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; empty values say nothing. Flags win over the file (DMN-017).

    Attributes:
        config: the file; None for the default one, which need not exist.
        hide_mounts: do not tell clients the mounts of snapshots (``contract.mounts.ClientMounts``).
        strict_config: refuse keys that nobody knows, which are otherwise logged.
    """

    config: Path | None = None
    root: str = ""
    state: str = ""
    address: str = ""
    log_level: str = ""
    log_format: str = ""
    backends: str = ""
    debug_address: str = ""
    metrics_address: str = ""
    hide_mounts: bool = False
    strict_config: bool = False


def serve(options: Options) -> int:
    """Run a daemon until it is told to stop.

    Returns:
        The exit status: 0 after a stop, 1 for a start that failed or was broken off.
    """
    begin = time.monotonic()
    signals = Signals()
    daemon: Daemon | None = None
    try:
        signals.install()
        limit_arenas(HEAPS)
        configuration = settings(options)
        world: dict[type[Any], object] = {ClientMounts: ClientMounts(told=False)} if options.hide_mounts else {}
        daemon = Daemon(configuration, options.backends or AUTO, strict=options.strict_config, world=world)
        daemon.boot()
        signals.booted()
        daemon.open()
        notify.notify(notify.READY)
        # What a start has made stays: no later collection needs to look through it. The command starts without any.
        gc.freeze()
        gc.enable()
        log.info("containerd successfully booted in %.6fs", time.monotonic() - begin)
        signals.wait()
        notify.notify(notify.STOPPING)
    except Stopped:
        return _refuse("context canceled")
    except REFUSALS as error:
        return _refuse(text_of(error))
    finally:
        if daemon is not None:
            daemon.stop()
    return 0


def settings(options: Options) -> Configuration:
    """The configuration that is in force: the file and its imports, and the flags over them; the log is set up as well.

    Raises:
        ConfigError: the file cannot be used.
        LogSettingError: no such log level or format.
    """
    unknown: list[Position] = []
    loaded = load(options.config, refuse_unknown if options.strict_config else unknown.append)
    configuration = overridden(loaded, options)
    daemon_log.configure(configuration.debug.level, configuration.debug.format)
    for position in unknown:
        log.warning("Ignoring unknown key in TOML", extra={"fields": position.fields()})
    if configuration.by_id:
        log.warning(
            "containerd config version `1` has been deprecated, please switch to version `2` "
            "(`refimpl config migrate` prints the file as version 2)"
        )
    return configuration


def overridden(configuration: Configuration, options: Options) -> Configuration:
    """``configuration`` with what the command line says."""
    grpc, debug, metrics = configuration.grpc, configuration.debug, configuration.metrics
    return replace(
        configuration,
        root=options.root or configuration.root,
        state=options.state or configuration.state,
        grpc=replace(grpc, address=options.address or grpc.address),
        debug=replace(
            debug,
            address=options.debug_address or debug.address,
            level=options.log_level or debug.level,
            format=options.log_format or debug.format,
        ),
        metrics=replace(metrics, address=options.metrics_address or metrics.address),
    )


class Daemon:
    """One daemon, from its configuration to its end.

    Args:
        configuration: flags included.
        backends: ``real``, ``fake`` or ``auto``.
        strict: refuse unknown keys in plugins' sections instead of logging them.
        clock: None for the system's.
        world: resources by class, for instance the ``world`` of a daemon that was stopped: then this is its restart.
        interceptors: what gRPC calls pass through, outermost first.
    """

    def __init__(
        self,
        configuration: Configuration,
        backends: str = AUTO,
        *,
        strict: bool = False,
        clock: Clock | None = None,
        world: Mapping[type[Any], object] | None = None,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
    ) -> None:
        self.configuration = configuration
        self._backends = backends
        self._strict = strict
        self._clock = clock
        self._given = world
        self._interceptors = interceptors
        self._kernel: Kernel | None = None
        self._endpoints: Endpoints | None = None

    def boot(self) -> None:
        """Get hold of the directories and initialise the plugins; may wait for another daemon on the root (DMN-050).

        Raises:
            Exception: one of ``REFUSALS``; call ``stop`` all the same.
        """
        settings_ = self.configuration
        directories.check(settings_.root, settings_.state)
        log.info("starting refimpl", extra={"fields": {"revision": BUILD.revision, "version": BUILD.version}})
        modules = plugin_dir.load(Path(settings_.plugin_dir or f"{settings_.root}/plugins"), machine_platform())
        if self._keeps_state():
            directories.make(Path(settings_.root), Path(settings_.state))
        directories.use_temporary(settings_.temp)
        process.set_oom_score(settings_.oom_score)
        process.join_cgroup(settings_.cgroup.path)
        temporary = TemporaryMounts(str(Path(settings_.root, directories.TEMPORARY_MOUNTS)))
        self._kernel = assemble(
            root=Path(settings_.root),
            state=Path(settings_.state),
            backends=self._backends,
            configuration=settings_,
            clock=self._clock,
            resources={TemporaryMounts: temporary, **(self._given or {})},
            extra=modules,
            registrations=_proxies(settings_),
            strict=self._strict,
        )
        self._kernel.boot()

    def open(self) -> None:
        """Open the endpoints, with the services of all plugins on them.

        Raises:
            ListenError: one of them cannot be opened; call ``stop`` all the same.
        """
        assert self._kernel is not None, "boot() comes first"
        self._endpoints = Endpoints(self.configuration, self._kernel.plugins, self._interceptors)
        self._endpoints.open()

    @property
    def methods(self) -> Sequence[str]:
        """What is on the main socket, as ``service/Method``; nothing before ``open``."""
        return self._endpoints.methods if self._endpoints is not None else ()

    @property
    def world(self) -> Mapping[type[Any], object]:
        """What the plugins were given from outside (disk, databases, clock), by class."""
        assert self._kernel is not None, "boot() comes first"
        return self._kernel.resources.made()

    def stop(self, patience: float = 0.0) -> None:
        """Close the endpoints, then the plugins, last initialised first. Idempotent.

        Args:
            patience: seconds to wait for threads of calls that were under way. A process that ends anyway waits for
                nobody; one that goes on may want to know them gone.
        """
        if self._endpoints is not None:
            self._endpoints.close()
        if self._kernel is not None:
            self._kernel.close()
        if self._endpoints is not None and patience:
            self._endpoints.join(patience)

    def _keeps_state(self) -> bool:
        """Whether root and state are needed on the disk.

        A daemon made of fakes keeps nothing, so a user without rights to containerd's own directories can start one.
        Directories that were named are made all the same.
        """
        chosen = self.configuration.refimpl.backends
        only_fakes = {FAKE} == {chosen.get("default", self._backends), *chosen.values()}
        stock = Configuration()
        named = (self.configuration.root, self.configuration.state) != (stock.root, stock.state)
        return named or not only_fakes


def _proxies(configuration: Configuration) -> list[Registration]:
    if not configuration.proxy_plugins:
        return []
    # The client costs a tenth of a second of the start, and few daemons have a proxy.
    from refimpl.daemon.proxies import registrations  # noqa: PLC0415

    return registrations(configuration.proxy_plugins)


def _refuse(message: str) -> int:
    # Not the log: it may be what could not be set up.
    sys.stderr.write(f"refimpl: {message}\n")
    return 1
