"""The kernel: initialises plugins one after the other and keeps what became of each.

One failing plugin does not stop the others (PLG-030), unless the configuration requires it (PLG-037). A section of the
configuration that cannot be decoded stops everything (PLG-040). Clauses PLG-012 to PLG-063.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refimpl.contract.errors import ContainerdError, Unknown
from refimpl.contract.times import Clock, SystemClock
from refimpl.contract.types import Platform
from refimpl.kernel.backends import AUTO, BackendPolicy, choose
from refimpl.kernel.config import Configuration, Duration, Position, decode
from refimpl.kernel.context import InitContext
from refimpl.kernel.graph import initialisation_order
from refimpl.kernel.hooks import Hooks
from refimpl.kernel.plugins import Plugin, PluginSet
from refimpl.kernel.registration import Registration, Registry, SkipPlugin
from refimpl.kernel.resources import Resources

log = logging.getLogger("refimpl.kernel")

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
_VARIANTS = {"arm64": "v8", "arm": "v7"}


class RequiredPluginError(Exception):
    """A plugin without which nothing may start is missing or does not work."""


class Kernel:
    """One assembly of plugins, from its registrations to its end.

    Args:
        registrations: everything that was announced, in order.
        root, state: directories below which each plugin has its own. Not created here.
        configuration: which plugins are disabled or required, their sections, the addresses.
        backends: which world each plugin's leaf touches (``real``, ``fake``, ``auto``); the configuration's table
            ``[refimpl.backends]`` wins over it.
        clock: given to plugins.
        resources: objects for ``InitContext.resource``, by class.
        hooks: who may offer further resources, wrap instances and observe.
        strict: refuse unknown keys in plugins' sections; otherwise they are logged (PLG-039).
    """

    def __init__(
        self,
        registrations: Registry | Sequence[Registration],
        *,
        root: Path,
        state: Path,
        configuration: Configuration | None = None,
        backends: str = AUTO,
        clock: Clock | None = None,
        resources: Mapping[type[Any], object] | None = None,
        hooks: Hooks | None = None,
        strict: bool = True,
    ) -> None:
        self.registry = registrations if isinstance(registrations, Registry) else Registry(registrations)
        self.root, self.state = root, state
        self.configuration = configuration or Configuration()
        self.policy = policy_of(backends, self.configuration)
        self.clock: Clock = clock or SystemClock()
        self.plugins = PluginSet()
        self._hooks = hooks or Hooks()
        # A Protocol is a fine key: whoever asks for ``Clock`` gets ours.
        given: dict[type[Any], object] = {Clock: self.clock, **(resources or {})}
        self.resources = Resources(given, self._hooks.resources(), self.policy)
        self._strict = strict
        self._timeouts = {k: Duration.parse(v).seconds for k, v in self.configuration.timeouts.items()}

    def order(self) -> list[Registration]:
        """The enabled plugins, one backend each, in the order of initialisation.

        Raises:
            RegistrationError: they wait for each other (PLG-008).
        """
        chosen = choose(self.registry, self.policy)
        return initialisation_order([r for r in chosen if not self.configuration.disables(r)])

    def boot(self) -> PluginSet:
        """Initialise every enabled plugin.

        Returns:
            The set, also kept as ``plugins``: working, skipped and failed ones.

        Raises:
            RegistrationError: plugins that wait for each other.
            RequiredPluginError: a required plugin does not exist (PLG-036), or does not work; what was initialised
                before it is closed again (PLG-037).
            ConfigError: a section that cannot be decoded (PLG-040).
        """
        order = self.order()
        self._require_all(order)
        try:
            for registration in order:
                self._initialise(registration)
        except BaseException:
            self.close()
            raise
        return self.plugins

    def close(self) -> None:
        """Close every instance that can be closed, last first; a failing one is logged (PLG-061). Idempotent."""
        plugins, self.plugins = self.plugins, PluginSet()
        for plugin in reversed(list(plugins)):
            close = getattr(plugin.made, "close", None) if plugin.error is None else None
            if close is None:
                continue
            try:
                close()
            except Exception as error:  # noqa: BLE001  # any plugin's code: the others have to be closed all the same
                log.error("failed to close plugin", extra={"fields": {"error": error, "id": plugin.uri}})

    def _require_all(self, order: Sequence[Registration]) -> None:
        included = {self.configuration.name(registration) for registration in order}
        missing = [name for name in self.configuration.required_plugins if name not in included]
        if missing:
            raise RequiredPluginError(f"required plugin [{' '.join(missing)}] not included")

    def _initialise(self, registration: Registration) -> None:
        uri, fields = registration.uri, {"type": registration.type}
        log.info('loading plugin "%s"...', uri, extra={"fields": fields})
        context = self._context(registration)
        plugin = Plugin(registration, exports=context.exports)
        try:
            plugin.made = self._hooks.wrap(registration, registration.init(context))
        except Exception as error:  # noqa: BLE001  # any plugin's code: its failure is its own, with whatever it raised (PLG-062)
            plugin.error = _told(error)
            self._report(plugin, error)
        # Lists, not the context's own objects: what a plugin lists is what it had set by the end of its turn.
        plugin.capabilities, plugin.platforms = list(context.capabilities), list(context.platforms)
        plugin.exports = dict(context.exports)
        if plugin.error is not None and self.configuration.requires(registration):
            raise RequiredPluginError(f"load required plugin {uri}: {plugin.error}") from plugin.error
        self.plugins.add(plugin)
        self._hooks.initialized(plugin)

    def _context(self, registration: Registration) -> InitContext:
        uri = registration.uri
        return InitContext(
            registration=registration,
            root=self.root / uri,
            state=self.state / uri,
            config=self._config(registration),
            address=self.configuration.grpc.address,
            ttrpc_address=self.configuration.ttrpc_address,
            clock=self.clock,
            log=logging.getLogger(f"refimpl.plugin.{uri}"),
            platforms=_platforms(registration),
            timeouts=dict(self._timeouts),
            stream_processors=self.configuration.stream_processors,
            _set=self.plugins,
            _resources=self.resources,
        )

    def _config(self, registration: Registration) -> Any:
        if registration.config is None:
            return None
        section = self.configuration.section(registration)
        if section is None:
            return registration.config()

        def warn(position: Position) -> None:
            log.warning(
                "Ignoring unknown key in TOML for plugin",
                extra={"fields": {**position.fields(), "plugin": registration.uri}},
            )

        if self._strict:
            return decode(registration.config, section.values, section.position)
        return decode(registration.config, section.values, section.position, warn)

    @staticmethod
    def _report(plugin: Plugin, error: Exception) -> None:
        if plugin.status == "skip":
            fields = {"error": plugin.error, "type": plugin.registration.type}
            log.info('skip loading plugin "%s"...', plugin.uri, extra={"fields": fields})
        else:
            log.warning("failed to load plugin %s", plugin.uri, extra={"fields": {"error": plugin.error}})
            log.debug("trace of the failed plugin %s", plugin.uri, exc_info=error)


def policy_of(backends: str, configuration: Configuration) -> BackendPolicy:
    """The choice of backends in force: ``backends``, and the configuration's table over it."""
    by_uri = dict(configuration.refimpl.backends)
    return BackendPolicy(by_uri.pop("default", backends), by_uri)


def _told(error: Exception) -> Exception:
    """The error as dependents and clients see it: with a kind and a text that a person can read."""
    if isinstance(error, ContainerdError | SkipPlugin):
        return error
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror[0].lower() + error.strerror[1:]
        told = Unknown(f"{error.filename}: {text}" if error.filename is not None else text)
    elif isinstance(error, ValueError | RuntimeError):
        told = Unknown(str(error))
    else:
        told = Unknown(f"{type(error).__name__}: {error}")
    told.__cause__ = error
    return told


def _platforms(registration: Registration) -> list[Platform]:
    if isinstance(registration.platforms, bool):
        return [machine_platform()] if registration.platforms else []
    return list(registration.platforms)


def machine_platform() -> Platform:
    """What this machine runs, in containerd's words (PLG-025)."""
    machine = platform.machine()
    architecture = _ARCHITECTURES.get(machine, machine)
    return Platform(sys.platform, architecture, _VARIANTS.get(architecture, ""))
