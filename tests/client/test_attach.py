"""Standard streams through fifos, with a test in the place of the runtime."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from refimpl.client.attach import Streams

SECONDS = 60.0


class Side:
    """Our side of a process: what it is given to read, and what came of its output."""

    def __init__(self, terminal: bool) -> None:
        self.source, self.typed = os.pipe()
        self.read, self.out = os.pipe()
        self.ended = threading.Event()
        self.streams = Streams(self.source, self.out, self.out, terminal=terminal, at_end=self.ended.set)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.streams.close()
        for descriptor in (self.source, self.typed, self.read, self.out):
            if descriptor >= 0:
                os.close(descriptor)


@contextmanager
def opened(path: str, mode: int) -> Iterator[int]:
    """A fifo as a runtime opens it: no open of it ever waits."""
    descriptor = os.open(path, mode | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_all_that_was_written_is_passed_on_before_the_end() -> None:
    with Side(terminal=False) as side:
        io = side.streams.io
        data = b"x" * 50_000
        with opened(io.stdout, os.O_WRONLY) as out, opened(io.stderr, os.O_WRONLY) as err:
            os.write(out, data)
            os.write(err, b"y")
        side.streams.finish()
        assert sorted(os.read(side.read, 1 << 20)) == sorted(data + b"y")


def test_who_still_holds_the_output_does_not_keep_us() -> None:
    with Side(terminal=True) as side, opened(side.streams.io.stdout, os.O_WRONLY) as kept:
        os.write(kept, b"before")
        side.streams.finish()
        assert os.read(side.read, 100) == b"before"


def test_who_goes_on_writing_for_ever_does_not_keep_us() -> None:
    with Side(terminal=True) as side, opened(side.streams.io.stdout, os.O_WRONLY) as kept:
        os.set_blocking(kept, False)
        done = threading.Event()
        threads = [
            threading.Thread(target=_write_until, args=(kept, done)),
            threading.Thread(target=_read_until, args=(side.read, done)),
        ]
        for thread in threads:
            thread.start()
        side.streams.finish()
        done.set()
        for thread in threads:
            thread.join(SECONDS)


def test_a_process_that_never_opens_its_streams_leaves_nothing_to_wait_for() -> None:
    with Side(terminal=False) as side:
        side.streams.begin_input()
        side.streams.finish()
        folder = Path(side.streams.io.stdout).parent
        assert folder.is_dir()
    assert not folder.exists()


def test_input_comes_through_and_its_end_is_told() -> None:
    with Side(terminal=False) as side, opened(side.streams.io.stdin, os.O_RDONLY) as source:
        side.streams.begin_input()
        os.write(side.typed, b"hello")
        assert os.read(source, 100) == b"hello"
        assert not side.ended.is_set()
        os.close(side.typed)
        side.typed = -1
        assert side.ended.wait(SECONDS)
        assert os.read(source, 100) == b""


def test_more_input_than_anybody_reads_does_not_keep_us() -> None:
    with Side(terminal=False) as side, opened(side.streams.io.stdin, os.O_RDONLY) as unread:
        side.streams.begin_input()
        feeder = threading.Thread(target=os.write, args=(side.typed, b"x" * (1 << 20)))
        feeder.start()
        while _waiting_in(unread) < fcntl.fcntl(unread, fcntl.F_GETPIPE_SZ):
            time.sleep(0.01)
        side.streams.close()
        os.set_blocking(side.source, False)
        while feeder.is_alive():
            with suppress(BlockingIOError):
                os.read(side.source, 1 << 20)


def test_output_that_nobody_wants_is_thrown_away() -> None:
    with Side(terminal=True) as side:
        os.close(side.read)
        side.read = -1
        with opened(side.streams.io.stdout, os.O_WRONLY) as out:
            for _ in range(50):
                os.write(out, b"x" * 10_000)
        side.streams.finish()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_has_one_output(terminal: bool) -> None:
    with Side(terminal=terminal) as side:
        assert bool(side.streams.io.stderr) is not terminal
        assert side.streams.io.terminal is terminal


def _waiting_in(descriptor: int) -> int:
    """Bytes that a pipe holds."""
    found: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0]
    return found


def _write_until(descriptor: int, done: threading.Event) -> None:
    while not done.is_set():
        with suppress(BlockingIOError):
            os.write(descriptor, b"more and more")


def _read_until(descriptor: int, done: threading.Event) -> None:
    while not done.is_set():
        # Nothing may come any more, so it does not wait for that.
        if select.select([descriptor], [], [], 0.05)[0]:
            os.read(descriptor, 1 << 20)
