"""Copies between descriptors that never block: from a container's pipes and terminals to fifos and files, and back."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable, Sequence

from refimpl.shim.loop import Loop

_PIECE = 1 << 16
"""Bytes copied at a time; what a pipe of Linux holds."""


class Copy:
    """One copy, in the loop. It owns its descriptors and closes them at the end.

    ::

        reading --(source has data)--> writing --(all written)--> reading
           \\--(end of source)--> over <--(target broken)--/

    Args:
        source: read from; not blocking.
        target: written to; not blocking, or a regular file.
        others: closed together with these two, such as a fifo's other side that was kept open meanwhile.
        on_end: called once, in the loop.
    """

    def __init__(
        self, loop: Loop, source: int, target: int, others: Sequence[int] = (), on_end: Callable[[], None] | None = None
    ) -> None:
        self._loop = loop
        self._source, self._target = source, target
        self._others = list(others)
        self._on_end = on_end
        self._rest = memoryview(b"")
        self._over = False

    def begin(self) -> None:
        """Start copying. From any thread."""
        self._loop.call(self._want_source)

    def end(self) -> None:
        """Stop, whatever is left. From any thread; idempotent."""
        self._loop.call(self._close)

    def _want_source(self) -> None:
        if not self._over:
            self._loop.watch(self._source, select.EPOLLIN, self._read)

    def _read(self, _events: int) -> None:
        try:
            piece = os.read(self._source, _PIECE)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose other side is closed says EIO
            piece = b""
        if not piece:
            self._close()
            return
        self._rest = memoryview(piece)
        self._write(0)

    def _write(self, _events: int) -> None:
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._target, self._rest) :]
        except BlockingIOError:
            # Nothing is read before this is written: a slow reader slows the container down, and fills no memory.
            self._loop.forget(self._source)
            self._loop.watch(self._target, select.EPOLLOUT, self._write)
            return
        except OSError:
            self._close()
            return
        self._loop.forget(self._target)
        self._want_source()

    def _close(self) -> None:
        if self._over:
            return
        self._over = True
        for descriptor in (self._source, self._target):
            self._loop.forget(descriptor)
        for descriptor in (self._source, self._target, *self._others):
            os.close(descriptor)
        if self._on_end is not None:
            self._on_end()


class Drain:
    """Output copies that somebody waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0
        self._empty = threading.Event()
        self._empty.set()

    def add(self) -> None:
        """One more copy to wait for."""
        with self._lock:
            self._left += 1
            self._empty.clear()

    def done(self) -> None:
        """One of them has ended."""
        with self._lock:
            self._left -= 1
            if not self._left:
                self._empty.set()

    def wait(self, seconds: float) -> bool:
        """Wait for all; whether they ended in time."""
        return self._empty.wait(seconds)


def close_all(descriptors: Sequence[int]) -> None:
    """Close what is open of these; negative ones stand for none."""
    for descriptor in descriptors:
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)
