"""io.containerd.grpc.v1.diff: the wire in front of diff-service. It keeps nothing. Clauses DIF-001 to 053."""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

import grpc

from refimpl.api import diff_v1_pb2 as pb
from refimpl.api import diff_v1_pb2_grpc as wire
from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.errors import InvalidArgument
from refimpl.grpc import convert
from refimpl.grpc.calls import unary
from refimpl.grpc.fronts import service
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE


class DiffFront(wire.DiffServicer):
    """containerd.services.diff.v1.Diff."""

    def __init__(self, differ: Differ) -> None:
        self._differ = differ

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_DiffServicer_to_server(self, server)

    @unary
    def Apply(self, request: pb.ApplyRequest, ctx: CallContext) -> pb.ApplyResponse:
        """Unpack a layer (DIF-001); one must be named (DIF-010, where containerd dies)."""
        if not request.HasField("diff"):
            raise InvalidArgument("no descriptor to apply")
        layer = convert.descriptor_from(request.diff)
        mounts, payloads = convert.mounts_from(request.mounts), convert.anys_from(request.payloads)
        applied = self._differ.apply(ctx, layer, mounts, payloads)
        return pb.ApplyResponse(applied=convert.descriptor_to(applied))

    @unary
    def Diff(self, request: pb.DiffRequest, ctx: CallContext) -> pb.DiffResponse:
        """Pack what changed from left to right."""
        diff = self._differ.compare(
            ctx,
            convert.mounts_from(request.left),
            convert.mounts_from(request.right),
            media_type=request.media_type,
            ref=request.ref,
            labels=dict(request.labels),
        )
        return pb.DiffResponse(diff=convert.descriptor_to(diff))


def init(ic: InitContext) -> DiffFront:
    """Stand before the service."""
    return DiffFront(service(ic, "diff"))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "diff", init=init, requires=(SERVICE,))]
