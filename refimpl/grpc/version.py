"""io.containerd.grpc.v1.version: which build answers; needs nothing, works when all else failed (SVC-008)."""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl import __version__
from refimpl.api import version_v1_pb2 as pb
from refimpl.api import version_v1_pb2_grpc as wire
from refimpl.contract.context import CallContext
from refimpl.contract.version import Version as Build
from refimpl.grpc.calls import unary
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC

BUILD = Build(__version__, revision="")
"""This build. A package does not know from which revision it was made; the text may be empty."""


class VersionFront(wire.VersionServicer):
    """containerd.services.version.v1.Version; itself a ``contract.version.VersionService``: there is none behind it."""

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_VersionServicer_to_server(self, server)

    def version(self, ctx: CallContext) -> Build:
        """This build, whoever asks."""
        return BUILD

    @unary
    def Version(self, request: Empty, ctx: CallContext) -> pb.VersionResponse:
        """This build; no namespace is needed (SVC-020)."""
        build = self.version(ctx)
        return pb.VersionResponse(version=build.version, revision=build.revision)


def init(_ic: InitContext) -> VersionFront:
    """Be ready."""
    return VersionFront()


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front, which requires nothing."""
    return [Registration(GRPC, "version", init=init)]
