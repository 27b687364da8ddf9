"""``fake``: all plugins with fake backends, in this process.

No root, no network, and no files but one socket for raw calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.subjects.in_process import InProcess
from refimpl.kernel import Kernel

SNAPSHOTTERS = ("overlayfs", "aufs", "btrfs", "devmapper", "native", "zfs")
"""All work in the fake world. The first is the one for checks where any will do."""

ROOT, STATE = Path("/fake/root"), Path("/fake/state")
"""Directories of the fake world; nothing of these names is made on the disk."""


class FakeSubject(InProcess):
    """The fakes behind the services, spoken to as objects.

    Args:
        extra, config, whole: as for ``InProcess``.
        world: resources that outlive a restart, by class; None for a fresh world.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        extra: Sequence[object] = (),
        config: str = "",
        world: Mapping[type[Any], object] | None = None,
        whole: bool = True,
    ) -> None:
        super().__init__(name, "fake", extra=extra, config=config, whole=whole)
        self._world = world
        self.snapshotters = SNAPSHOTTERS
        self.capabilities |= {"cgroup-v1"}

    def place(self) -> tuple[Path, Path]:
        """The fake world's own."""
        return ROOT, STATE

    def world(self) -> Mapping[type[Any], object]:
        """That of the last kernel: its disk, its databases, its host."""
        return self._world or {}

    def booted(self, kernel: Kernel) -> None:
        """Keep the world for the next kernel."""
        self._world = kernel.resources.made()

    def close(self) -> None:
        """End it all, programs too: they run in this process and would outlive everybody."""
        super().close()
        for resource in self.world().values():
            if (switch_off := getattr(resource, "switch_off", None)) is not None:
                switch_off()

    def another(self, config: str) -> InProcess:
        """A second fake world."""
        return FakeSubject(f"{self.name} (own)", extra=self._extra, config=config, whole=False)
