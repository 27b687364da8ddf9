"""What plugins ask for by class in the real world: mounts, scratch directories, and an engine of databases.

The twin of ``refimpl.backends.fake.resources``. The real clock is there already: every kernel has one.
"""

from __future__ import annotations

from pathlib import Path

from refimpl.backends.real.bolt import BoltStoreFactory
from refimpl.backends.real.scratch import RealScratch
from refimpl.contract.kv import StoreFactory
from refimpl.contract.mounts import Mounter, TemporaryMounts
from refimpl.contract.scratch import Scratch
from refimpl.kernel import Resource, Resources, hookimpl
from refimpl.linux.mounter import KernelMounter


def _mounter(resources: Resources) -> KernelMounter:
    directory = resources.get(TemporaryMounts, backend="real").directory
    return KernelMounter(Path(directory) if directory else None)


@hookimpl
def refimpl_resources() -> list[Resource]:
    """The machine's mounts and directories, and databases in bbolt's format."""
    return [
        # What a daemon says about its own root wins.
        Resource(TemporaryMounts, lambda _: TemporaryMounts(), backend="real"),
        Resource(Mounter, _mounter, backend="real"),
        Resource(Scratch, lambda _: RealScratch(), backend="real"),
        Resource(StoreFactory, lambda _: BoltStoreFactory(), backend="real"),
    ]
