"""Differs over gRPC: a ``contract.diff.Differ`` (containerd.services.diff.v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refimpl.api import diff_v1_pb2 as pb
from refimpl.api.diff_v1_pb2_grpc import DiffStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount
from refimpl.contract.types import Descriptor, TypedAny

SLOWEST = 2 * 1024 * 1024
"""Bytes per second that a differ is given time for; a whole root file system takes longer than an ordinary call."""


COMPARE = 110.0
"""Seconds that a comparison gets on top of an ordinary call; nobody knows beforehand how much there is to read."""


class RemoteDiffer:
    """The differs of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = DiffStub(connection.channel)

    def apply(
        self,
        ctx: CallContext,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        payloads: Mapping[str, TypedAny] | None = None,
    ) -> Descriptor:
        """Apply a layer to what the mounts show."""
        question = pb.ApplyRequest(
            diff=convert.descriptor_to_wire(descriptor),
            mounts=convert.mounts_to_wire(mounts),
            payloads=convert.anys_to_wire(payloads or {}),
        )
        allowance = max(descriptor.size, 0) / SLOWEST
        answer = self._connection.unary(ctx, self._stub.Apply, question, allowance=allowance)
        return convert.descriptor_from_wire(convert.present(answer, "applied", answer.applied))

    def compare(
        self,
        ctx: CallContext,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str = "",
        ref: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """Write the difference of two trees into the content store."""
        question = pb.DiffRequest(
            left=convert.mounts_to_wire(lower),
            right=convert.mounts_to_wire(upper),
            media_type=media_type,
            ref=ref,
            labels=labels,
        )
        answer = self._connection.unary(ctx, self._stub.Diff, question, allowance=COMPARE)
        return convert.descriptor_from_wire(convert.present(answer, "diff", answer.diff))
