"""Resources: what plugins need from whoever assembled them, asked for by class.

A fake plugin needs its host, the metadata store a key-value engine, and none of them may import it from a backend.
They ask ``InitContext.resource(FakeHost)``; an assembly, or a module's ``refimpl_resources`` hook, provides it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from refimpl.kernel.backends import BackendPolicy
from refimpl.kernel.registration import SkipPlugin

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that a module offers.

    Attributes:
        key: the class (or Protocol) by which plugins ask for it.
        make: makes it, given the resources (to ask for others, such as ``contract.times.Clock``). Called at most once.
        backend: ``"real"`` or ``"fake"``: which world it belongs to.
    """

    key: type[Any]
    make: Callable[[Resources], object]
    backend: str = ""


class Resources:
    """The resources of one kernel.

    Args:
        given: objects that are there already, by class; they win over offers.
        offers: what modules offer.
        policy: which world is preferred where both offer.
    """

    def __init__(
        self, given: Mapping[type[Any], object], offers: Iterable[Resource] = (), policy: BackendPolicy | None = None
    ) -> None:
        self._given = dict(given)
        self._policy = policy or BackendPolicy()
        self._offers: dict[type[Any], dict[str, Resource]] = {}
        for offer in offers:
            self._offers.setdefault(offer.key, {})[offer.backend] = offer
        self._made: dict[tuple[type[Any], str], object] = {}
        # Reentrant: a resource may ask for another while it is made.
        self._lock = threading.RLock()

    def get(self, key: type[T], *, uri: str = "", backend: str = "") -> T:
        """The resource of that class.

        Args:
            uri: the plugin that asks; the policy may choose a world for it alone.
            backend: the world that the plugin itself belongs to; it wins over the policy.

        Raises:
            SkipPlugin: nobody provides it in the chosen world. A plugin that does not catch this is skipped with that
                reason.
        """
        found: Any
        if key in self._given:
            found = self._given[key]
            return found  # type: ignore[no-any-return]  # keyed by class: what is under it is of that class
        offers = self._offers.get(key, {})
        choice = self._policy.pick(uri, offers, backend)
        if choice is None:
            wanted = backend or self._policy.choice(uri)
            raise SkipPlugin(f"no {key.__name__} is provided by the {wanted} backends")
        with self._lock:
            if (key, choice) not in self._made:
                self._made[key, choice] = offers[choice].make(self)
            found = self._made[key, choice]
        return found  # type: ignore[no-any-return]

    def made(self) -> dict[type[Any], object]:
        """Everything given or made so far, by class; given to another kernel, that one boots in the same world."""
        with self._lock:
            return {**{key: made for (key, _), made in self._made.items()}, **self._given}
