"""Version: which build answers (SVC-008)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from refimpl.contract.context import CallContext


@dataclass(frozen=True, slots=True)
class Version:
    """A build.

    Attributes:
        version: its version, never empty.
        revision: what it was made from; may be empty.
    """

    version: str
    revision: str


class VersionService(Protocol):
    """Answers with the daemon's version; needs no namespace."""

    def version(self, ctx: CallContext) -> Version:
        """The daemon's version; works when everything else has failed."""
        ...
