"""The standard streams of a process: fifos between a runtime and file descriptors of ours.

The reading ends are opened before the runtime hears of the fifos, and the writing end of standard input is open for
reading too: so neither side ever waits for the other to open. Whoever has called ``finish`` after the process was
deleted has all that it wrote, because a runtime answers a delete when it has passed everything on.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from refimpl.contract.runtimes import IO

_CHUNK = 64 * 1024


class Streams:
    """Fifos in a directory of their own, and the threads that copy.

    Args:
        stdin: a descriptor to read from; None for an input that is empty.
        stdout: a descriptor to write to.
        stderr: the same; not used with a terminal, which has one output.
        terminal: whether the process gets a terminal.
        at_end: called when ``stdin`` has ended, to tell the runtime; must not raise.
    """

    def __init__(
        self, stdin: int | None, stdout: int, stderr: int, *, terminal: bool, at_end: Callable[[], None]
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="refimpl-io-"))
        self._at_end = at_end
        self._closed = False
        self._descriptors: list[int] = []
        self._outputs: list[threading.Thread] = []
        # Written to at most once: a closed pipe can be waited for as well as one that has bytes.
        self._hurry, self._hurried = self._pipe()
        self._stop, self._stopped = self._pipe()
        paths = {"stdin": ""}
        for name, target in (("stdout", stdout), ("stderr", stderr)):
            if name == "stderr" and terminal:
                continue
            paths[name] = self._fifo(name)
            source = self._open(paths[name], os.O_RDONLY | os.O_NONBLOCK)
            self._outputs.append(threading.Thread(target=self._output, args=(source, target), name=name, daemon=True))
        self._input_thread: threading.Thread | None = None
        if stdin is not None:
            paths["stdin"] = self._fifo("stdin")
            # Not on the list: the end of this descriptor is what the process sees as the end of its input.
            sink = os.open(paths["stdin"], os.O_RDWR | os.O_NONBLOCK)
            self._input_thread = threading.Thread(target=self._input, args=(stdin, sink), name="stdin", daemon=True)
        self.io = IO(paths["stdin"], paths["stdout"], paths.get("stderr", ""), terminal)
        for thread in self._outputs:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin_input(self) -> None:
        """Copy standard input from now on: once the process runs, so that its end can be told."""
        if self._input_thread is not None:
            self._input_thread.start()

    def finish(self) -> None:
        """Pass on what is still in the fifos. Waits for whoever reads our output."""
        os.write(self._hurried, b"x")
        for thread in self._outputs:
            thread.join()

    def close(self) -> None:
        """Stop copying, and remove the fifos. Idempotent."""
        if self._closed:
            return
        self._closed = True
        os.write(self._stopped, b"x")
        for thread in (*self._outputs, *([self._input_thread] if self._input_thread is not None else [])):
            if thread.ident is not None:
                thread.join()
        for descriptor in self._descriptors:
            os.close(descriptor)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _output(self, source: int, target: int) -> None:
        """Copy until the last writer is gone, or until there is nothing more when somebody is in a hurry."""
        gone = False
        # A child of the process may hold the fifo and go on writing for ever: what counts is what is in there now.
        left = fcntl.fcntl(source, fcntl.F_GETPIPE_SZ)
        while left > 0:
            ready = _readable(source, self._hurry, self._stop)
            if self._stop in ready:
                return
            try:
                data = os.read(source, _CHUNK)
            except BlockingIOError:
                if self._hurry in ready:
                    return
                continue
            if not data:
                return
            if self._hurry in ready:
                left -= len(data)
            if not gone:
                try:
                    _write(target, data)
                except OSError:
                    # Nobody reads any more. The process shall not wait for that.
                    gone = True

    def _input(self, source: int, sink: int) -> None:
        try:
            while self._stop not in _readable(source, self._stop):
                data = os.read(source, _CHUNK)
                if not data:
                    self._at_end()
                    return
                while data:
                    poll = select.poll()
                    poll.register(sink, select.POLLOUT)
                    poll.register(self._stop, select.POLLIN)
                    if any(descriptor == self._stop for descriptor, _ in poll.poll()):
                        return
                    with suppress(BlockingIOError):
                        data = data[os.write(sink, data) :]
        except OSError:
            pass  # a terminal that is gone
        finally:
            os.close(sink)

    def _pipe(self) -> tuple[int, int]:
        ours = os.pipe()
        self._descriptors += ours
        return ours

    def _fifo(self, name: str) -> str:
        path = self._folder / name
        os.mkfifo(path, 0o600)
        return str(path)

    def _open(self, path: str, flags: int) -> int:
        descriptor = os.open(path, flags)
        self._descriptors.append(descriptor)
        return descriptor


def _readable(*descriptors: int) -> set[int]:
    """Wait for bytes, an end, or an error of one of them."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll()}


def _write(target: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:
            # Somebody who shares our terminal has made it so.
            poll = select.poll()
            poll.register(target, select.POLLOUT)
            poll.poll()
