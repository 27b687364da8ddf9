"""A ttrpc server: one reader for each connection, one thread of a pool for each call. Clause PLG-060.

What happens on a connection is in ``refimpl.ttrpc.serving``.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping

from refimpl.contract.errors import Unimplemented
from refimpl.ttrpc.methods import Threads, UnaryMethod
from refimpl.ttrpc.serving import Connection
from refimpl.ttrpc.streams import StreamMethod


class Server:
    """Serves ttrpc services on one listening socket.

    Args:
        listener: a bound and listening stream socket; the server closes it.
        pool: where calls run.
        admit: looks at each connection before anything is read from it; False closes it. None admits everybody.
    """

    def __init__(
        self, listener: socket.socket, pool: Threads, admit: Callable[[socket.socket], bool] | None = None
    ) -> None:
        self._listener = listener
        self._admit = admit
        self._pool = pool
        self._services: dict[str, Mapping[str, UnaryMethod | StreamMethod]] = {}
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def add_service(self, name: str, methods: Mapping[str, UnaryMethod | StreamMethod]) -> None:
        """Serve ``methods`` by bare name as the service ``name``.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._services:
            raise ValueError(f"ttrpc service {name} is registered already")
        self._services[name] = methods

    def method(self, service: str, name: str) -> UnaryMethod | StreamMethod:
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
            if self._admit is not None and not self._admit(accepted):
                accepted.close()
                continue
            connection = Connection(self.method, accepted, self._pool)
            with self._lock:
                if self._stopped:
                    connection.close()
                    return
                self._connections.add(connection)
            try:
                threading.Thread(target=self._read, args=(connection,), name="ttrpc-read", daemon=True).start()
            except RuntimeError:
                # As many threads as the host allows: whoever connects next may be luckier.
                self._hang_up(connection)

    def _read(self, connection: Connection) -> None:
        try:
            connection.read()
        finally:
            self._hang_up(connection)

    def _hang_up(self, connection: Connection) -> None:
        connection.close()
        with self._lock:
            self._connections.discard(connection)
