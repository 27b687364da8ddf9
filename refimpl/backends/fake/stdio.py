"""Standard streams of a fake process, as a client asks for them: paths of fifos and files, URIs, or a terminal.

The rules and the messages are those of containerd's runc shim. Clauses TSK-016 to TSK-029.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

from refimpl.backends.fake.stdio_host import HostInput, Keyboard, is_fifo, make_file, open_fifo, open_file
from refimpl.backends.fake.stdio_logger import LoggerProgram
from refimpl.backends.fake.stdio_streams import NullStream, Stream
from refimpl.backends.fake.stdio_uri import StdioURI, parse_uri
from refimpl.backends.fake.terminal import Terminal
from refimpl.contract.errors import Unknown

if TYPE_CHECKING:
    from refimpl.contract.context import CallContext
    from refimpl.contract.runtimes import IO

T = TypeVar("T")

DRAIN_SECONDS = 2.0
"""How long a delete waits for output that somebody still holds open (TSK-050)."""


class Stdio:
    """The opened streams of one process. ``streams`` is for the process, the rest for the runtime.

    Attributes:
        terminal: the process's terminal; None without one.
    """

    def __init__(self) -> None:
        self.terminal: Terminal | None = None
        self._input: HostInput | Keyboard | None = None
        self._streams: dict[int, Stream] = {}
        self._logger: LoggerProgram | None = None
        self._lock = threading.Lock()
        self._taken = False

    def streams(self) -> dict[int, Stream]:
        """The descriptors 0 to 2; from here on they are the process's to close."""
        with self._lock:
            self._taken = True
            return dict(self._streams)

    def end_input(self) -> None:
        """Let the standard input end once everything in it is read (TSK-018). Idempotent."""
        if self._input is not None:
            self._input.end_input()

    def stop_input(self) -> None:
        """Read no more of a terminal's input: its process has ended. Idempotent."""
        if isinstance(self._input, Keyboard):
            self._input.close()

    def drain(self) -> None:
        """Wait until nobody writes any more, at most ``DRAIN_SECONDS``; a background process may hold a stream."""
        until = time.monotonic() + DRAIN_SECONDS
        for number in (1, 2):
            stream = self._streams.get(number)
            if self._taken and stream is not None:
                stream.closed.wait(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Give everything back that was not taken, and end a logger. Idempotent."""
        self.stop_input()
        with self._lock:
            streams = [] if self._taken else list(self._streams.values())
            self._taken = True
            logger, self._logger = self._logger, None
        for stream in streams:
            stream.close()
        if logger is not None:
            logger.end()

    def open_null(self) -> None:
        """Nothing to read, nobody to write to (TSK-024)."""
        self._streams = {0: NullStream(), 1: NullStream(), 2: NullStream()}

    def open_terminal(self, ctx: CallContext, io: IO, container: str, namespace: str) -> None:
        """A terminal, whose output goes to one stream.

        Raises:
            Unknown: a path that is not there, or an URI that cannot be used (TSK-026).
        """
        out: Stream
        if io.stdout.startswith("binary:"):
            out = self._start_logger(ctx, parse_uri(io.stdout), container, namespace)
            self._streams.pop(2).close()
        else:
            try:
                Path(io.stdout or "\0").stat()
                out = _open_output(ctx, io.stdout)
            except (OSError, ValueError) as error:
                reason = _strerror(error) if isinstance(error, OSError) else "no such file or directory"
                message = f"failed to start console copy: stat {io.stdout}: {reason}"
                raise Unknown(message, bare=False) from error
        terminal = self.terminal = Terminal(out)
        self._streams = {0: terminal, 1: terminal.dup(), 2: terminal.dup()}
        if io.stdin:
            try:
                self._input = Keyboard(io.stdin, terminal)
            except OSError as error:
                message = f"failed to open stdin fifo {io.stdin}: stat {io.stdin}: {_strerror(error)}"
                raise Unknown(message, bare=False) from error

    def open_pipes(self, ctx: CallContext, io: IO, container: str, namespace: str) -> None:
        """Three streams.

        Raises:
            Unknown: a path that is not there (TSK-019), an URI of an unknown scheme or of none (TSK-023).
            DeadlineExceeded: a fifo without a reader (TSK-028).
        """
        prefix = "failed to create init process I/O"  # also for an exec, as it happens
        try:
            uri = parse_uri(io.stdout)
        except ValueError as error:
            raise Unknown(f"{prefix}: unable to parse stdout uri: {error}", bare=False) from error
        if uri.scheme not in {"", "fifo", "file", "binary"}:
            raise Unknown(f"{prefix}: unknown STDIO scheme {uri.scheme}", bare=False)
        self._streams[0] = self._open_input(io.stdin)
        if uri.scheme == "file":
            out = self._open(make_file, uri.path)
            self._streams |= {1: out, 2: out.dup()}
        elif uri.scheme == "binary":
            try:
                self._start_logger(ctx, uri, container, namespace)
            except OSError as error:
                reason = f"failed to start binary process: fork/exec {uri.path}: {_strerror(error)}"
                raise Unknown(f"{prefix}: 1 error occurred:\n\t* {reason}\n\n", bare=False) from error
        else:
            self._open_paths(ctx, io)

    def _open_input(self, path: str) -> Stream:
        """The standard input. The real shim waits for a fifo that is not there; here that fails (TSK-029)."""
        if not path:
            return NullStream()
        try:
            self._input = opened = HostInput(path)
        except OSError as error:
            message = f"failed to open stdin fifo {path}: stat {path}: {_strerror(error)}"
            raise Unknown(message, bare=False) from error
        return opened

    def _open_paths(self, ctx: CallContext, io: IO) -> None:
        self._streams[1] = self._open(lambda path: _open_output(ctx, path), io.stdout)
        if io.stderr == io.stdout and not is_fifo(io.stderr):
            self._streams[2] = self._streams[1].dup()
        else:
            self._streams[2] = self._open(lambda path: _open_output(ctx, path), io.stderr)

    def _start_logger(self, ctx: CallContext, uri: StdioURI, container: str, namespace: str) -> Stream:
        arguments = [text for pair in parse_qsl(uri.query, keep_blank_values=True) for text in pair if text]
        self._logger = LoggerProgram(ctx, [uri.path, *arguments], container, namespace)
        self._streams |= {1: self._logger.stdout, 2: self._logger.stderr}
        return self._logger.stdout

    @staticmethod
    def _open(open_: Callable[[str], T], path: str) -> T:
        try:
            return open_(path)
        except OSError as error:
            message = f'containerd-shim: opening file "{path}" failed: open {path}: {_strerror(error)}'
            raise Unknown(f"failed to start io pipe copy: unable to copy pipes: {message}", bare=False) from error


def open_stdio(ctx: CallContext, io: IO, container: str, namespace: str) -> Stdio:
    """Open what ``io`` names; after a failure nothing of it is open.

    Raises:
        Unknown: it cannot be opened.
        Canceled, DeadlineExceeded: the caller gave up, or a fifo got no reader.
    """
    stdio = Stdio()
    try:
        if io.terminal:
            stdio.open_terminal(ctx, io, container, namespace)
        elif not (io.stdin or io.stdout or io.stderr):
            stdio.open_null()
        else:
            stdio.open_pipes(ctx, io, container, namespace)
    except BaseException:
        stdio.close()
        raise
    return stdio


def _open_output(ctx: CallContext, path: str) -> Stream:
    return open_fifo(ctx, path) if is_fifo(path) else open_file(path)


def _strerror(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[0].lower() + text[1:]
