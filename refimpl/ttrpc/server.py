"""A ttrpc server for unary calls: one reader for each connection, one thread of a pool for each call.

Answers come in the order of completion. What the protocol itself has to refuse (an even stream id, an unknown service,
a payload that does not parse) is answered with a status, and the connection stays usable. Clause PLG-060.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

from google.protobuf.message import DecodeError

from refimpl.api import status
from refimpl.api.ttrpc_pb2 import Request, Response
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import ContainerdError, Internal, InvalidArgument, ResourceExhausted, Unimplemented
from refimpl.kernel.service import TTRPCMethod
from refimpl.ttrpc.frames import REQUEST, RESPONSE, Frame, FrameTooLongError, read_frame

log = logging.getLogger("refimpl.ttrpc")

NAMESPACE_KEY = "containerd-namespace-ttrpc"
"""The metadata key of the namespace."""


class Server:
    """Serves ttrpc services on one listening socket.

    Args:
        listener: a bound and listening stream socket; the server closes it.
        pool: where calls run.
    """

    def __init__(self, listener: socket.socket, pool: Executor) -> None:
        self._listener = listener
        self._pool = pool
        self._services: dict[str, Mapping[str, TTRPCMethod]] = {}
        self._connections: set[_Connection] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def add_service(self, name: str, methods: Mapping[str, TTRPCMethod]) -> None:
        """Serve ``methods`` by bare name as the service ``name``.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._services:
            raise ValueError(f"ttrpc service {name} is registered already")
        self._services[name] = methods

    def method(self, service: str, name: str) -> TTRPCMethod:
        """The method that a request names; names are compared byte by byte.

        Raises:
            Unimplemented: no such service or method.
        """
        methods = self._services.get(service)
        if methods is None:
            raise Unimplemented(f"service {service}", bare=True)
        if name not in methods:
            raise Unimplemented(f"method {name}", bare=True)
        return methods[name]

    def start(self) -> None:
        """Accept connections from now on, in a thread of its own."""
        threading.Thread(target=self._accept, name="ttrpc-accept", daemon=True).start()

    def stop(self) -> None:
        """Close the listener and all connections; calls under way are cancelled and not waited for. Idempotent."""
        with self._lock:
            self._stopped = True
            connections = list(self._connections)
        with contextlib.suppress(OSError):
            # Wakes the thread in accept(), which close() alone does not.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                if self._stopped:
                    return
                # Out of file descriptors, most likely: the connection waits in the queue until some are free.
                time.sleep(0.01)
                continue
            connection = _Connection(self, accepted, self._pool)
            with self._lock:
                if self._stopped:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._read, args=(connection,), name="ttrpc-read", daemon=True).start()

    def _read(self, connection: _Connection) -> None:
        try:
            connection.read()
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)


class _Connection:
    """One client."""

    def __init__(self, server: Server, accepted: socket.socket, pool: Executor) -> None:
        self._server = server
        self._socket = accepted
        self._pool = pool
        self._writing = threading.Lock()
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
            if frame.type != REQUEST:
                continue
            if frame.stream % 2 == 0:
                odd = InvalidArgument("StreamID must be odd for client initiated streams", bare=True)
                self._refuse(frame.stream, odd)
                continue
            try:
                self._pool.submit(self._call, frame)
            except RuntimeError:  # the pool is shut down: so is the daemon
                return

    def close(self) -> None:
        """Cancel what runs and hang up."""
        self._gone.cancel()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _call(self, frame: Frame) -> None:
        try:
            answer = Response(payload=self._answer(frame.payload))
        except Exception as error:  # any handler's code: its failure is the answer, not the server's
            if not isinstance(error, ContainerdError):
                log.error("ttrpc handler failed", extra={"fields": {"error": error}}, exc_info=error)
            self._refuse(frame.stream, error)
            return
        self._send(frame.stream, answer)

    def _answer(self, payload: bytes) -> bytes:
        try:
            request = Request.FromString(payload)
        except DecodeError as error:
            raise InvalidArgument(f"unmarshal request error: {error}", bare=True) from error
        method = self._server.method(request.service, request.method)
        try:
            message = method.request.FromString(request.payload)
        except DecodeError as error:
            raise Internal(f"ttrpc: error unmarshalling payload: {error}", bare=True) from error
        answer = method.handler(self._context(request), message)
        return bytes(answer.SerializeToString())

    def _context(self, request: Any) -> CallContext:
        headers: dict[str, str] = {}
        for entry in request.metadata:
            headers.setdefault(entry.key.lower(), entry.value)  # of several values the first counts
        left = request.timeout_nano
        deadline = time.monotonic() + left / 1e9 if left else None
        return CallContext(headers.pop(NAMESPACE_KEY, ""), "", deadline, self._gone, headers)

    def _refuse(self, stream: int, error: Exception) -> None:
        answer = Response()
        answer.status.code, answer.status.message = status.code_of(error), status.text_of(error)
        self._send(stream, answer)

    def _send(self, stream: int, answer: Response) -> None:
        try:
            data = Frame(stream, RESPONSE, answer.SerializeToString()).encode()
        except FrameTooLongError as error:
            self._refuse(stream, ResourceExhausted(str(error), bare=True))
            return
        with self._writing, contextlib.suppress(OSError):  # the client may be gone by now
            self._socket.sendall(data)
