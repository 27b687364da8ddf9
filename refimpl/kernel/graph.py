"""The order of initialisation: what is required first, and otherwise as registered.

Walk the registrations in their order; before one is placed, every plugin of each type that it requires is placed, each
with its own requirements first. So the order is the same at each start and needs no numbers. Clauses PLG-007 to
PLG-011.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from refimpl.kernel.registration import WILDCARD, Registration, RegistrationError


def initialisation_order(registrations: Sequence[Registration]) -> list[Registration]:
    """The enabled plugins, each after all plugins of the types that it requires.

    Args:
        registrations: the enabled plugins, one for each URI, in the order in which they were registered.

    Raises:
        RegistrationError: plugins that wait for each other; the message has the whole chain (PLG-008).
    """
    placed: dict[str, Registration] = {}

    def place(registration: Registration, waiting: tuple[str, ...]) -> None:
        if registration.uri in placed:
            return
        if registration.uri in waiting:
            chain = " -> ".join((*waiting[waiting.index(registration.uri) :], registration.uri))
            raise RegistrationError(
                f"circular plugin dependency at {registration.uri} ({chain}): plugin: dependency loop detected"
            )
        for needed in required(registration, registrations):
            place(needed, (*waiting, registration.uri))
        placed[registration.uri] = registration

    for registration in registrations:
        place(registration, ())
    return list(placed.values())


def required(registration: Registration, registrations: Sequence[Registration]) -> Iterator[Registration]:
    """The plugins that come before ``registration``: by its list of types, within a type as registered.

    A plugin never waits for itself: requiring one's own type means its other plugins (PLG-009).
    """
    for type_ in registration.requires:
        for other in registrations:
            if other.uri != registration.uri and type_ in {WILDCARD, other.type}:
                yield other
