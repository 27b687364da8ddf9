"""The fake world as one object: a disk, a mount table, devices, processes, cgroups and a clock.

Every fake plugin takes its ``FakeHost`` and touches nothing else, so a test that holds the host sees all that they do,
and two kernels started one after the other on one host are a restart. All of it is guarded by one lock.
Twin: Linux.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from refimpl.backends.fake.cgroups import CgroupTree
from refimpl.backends.fake.fs import DiskFS
from refimpl.backends.fake.fs_view import View
from refimpl.backends.fake.mounttable import MountTable, Volume
from refimpl.backends.fake.processes import ProcessTable
from refimpl.contract.context import CallContext
from refimpl.contract.mount_options import read_only_mounts
from refimpl.contract.mounts import Mount, RootFS
from refimpl.contract.times import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class HostFeatures:
    """What differs between kernels and where plugins ask for it.

    Attributes:
        overlay_index: the overlay module knows ``index`` (SNX-014).
        user_namespace: the daemon runs in one, so overlay keeps its marks in user.* attributes (SNX-015).
        aufs_dirperm1: the aufs module knows ``dirperm1``.
        cgroup_version: 1, or 2 for a host with the unified hierarchy only.
        processors: how many it has.
    """

    overlay_index: bool = True
    user_namespace: bool = False
    aufs_dirperm1: bool = True
    cgroup_version: int = 1
    processors: int = 2


_DIRECTORIES = ("/dev", "/etc", "/proc", "/sys", "/tmp", "/var")  # noqa: S108  # of the fake disk
"""What a container needs that has the machine's own root file system."""

_OFF_SECONDS = 30.0
"""How long one process may take to notice that the machine is switched off."""

_OVERLAY = "/sys/module/overlay/parameters"


class FakeHost:
    """A Linux machine that is not there.

    Args:
        clock: the machine's clock; by default the real time, so that a daemon on a fake host can be used by people.
            Tests give a ``FakeClock``.
        features: what its kernel can do.

    Attributes:
        fs: the whole disk with all that is mounted, absolute paths.
        mounts: the mount table.
        mounter: performs mounts in a place of its own.
        volumes: block devices and datasets by name (``/dev/mapper/pool-snap-1``, ``tank/containerd/1``).
        databases: what plugins keep in files of their own format, by the file's path.
        cgroups: the groups of its processes.
        processes: what runs. It goes on when a daemon ends; ``switch_off`` ends it.
        lock: held during every operation; take it to see several at once.
    """

    def __init__(self, clock: Clock | None = None, features: HostFeatures | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.features = features or HostFeatures()
        self.lock = threading.RLock()
        self.volumes: dict[str, Volume] = {}
        self.databases: dict[str, object] = {}
        self.cgroups = CgroupTree(self.features.cgroup_version, self.features.processors)
        self.processes = ProcessTable(self.clock, self.cgroups)
        self.mounts = MountTable(DiskFS(self.clock), self.volumes, self.lock, self.clock)
        self.fs: View = self.mounts.view
        self.mounter = HostMounter(self)

    def furnish(self) -> FakeHost:
        """Make the directories that a machine has and a bare disk has not; answers with itself."""
        for directory in _DIRECTORIES:
            self.fs.mkdir(directory)
        if self.features.overlay_index:
            self.fs.makedirs(_OVERLAY)
            self.fs.write(f"{_OVERLAY}/index", b"N\n")
        return self

    def switch_off(self) -> None:
        """End all processes, frozen ones too, which are threads here: for whoever gives the machine up. Idempotent."""
        for group in self.cgroups.root.downwards():
            self.cgroups.thaw(group)
        # Again: one that was told to end may have been making another at that moment.
        while processes := self.processes.kill_all():
            if not all(process.ended.wait(_OFF_SECONDS) for process in processes):
                return


class HostMounter:
    """A ``contract.mounts.Mounter`` on the fake host.

    Args:
        directory: where the temporary mount points are made (containerd: ROOT/tmpmounts).
    """

    def __init__(self, host: FakeHost, directory: str = "/var/lib/containerd/tmpmounts") -> None:
        self._host = host
        self._directory = directory
        self._numbers = itertools.count(1)

    @contextmanager
    def mounted(self, ctx: CallContext, mounts: Sequence[Mount], *, read_only: bool = False) -> Iterator[RootFS]:
        """What ``mounts`` show together, for as long as the block lasts (MNT-002 to MNT-004, MNT-024, MNT-027).

        Raises:
            OSError: what mount(2) gives; earlier mounts of the list are undone.
        """
        ctx.check()
        host = self._host
        target = f"{self._directory}/containerd-mount{next(self._numbers)}"
        host.fs.makedirs(self._directory, 0o700)
        host.fs.mkdir(target, 0o700)
        try:
            for mount in read_only_mounts(mounts) if read_only else mounts:
                host.mounts.mount(target, mount)
            yield host.fs.below(target)
        finally:
            host.mounts.unmount_all(target)
            # Never recursively: should an unmount have failed, a snapshot's files are below (MNT-025).
            with suppress(OSError):
                host.fs.rmdir(target)
