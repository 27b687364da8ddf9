"""The daemon's endpoints, in the order in which they are opened: debug, metrics, ttrpc, TCP, and the main gRPC socket.

Everything a client could ask for is there before the first socket is (DMN-029). An endpoint that cannot be opened
ends the start (DMN-033). Clauses DMN-023 to DMN-036, DMN-046 to DMN-048, PLG-059, PLG-060.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc

from refimpl.daemon import sockets
from refimpl.daemon.rpc import Observe, build
from refimpl.daemon.sockets import ListenError
from refimpl.daemon.threads import LazyThreads
from refimpl.grpc.version import BUILD
from refimpl.kernel import Configuration, GRPCService, PluginSet, TTRPCService
from refimpl.kernel.service import MetricsService, TCPService
from refimpl.ttrpc.server import Server

if TYPE_CHECKING:
    from refimpl.daemon.metrics import Metrics

log = logging.getLogger("refimpl.daemon")

WAITING_CALLS = 1024
"""Calls that may wait at the same time (subscriptions, waits for processes); each holds a thread while it does."""

_STOP_SECONDS = 1.0


class Endpoints:
    """All endpoints of one daemon.

    Args:
        configuration: where they are and whose.
        plugins: who is on them.
        interceptors: what the calls of the gRPC sockets pass through, outermost first.

    Attributes:
        methods: what is on the main socket, as ``service/Method``; nothing before ``open``.
    """

    def __init__(
        self, configuration: Configuration, plugins: PluginSet, interceptors: Sequence[grpc.ServerInterceptor] = ()
    ) -> None:
        self.methods: Sequence[str] = ()
        self._configuration = configuration
        self._interceptors = interceptors
        self._pool = LazyThreads(WAITING_CALLS)
        self._closing: list[Callable[[], None]] = []
        instances = [plugin.made for plugin in plugins if plugin.error is None]
        self._grpc = [instance for instance in instances if isinstance(instance, GRPCService)]
        self._tcp = [instance for instance in instances if isinstance(instance, TCPService)]
        self._measured = [instance for instance in instances if isinstance(instance, MetricsService)]
        self._ttrpc = [instance for instance in instances if isinstance(instance, TTRPCService)]

    def open(self) -> None:
        """Open what is configured.

        Raises:
            ListenError: one of them cannot be opened; call ``close`` for the others.
        """
        settings = self._configuration
        metrics = self._metrics()
        observe = metrics.observe if metrics is not None else None
        limits = settings.grpc.max_recv_message_size, settings.grpc.max_send_message_size
        register = [service.register_grpc for service in self._grpc]
        server, services = build(register, self._pool, *limits, observe, self._interceptors)
        self.methods = [f"{service}/{method}" for service, methods in services.items() for method in methods]
        tcp = self._tcp_server(limits, observe)
        if metrics is not None:
            metrics.know(services)
            for source in self._measured:
                source.register_metrics(metrics.registry)

        self._open_debug()
        if metrics is not None:
            address = settings.metrics.address
            self._pages(_guard("metrics endpoint", lambda: _listen_tcp(address)), metrics.routes(), address)
        self._open_ttrpc()
        if tcp is not None:
            _guard("TCP grpc endpoint", tcp)
        self._open_main(server)

    def close(self) -> None:
        """Close everything at once; open calls end, and nobody is waited for (DMN-047). Idempotent."""
        while self._closing:
            self._closing.pop()()
        self._pool.shutdown()

    def join(self, seconds: float) -> bool:
        """Wait for the threads of calls that were under way at ``close``, at most ``seconds``; whether they ended."""
        return self._pool.join(seconds)

    def _metrics(self) -> Metrics | None:
        if not self._configuration.metrics.address:
            return None
        # Costs a tenth of a second of the start, and is off by default.
        from refimpl.daemon.metrics import Metrics  # noqa: PLC0415

        return Metrics(BUILD.version, BUILD.revision, histogram=self._configuration.metrics.grpc_histogram)

    def _open_debug(self) -> None:
        debug = self._configuration.debug
        if not debug.address:
            return
        # As above: off by default, and not needed before somebody asks.
        from refimpl.daemon.debug import routes  # noqa: PLC0415

        def listener() -> socket.socket:
            if debug.address.startswith("/"):
                return sockets.listen(Path(debug.address), debug.uid, debug.gid)
            return _listen_tcp(debug.address)

        opened = _guard("debug endpoint", listener)
        self._pages(opened, routes(), debug.address)
        if debug.address.startswith("/"):
            self._remove_at_close(Path(debug.address))

    def _pages(self, listener: socket.socket, routes: Any, address: str) -> None:
        # As above: only for the two endpoints that are off by default.
        from refimpl.daemon.http import PagesServer  # noqa: PLC0415

        server = PagesServer(listener, routes, f"http-{address}")
        server.start()
        self._closing.append(server.stop)
        _announce(address)

    def _open_ttrpc(self) -> None:
        settings = self._configuration
        # Its own owner counts only with its own address (DMN-028).
        owner = settings.ttrpc if settings.ttrpc.address else settings.grpc
        path = Path(settings.ttrpc_address)
        listener = _guard("main ttrpc endpoint", lambda: sockets.listen(path, owner.uid, owner.gid))
        self._remove_at_close(path)
        server = Server(listener, self._pool)
        for service in self._ttrpc:
            service.register_ttrpc(server)
        server.start()
        self._closing.append(server.stop)
        _announce(str(path))

    def _open_main(self, server: grpc.Server) -> None:
        settings = self._configuration.grpc
        path = Path(settings.address)

        def bind() -> None:
            sockets.prepare(path, settings.uid, settings.gid)
            with sockets.only_for_owner():
                # gRPC reads the address as a URI.
                server.add_insecure_port(f"unix:{quote(str(path))}")
            sockets.chown(path, settings.uid, settings.gid)

        _guard("main endpoint", bind)
        self._remove_at_close(path)
        server.start()
        self._closing.append(lambda: _stop(server))
        _announce(settings.address)

    def _tcp_server(self, limits: tuple[int, int], observe: Observe | None) -> Callable[[], None] | None:
        """What opens the TCP server; None without an address. Bad TLS files are refused at once, also without one."""
        address = self._configuration.grpc.tcp_address
        credentials = self._credentials()
        if not address:
            return None
        register = [service.register_tcp for service in self._tcp]
        server, _ = build(register, self._pool, *limits, observe, self._interceptors)

        def open_() -> None:
            _split(address)
            if credentials is not None:
                server.add_secure_port(address, credentials)
            else:
                server.add_insecure_port(address)
            server.start()
            self._closing.append(lambda: _stop(server))
            _announce(address)

        return open_

    def _credentials(self) -> grpc.ServerCredentials | None:
        """TLS for the TCP listener; None when it is not configured.

        Raises:
            ListenError: a file that cannot be used (DMN-032).
        """
        settings = self._configuration.grpc
        if not settings.tcp_tls_cert and not settings.tcp_tls_key:
            return None
        # As above: TCP is off by default.
        from refimpl.daemon.tls import credentials  # noqa: PLC0415

        return credentials(settings.tcp_tls_cert, settings.tcp_tls_key, settings.tcp_tls_ca)

    def _remove_at_close(self, path: Path) -> None:
        identity = sockets.identify(path)
        self._closing.append(lambda: sockets.remove(path, identity))


def _stop(server: grpc.Server) -> None:
    server.stop(grace=None).wait(_STOP_SECONDS)


def _announce(address: str) -> None:
    log.info("serving...", extra={"fields": {"address": address}})


def _guard(name: str, open_: Callable[[], Any]) -> Any:
    try:
        return open_()
    except (ListenError, OSError, RuntimeError) as error:
        # grpcio's own error for an address that it cannot bind is a RuntimeError.
        raise ListenError(f"failed to get listener for {name}: {error}") from error


def _listen_tcp(address: str) -> socket.socket:
    host, port = _split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        text = (error.strerror or str(error)).lower()
        raise ListenError(f"listen tcp {address}: bind: {text}") from error


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ListenError(f"listen tcp: address {address}: missing port in address")
    if not port.isdecimal():
        raise ListenError(f"listen tcp: address {address}: unknown port")
    return host.strip("[]"), int(port)
