"""A ttrpc client: any number of calls at once on one connected socket, from any thread.

One reader takes in all frames and leaves each with the call that it belongs to. A call that is given up leaves nothing
behind: its answer is dropped when it comes, for ttrpc cannot cancel. The end of the connection ends all calls with
``Closed``, which containerd's API shows as UNKNOWN "ttrpc: closed".
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from google.protobuf.message import DecodeError, Message

from refimpl.api import status
from refimpl.api.ttrpc_pb2 import KeyValue, Request, Response
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    ContainerdError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    ResourceExhausted,
    Unavailable,
    Unknown,
)
from refimpl.ttrpc.frames import (
    DATA,
    NAMESPACE_KEY,
    NO_DATA,
    REMOTE_CLOSED,
    REMOTE_OPEN,
    REQUEST,
    RESPONSE,
    Frame,
    FrameTooLongError,
    read_frame,
)
from refimpl.ttrpc.inbox import Inbox
from refimpl.ttrpc.writing import BrokenFrameError, FrameWriter

log = logging.getLogger("refimpl.ttrpc")

A = TypeVar("A", bound=Message)

_LAST_STREAM = 0xFFFF_FFFF
_HANG_UP = 5.0  # seconds; the reader is held up only by a close callback that waits


class Closed(Unknown):
    """The connection ended before the answer came; nobody knows whether the call was executed."""

    def __init__(self) -> None:
        super().__init__("ttrpc: closed")


def dial(address: str, timeout: float = 10.0) -> socket.socket:
    """Connect to an address as shims print it: ``unix://PATH``, or the name of an abstract unix socket (SHM-008).

    Args:
        timeout: seconds for the connection to come about.

    Raises:
        Unavailable: nobody listens there.
    """
    path = address.removeprefix("unix://") if address.startswith("unix://") else f"\0{address}"
    connection: socket.socket | None = None
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        connection.connect(path)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL byte
        if connection is not None:
            connection.close()
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        raise Unavailable(f"dial unix {address.removeprefix('unix://')}: {reason}") from error
    connection.settimeout(None)
    return connection


class Client:
    """The calling side of a connection.

    Args:
        connection: a connected stream socket; the client closes it.
        on_close: called once when the connection has ended, whoever ended it, before pending calls hear of it.
    """

    def __init__(self, connection: socket.socket, on_close: Callable[[], None] | None = None) -> None:
        self._socket = connection
        self._writer = FrameWriter(connection)
        self._on_close = on_close
        self._lock = threading.Lock()
        self._pending: dict[int, Inbox[Frame]] = {}
        self._next = 1
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="ttrpc-client", daemon=True)
        self._reader.start()

    @classmethod
    def connect(cls, address: str, timeout: float = 10.0, on_close: Callable[[], None] | None = None) -> Self:
        """A client of an address as shims print it; see ``dial``.

        Raises:
            Unavailable: nobody listens there.
        """
        return cls(dial(address, timeout), on_close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._closed

    def close(self) -> None:
        """Hang up. Idempotent, from any thread; calls under way end with ``Closed``."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._reader:
            # The reader closes the socket itself, so that its number is not somebody else's while it still reads.
            self._reader.join(_HANG_UP)

    def call(self, ctx: CallContext, service: str, method: str, request: Message, answer: type[A]) -> A:
        """Make a unary call.

        The context's namespace and headers go along as metadata, its deadline as a timeout.

        Args:
            service: full proto name, such as ``containerd.task.v2.Task``.
            method: bare name, such as ``Create``.

        Raises:
            ContainerdError: what the server answered.
            Closed: the connection ended.
            Canceled, DeadlineExceeded: the caller waits no longer.
            ResourceExhausted: the request or the answer is over 4 MiB.
        """
        ctx.check()
        id, inbox = self._open(ctx, service, method, request.SerializeToString(), 0)
        try:
            frame = inbox.take(ctx)
        finally:
            self._forget(id)
        assert frame is not None, "only an error ends a call's inbox"
        if frame.type != RESPONSE:
            raise Internal("stream data in answer to a unary call")
        return _parsed(answer, _opened(frame.payload))

    def stream(
        self, ctx: CallContext, service: str, method: str, answer: type[A], request: Message | None = None
    ) -> ClientStream[A]:
        """Open a stream (ttrpc 1.2).

        Args:
            request: the one message, for a method that takes no stream; None to send messages on the stream.

        Raises:
            Closed, Canceled, DeadlineExceeded, ResourceExhausted: as for ``call``.
        """
        ctx.check()
        payload, flags = (b"", REMOTE_OPEN) if request is None else (request.SerializeToString(), REMOTE_CLOSED)
        id, inbox = self._open(ctx, service, method, payload, flags)
        return ClientStream(self, ctx, id, inbox, answer, sending=request is None)

    def send(self, ctx: CallContext, frame: Frame) -> None:
        """Send a frame of a stream; for ``ClientStream``."""
        try:
            self._writer.send(frame, ctx.deadline)
        except FrameTooLongError as error:
            raise ResourceExhausted(str(error), bare=True) from error
        except BrokenFrameError as error:
            self.close()
            raise DeadlineExceeded from error
        except OSError as error:
            raise Closed from error

    def forget(self, id: int) -> None:
        """Drop what still comes on a stream; for ``ClientStream``."""
        self._forget(id)

    def _open(
        self, ctx: CallContext, service: str, method: str, payload: bytes, flags: int
    ) -> tuple[int, Inbox[Frame]]:
        named = ((NAMESPACE_KEY, ctx.namespace),) if ctx.namespace else ()
        metadata = [KeyValue(key=key, value=value) for key, value in (*named, *ctx.headers.items())]
        left = 0 if ctx.deadline is None else max(1, round((ctx.deadline - time.monotonic()) * 1e9))
        message = Request(service=service, method=method, payload=payload, timeout_nano=left, metadata=metadata)
        inbox: Inbox[Frame] = Inbox()
        with self._lock:
            if self._closed:
                raise Closed
            if self._next > _LAST_STREAM:
                raise ResourceExhausted("the connection has no stream ids left", bare=True)
            id, self._next = self._next, self._next + 2
            self._pending[id] = inbox
        try:
            self.send(ctx, Frame(id, REQUEST, message.SerializeToString(), flags))
        except ContainerdError:
            self._forget(id)
            raise
        return id, inbox

    def _forget(self, id: int) -> None:
        with self._lock:
            self._pending.pop(id, None)

    def _read(self) -> None:
        try:
            while True:
                try:
                    frame = read_frame(self._socket)
                except FrameTooLongError as error:
                    self._end(error.stream, ResourceExhausted(str(error), bare=True))
                    continue
                if frame is None:
                    return
                with self._lock:
                    inbox = self._pending.get(frame.stream)
                if inbox is not None and frame.type in {RESPONSE, DATA}:
                    inbox.put(frame)
        except OSError:
            return
        finally:
            self._end_all()

    def _end(self, id: int, error: Exception) -> None:
        with self._lock:
            inbox = self._pending.get(id)
        if inbox is not None:
            inbox.end(error)

    def _end_all(self) -> None:
        with self._lock:
            self._closed = True
            pending, self._pending = self._pending, {}
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        try:
            if self._on_close is not None:
                self._on_close()
        except Exception as error:  # somebody's code: those who wait have to hear of the end all the same
            log.error("ttrpc close callback failed", extra={"fields": {"error": error}}, exc_info=error)
        finally:
            for inbox in pending.values():
                inbox.end(Closed())


class ClientStream(Generic[A]):
    """An open stream. Iterate to get the answers until the server has sent all; made by ``Client.stream``."""

    def __init__(
        self, client: Client, ctx: CallContext, id: int, inbox: Inbox[Frame], answer: type[A], *, sending: bool
    ) -> None:
        self._client = client
        self._ctx = ctx
        self._id = id
        self._inbox = inbox
        self._answer = answer
        self._sending = sending
        self._over = False

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            FailedPrecondition: this side has sent all.
            Closed, Canceled, DeadlineExceeded, ResourceExhausted: as for ``Client.call``.
        """
        if not self._sending:
            raise FailedPrecondition("the stream is closed for sending")
        self._ctx.check()
        self._client.send(self._ctx, Frame(self._id, DATA, message.SerializeToString()))

    def close_send(self) -> None:
        """Tell the server that all is sent. Idempotent."""
        if self._sending:
            self._sending = False
            self._client.send(self._ctx, Frame(self._id, DATA, b"", REMOTE_CLOSED | NO_DATA))

    def receive(self) -> A | None:
        """The next answer; waits for it. None when the server has sent all.

        Raises:
            ContainerdError: what the server answered; the stream is over.
            Closed, Canceled, DeadlineExceeded, ResourceExhausted: as for ``Client.call``.
        """
        while not self._over:
            frame = self._inbox.take(self._ctx)
            assert frame is not None, "only an error ends a stream's inbox"
            if frame.type == RESPONSE:
                self.close()
                return _parsed(self._answer, _opened(frame.payload))
            if frame.flags & REMOTE_CLOSED:
                self.close()
            if not frame.flags & NO_DATA:
                return _parsed(self._answer, frame.payload)
        return None

    def __iter__(self) -> Iterator[A]:
        while (message := self.receive()) is not None:
            yield message

    def close(self) -> None:
        """Give up the stream; what still comes is dropped. Idempotent."""
        self._over = True
        self._client.forget(self._id)


def _opened(payload: bytes) -> bytes:
    """What a response holds.

    Raises:
        ContainerdError: the error that it stands for; its text is the server's, character for character.
    """
    try:
        response = Response.FromString(payload)
    except DecodeError as error:
        raise Internal(f"ttrpc: response does not parse: {error}", bare=True) from error
    if response.HasField("status") and response.status.code:
        text = response.status.message
        told = status.error_from(response.status.code, text)
        # Some texts come without their kind; repeating them must not invent one.
        raise told if str(told) == text else type(told)(text, bare=True)
    return response.payload


def _parsed(answer: type[A], payload: bytes) -> A:
    try:
        return answer.FromString(payload)
    except DecodeError as error:
        raise Internal(f"ttrpc: error unmarshalling payload: {error}", bare=True) from error
