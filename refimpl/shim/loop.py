"""The one thread that waits for the system: signals, standard streams that can be read or written, counters that rise.

It is the main thread, since Python runs what a signal asks for nowhere else. Nothing in here may block: what takes time
gets a thread of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
from collections import deque
from collections.abc import Callable

log = logging.getLogger("refimpl.shim")

Ready = Callable[[int], None]
"""Called with the events of epoll(7) that a file descriptor is ready for."""


class Loop:
    """An epoll loop. ``watch`` and ``forget`` are for the loop's own thread; others use ``call``."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._signals: dict[int, Callable[[], None]] = {}
        self._stopped = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self.watch(self._woken, select.EPOLLIN, self._read_wake)

    def on_signal(self, number: int, handler: Callable[[], None]) -> None:
        """Have ``handler`` called, in the loop, after one or more signals ``number``. For the main thread."""
        self._signals[number] = handler
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        # The number arrives through the pipe; Python only has to be kept from the default action.
        signal.signal(number, lambda _number, _frame: None)

    def watch(self, descriptor: int, events: int, ready: Ready) -> None:
        """Have ``ready`` called whenever the descriptor is ready for one of ``events``."""
        if descriptor in self._ready:
            self._poll.modify(descriptor, events)
        else:
            self._poll.register(descriptor, events)
        self._ready[descriptor] = ready

    def forget(self, descriptor: int) -> None:
        """Watch it no more; to be done before it is closed. Unknown ones are ignored."""
        if self._ready.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._poll.unregister(descriptor)

    def call(self, function: Callable[[], None]) -> None:
        """Have a function called in the loop, soon and in order. From any thread."""
        self._calls.append(function)
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._wake, b"\0")

    def stop(self) -> None:
        """Have ``run`` return. From any thread."""
        self.call(self._stop)

    def _stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Wait and call, until ``stop``."""
        while not self._stopped:
            for descriptor, events in self._poll.poll():
                ready = self._ready.get(descriptor)
                if ready is not None:  # forgotten by what was called just before
                    self._guarded(ready, events)

    def close(self) -> None:
        """Let go of what it is made of, when ``run`` has returned; its process mostly ends with it."""
        self._poll.close()
        os.close(self._woken)
        os.close(self._wake)

    def _read_wake(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in set(os.read(self._woken, 4096)) - {0}:
                self._guarded(self._signals[number])
        while self._calls:
            self._guarded(self._calls.popleft())

    @staticmethod
    def _guarded(function: Callable[..., None], *arguments: int) -> None:
        try:
            function(*arguments)
        except Exception as error:  # one stream's trouble must not be the end of all containers
            log.error("call in the loop failed", extra={"fields": {"error": error}}, exc_info=error)
