"""Sending frames on a socket that several threads share: one frame at a time, and nobody waits past their deadline."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time

from refimpl.contract.errors import DeadlineExceeded
from refimpl.ttrpc.frames import Frame


class BrokenFrameError(OSError):
    """A frame was cut short because time ran out: the connection is of no use any more."""


class FrameWriter:
    """The sending side of a connection. It does not own the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._turn = threading.Lock()

    def send(self, frame: Frame, deadline: float | None = None) -> None:
        """Send a whole frame.

        Args:
            deadline: ``time.monotonic()`` seconds after which it is given up; None for never.

        Raises:
            FrameTooLongError: the payload is over the limit; nothing was sent.
            DeadlineExceeded: the peer takes nothing; nothing was sent, and the connection is as it was.
            BrokenFrameError: the same in the middle of the frame.
            OSError: the connection broke.
        """
        data = memoryview(frame.encode())
        if not self._turn.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic())):
            raise DeadlineExceeded
        try:
            sent = 0
            while sent < len(data):
                # Never blocking in send(2) itself: a peer that stopped reading would hold everybody for ever.
                if not self._writable(deadline):
                    if sent:
                        raise BrokenFrameError("a frame was cut short")
                    raise DeadlineExceeded
                try:
                    sent += self._socket.send(data[sent:], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    continue
        finally:
            self._turn.release()

    def _writable(self, deadline: float | None) -> bool:
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise OSError(errno.EBADF, "the connection is closed")
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        return bool(poll.poll(left))
