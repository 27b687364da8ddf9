"""A plugin as it is announced: what it is called, what has to be there before it, and how it is made.

A registration is data. Announcing one does nothing: the kernel calls ``init`` when it is the plugin's turn. The
registry refuses what can never work (no type, no id, a name that is taken) at once, not when it is first used.
Clauses PLG-001 to PLG-006 and PLG-009.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refimpl.contract.types import Platform

if TYPE_CHECKING:
    from refimpl.kernel.context import InitContext

WILDCARD = "*"
"""As the only entry of ``requires``: after everything else (PLG-007)."""


class RegistrationError(Exception):
    """A registration that can never work: a mistake in a program or in a configuration, not in a call."""


class SkipPlugin(Exception):
    """Raised by an ``init`` that decides not to load: a tool, a device or a setting is missing.

    Clients tell a skip from a failure by the words ``skip plugin`` in the text (PLG-028).

    Args:
        reason: what is missing, for a person to read.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"{self.reason}: skip plugin"


@dataclass(frozen=True, slots=True)
class Registration:
    """One plugin, as its module announces it.

    Attributes:
        type: what kind of plugin, such as ``io.containerd.content.v1``.
        id: its name among plugins of the type.
        init: makes the instance; called once, when everything in ``requires`` has been initialised. An exception is
            the plugin's failure, ``SkipPlugin`` its decision not to load.
        requires: types of which all plugins come before this one, in the order in which they are looked for; they need
            not exist (PLG-014). ``("*",)`` is everything else.
        config: a dataclass type with defaults, or None; the plugin's section of the configuration is decoded into it.
        platforms: True for a plugin that depends on the machine (it then lists the machine's platform), or the
            platforms.
        backend: ``""`` for a plugin that touches no world; else which one: ``"real"``, ``"fake"``, or a stranger's
            word. Several backends may register one URI; the backend policy picks one of them.
    """

    type: str
    id: str
    init: Callable[[InitContext], object]
    requires: Sequence[str] = ()
    config: Any = None
    platforms: bool | Sequence[Platform] = False
    backend: str = ""

    @property
    def uri(self) -> str:
        """Type and id joined by a dot: the plugin's name in configurations and on disk (PLG-001)."""
        return f"{self.type}.{self.id}"


class Registry:
    """All registrations, in the order in which they were announced, at most one for each URI and backend."""

    def __init__(self, registrations: Sequence[Registration] = ()) -> None:
        self._by_uri: dict[str, dict[str, Registration]] = {}
        for registration in registrations:
            self.add(registration)

    def add(self, registration: Registration) -> None:
        """Announce one more plugin; a refused one leaves the registry as it was.

        Raises:
            RegistrationError: no type (PLG-002), no id (PLG-003), a URI that is taken (PLG-004), or a wildcard that
                does not stand alone (PLG-006).
        """
        if not registration.type:
            raise RegistrationError(f'plugin: no type (plugin "{registration.id}")')
        if not registration.id:
            raise RegistrationError(f"plugin: no id (plugin of type {registration.type})")
        if WILDCARD in registration.requires and len(registration.requires) != 1:
            raise RegistrationError(f"{registration.uri}: invalid requires: {WILDCARD!r} must stand alone")
        taken = self._by_uri.get(registration.uri, {})
        for other in taken.values():
            # A real and a fake twin share a URI. Whoever has no backend, or the same one, or the same text made of
            # another type and id, is a second plugin of that name.
            twins = (other.type, other.id) == (registration.type, registration.id)
            if not twins or not registration.backend or not other.backend or other.backend == registration.backend:
                raise RegistrationError(f"{registration.uri}: plugin: id already registered")
        self._by_uri.setdefault(registration.uri, {})[registration.backend] = registration

    def uris(self) -> list[str]:
        """Every URI, in the order of its first registration."""
        return list(self._by_uri)

    def candidates(self, uri: str) -> dict[str, Registration]:
        """The registrations of a URI, by backend."""
        return dict(self._by_uri.get(uri, {}))

    def __iter__(self) -> Iterator[Registration]:
        for twins in self._by_uri.values():
            yield from twins.values()
