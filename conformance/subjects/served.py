"""The sockets of plugins that live in this process: gRPC for raw calls, ttrpc for shims that call back."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from conformance.wire import MAX_MESSAGE
from refimpl.kernel import GRPCService, TTRPCService
from refimpl.ttrpc.server import Server

STOP_SECONDS = 0.5
"""How long calls under way may take to end by themselves."""

# Subscribers and open write streams hold a thread each; a single check has few of them.
_THREADS = 32

_MODE = 0o660
"""Of both sockets: the daemon's (EVT-010)."""


class ServedPlugins:
    """Servers on sockets below one temporary directory, for as long as the kernel lives."""

    def __init__(self) -> None:
        self._grpc: grpc.Server | None = None
        self._ttrpc: Server | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._folder: Path | None = None

    @property
    def path(self) -> str:
        """Where the gRPC socket is, or would be. The same for as long as nothing is closed."""
        if self._folder is None:
            # Short on purpose: the path of a unix socket may not be longer than 107 bytes.
            self._folder = Path(tempfile.mkdtemp(prefix="cfm-"))
        return str(self._folder / "c.sock")

    def serve_grpc(self, instances: Sequence[object]) -> str:
        """Serve the gRPC services among ``instances``, once; answer with the path of the socket."""
        if self._grpc is None:
            limits = [("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)]
            self._grpc = grpc.server(ThreadPoolExecutor(_THREADS), options=limits)
            for instance in instances:
                if isinstance(instance, GRPCService):
                    instance.register_grpc(self._grpc)
            self._grpc.add_insecure_port(f"unix:{self.path}")
            self._grpc.start()
            Path(self.path).chmod(_MODE)
        return self.path

    def serve_ttrpc(self, instances: Sequence[object]) -> str:
        """Serve the ttrpc services among ``instances``, once; answer with the path of the socket."""
        path = f"{self.path}.ttrpc"
        if self._ttrpc is None:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            Path(path).chmod(_MODE)
            listener.listen()
            self._pool = ThreadPoolExecutor(_THREADS)
            self._ttrpc = Server(listener, self._pool)
            for instance in instances:
                if isinstance(instance, TTRPCService):
                    instance.register_ttrpc(self._ttrpc)
            self._ttrpc.start()
        return path

    def close(self) -> None:
        """Stop serving; calls under way are cancelled. The paths stay the same for who serves again."""
        server, self._grpc = self._grpc, None
        if server is not None:
            server.stop(STOP_SECONDS).wait(5)
        ttrpc, self._ttrpc = self._ttrpc, None
        if ttrpc is not None:
            ttrpc.stop()
            Path(f"{self.path}.ttrpc").unlink(missing_ok=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def remove(self) -> None:
        """Stop serving, and remove the directory. Idempotent."""
        self.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
