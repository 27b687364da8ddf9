"""Programs as stream processors: ``[stream_processors."<id>"]`` of the configuration (DIF-042 to DIF-045).

A program gets the stream on its standard input and gives the other one on its standard output. Its payload, if the
caller sent one, is an encoded ``google.protobuf.Any`` on descriptor 3; the media type that comes in is in its
environment. It runs in a process group of its own, so that what it starts ends with it.

No threads: whoever reads the output drives the whole exchange, through one poll(2).
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from google.protobuf.any_pb2 import Any

from refimpl.archive.media_types import ProcessorFailed
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.types import TypedAny
from refimpl.kernel.config import StreamProcessor

MEDIA_TYPE = "STREAM_PROCESSOR_MEDIATYPE"
"""The variable that tells a program what comes in."""

_PAYLOAD = 3  # the program's descriptor
_PIECE = 1 << 18
_PIPE = 1 << 18  # bytes that a pipe holds, where the system allows it
_TURN = 0.1  # seconds between two looks at whether the caller still waits
_SAID_MAX = 1 << 14  # bytes of standard error that are kept
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, which a program would inherit


class Program:
    """One entry of the table, as ``archive.media_types.StreamProcessor``."""

    def __init__(self, id: str, entry: StreamProcessor) -> None:
        self.id = id
        self.accepts: Sequence[str] = entry.accepts
        self.returns = entry.returns
        self._entry = entry

    def process(
        self, ctx: CallContext, media_type: str, chunks: Iterator[bytes], payload: TypedAny | None
    ) -> ProgramStream:
        """Start the program.

        Raises:
            Unknown: it is not there, or the system does not run it.
        """
        path = _found(self._entry.path)
        added = dict(variable.split("=", 1) for variable in self._entry.env if "=" in variable)
        environment = {**os.environ, **added, MEDIA_TYPE: media_type}
        encoded = None
        if payload is not None:
            encoded = Any(type_url=payload.type_url, value=payload.value).SerializeToString()
        return ProgramStream(ctx, self.id, path, [self._entry.path, *self._entry.args], environment, chunks, encoded)


def _found(path: str) -> str:
    if "/" in path:
        return path
    found = shutil.which(path)
    if found is None:
        raise Unknown(f'exec: "{path}": executable file not found in $PATH')
    return found


class ProgramStream:
    """The output of a running program.

    Args:
        chunks: its input.
        payload: what it finds on descriptor 3; None for no such descriptor.

    Raises:
        Unknown: the system does not run it.
    """

    def __init__(
        self,
        ctx: CallContext,
        id: str,
        path: str,
        argv: list[str],
        environment: dict[str, str],
        chunks: Iterator[bytes],
        payload: bytes | None,
    ) -> None:
        self._ctx, self._id, self._chunks = ctx, id, chunks
        self._said = b""
        self._status: int | None = None
        self._poll = select.poll()
        # What is still to be written, by our end of the pipe; the input's is refilled from the chunks.
        self._unwritten: dict[int, memoryview] = {}
        theirs: dict[int, int] = {}
        self._input = self._writing(theirs, 0)
        self._output, self._errors = self._reading(theirs, 1), self._reading(theirs, 2)
        if payload is not None:
            self._unwritten[self._writing(theirs, _PAYLOAD)] = memoryview(payload)
        try:
            self._pid = _spawn(path, argv, environment, theirs)
        except OSError as error:
            self._status = 0
            self.close()
            raise Unknown(f"fork/exec {path}: {(error.strerror or str(error)).lower()}") from error
        finally:
            for end in theirs.values():
                os.close(end)

    def _writing(self, theirs: dict[int, int], descriptor: int) -> int:
        theirs[descriptor], ours = os.pipe()
        os.set_blocking(ours, False)
        _widen(ours)
        self._unwritten[ours] = memoryview(b"")
        self._poll.register(ours, select.POLLOUT)
        return ours

    def _reading(self, theirs: dict[int, int], descriptor: int) -> int:
        ours, theirs[descriptor] = os.pipe()
        _widen(ours)
        self._poll.register(ours, select.POLLIN)
        return ours

    def __iter__(self) -> ProgramStream:
        return self

    def __next__(self) -> bytes:
        """See ``archive.media_types.ProcessedStream``."""
        while self._output >= 0:
            self._ctx.check()
            for end, _ in self._poll.poll(_TURN * 1000):
                if end == self._output:
                    if piece := os.read(end, _PIECE):
                        return piece
                    self._output = self._let_go(end)
                elif end == self._errors:
                    self._listen()
                else:
                    self._write(end)
        self._wait()
        if self._status:
            # Without words of its own containerd says nothing at all; the status is better.
            said = self._said.decode(errors="replace")
            raise ProcessorFailed(said or f"stream processor {self._id}: {_told(self._status)}")
        raise StopIteration

    def _write(self, end: int) -> None:
        left = self._unwritten[end]
        try:
            # The next chunk is asked for only when there is room: the program sets the pace.
            if not left and (end != self._input or not (left := memoryview(next(self._chunks, b"")))):
                self._stop_writing(end)
                return
            self._unwritten[end] = left[os.write(end, left) :]
        except BlockingIOError:
            self._unwritten[end] = left
        except BrokenPipeError:
            self._stop_writing(end)  # it wants no more, which is its own affair

    def _stop_writing(self, end: int) -> None:
        del self._unwritten[end]
        self._let_go(end)

    def _listen(self) -> None:
        said = os.read(self._errors, _PIECE)
        self._said = (self._said + said)[:_SAID_MAX]
        if not said:
            self._errors = self._let_go(self._errors)

    def _let_go(self, end: int) -> int:
        self._poll.unregister(end)
        os.close(end)
        return -1

    def _wait(self) -> None:
        """Wait for the end of the program, which may come long after the end of its output."""
        while self._status is None:
            self._ctx.check()
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = status
            elif self._errors < 0:
                time.sleep(_TURN / 20)
            self._listen_once()

    def _listen_once(self) -> None:
        """Hear what was said so far: whoever inherited the descriptor may keep it open for ever."""
        waits = 0 if self._status is not None else _TURN / 20
        while self._errors >= 0 and select.select([self._errors], [], [], waits)[0]:
            self._listen()

    def close(self) -> None:
        """End the program and what it started, if it still works; let go of its pipes. Idempotent."""
        for end in list(self._unwritten):
            self._stop_writing(end)
        if self._output >= 0:
            self._output = self._let_go(self._output)
        if self._errors >= 0:
            self._errors = self._let_go(self._errors)
        if self._status is None:
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            self._status = os.waitpid(self._pid, 0)[1]


def _spawn(path: str, argv: list[str], environment: dict[str, str], descriptors: dict[int, int]) -> int:
    """Start a program with these of our descriptors (value) as its own (key) and no others; answers with its pid."""
    # Out of the way first: one of ours may bear the number that the program knows another one by.
    moved = {theirs: fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 10) for theirs, ours in descriptors.items()}
    try:
        return os.posix_spawn(
            path,
            argv,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in moved.items()],
            setpgroup=0,
            setsigmask=[],
            setsigdef=_DEFAULT_SIGNALS,
        )
    finally:
        for end in moved.values():
            os.close(end)


def _widen(pipe: int) -> None:
    with suppress(OSError):  # the user's allowance of pipe memory may be used up
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


def _told(status: int) -> str:
    """A wait status in Go's words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"
