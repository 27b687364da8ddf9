"""Version: which build answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from refimpl.contract.context import CallContext


@dataclass(frozen=True, slots=True)
class Version:
    """A build: its version text and the revision it was made from."""

    version: str
    revision: str


class VersionService(Protocol):
    """Answers with the daemon's version; needs no namespace."""

    def version(self, ctx: CallContext) -> Version:
        """The daemon's version."""
        ...
