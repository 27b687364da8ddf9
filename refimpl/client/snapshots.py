"""One snapshotter over gRPC: a ``contract.snapshots.Snapshotter`` and ``Cleaner`` (containerd.services.snapshots.v1).

The same class reaches a snapshotter of a daemon and a proxy plugin on a socket of its own; the name travels in every
request either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.api.snapshots_v1_pb2_grpc import SnapshotsStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage

_KINDS = {kind.value: kind for kind in Kind}


class RemoteSnapshotter:
    """A snapshotter, known by its name."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._stub = SnapshotsStub(connection.channel)

    def stat(self, ctx: CallContext, key: str) -> Info:
        """The record of a snapshot."""
        answer = self._connection.unary(ctx, self._stub.Stat, pb.StatSnapshotRequest(snapshotter=self._name, key=key))
        return _from_wire(convert.present(answer, "info", answer.info))

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels."""
        question = pb.UpdateSnapshotRequest(
            snapshotter=self._name, info=_to_wire(info), update_mask=convert.mask_to_wire(fieldpaths)
        )
        answer = self._connection.unary(ctx, self._stub.Update, question)
        return _from_wire(convert.present(answer, "info", answer.info))

    def usage(self, ctx: CallContext, key: str) -> Usage:
        """What the snapshot takes."""
        answer = self._connection.unary(ctx, self._stub.Usage, pb.UsageRequest(snapshotter=self._name, key=key))
        return Usage(answer.size, answer.inodes)

    def mounts(self, ctx: CallContext, key: str) -> list[Mount]:
        """The mounts of an active snapshot or view."""
        answer = self._connection.unary(ctx, self._stub.Mounts, pb.MountsRequest(snapshotter=self._name, key=key))
        return convert.mounts_from_wire(answer.mounts)

    def prepare(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make an active snapshot."""
        question = pb.PrepareSnapshotRequest(snapshotter=self._name, key=key, parent=parent, labels=labels)
        return convert.mounts_from_wire(self._connection.unary(ctx, self._stub.Prepare, question).mounts)

    def view(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make a read-only snapshot."""
        question = pb.ViewSnapshotRequest(snapshotter=self._name, key=key, parent=parent, labels=labels)
        return convert.mounts_from_wire(self._connection.unary(ctx, self._stub.View, question).mounts)

    def commit(self, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Turn an active snapshot into a committed one."""
        question = pb.CommitSnapshotRequest(snapshotter=self._name, name=name, key=key, labels=labels)
        self._connection.unary(ctx, self._stub.Commit, question)

    def remove(self, ctx: CallContext, key: str) -> None:
        """Forget a snapshot."""
        self._connection.unary(ctx, self._stub.Remove, pb.RemoveSnapshotRequest(snapshotter=self._name, key=key))

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The snapshots for which any filter holds; all of them have arrived when this returns."""
        question = pb.ListSnapshotsRequest(snapshotter=self._name, filters=filters)
        answers = self._connection.stream(ctx, self._stub.List, question)
        return iter([_from_wire(info) for answer in answers for info in answer.info])

    def cleanup(self, ctx: CallContext) -> None:
        """Remove what no record stands for any more."""
        self._connection.unary(ctx, self._stub.Cleanup, pb.CleanupRequest(snapshotter=self._name))

    def close(self) -> None:
        """Nothing: the connection belongs to whoever made it."""


def _to_wire(info: Info) -> pb.Info:
    return pb.Info(
        name=info.name,
        parent=info.parent,
        kind=pb.Kind.ValueType(info.kind.value),
        created_at=convert.time_to_wire(info.created_at),
        updated_at=convert.time_to_wire(info.updated_at),
        labels=info.labels,
    )


def _from_wire(message: pb.Info) -> Info:
    return Info(
        name=message.name,
        parent=message.parent,
        # A kind from the future is one that we do not know.
        kind=_KINDS.get(message.kind, Kind.UNKNOWN),
        created_at=convert.time_from_wire(message, "created_at"),
        updated_at=convert.time_from_wire(message, "updated_at"),
        labels=dict(message.labels),
    )
