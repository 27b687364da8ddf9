"""Terminals: the OCI runtime makes one inside the container and hands its master over a socket (TSK-025 to TSK-027)."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
import termios

from refimpl.contract.errors import Unknown

_MODULO = 1 << 16


class ConsoleSocket:
    """Where the master of a terminal arrives.

    Attributes:
        path: for the option ``--console-socket``; in a directory of its own, since it has to be short.
    """

    def __init__(self) -> None:
        self._directory = f"/tmp/refimpl-pty-{os.urandom(8).hex()}"  # noqa: S108  # a name that nobody can guess
        os.mkdir(self._directory, 0o700)
        self.path = f"{self._directory}/pty.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(1)

    def receive(self) -> int:
        """The master, once the runtime has said that the process exists: it was sent before that.

        Raises:
            Unknown: the runtime sent none.
        """
        self._listener.settimeout(1.0)
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(1.0)
                numbers = array.array("i")
                # Closed on exec from the first moment: another thread may be starting a command.
                space = socket.CMSG_SPACE(numbers.itemsize)
                _, ancillary, _, _ = connection.recvmsg(4096, space, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise Unknown(f"failed to retrieve console master: {error}", bare=False) from error
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(data[: numbers.itemsize])
        if not numbers:
            raise Unknown("failed to retrieve console master: the runtime sent none", bare=False)
        os.set_blocking(numbers[0], False)
        return numbers[0]

    def close(self) -> None:
        """Remove the socket."""
        self._listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        with contextlib.suppress(OSError):
            os.rmdir(self._directory)


def resize(master: int, width: int, height: int) -> None:
    """Set the size of a terminal, in characters; the kernel has 16 bits for each."""
    size = struct.pack("HHHH", height % _MODULO, width % _MODULO, 0, 0)
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)
