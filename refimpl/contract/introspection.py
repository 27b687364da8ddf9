"""Introspection: what a daemon is made of, as it tells its clients.

Clauses SVC-001 to 007, PLG-011 to 013, PLG-024 to 029, PLG-054 to 058.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from refimpl.contract.context import CallContext
from refimpl.contract.types import Platform


@dataclass(frozen=True, slots=True)
class PluginError:
    """Why a plugin does not work.

    Attributes:
        code: gRPC status code of the error's kind (PLG-029).
        message: its text; contains ``skip plugin`` when the plugin decided not to load (PLG-028).
    """

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One plugin as listed.

    Attributes:
        requires: required types in declared order (PLG-027).
        platforms: those it serves, for a plugin that depends on the platform; else empty (PLG-025).
        exports: what it tells about itself, also when it failed (PLG-024).
        capabilities: names of features (PLG-026).
        init_err: None for a plugin that works.
    """

    type: str
    id: str
    requires: Sequence[str] = ()
    platforms: Sequence[Platform] = ()
    exports: Mapping[str, str] = field(default_factory=dict)
    capabilities: Sequence[str] = ()
    init_err: PluginError | None = None

    @property
    def uri(self) -> str:
        """Type and id joined by a dot."""
        return f"{self.type}.{self.id}"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who a daemon is.

    Attributes:
        uuid: drawn once per root directory (SVC-002).
        pid: process id (0 in 1.6, which does not tell).
        pidns: inode of its pid namespace (0 in 1.6).
    """

    uuid: str
    pid: int = 0
    pidns: int = 0


class Introspection(Protocol):
    """Answers about the daemon itself; needs no namespace (PLG-058)."""

    def plugins(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[PluginInfo]:
        """The plugins for which any filter holds, in order of initialisation (PLG-012), each once (PLG-054).

        Filters know ``type`` and ``id`` (PLG-055, PLG-056).

        Raises:
            InvalidArgument: a filter that does not parse (PLG-057).
        """
        ...

    def server(self, ctx: CallContext) -> ServerInfo:
        """Identity of the daemon: the same at each call and after a restart (SVC-001, SVC-002).

        Raises:
            Unknown: what is kept is no UUID (SVC-003).
        """
        ...
