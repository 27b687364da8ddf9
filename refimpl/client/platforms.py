"""Platforms: reading them, and choosing among those that an index offers (IMG-038 to 040)."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Sequence

from refimpl.contract.errors import InvalidArgument
from refimpl.contract.types import Platform

_COMPONENT = re.compile(r"[A-Za-z0-9_-]+")
_ARCHITECTURES = {"i386": "386", "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
_MACHINES = {"armv6l": ("arm", "v6"), "armv7l": ("arm", "v7"), "i686": ("386", "")}
_FALLBACKS = {
    ("amd64", ""): [("386", "")],
    ("arm64", ""): [("arm", "v8"), ("arm", "v7"), ("arm", "v6"), ("arm", "v5")],
    ("arm", "v7"): [("arm", "v6"), ("arm", "v5")],
    ("arm", "v6"): [("arm", "v5")],
}
"""What a processor can run besides its own programs, best first."""


def normalized(found: Platform) -> Platform:
    """The one spelling of a platform that has several."""
    system = {"macos": "darwin"}.get(found.os.lower(), found.os.lower())
    architecture = found.architecture.lower()
    variant = found.variant.lower()
    if architecture in {"i386", "x86_64", "x86-64"}:
        variant = ""
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if architecture == "arm64" and variant in {"8", "v8"}:
        variant = ""
    if architecture == "armhf":
        architecture, variant = "arm", "v7"
    elif architecture == "armel":
        architecture, variant = "arm", "v6"
    elif architecture == "arm":
        variant = {"": "v7"}.get(variant, f"v{variant.removeprefix('v')}")
    return Platform(system, architecture, variant)


def host() -> Platform:
    """The platform of this machine."""
    architecture, variant = _MACHINES.get(platform.machine(), (platform.machine(), ""))
    return normalized(Platform(sys.platform, architecture, variant))


def parse(text: str) -> Platform:
    """Read ``os/arch``, ``os/arch/variant`` or an architecture alone.

    Raises:
        InvalidArgument: another number of parts, or characters that none of them has.
    """
    parts = text.split("/")
    if len(parts) > 3 or not all(_COMPONENT.fullmatch(part) for part in parts):
        raise InvalidArgument(f'platform "{text}"')
    if len(parts) == 1:
        parts = [host().os, *parts]
    return normalized(Platform(*parts))


class Choice:
    """Which platforms are wanted, best first.

    Args:
        wanted: platforms in order of preference; None for every platform, this machine's before others.
    """

    def __init__(self, wanted: Sequence[Platform] | None) -> None:
        self._every = wanted is None
        self._order = [normalized(one) for one in wanted] if wanted is not None else [host()]

    @classmethod
    def default(cls) -> Choice:
        """This machine's platform, then those whose programs it runs as well."""
        here = host()
        others = _FALLBACKS.get((here.architecture, here.variant), [])
        return cls([here, *(Platform(here.os, architecture, variant) for architecture, variant in others)])

    @classmethod
    def only(cls, wanted: Platform) -> Choice:
        """One platform and no other."""
        return cls([wanted])

    @classmethod
    def every(cls) -> Choice:
        """All platforms."""
        return cls(None)

    def accepts(self, found: Platform | None) -> bool:
        """Whether an entry of this platform passes; one that states none always does (IMG-040)."""
        return self._every or found is None or normalized(found) in self._order

    def rank(self, found: Platform | None) -> int:
        """Place in the order of preference, the smallest first; an entry without a platform comes last."""
        if found is None:
            return len(self._order) + 1
        known = normalized(found)
        return self._order.index(known) if known in self._order else len(self._order)

    def __str__(self) -> str:
        return str(self._order[0])
