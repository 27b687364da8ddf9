"""Noticing that the kernel killed a process of a container for want of memory (SHM-080).

cgroup v1 raises an event counter that is registered with ``memory.oom_control``; v2 changes ``memory.events``, for
which epoll can wait.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from refimpl.linux.cgroup_files import table
from refimpl.shim.cgroups import Cgroup
from refimpl.shim.loop import Loop


class OOMWatch:
    """A watch on one container.

    Args:
        on_oom: called when it happens, perhaps once for several killings.

    Attributes:
        closed: whether nothing is watched any more.
    """

    def __init__(self, loop: Loop, cgroup: Cgroup, on_oom: Callable[[], None]) -> None:
        self._loop, self._on_oom = loop, on_oom
        self._folder = cgroup.directory("memory")
        self._descriptors: list[int] = []
        self._look: Callable[[], None] = lambda: None
        self._killed = 0
        # Two threads look: who comes second finds nothing, and must not go on before the first has told of it.
        self._lock = threading.RLock()
        self.closed = False
        if self._folder is None:
            return
        try:
            if cgroup.version == 1:
                self._watch_counter(self._folder)
            else:
                self._watch_file(self._folder)
        except OSError:
            # A cgroup that is gone already, or a kernel without this: nothing to watch.
            self.close()

    def _watch_counter(self, folder: str) -> None:
        counter = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._descriptors.append(counter)
        control = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with open(f"{folder}/cgroup.event_control", "w", encoding="ascii") as file:
                file.write(f"{counter} {control}")
        finally:
            os.close(control)
        self._look = self._look_at_counter
        self._loop.call(lambda: self._begin(select.EPOLLIN))

    def _watch_file(self, folder: str) -> None:
        self._killed = table(folder, "memory.events").get("oom_kill", 0)
        file = os.open(f"{folder}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        self._descriptors.append(file)
        # The kernel tells of changes only those who have read the file.
        os.pread(file, 4096, 0)
        self._look = self._look_at_file
        self._loop.call(lambda: self._begin(select.EPOLLPRI))

    def _begin(self, events: int) -> None:
        if self._descriptors:
            self._loop.watch(self._descriptors[0], events, lambda _events: self.look())

    def look(self) -> None:
        """See now whether it has happened: before an exit is told, its cause has to be."""
        with self._lock:
            self._look()

    def _look_at_counter(self) -> None:
        try:
            os.eventfd_read(self._descriptors[0])
        except (OSError, IndexError):  # it has not risen, or is closed at this moment
            return
        # The counter rises, too, when the cgroup is removed.
        if os.path.exists(f"{self._folder}/memory.oom_control"):
            self._on_oom()
        else:
            self._stop()

    def _look_at_file(self) -> None:
        try:
            text = os.pread(self._descriptors[0], 4096, 0).decode()
        except (OSError, IndexError):
            self._stop()
            return
        counts = dict(line.split() for line in text.splitlines())
        killed = int(counts.get("oom_kill", 0))
        if killed > self._killed:
            self._killed = killed
            self._on_oom()

    def close(self) -> None:
        """Watch no more. From any thread; idempotent."""
        self._loop.call(self._stop)

    def _stop(self) -> None:
        with self._lock:
            descriptors, self._descriptors = self._descriptors, []
            self._look = lambda: None
            for descriptor in descriptors:
                self._loop.forget(descriptor)
                os.close(descriptor)
            self.closed = True
