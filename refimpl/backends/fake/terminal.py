"""A pseudo terminal of the fake host: line editing, echo, signals by key, and CR LF line ends.

What is typed comes in by ``feed``; what the process writes, and the echo, goes to ``out``. Only as much of termios as
a person at ``ctr run -t`` meets: canonical mode with erase, kill, end of file, interrupt, quit and suspend keys.
Clauses TSK-025, TSK-027.
"""

from __future__ import annotations

import errno
import signal
import threading
from typing import TYPE_CHECKING

from refimpl.backends.fake.fs_inode import fail
from refimpl.backends.fake.stdio_streams import Stream

if TYPE_CHECKING:
    from refimpl.backends.fake.processes import FakeProcess
    from refimpl.backends.fake.processes_wake import Wake

_SIGNAL_KEYS = {0x03: signal.SIGINT, 0x1C: signal.SIGQUIT, 0x1A: signal.SIGTSTP}
_END_KEY = 0x04
_ERASE_KEYS = {0x7F, 0x08}
_KILL_KEY = 0x15
_RETURN, _NEWLINE, _TAB = 0x0D, 0x0A, 0x09


class Terminal(Stream):
    """The slave side, as processes have it open.

    Args:
        out: where output goes; the terminal owns it.

    Attributes:
        width, height: in characters.
        echo, canonical, keys: the switches ``echo``, ``icanon`` and ``isig`` of stty.
        foreground: whom the keys interrupt.
    """

    name = "/dev/pts/0"

    def __init__(self, out: Stream) -> None:
        super().__init__()
        self.terminal = self
        self.width = self.height = 0
        self.echo = self.canonical = self.keys = True
        self.foreground: list[FakeProcess] = []
        self._out = out
        # Held while the keyboard's echo goes out, so that it never meets a descriptor that was closed and given anew.
        self._out_lock = threading.Lock()
        self._out_closed = False
        self._lock = threading.Lock()
        self._line = bytearray()
        self._ready: list[bytes] = []
        self._hung_up = False
        self._watchers: set[Wake] = set()

    def watch(self, wake: Wake) -> None:
        """Call ``wake`` when input can be read."""
        with self._lock:
            self._watchers.add(wake)

    def unwatch(self, wake: Wake) -> None:
        """Take one ``watch`` back."""
        with self._lock:
            self._watchers.discard(wake)

    def resize(self, width: int, height: int) -> None:
        """Set the size; the numbers are 16 bits wide (TSK-027)."""
        self.width, self.height = width & 0xFFFF, height & 0xFFFF
        self._signal(signal.SIGWINCH)

    def hang_up(self) -> None:
        """No more input will come."""
        with self._lock:
            self._hung_up = True
        self._changed()

    def feed(self, data: bytes) -> None:
        """Type ``data``."""
        for byte in data:
            self._type(byte)
        self._changed()

    def read(self, process: FakeProcess, size: int) -> bytes:
        if not process.wait_until(lambda: bool(self._ready) or self._hung_up, self):
            raise fail(errno.EINTR)
        with self._lock:
            if not self._ready:
                return b""
            data = self._ready.pop(0)
            if len(data) > size:
                self._ready.insert(0, data[size:])
            return data[:size]

    def write(self, process: FakeProcess | None, data: bytes) -> None:
        self._out.write(process, data.replace(b"\n", b"\r\n"))

    def _release(self) -> None:
        with self._out_lock:
            self._out_closed = True
        self._out.close()

    def _type(self, byte: int) -> None:
        if self.keys and byte in _SIGNAL_KEYS:
            self._line.clear()
            self._show(b"^" + bytes([byte ^ 0x40]))
            self._signal(_SIGNAL_KEYS[byte])
            return
        if byte == _RETURN:
            byte = _NEWLINE
        if not self.canonical:
            self._push(bytes([byte]))
            self._show(bytes([byte]))
        elif byte == _END_KEY:
            self._flush_line()
        elif byte in _ERASE_KEYS:
            if self._line:
                del self._line[-1]
                self._show(b"\b \b")
        elif byte == _KILL_KEY:
            self._show(b"\b \b" * len(self._line))
            self._line.clear()
        else:
            self._line.append(byte)
            visible = byte >= 0x20 or byte in {_NEWLINE, _TAB}
            self._show(bytes([byte]) if visible else b"^" + bytes([byte ^ 0x40]))
            if byte == _NEWLINE:
                self._flush_line()

    def _flush_line(self) -> None:
        # An empty one is what the end key makes of an empty line: the reader's end of file.
        self._push(bytes(self._line))
        self._line.clear()

    def _push(self, data: bytes) -> None:
        with self._lock:
            self._ready.append(data)

    def _show(self, data: bytes) -> None:
        with self._out_lock:
            if self.echo and not self._out_closed:
                self.write(None, data)

    def _signal(self, number: int) -> None:
        for process in list(self.foreground):
            process.signal(number)

    def _changed(self) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for wake in watchers:
            wake()
