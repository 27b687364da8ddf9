"""Scratch directories: where a service puts files for a runtime, or finds what a runtime has written.

A resource of the world that a plugin runs in (``InitContext.resource(Scratch)``): real directories, or those of a fake
host, so that a path means the same to the service and to the runtime that it is given to.
"""

from __future__ import annotations

from typing import Protocol

from refimpl.contract.mounts import RootFS


class Scratch(Protocol):
    """Makes directories that are nobody else's."""

    def make(self, prefix: str) -> tuple[str, RootFS]:
        """A new empty directory, mode 0700: its absolute path, and the tree below it.

        Args:
            prefix: what its name begins with.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove a directory with all that is in it; one that is gone is no error."""
        ...
