"""Names of methods as a test writes them, and the methods that they mean.

A name is a full one (``containerd.services.images.v1.Images/Get``, with or without a slash in front), the end of one
(``Images/Get``), or either with wildcards (``Images/*``, ``*``). A name that means nothing is refused: a test that
counts calls of a method that does not exist would hold for ever.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase


class UnknownMethod(ValueError):
    """The daemon serves no such method, or several; the message says which it does."""


class Methods:
    """The methods that a daemon serves."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def know(self, names: Iterable[str]) -> None:
        """Take note of what is served, as ``service/Method``."""
        self._names = sorted(names)

    def find(self, name: str) -> frozenset[str]:
        """The full names of what ``name`` means: one method, or several if it has a ``*``.

        Raises:
            UnknownMethod: none, or more than one without a ``*``.
        """
        wanted = name.removeprefix("/")
        found = frozenset(full for full in self._names if fnmatchcase(full, wanted) or _ends(full, wanted))
        if not found:
            raise UnknownMethod(f"no method {name!r} is served{self._instead(wanted)}")
        if len(found) > 1 and "*" not in wanted:
            raise UnknownMethod(f"{name!r} may mean {' or '.join(sorted(found))}")
        return found

    def _instead(self, wanted: str) -> str:
        """What may have been meant."""
        service, slash, _ = wanted.rpartition("/")
        if slash and (there := [full.rpartition("/")[2] for full in self._names if _ends(full, f"{service}/*")]):
            return f"; {service} has {', '.join(there)}"
        short = {_short(full): full for full in self._names}
        close = difflib.get_close_matches(_short(wanted), short, n=3, cutoff=0.5)
        return f"; did you mean {' or '.join(short[one] for one in close)}?" if close else ""


def _ends(full: str, wanted: str) -> bool:
    return fnmatchcase(full, f"*.{wanted}")


def _short(full: str) -> str:
    service, _, method = full.rpartition("/")
    return f"{service.rpartition('.')[2]}/{method}"
