"""Which world a plugin's leaf touches: the real one, the fake one, or whichever is there.

A real and a fake plugin register one URI and are told apart by ``backend`` only. The policy chooses for each URI: by
its own entry in the table ``[refimpl.backends]`` of the configuration, else by that table's ``default``, else by
``--backends``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from refimpl.kernel.context import InitContext
from refimpl.kernel.registration import Registration, RegistrationError, Registry, SkipPlugin

REAL, FAKE, AUTO = "real", "fake", "auto"


@dataclass(frozen=True, slots=True)
class BackendPolicy:
    """A choice of backends.

    Attributes:
        default: ``real``, ``fake``, ``auto`` (real where there is one, else fake), or the word of a stranger's backend.
        by_uri: the same for single plugins; wins over ``default``.
    """

    default: str = AUTO
    by_uri: Mapping[str, str] = field(default_factory=dict)

    def worlds(self) -> set[str]:
        """Which of ours this can come to: a plugin of another one is never chosen, and need not be imported.

        Every built-in plugin that touches a world is there in both. With ``auto``, and for the word of a stranger, a
        plugin that is not ours may have the say.
        """
        asked = {self.default, *self.by_uri.values()}
        if not asked <= {REAL, FAKE}:
            return {REAL, FAKE}
        return asked

    def choice(self, uri: str) -> str:
        """What is asked for, for this plugin."""
        return self.by_uri.get(uri, self.default)

    def pick(self, uri: str, offered: Collection[str], own: str = "") -> str | None:
        """The backend to use out of those ``offered``; None when the one asked for is not among them.

        Args:
            own: the backend of the plugin that asks for a resource; a fake plugin lives in the fake world whatever
                the policy.
        """
        wanted = own or self.choice(uri)
        if "" in offered:
            return ""
        if wanted != AUTO:
            return wanted if wanted in offered else None
        return next((backend for backend in (REAL, FAKE, *sorted(offered)) if backend in offered), None)


def check_words(registry: Registry, policy: BackendPolicy) -> None:
    """Refuse a backend that no plugin has: a daemon in which every plugin skips is nobody's wish.

    Raises:
        RegistrationError: the policy asks for one.
    """
    known = {REAL, FAKE, *(backend for uri in registry.uris() for backend in registry.candidates(uri) if backend)}
    for word in (policy.default, *policy.by_uri.values()):
        if word not in {AUTO, *known}:
            there = ", ".join(sorted(known))
            raise RegistrationError(f'no plugin has a backend "{word}" (there are: {there}, and {AUTO})')


def choose(registry: Registry, policy: BackendPolicy) -> list[Registration]:
    """One registration for each URI, in the order of the registry.

    A plugin that lacks the backend asked for stays in the list, so that its clients can see why it is missing: it
        skips.
    """
    chosen = []
    for uri in registry.uris():
        candidates = registry.candidates(uri)
        backend = policy.pick(uri, candidates)
        chosen.append(candidates[backend] if backend is not None else _skipping(candidates, policy.choice(uri)))
    return chosen


def _skipping(candidates: Mapping[str, Registration], wanted: str) -> Registration:
    there = ", ".join(sorted(candidates))

    def init(ic: InitContext) -> object:
        raise SkipPlugin(f"there is no {wanted} backend of {ic.uri} (there is: {there})")

    return replace(next(iter(candidates.values())), init=init, backend=wanted)
