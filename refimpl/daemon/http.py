"""A small HTTP server for people and scrapers: GET on a few fixed paths, 404 for all else."""

from __future__ import annotations

import http.server
import logging
import socket
import socketserver
import sys
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

log = logging.getLogger("refimpl.daemon")

_REQUEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Query = Mapping[str, str]
Route = Callable[[Query], Page]


class PagesServer:
    """Serves pages on a listening socket (unix or TCP), a thread for each request.

    Args:
        listener: bound and listening; the server closes it.
        routes: what makes the page of each path.
        name: of the endpoint, for the log.
    """

    def __init__(self, listener: socket.socket, routes: Mapping[str, Route], name: str) -> None:
        self._server = _Server(listener, _handler(routes))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name=name, daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more; requests under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(listener.getsockname(), handler)
        self.socket = listener

    def fileno(self) -> int:
        return self.socket.fileno()

    def get_request(self) -> tuple[socket.socket, object]:
        connection, peer = self.socket.accept()
        connection.settimeout(_REQUEST_SECONDS)
        return connection, peer or ("unix", 0)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket), "a stream server"
        request.close()

    def server_close(self) -> None:
        self.socket.close()

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("http request failed", exc_info=sys.exc_info())


def _handler(routes: Mapping[str, Route]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        server_version = "refimpl"
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            route = routes.get(url.path)
            if route is None:
                self.send_error(404)
                return
            try:
                page = route(dict(urllib.parse.parse_qsl(url.query)))
            except ValueError as error:
                self.send_error(400, str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
            log.debug("http: %s", format % args)

    return Handler
