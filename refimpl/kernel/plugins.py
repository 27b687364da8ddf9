"""Plugins after their turn: the instance or the error, and the set in which others look them up.

Clauses PLG-015, PLG-016, PLG-018 to PLG-021 and PLG-024 to PLG-028.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from refimpl.contract.errors import AlreadyExists, NotFound, Unknown
from refimpl.contract.types import Platform
from refimpl.kernel.registration import Registration, SkipPlugin


@dataclass(slots=True)
class Plugin:
    """A plugin that had its turn.

    Attributes:
        registration: what was announced.
        error: why it does not work; None for a plugin that does.
        exports: what it tells about itself, also when it failed later (PLG-024).
        capabilities: names of features.
        platforms: what it serves; empty for a plugin that does not depend on the machine.
        made: the instance as users get it; meaningless with an ``error``.
    """

    registration: Registration
    error: Exception | None = None
    exports: dict[str, str] = field(default_factory=dict)
    capabilities: list[str] = field(default_factory=list)
    platforms: list[Platform] = field(default_factory=list)
    made: object = None

    @property
    def uri(self) -> str:
        """Type and id joined by a dot."""
        return self.registration.uri

    @property
    def status(self) -> str:
        """``ok``, ``skip`` or ``error``, as ``ctr plugins ls`` shows it."""
        if self.error is None:
            return "ok"
        return "skip" if isinstance(self.error, SkipPlugin) else "error"

    def instance(self) -> object:
        """What ``init`` made.

        Raises:
            Exception: the plugin's own error, so that its class and text travel to its dependents (PLG-016).
        """
        if self.error is not None:
            raise self.error
        return self.made


class PluginSet:
    """The plugins initialised so far, in their order."""

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        self._by_uri: dict[str, Plugin] = {}
        for plugin in plugins:
            self.add(plugin)

    def add(self, plugin: Plugin) -> None:
        """Put one more at the end.

        Raises:
            AlreadyExists: it is in the set (PLG-021).
        """
        if plugin.uri in self._by_uri:
            raise AlreadyExists(f"plugin {plugin.uri} already initialized")
        self._by_uri[plugin.uri] = plugin

    def __iter__(self) -> Iterator[Plugin]:
        # A copy: the introspection service lists while later plugins are still being added.
        return iter(list(self._by_uri.values()))

    def __len__(self) -> int:
        return len(self._by_uri)

    def __contains__(self, uri: str) -> bool:
        return uri in self._by_uri

    def __getitem__(self, uri: str) -> Plugin:
        """The plugin of that URI.

        Raises:
            KeyError: there is none.
        """
        return self._by_uri[uri]

    def get(self, type: str) -> object:
        """The instance of the one plugin of a type.

        Raises:
            NotFound: nothing of the type was initialised (PLG-015).
            Unknown: two of them work; taking either would be luck (PLG-018, PLG-019).
            Exception: none of them works; the error of the first.
        """
        plugins = list(self.get_by_type(type).values())
        working = [plugin for plugin in plugins if plugin.error is None]
        if len(working) > 1:
            raise Unknown(f"multiple plugins registered for {type}: plugin: multiple instances")
        return (working or plugins)[0].instance()

    def get_by_id(self, type: str, id: str) -> object:
        """The instance of one plugin.

        Raises:
            NotFound: it was not initialised (PLG-020).
            Exception: its own error.
        """
        plugin = self._by_uri.get(f"{type}.{id}")
        if plugin is None:
            raise NotFound(f"no {type} plugins with id {id}")
        return plugin.instance()

    def get_by_type(self, type: str) -> dict[str, Plugin]:
        """All plugins of a type by id, in order, failed and skipped ones too (PLG-020).

        Raises:
            NotFound: nothing of the type was initialised (PLG-015).
        """
        found = {plugin.registration.id: plugin for plugin in self if plugin.registration.type == type}
        if not found:
            raise NotFound(f"no plugins registered for {type}")
        return found
