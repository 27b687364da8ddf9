"""The init context: all that a plugin is given when it is made.

Directories are names, not yet on disk: the plugin makes those that it needs, with containerd's modes; a fake one makes
none (PLG-022). What a plugin sets here (exports, capabilities, platforms) is listed even when it fails afterwards
(PLG-024).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from refimpl.contract.times import Clock
from refimpl.contract.types import Platform
from refimpl.kernel.config import StreamProcessor

if TYPE_CHECKING:
    from refimpl.kernel.plugins import Plugin, PluginSet
    from refimpl.kernel.registration import Registration
    from refimpl.kernel.resources import Resources

T = TypeVar("T")


@dataclass(slots=True)
class InitContext:
    """What one ``init`` gets.

    Attributes:
        registration: the plugin's own announcement.
        root: ``<root>/<URI>``: what survives a reboot belongs here.
        state: ``<state>/<URI>``: what is gone after a reboot belongs here.
        config: the decoded section of the configuration (an instance of ``registration.config``, defaults filled in);
            None without one.
        address: path of the daemon's gRPC socket (PLG-023).
        ttrpc_address: path of its ttrpc socket.
        exports: what the plugin tells about itself; fill it in.
        capabilities: names of its features; fill it in.
        platforms: the platforms it serves; the machine's own one is there already if the registration asked for it.
        clock: where to get the time.
        log: a logger named after the plugin.
        timeouts: the ``[timeouts]`` of the configuration, in seconds by name; 0 is none.
        stream_processors: the ``[stream_processors]`` of the configuration, by id, in the file's order.
    """

    registration: Registration
    root: Path
    state: Path
    config: Any
    address: str
    ttrpc_address: str
    clock: Clock
    log: logging.Logger
    _set: PluginSet
    _resources: Resources
    exports: dict[str, str] = field(default_factory=dict)
    capabilities: list[str] = field(default_factory=list)
    platforms: list[Platform] = field(default_factory=list)
    timeouts: dict[str, float] = field(default_factory=dict)
    stream_processors: Mapping[str, StreamProcessor] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The plugin's own name."""
        return self.registration.uri

    def get(self, type: str) -> Any:
        """The instance of the one plugin of a type that comes before this one.

        Raises:
            NotFound: there is none (PLG-015).
            Unknown: two of them work.
            Exception: the error of the one there is (PLG-016).
        """
        return self._set.get(type)

    def get_by_id(self, type: str, id: str) -> Any:
        """The instance of one plugin.

        Raises:
            NotFound: it was not initialised.
            Exception: its own error.
        """
        return self._set.get_by_id(type, id)

    def get_by_type(self, type: str) -> dict[str, Plugin]:
        """All plugins of a type by id, failed and skipped ones too: ask each for its ``instance()``.

        Raises:
            NotFound: there is none.
        """
        return self._set.get_by_type(type)

    def plugins(self) -> list[Plugin]:
        """All plugins initialised as of this call, in order; call it later again to see later ones (PLG-054)."""
        return list(self._set)

    def resource(self, cls: type[T]) -> T:
        """An object that the assembly provides, such as the fake host or a ``contract.kv.StoreFactory``.

        Raises:
            SkipPlugin: nobody provides it; let it pass, and the plugin is skipped with that reason.
        """
        return self._resources.get(cls, uri=self.uri, backend=self.registration.backend)
