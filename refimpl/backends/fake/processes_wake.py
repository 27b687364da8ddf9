"""What wakes a fake process: an event for waits on the fake world, and a descriptor for waits on real files."""

from __future__ import annotations

import os
import select
import threading


class Wake:
    """Called by whoever changed something that the process may wait for.

    Attributes:
        event: set by a call, for waits with a clock.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._closed = False

    def __call__(self) -> None:
        """End the wait under way, or the next one."""
        self.event.set()
        with self._lock:
            if self._fd is not None:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Forget calls so far; look at the world after this and before waiting."""
        self.event.clear()

    def wait(self) -> None:
        """Wait for a call."""
        self.event.wait()

    def poll(self, fd: int, mask: int) -> None:
        """Wait for a call or until ``fd`` is ready."""
        with self._lock:
            if self._closed:
                return
            if self._fd is None:
                self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            own = self._fd
            # A call that came before there was a descriptor.
            if self.event.is_set():
                return
        poller = select.poll()
        poller.register(fd, mask)
        poller.register(own, select.POLLIN)
        if any(ready == own for ready, _ in poller.poll()):
            os.eventfd_read(own)

    def close(self) -> None:
        """Give the descriptor back; later calls only set the event."""
        with self._lock:
            self._closed = True
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
