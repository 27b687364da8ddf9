"""Containers over gRPC: a ``contract.containers.ContainerStore`` (containerd.services.containers.v1)."""

from __future__ import annotations

from collections.abc import Sequence

from refimpl.api import containers_v1_pb2 as pb
from refimpl.api.containers_v1_pb2_grpc import ContainersStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext


class RemoteContainers:
    """The container records of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = ContainersStub(connection.channel)

    def get(self, ctx: CallContext, id: str) -> Container:
        """One record."""
        answer = self._connection.unary(ctx, self._stub.Get, pb.GetContainerRequest(id=id))
        return _from_wire(convert.present(answer, "container", answer.container))

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Container]:
        """The records for which any filter holds."""
        answer = self._connection.unary(ctx, self._stub.List, pb.ListContainersRequest(filters=filters))
        return [_from_wire(container) for container in answer.containers]

    def create(self, ctx: CallContext, container: Container) -> Container:
        """Make a record."""
        question = pb.CreateContainerRequest(container=_to_wire(container))
        answer = self._connection.unary(ctx, self._stub.Create, question)
        return _from_wire(convert.present(answer, "container", answer.container))

    def update(self, ctx: CallContext, container: Container, fieldpaths: Sequence[str] = ()) -> Container:
        """Change a record."""
        mask = convert.mask_to_wire(fieldpaths)
        question = pb.UpdateContainerRequest(container=_to_wire(container), update_mask=mask)
        answer = self._connection.unary(ctx, self._stub.Update, question)
        return _from_wire(convert.present(answer, "container", answer.container))

    def delete(self, ctx: CallContext, id: str) -> None:
        """Remove a record."""
        self._connection.unary(ctx, self._stub.Delete, pb.DeleteContainerRequest(id=id))


def _to_wire(container: Container) -> pb.Container:
    runtime = container.runtime
    return pb.Container(
        id=container.id,
        labels=container.labels,
        image=container.image,
        # Sent even when empty, as Go's client does: 1.6 looks inside without asking whether it is there.
        runtime=pb.Container.Runtime(name=runtime.name, options=convert.any_to_wire(runtime.options)),
        spec=convert.any_to_wire(container.spec),
        snapshotter=container.snapshotter,
        snapshot_key=container.snapshot_key,
        created_at=convert.time_to_wire(container.created_at),
        updated_at=convert.time_to_wire(container.updated_at),
        extensions=convert.anys_to_wire(container.extensions),
        sandbox=container.sandbox_id,
    )


def _from_wire(message: pb.Container) -> Container:
    runtime = message.runtime
    options = convert.any_from_wire(runtime.options) if runtime.HasField("options") else None
    return Container(
        id=message.id,
        labels=dict(message.labels),
        image=message.image,
        runtime=RuntimeInfo(runtime.name, options),
        spec=convert.any_from_wire(message.spec) if message.HasField("spec") else None,
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        created_at=convert.time_from_wire(message, "created_at"),
        updated_at=convert.time_from_wire(message, "updated_at"),
        extensions={key: convert.any_from_wire(value) for key, value in message.extensions.items()},
        sandbox_id=message.sandbox,
    )
