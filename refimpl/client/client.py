"""A client of one daemon: every service of the contract behind one address.

Nothing is opened before the first use, so making a client cannot fail; a daemon that is not there is ``Unavailable``
at the first call. All parts may be used from any thread.
"""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Self

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from refimpl.client.connection import TIMEOUT, Connection
from refimpl.client.containers import RemoteContainers
from refimpl.client.content import RemoteContent
from refimpl.client.diff import RemoteDiffer
from refimpl.client.events import RemoteEvents
from refimpl.client.images import RemoteImages
from refimpl.client.introspection import RemoteIntrospection, RemoteVersion
from refimpl.client.leases import RemoteLeases
from refimpl.client.namespaces import RemoteNamespaces
from refimpl.client.snapshots import RemoteSnapshotter
from refimpl.client.tasks import RemoteTasks
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError


class Client:
    """A daemon, as the contract's protocols.

    Args:
        address: path of the daemon's unix socket.
        timeout: seconds that a call may take when its context has no deadline. Calls whose work grows with the data
            (reading, applying, comparing) get more, in proportion.
        authority: the ``:authority`` header.
    """

    def __init__(self, address: str, *, timeout: float = TIMEOUT, authority: str = "localhost") -> None:
        self._connection = Connection(address, timeout=timeout, authority=authority)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Path of the socket."""
        return self._connection.address

    @cached_property
    def content(self) -> RemoteContent:
        """Blobs and ingests."""
        return RemoteContent(self._connection)

    @cached_property
    def images(self) -> RemoteImages:
        """Image records."""
        return RemoteImages(self._connection)

    @cached_property
    def containers(self) -> RemoteContainers:
        """Container records."""
        return RemoteContainers(self._connection)

    @cached_property
    def tasks(self) -> RemoteTasks:
        """The running side of containers."""
        return RemoteTasks(self._connection)

    @cached_property
    def namespaces(self) -> RemoteNamespaces:
        """Namespaces."""
        return RemoteNamespaces(self._connection)

    @cached_property
    def leases(self) -> RemoteLeases:
        """Leases."""
        return RemoteLeases(self._connection)

    @cached_property
    def events(self) -> RemoteEvents:
        """The event exchange."""
        return RemoteEvents(self._connection)

    @cached_property
    def diff(self) -> RemoteDiffer:
        """The differs."""
        return RemoteDiffer(self._connection)

    @cached_property
    def introspection(self) -> RemoteIntrospection:
        """The daemon's plugins and identity."""
        return RemoteIntrospection(self._connection)

    @cached_property
    def version(self) -> RemoteVersion:
        """The daemon's version."""
        return RemoteVersion(self._connection)

    def snapshotter(self, name: str) -> RemoteSnapshotter:
        """The snapshotter of that name; whether the daemon has it shows at the first call (SVC-066)."""
        return RemoteSnapshotter(self._connection, name)

    def health(self) -> bool:
        """Whether the daemon answers and says that it is serving (SVC-009); False for any failure."""
        try:
            check = self._connection.channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            answer = self._connection.unary(CallContext(), check, HealthCheckRequest())
        except ContainerdError:
            return False
        return answer.status == HealthCheckResponse.SERVING

    def close(self) -> None:
        """End all calls and streams. Idempotent; a call afterwards is ``Unavailable``."""
        self._connection.close()
