"""What the daemon asks of plugins that speak to the outside: put your services on this server.

An instance that has one of these methods is called after all plugins are initialised and before a socket is opened
(PLG-059, PLG-060, DMN-029). Nothing else marks a plugin as a service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from refimpl.contract.context import CallContext

if TYPE_CHECKING:
    import grpc
    from prometheus_client import CollectorRegistry


@runtime_checkable
class GRPCService(Protocol):
    """A plugin with gRPC services."""

    def register_grpc(self, server: grpc.Server) -> None:
        """Add the servicers to the server of the main socket."""
        ...


@runtime_checkable
class TCPService(Protocol):
    """A plugin whose gRPC services may also be offered on the TCP listener: the CRI, if configured so (DMN-030)."""

    def register_tcp(self, server: grpc.Server) -> None:
        """Add the servicers to the server of the TCP listener, or nothing."""
        ...


@runtime_checkable
class MetricsService(Protocol):
    """A plugin with series of its own on the daemon's metrics page."""

    def register_metrics(self, registry: CollectorRegistry) -> None:
        """Register its collectors; called only where there is such a page (MON-001)."""
        ...


@dataclass(frozen=True, slots=True)
class TTRPCMethod:
    """One unary method of a ttrpc service.

    Attributes:
        request: the protobuf message class of the request.
        handler: called with the call context (namespace and deadline from the frame) and the request; answers with
            the response message. ``contract.errors`` become the status of the answer.
    """

    request: type[Any]
    handler: Callable[[CallContext, Any], Any]


class TTRPCRegistrar(Protocol):
    """The server side of a ttrpc socket, as far as a plugin needs it."""

    def add_service(self, name: str, methods: Mapping[str, TTRPCMethod]) -> None:
        """Serve ``methods`` (by bare name, such as ``Forward``) as the service ``name`` (its full proto name).

        Raises:
            ValueError: the name is taken.
        """
        ...


@runtime_checkable
class TTRPCService(Protocol):
    """A plugin with ttrpc services."""

    def register_ttrpc(self, server: TTRPCRegistrar) -> None:
        """Add the services to the server of the ttrpc socket."""
        ...
