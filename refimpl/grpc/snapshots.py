"""io.containerd.grpc.v1.snapshots: the wire in front of snapshots-service. It keeps nothing.

Every request names its snapshotter. Of List, containerd passes on what went wrong in the walk with the code Unknown and
the text of the cause; clients have seen nothing else, so it does the same here (SNP-004).
Clauses SNP-001 to 005, SNP-071, SNP-074, SNP-099, SVC-066.
"""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.api import snapshots_v1_pb2_grpc as wire
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument, Unimplemented, Unknown
from refimpl.contract.mounts import ClientMounts
from refimpl.contract.snapshots import Cleaner, Snapshotter
from refimpl.grpc import convert
from refimpl.grpc.calls import streaming, unary
from refimpl.grpc.fronts import service
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE

BLOCK = 100
"""Most snapshots in one message of List (SNP-074)."""


class SnapshotsFront(wire.SnapshotsServicer):
    """containerd.services.snapshots.v1.Snapshots."""

    def __init__(self, snapshotters: Mapping[str, Snapshotter], client_mounts: ClientMounts = ClientMounts()) -> None:
        self._snapshotters = snapshotters
        self._client_mounts = client_mounts

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_SnapshotsServicer_to_server(self, server)

    @unary
    def Prepare(self, request: pb.PrepareSnapshotRequest, ctx: CallContext) -> pb.PrepareSnapshotResponse:
        """Make an active snapshot (SNP-009, SNP-010)."""
        snapshotter = self._snapshotter(request.snapshotter)
        mounts = snapshotter.prepare(ctx, request.key, request.parent, dict(request.labels))
        return pb.PrepareSnapshotResponse(mounts=convert.mounts_to(mounts))

    @unary
    def View(self, request: pb.ViewSnapshotRequest, ctx: CallContext) -> pb.ViewSnapshotResponse:
        """Make a read-only snapshot (SNP-011)."""
        snapshotter = self._snapshotter(request.snapshotter)
        mounts = snapshotter.view(ctx, request.key, request.parent, dict(request.labels))
        return pb.ViewSnapshotResponse(mounts=convert.mounts_to(mounts))

    @unary
    def Mounts(self, request: pb.MountsRequest, ctx: CallContext) -> pb.MountsResponse:
        """The mounts of an active snapshot (SNP-034)."""
        mounts = self._snapshotter(request.snapshotter).mounts(ctx, request.key)
        if not self._client_mounts.told:
            return pb.MountsResponse()
        return pb.MountsResponse(mounts=convert.mounts_to(mounts))

    @unary
    def Commit(self, request: pb.CommitSnapshotRequest, ctx: CallContext) -> Empty:
        """Make an active snapshot a committed one (SNP-012)."""
        snapshotter = self._snapshotter(request.snapshotter)
        snapshotter.commit(ctx, request.name, request.key, dict(request.labels))
        return Empty()

    @unary
    def Remove(self, request: pb.RemoveSnapshotRequest, ctx: CallContext) -> Empty:
        """Forget a snapshot (SNP-022 to 024)."""
        self._snapshotter(request.snapshotter).remove(ctx, request.key)
        return Empty()

    @unary
    def Stat(self, request: pb.StatSnapshotRequest, ctx: CallContext) -> pb.StatSnapshotResponse:
        """The record of a snapshot (SNP-028, SNP-029)."""
        info = self._snapshotter(request.snapshotter).stat(ctx, request.key)
        return pb.StatSnapshotResponse(info=convert.snapshot_to(info))

    @unary
    def Update(self, request: pb.UpdateSnapshotRequest, ctx: CallContext) -> pb.UpdateSnapshotResponse:
        """Change labels (SNP-064 to 070); a request without a record names nothing (SNP-071)."""
        snapshotter = self._snapshotter(request.snapshotter)
        info = snapshotter.update(ctx, convert.snapshot_from(request.info), list(request.update_mask.paths))
        return pb.UpdateSnapshotResponse(info=convert.snapshot_to(info))

    @streaming
    def List(self, request: pb.ListSnapshotsRequest, ctx: CallContext) -> Iterator[pb.ListSnapshotsResponse]:
        """All snapshots wanted, in blocks (SNP-073 to 079)."""
        snapshotter = self._snapshotter(request.snapshotter)
        try:
            infos = iter(snapshotter.walk(ctx, list(request.filters)))
        except ContainerdError as error:
            raise Unknown(str(error)) from error
        while block := list(islice(infos, BLOCK)):
            ctx.check()
            yield pb.ListSnapshotsResponse(info=map(convert.snapshot_to, block))

    @unary
    def Usage(self, request: pb.UsageRequest, ctx: CallContext) -> pb.UsageResponse:
        """What a snapshot takes (SNP-081 to 085)."""
        usage = self._snapshotter(request.snapshotter).usage(ctx, request.key)
        return pb.UsageResponse(size=usage.size, inodes=usage.inodes)

    @unary
    def Cleanup(self, request: pb.CleanupRequest, ctx: CallContext) -> Empty:
        """Remove what no record stands for, if the snapshotter offers that (SNP-099)."""
        snapshotter = self._snapshotter(request.snapshotter)
        if not isinstance(snapshotter, Cleaner):
            raise Unimplemented("snapshotter does not implement Cleanup method")
        snapshotter.cleanup(ctx)
        return Empty()

    def _snapshotter(self, name: str) -> Snapshotter:
        """The one that a request names.

        Raises:
            InvalidArgument: no name (SNP-001), or none that is loaded (SNP-002).
        """
        if not name:
            raise InvalidArgument("snapshotter argument missing")
        if name not in self._snapshotters:
            raise InvalidArgument(f"snapshotter not loaded: {name}")
        return self._snapshotters[name]


def init(ic: InitContext) -> SnapshotsFront:
    """Stand before the service."""
    return SnapshotsFront(service(ic, "snapshots"), ic.resource(ClientMounts))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "snapshots", init=init, requires=(SERVICE,))]
