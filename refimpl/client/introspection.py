"""What a daemon tells about itself over gRPC: ``contract.introspection.Introspection`` and ``VersionService``."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.empty_pb2 import Empty

from refimpl.api import introspection_v1_pb2 as pb
from refimpl.api.introspection_v1_pb2_grpc import IntrospectionStub
from refimpl.api.version_v1_pb2_grpc import VersionStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.contract.context import CallContext
from refimpl.contract.introspection import PluginError, PluginInfo, ServerInfo
from refimpl.contract.version import Version


class RemoteIntrospection:
    """The plugins and the identity of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = IntrospectionStub(connection.channel)

    def plugins(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[PluginInfo]:
        """The plugins for which any filter holds."""
        answer = self._connection.unary(ctx, self._stub.Plugins, pb.PluginsRequest(filters=filters))
        return [_plugin(message) for message in answer.plugins]

    def server(self, ctx: CallContext) -> ServerInfo:
        """Identity of the daemon."""
        answer = self._connection.unary(ctx, self._stub.Server, Empty())
        return ServerInfo(answer.uuid, answer.pid, answer.pidns)


class RemoteVersion:
    """The version of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = VersionStub(connection.channel)

    def version(self, ctx: CallContext) -> Version:
        """The daemon's version."""
        answer = self._connection.unary(ctx, self._stub.Version, Empty())
        return Version(answer.version, answer.revision)


def _plugin(message: pb.Plugin) -> PluginInfo:
    return PluginInfo(
        type=message.type,
        id=message.id,
        requires=tuple(message.requires),
        platforms=tuple(convert.platform_from_wire(platform) for platform in message.platforms),
        exports=dict(message.exports),
        capabilities=tuple(message.capabilities),
        init_err=PluginError(message.init_err.code, message.init_err.message) if message.HasField("init_err") else None,
    )
