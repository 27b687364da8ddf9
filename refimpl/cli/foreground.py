"""A process in the foreground: its streams, signals and terminal are ours, and so is its exit status."""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from types import FrameType

from refimpl.cli.failures import fail
from refimpl.client.attach import Streams
from refimpl.client.running import timed_out
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.runtimes import Exit
from refimpl.contract.tasks import TaskService

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

ENOUGH = 3
"""Interrupts (or requests to end) after which a process that does not care is killed: init may ignore them all."""

Inbox = SimpleQueue["int | Exit | ContainerdError"]


class Foreground:
    """One process to be, in the foreground. Make it with ``foreground``.

    Attributes:
        streams: its fifos are ready for the runtime.
        started: whether it has begun to run.
    """

    def __init__(
        self, ctx: CallContext, tasks: TaskService, id: str, exec_id: str, streams: Streams, inbox: Inbox
    ) -> None:
        self._ctx, self._tasks, self._id, self._exec_id = ctx, tasks, id, exec_id
        self.streams, self._inbox = streams, inbox
        self.started = False

    def run(self) -> int:
        """Start the process, which has been created, and stay until it has ended; its status.

        Raises:
            ContainerdError: it cannot be started, or the daemon is gone.
            KeyboardInterrupt: three interrupts; the process may still run.
        """
        # Asked before the start: a process that ends at once is not missed.
        threading.Thread(target=self._wait, name="wait", daemon=True).start()
        self._tasks.start(self._ctx, self._id, self._exec_id)
        self.started = True
        self._resize()
        self.streams.begin_input()
        while True:
            news = self._inbox.get()
            if isinstance(news, Exit):
                return news.status
            if isinstance(news, ContainerdError):
                raise news
            if news == signal.SIGWINCH:
                self._resize()
            else:
                # It may have ended just now, which the next news tells.
                with suppress(ContainerdError):
                    self._tasks.kill(self._ctx, self._id, self._exec_id, signal=news)

    def _wait(self) -> None:
        while True:
            try:
                self._inbox.put(self._tasks.wait(self._ctx, self._id, self._exec_id))
            except ContainerdError as error:
                if timed_out(error):
                    continue  # it lives longer than one call may take
                self._inbox.put(error)
            return

    def _resize(self) -> None:
        if not self.streams.io.terminal:
            return
        with suppress(OSError, ContainerdError):
            size = os.get_terminal_size(sys.stdin.fileno())
            self._tasks.resize_pty(self._ctx, self._id, self._exec_id, width=size.columns, height=size.lines)


@contextmanager
def foreground(
    ctx: CallContext, tasks: TaskService, id: str, exec_id: str = "", *, terminal: bool, interactive: bool
) -> Iterator[Foreground]:
    """Get ready for a process: from here on signals wait for it, and the terminal is raw.

    Args:
        terminal: whether it gets a terminal; ours, which is then its input too.
        interactive: whether it reads our standard input.

    Raises:
        typer.Exit: ``terminal``, and standard input is none.
    """
    if terminal and not sys.stdin.isatty():
        raise fail("-t needs a terminal as standard input", 2)
    inbox: Inbox = SimpleQueue()

    def at_end() -> None:
        with suppress(ContainerdError):
            tasks.close_io(ctx, id, exec_id, stdin=True)

    stdin = sys.stdin.fileno() if interactive or terminal else None
    sys.stdout.flush()
    with (
        _signals(inbox),
        _raw(active=terminal),
        Streams(stdin, sys.stdout.fileno(), sys.stderr.fileno(), terminal=terminal, at_end=at_end) as streams,
    ):
        yield Foreground(ctx, tasks, id, exec_id, streams, inbox)


@contextmanager
def _signals(inbox: Inbox) -> Iterator[None]:
    """Have signals put into the inbox; who asks three times for an end gets it at once."""
    asked = 0

    def arrived(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        inbox.put(number)
        if number in {signal.SIGINT, signal.SIGTERM}:
            asked += 1
            if asked >= ENOUGH:
                raise KeyboardInterrupt

    before: dict[signal.Signals, Callable[..., object] | int | None] = {}
    try:
        for each in (*PASSED_ON, signal.SIGWINCH):
            before[each] = signal.signal(each, arrived)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _raw(*, active: bool) -> Iterator[None]:
    """Our terminal without a mind of its own: keys go to the process, which has a terminal itself."""
    if not active:
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
