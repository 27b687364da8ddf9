"""What tests of the fronts share: a server context without a server, and a whole fake daemon on a socket."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import grpc

from refimpl.daemon.rpc import build
from refimpl.daemon.threads import LazyThreads
from refimpl.kernel import GRPCService, PluginSet, assembled

NAMESPACE = "containerd-namespace"
METADATA = ((NAMESPACE, "ns"),)

M = TypeVar("M")


class Aborted(Exception):
    """What ``abort`` raises, as grpc's own does."""


@dataclass
class FakeContext:
    """The part of ``grpc.ServicerContext`` that fronts use."""

    metadata: Sequence[tuple[str, str | bytes]] = METADATA
    remaining: float | None = None
    active: bool = True
    code: grpc.StatusCode | None = None
    details: str = ""
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    headers_sent: bool = False

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self.metadata

    def time_remaining(self) -> float | None:
        return self.remaining

    def add_callback(self, callback: Callable[[], None]) -> bool:
        if self.active:
            self.callbacks.append(callback)
        return self.active

    def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        assert not metadata
        self.headers_sent = True

    def is_active(self) -> bool:
        return self.active

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        self.code, self.details = code, details
        raise Aborted

    def end(self) -> None:
        """The call is over: the client went away, or the answer is sent."""
        self.active = False
        for callback in self.callbacks:
            callback()


@dataclass(frozen=True)
class Daemon:
    """All plugins with fake backends, served on a socket by this process."""

    plugins: PluginSet
    channel: grpc.Channel


@contextmanager
def daemon(root: Path) -> Iterator[Daemon]:
    """Serve a fake daemon; everything is stopped on leaving."""
    # A socket's path may have 107 characters, and pytest's directories are deep.
    with (
        tempfile.TemporaryDirectory(prefix="grpc-") as place,
        assembled(root=root, state=root, backends="fake", entry_points=False) as plugins,
    ):
        fronts = [each.made for each in plugins if each.error is None and isinstance(each.made, GRPCService)]
        server, _ = build([front.register_grpc for front in fronts], LazyThreads(100), 16 << 20, 16 << 20)
        server.add_insecure_port(f"unix:{place}/d.sock")
        server.start()
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        try:
            with grpc.insecure_channel(f"unix:{place}/d.sock", options=options) as channel:
                yield Daemon(plugins, channel)
        finally:
            server.stop(0).wait(10)


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """Code and text of a failed call."""
    call = cast("grpc.Call", error)  # every error that a call raises is one, though no class says so
    return call.code(), call.details() or ""


def make(cls: type[M], **fields: Any) -> M:
    """A message whose sub-messages are written as dictionaries, which its types do not allow for."""
    return cls(**fields)
