"""One client of a ttrpc server: its frames become calls, and what these answer becomes frames.

Answers come in the order of completion. What the protocol itself has to refuse (an even stream id, an unknown service,
a payload that does not parse) is answered with a status, and the connection stays usable. As 1.1 does, ids of unary
calls may come again, and frames that belong to nothing are ignored.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from refimpl.api import status
from refimpl.api.ttrpc_pb2 import Request, Response
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, ContainerdError, Internal, InvalidArgument, ResourceExhausted
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
from refimpl.ttrpc.methods import Threads, UnaryMethod
from refimpl.ttrpc.streams import ServerStream, StreamMethod
from refimpl.ttrpc.writing import FrameWriter

log = logging.getLogger("refimpl.ttrpc")

Lookup = Callable[[str, str], UnaryMethod | StreamMethod]
"""Finds a method by service and name, or raises ``Unimplemented``."""


class Connection:
    """A client's connection.

    Args:
        lookup: finds methods.
        accepted: the socket; the connection closes it.
        pool: where calls run.
    """

    def __init__(self, lookup: Lookup, accepted: socket.socket, pool: Threads) -> None:
        self._lookup = lookup
        self._socket = accepted
        self._pool = pool
        self._writer = FrameWriter(accepted)
        self._streams: dict[int, ServerStream] = {}
        self._lock = threading.Lock()
        # One for all calls: there is no other way to cancel a ttrpc call than to go away.
        self._gone = CancelToken()

    def read(self) -> None:
        """Take in frames until the client goes away."""
        while True:
            try:
                frame = read_frame(self._socket)
            except FrameTooLongError as error:
                self._refuse(error.stream, ResourceExhausted(str(error), bare=True))
                continue
            except OSError:
                return
            if frame is None:
                return
            try:
                self._take(frame)
            except RuntimeError:  # the pool is shut down: so is the daemon
                return

    def close(self) -> None:
        """Cancel what runs and hang up."""
        self._gone.cancel()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _take(self, frame: Frame) -> None:
        if frame.type == DATA:
            self._data(frame)
        elif frame.type == REQUEST and frame.stream % 2 == 0:
            self._refuse(frame.stream, InvalidArgument("StreamID must be odd for client initiated streams", bare=True))
        elif frame.type == REQUEST:
            self._request(frame)

    def _data(self, frame: Frame) -> None:
        with self._lock:
            stream = self._streams.get(frame.stream)
        if stream is None:
            return
        if not frame.flags & NO_DATA:
            stream.deliver(frame.payload)
        if frame.flags & REMOTE_CLOSED:
            stream.sent_all()

    def _request(self, frame: Frame) -> None:
        try:
            request = Request.FromString(frame.payload)
        except DecodeError as error:
            self._refuse(frame.stream, InvalidArgument(f"unmarshal request error: {error}", bare=True))
            return
        try:
            method = self._lookup(request.service, request.method)
            if not isinstance(method, StreamMethod):
                self._pool.submit(self._unary, method, frame.stream, request)
                return
            # Opened by the reader, so that the data that follows finds it.
            stream = self._open(method, frame, request)
        except ContainerdError as error:
            self._refuse(frame.stream, error)
            return
        self._pool.submit(self._streaming, method, frame.stream, self._context(request), stream)

    def _unary(self, method: UnaryMethod, stream: int, request: Any) -> None:
        try:
            message = _parsed(method.request, request.payload)
            answer = Response(payload=method.handler(self._context(request), message).SerializeToString())
        except Exception as error:  # noqa: BLE001  # any handler's code: its failure is the answer, not the server's
            self._fail(stream, error)
            return
        self._send(Frame(stream, RESPONSE, answer.SerializeToString()))

    def _open(self, method: StreamMethod, frame: Frame, request: Any) -> ServerStream:
        stream = ServerStream(
            self._context(request),
            lambda payload: _parsed(method.request, payload),
            lambda message: self._answer(Frame(frame.stream, DATA, message.SerializeToString())),
        )
        # Whoever sends no data at all has asked with this message, be it empty.
        if request.payload or not frame.flags & REMOTE_OPEN:
            stream.deliver(request.payload)
        if not frame.flags & REMOTE_OPEN:
            stream.sent_all()
        with self._lock:
            if frame.stream in self._streams:
                raise InvalidArgument("StreamID cannot be re-used and must increment", bare=True)
            self._streams[frame.stream] = stream
        return stream

    def _streaming(self, method: StreamMethod, id: int, ctx: CallContext, stream: ServerStream) -> None:
        try:
            last = method.handler(ctx, stream)
            payload = b"" if last is None else last.SerializeToString()
        except Exception as error:  # noqa: BLE001  # as above
            self._forget(id)
            self._fail(id, error)
            return
        self._forget(id)
        if method.many_answers:
            flags = REMOTE_CLOSED | NO_DATA if last is None else REMOTE_CLOSED
            self._send(Frame(id, DATA, payload, flags))
        else:
            self._send(Frame(id, RESPONSE, Response(payload=payload).SerializeToString()))

    def _forget(self, id: int) -> None:
        with self._lock:
            self._streams.pop(id, None)

    def _context(self, request: Any) -> CallContext:
        headers: dict[str, str] = {}
        for entry in request.metadata:
            headers.setdefault(entry.key.lower(), entry.value)  # of several values the first counts
        left = request.timeout_nano
        deadline = time.monotonic() + left / 1e9 if left else None
        return CallContext(headers.pop(NAMESPACE_KEY, ""), "", deadline, self._gone, headers)

    def _fail(self, stream: int, error: Exception) -> None:
        if not isinstance(error, ContainerdError):
            log.error("ttrpc handler failed", extra={"fields": {"error": error}}, exc_info=error)
        self._refuse(stream, error)

    def _refuse(self, stream: int, error: Exception) -> None:
        answer = Response()
        answer.status.code, answer.status.message = status.code_of(error), status.text_of(error)
        self._send(Frame(stream, RESPONSE, answer.SerializeToString()))

    def _send(self, frame: Frame) -> None:
        """Send a last frame; the client may be gone by now."""
        try:
            self._answer(frame)
        except ResourceExhausted as error:
            self._refuse(frame.stream, error)
        except Canceled:
            pass

    def _answer(self, frame: Frame) -> None:
        try:
            self._writer.send(frame)
        except FrameTooLongError as error:
            raise ResourceExhausted(str(error), bare=True) from error
        except OSError as error:
            raise Canceled from error


def _parsed(request: type[Any], payload: bytes) -> Any:
    try:
        return request.FromString(payload)
    except DecodeError as error:
        raise Internal(f"ttrpc: error unmarshalling payload: {error}", bare=True) from error
