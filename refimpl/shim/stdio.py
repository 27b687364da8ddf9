"""The standard streams of one process: what it gets as 0, 1 and 2, and where that comes from and goes to.

::

    client's fifo --copy--> pipe --> 0
    client's fifo or file <--copy-- pipe <-- 1, 2        without a terminal
    logging program <--------------- pipe <-- 1, 2       the same, binary://
    fifos or program <--copies--> terminal <--> 0, 1, 2  with a terminal

Clauses TSK-016 to TSK-028, TSK-050.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.shim.children import Children
from refimpl.shim.console import ConsoleSocket, resize
from refimpl.shim.files import URI, open_input, open_log_file, open_output
from refimpl.shim.logger import Logger
from refimpl.shim.loop import Loop
from refimpl.shim.streams import Copy, Drain, close_all


class Stdio:
    """What a client names for the streams of a process; all empty for ``/dev/null``."""

    def __init__(self, stdin: str, stdout: str, stderr: str, *, terminal: bool) -> None:
        self.stdin, self.stdout, self.stderr, self.terminal = stdin, stdout, stderr, terminal


class Host:
    """What streams are made with.

    Attributes:
        namespace: what a logging program is told.
        owner: user and group that pipes are given to; None for nobody.
    """

    def __init__(self, loop: Loop, children: Children, namespace: str, owner: tuple[int, int] | None = None) -> None:
        self.loop, self.children, self.namespace, self.owner = loop, children, namespace, owner


class ProcessIO:
    """The streams of a process, from before its start to its deletion.

    Attributes:
        given: descriptors for the process; negative for ``/dev/null``.
        console: where a terminal will come from; None without one.
    """

    def __init__(self, ctx: CallContext, host: Host, stdio: Stdio, id: str) -> None:
        """Open what the client names, before there is a process.

        Args:
            id: of the container, for a logging program.

        Raises:
            Unknown: a stream cannot be opened, or its URI is none that is known.
            DeadlineExceeded: nobody came to read a fifo.
        """
        self._host = host
        self._begin: list[Callable[[], None]] = []
        self._outputs: list[Copy] = []
        self._input: Copy | None = None
        self._drain = Drain()
        self._keep_input = self._master = -1
        self._owned: set[int] = set()
        self._logger: Logger | None = None
        self.given = [-1, -1, -1]
        self.console: ConsoleSocket | None = None
        try:
            if stdio.terminal:
                self._open_terminal(ctx, stdio, id)
            elif stdio.stdin or stdio.stdout or stdio.stderr:
                self._open_pipes(ctx, stdio, id)
        except BaseException:
            self.abandon()
            raise

    # --- opening

    def _open_pipes(self, ctx: CallContext, stdio: Stdio, id: str) -> None:
        uri = URI(stdio.stdout)
        if stdio.stdin:
            self._open_stdin(stdio.stdin)
        if uri.scheme == "fifo":
            for number, path in ((1, stdio.stdout), (2, stdio.stderr)):
                target, others = open_output(ctx, path)
                self._own(target, *others)
                self.given[number] = self._copied_to(target, others)
        elif uri.scheme == "file":
            target, others = open_log_file(ctx, uri.path)
            self._own(target, *others)
            # One pipe for both, so that the file has all lines in the order in which they were written.
            self.given[1] = self._copied_to(target, others)
            self.given[2] = os.dup(self.given[1])
        elif uri.scheme == "binary":
            self._logger = Logger(ctx, self._host.children, uri, id, self._host.namespace)
            self.given[1:] = self._logger.stdout, self._logger.stderr
        else:
            raise Unknown(f"unknown STDIO scheme {uri.scheme}", bare=False)

    def _open_stdin(self, path: str) -> None:
        reader, self._keep_input = open_input(path)
        self._own(reader)
        self.given[0], writer = os.pipe()
        self._give_away(writer)
        os.set_blocking(writer, False)
        self._own(writer)
        self._input = Copy(self._host.loop, reader, writer)
        self._begin.append(self._input.begin)

    def _copied_to(self, target: int, others: list[int]) -> int:
        """A new pipe that is copied to a descriptor; its writing side."""
        reader, writer = os.pipe()
        self._give_away(writer)
        os.set_blocking(reader, False)
        self._own(reader)
        self._begin.append(lambda: self._begin_output(reader, target, others))
        return writer

    def _give_away(self, pipe: int) -> None:
        """Let a container's user open its streams anew, such as ``/dev/stderr``: both sides of a pipe are one file."""
        if self._host.owner is not None:
            os.fchown(pipe, *self._host.owner)

    def _begin_output(self, source: int, target: int, others: list[int]) -> None:
        self._drain.add()
        copy = Copy(self._host.loop, source, target, others, self._drain.done)
        # It closes them itself from here on.
        self._owned.difference_update((source, target, *others))
        self._outputs.append(copy)
        copy.begin()

    def _open_terminal(self, ctx: CallContext, stdio: Stdio, id: str) -> None:
        uri = URI(stdio.stdout)
        others: list[int] = []
        if uri.scheme == "binary":
            self._logger = Logger(ctx, self._host.children, uri, id, self._host.namespace)
            target = self._logger.stdout
            os.set_blocking(target, False)
            os.close(self._logger.stderr)
        elif uri.scheme == "fifo":
            target, others = open_output(ctx, stdio.stdout)
        else:
            raise Unknown(f"unknown STDIO scheme {uri.scheme} for a terminal", bare=False)
        self._own(target, *others)
        reader = -1
        if stdio.stdin:
            reader, self._keep_input = open_input(stdio.stdin)
            self._own(reader)
        self.console = ConsoleSocket()
        self._begin.append(lambda: self._connect_terminal(target, others, reader))

    def _connect_terminal(self, target: int, others: list[int], reader: int) -> None:
        assert self.console is not None, "set just before"
        self._master = self.console.receive()
        # Two descriptors more, since each copy owns what it reads and writes.
        source = os.dup(self._master)
        self._begin_output(source, target, others)
        if reader >= 0:
            self._input = Copy(self._host.loop, reader, os.dup(self._master))
            self._input.begin()

    def _own(self, *descriptors: int) -> None:
        """Remember what has to be closed, should nothing come of it."""
        self._owned.update(descriptors)

    # --- using

    def begin(self) -> None:
        """The process has its streams: let go of its sides, and copy.

        Raises:
            Unknown: the terminal did not come.
        """
        close_all(self.given)
        self.given = [-1, -1, -1]
        for begin in self._begin:
            begin()
        # The copies own them from here on.
        self._owned.clear()
        self._close_console()

    def abandon(self) -> None:
        """There will be no process."""
        close_all([*self.given, *self._owned, self._keep_input, self._master])
        self._keep_input = self._master = -1
        self._owned.clear()
        self._close_console()
        if self._logger is not None:
            self._logger.stop()

    def _close_console(self) -> None:
        if self.console is not None:
            self.console.close()

    def resize(self, width: int, height: int) -> None:
        """Set the size of the terminal; nothing without one."""
        if self._master >= 0:
            resize(self._master, width, height)

    def end_input(self) -> None:
        """Let the input end with the client's last writer (TSK-018). Idempotent."""
        close_all([self._keep_input])
        self._keep_input = -1

    def close(self, seconds: float) -> None:
        """Wait until all output is copied, but no longer than that; then end whatever still goes on.

        Output may go on for ever, where a process in the background still has the pipe.
        """
        self._drain.wait(seconds)
        for copy in self._outputs:
            copy.end()
        if self._input is not None:
            self._input.end()
        self.end_input()
        close_all([self._master])
        self._master = -1
        if self._logger is not None:
            self._logger.stop()
