"""The fake host's cgroups: a tree that counts processor time, memory and processes, limits them and freezes them.

One tree serves both of the kernel's interfaces; ``version`` says which of them the host shows (MON-020). Usage is
charged to a group and to all above it; a limit is that of a group on the way up. Nobody is charged by looking: what a
process uses it says itself, in fixed amounts (``processes``), so that numbers repeat.
Clauses MON-006 to MON-008, MON-016, MON-017, MON-026 to MON-028, TSK-067, TSK-073.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from refimpl.backends.fake.fs_inode import fail

if TYPE_CHECKING:
    from refimpl.backends.fake.processes import FakeProcess

UNLIMITED = 9223372036854771712
"""What version 1 shows for no memory limit: the largest signed number, down to a page."""

KERNEL_MEMORY = 200 * 1024
"""Bytes of kernel memory that a process costs: stacks, page tables."""

PERIOD = 100_000
"""Microseconds of a scheduling period where none is set."""


class Cgroup:
    """One group. Change it through ``CgroupTree`` only; the counters are for reading.

    Attributes:
        processes: those directly in it.
        cpu_user, cpu_system: nanoseconds, also of groups below and of processes that ended.
        cpu_by_processor: nanoseconds by processor.
        periods, throttled_periods, throttled: scheduling periods in which somebody wanted to run, those cut short by
            the quota, and the nanoseconds lost by it.
        memory, kernel_memory: bytes in use, also below; ``memory`` includes the kernel's.
        peak, kernel_peak: most of it so far.
        failcnt: times that the limit was hit.
        memory_limit, swap_limit: bytes; None for no limit.
        oom_kills: processes killed for want of memory.
        oom_kill_disabled: who asks for too much is stopped instead (version 1).
        pids_limit: most processes; None for no limit.
        shares: weight of the group's processor time.
        quota, period: microseconds per microseconds; a quota of None is no limit.
        frozen: by itself; ``is_frozen`` also looks above.
    """

    def __init__(self, path: str, parent: Cgroup | None) -> None:
        self.path = path
        self.parent = parent
        self.children: dict[str, Cgroup] = {}
        self.processes: set[FakeProcess] = set()
        self.cpu_user = self.cpu_system = 0
        self.cpu_by_processor: dict[int, int] = {}
        self.periods = self.throttled_periods = self.throttled = 0
        self.memory = self.kernel_memory = self.peak = self.kernel_peak = self.failcnt = 0
        self.memory_limit: int | None = None
        self.swap_limit: int | None = None
        self.oom_kills = 0
        self.oom_kill_disabled = False
        self.pids_limit: int | None = None
        self.shares = 1024
        self.quota: int | None = None
        self.period = PERIOD
        self.frozen = False
        self.oom_callbacks: list[Callable[[], None]] = []

    def upwards(self) -> Iterator[Cgroup]:
        """This group and all above it."""
        group: Cgroup | None = self
        while group is not None:
            yield group
            group = group.parent

    def downwards(self) -> Iterator[Cgroup]:
        """This group and all below it."""
        yield self
        for child in self.children.values():
            yield from child.downwards()

    @property
    def is_frozen(self) -> bool:
        """Whether it or a group above it is frozen."""
        return any(group.frozen for group in self.upwards())

    @property
    def pids(self) -> int:
        """Processes in it and below it."""
        return sum(len(group.processes) for group in self.downwards())

    def members(self) -> list[FakeProcess]:
        """The processes in it and below it, by pid."""
        return sorted((p for group in self.downwards() for p in group.processes), key=lambda p: p.pid)

    @property
    def cpu_share(self) -> float:
        """The part of one processor that a process in it can have: the smallest quota on the way up, at most 1."""
        quotas = (group.quota / group.period for group in self.upwards() if group.quota is not None)
        return min(1.0, *quotas, 1.0)


class CgroupTree:
    """All groups of a host.

    Args:
        version: 1 or 2: which interface the host shows.
        processors: how many there are.
    """

    def __init__(self, version: int = 1, processors: int = 2) -> None:
        self.version = version
        self.processors = processors
        self.lock = threading.RLock()
        self.root = Cgroup("/", None)

    def find(self, path: str) -> Cgroup | None:
        """The group at an absolute path; None if there is none."""
        with self.lock:
            group: Cgroup | None = self.root
            for name in _names(path):
                group = group.children.get(name) if group is not None else None
            return group

    def make(self, path: str) -> Cgroup:
        """The group at an absolute path, made with those above it if it is missing."""
        with self.lock:
            group = self.root
            for name in _names(path):
                if name not in group.children:
                    below = f"{group.path.rstrip('/')}/{name}"
                    group.children[name] = Cgroup(below, group)
                group = group.children[name]
            return group

    def remove(self, path: str) -> None:
        """Remove an empty group; those above it stay. One that is not there is no error.

        Raises:
            OSError: EBUSY, there are processes or groups in it.
        """
        with self.lock:
            group = self.find(path)
            if group is None or group.parent is None:
                return
            if group.processes or group.children:
                raise fail(errno.EBUSY, path)
            del group.parent.children[path.rstrip("/").rpartition("/")[2]]
            # What it still held (cached files on a real host) goes with it.
            self._release(group.parent, group.memory, group.kernel_memory)

    # --- processes

    def enter(self, group: Cgroup, process: FakeProcess) -> None:
        """Put a process into a group.

        Raises:
            OSError: EAGAIN, the limit of processes is reached in it or above it.
        """
        with self.lock:
            if any(above.pids_limit is not None and above.pids >= above.pids_limit for above in group.upwards()):
                raise fail(errno.EAGAIN, group.path)
            group.processes.add(process)
            self._use(group, KERNEL_MEMORY, KERNEL_MEMORY)

    def leave(self, process: FakeProcess) -> None:
        """Take a process that ended out of its group, with its memory."""
        with self.lock:
            group = process.cgroup
            if process in group.processes:
                group.processes.remove(process)
                self._release(group, process.memory + KERNEL_MEMORY, KERNEL_MEMORY)
                process.memory = 0

    # --- processor time

    def charge_cpu(self, process: FakeProcess, nanoseconds: int, *, system: bool = False) -> None:
        """Count time that a process computed."""
        processor = process.pid % self.processors
        with self.lock:
            for group in process.cgroup.upwards():
                group.cpu_user += 0 if system else nanoseconds
                group.cpu_system += nanoseconds if system else 0
                group.cpu_by_processor[processor] = group.cpu_by_processor.get(processor, 0) + nanoseconds

    def count_periods(self, group: Cgroup, elapsed: int, lost: int) -> None:
        """Count what a quota did to somebody who wanted to run for ``elapsed`` nanoseconds and lost some of them."""
        with self.lock:
            for above in group.upwards():
                if above.quota is not None:
                    periods = max(1, elapsed // (above.period * 1000))
                    above.periods += periods
                    above.throttled_periods += periods if lost else 0
                    above.throttled += lost

    # --- memory

    def charge_memory(self, process: FakeProcess, size: int) -> FakeProcess | None:
        """Give a process ``size`` bytes more, or less.

        Returns:
            None if it got them; else who has to be killed first: the process itself, or a larger one in the group
            that is full (MON-017). The same process, with killing disabled, has to wait.
        """
        with self.lock:
            full = next((g for g in process.cgroup.upwards() if size > 0 and _over(g, size)), None)
            if full is None:
                process.memory += size
                self._use(process.cgroup, size, 0)
                return None
            full.failcnt += 1
            return max(full.members(), key=lambda p: p.memory + (size if p is process else 0))

    def full(self, process: FakeProcess, size: int) -> Cgroup | None:
        """The group that stands in the way of ``size`` bytes more; None if none does."""
        with self.lock:
            return next((group for group in process.cgroup.upwards() if _over(group, size)), None)

    def count_oom(self, group: Cgroup) -> list[Callable[[], None]]:
        """Count a kill in a group that is full; answers with whom to tell, which is to be done without any lock."""
        with self.lock:
            group.oom_kills += 1
            return [callback for below in group.downwards() for callback in below.oom_callbacks]

    def on_oom(self, group: Cgroup, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called before each kill for want of memory; answers with what takes it back."""
        with self.lock:
            group.oom_callbacks.append(callback)

        def forget() -> None:
            with self.lock:
                if callback in group.oom_callbacks:
                    group.oom_callbacks.remove(callback)

        return forget

    @staticmethod
    def _use(group: Cgroup, size: int, kernel: int) -> None:
        for above in group.upwards():
            above.memory += size
            above.kernel_memory += kernel
            above.peak = max(above.peak, above.memory)
            above.kernel_peak = max(above.kernel_peak, above.kernel_memory)

    @staticmethod
    def _release(group: Cgroup, size: int, kernel: int) -> None:
        for above in group.upwards():
            above.memory -= size
            above.kernel_memory -= kernel

    # --- freezer

    def freeze(self, group: Cgroup) -> None:
        """Stop all processes in it, at their next system call."""
        with self.lock:
            group.frozen = True

    def thaw(self, group: Cgroup) -> None:
        """Let them go on."""
        with self.lock:
            group.frozen = False
            members = group.members()
        for process in members:
            process.wake()


def _over(group: Cgroup, size: int) -> bool:
    limits = [limit for limit in (group.memory_limit, group.swap_limit) if limit is not None]
    return bool(limits) and group.memory + size > min(limits)


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", ".", ".."}]
