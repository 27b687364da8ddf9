"""Namespaces over gRPC: a ``contract.namespaces.NamespaceStore`` (containerd.services.namespaces.v1)."""

from __future__ import annotations

from collections.abc import Sequence

from refimpl.api import namespaces_v1_pb2 as pb
from refimpl.api.namespaces_v1_pb2_grpc import NamespacesStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound, Unimplemented
from refimpl.contract.namespaces import Namespace


class RemoteNamespaces:
    """The namespaces of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = NamespacesStub(connection.channel)

    def get(self, ctx: CallContext, name: str) -> Namespace:
        """One namespace with its labels."""
        answer = self._connection.unary(ctx, self._stub.Get, pb.GetNamespaceRequest(name=name))
        return _from_wire(convert.present(answer, "namespace", answer.namespace))

    def list(self, ctx: CallContext) -> list[Namespace]:
        """All namespaces."""
        answer = self._connection.unary(ctx, self._stub.List, pb.ListNamespacesRequest())
        return [_from_wire(namespace) for namespace in answer.namespaces]

    def create(self, ctx: CallContext, namespace: Namespace) -> Namespace:
        """Make a namespace."""
        question = pb.CreateNamespaceRequest(namespace=_to_wire(namespace))
        answer = self._connection.unary(ctx, self._stub.Create, question)
        return _from_wire(convert.present(answer, "namespace", answer.namespace))

    def update(self, ctx: CallContext, namespace: Namespace, fieldpaths: Sequence[str] = ()) -> Namespace:
        """Change labels.

        The answers of the real daemons are empty (NSP-010), so the record is asked for afterwards; a namespace that the
        update did not bring into being (NSP-013) has no labels.
        """
        mask = convert.mask_to_wire(fieldpaths)
        question = pb.UpdateNamespaceRequest(namespace=_to_wire(namespace), update_mask=mask)
        answer = self._connection.unary(ctx, self._stub.Update, question)
        if answer.namespace.name:
            return _from_wire(answer.namespace)
        try:
            return self.get(ctx, namespace.name)
        except NotFound:
            return Namespace(namespace.name)

    def delete(self, ctx: CallContext, name: str, *, delete_cgroup: bool = False) -> None:
        """Remove an empty namespace.

        Raises:
            Unimplemented: ``delete_cgroup``, for which the message has no field.
        """
        if delete_cgroup:
            raise Unimplemented(f"cgroup of namespace {name} cannot be deleted over gRPC")
        self._connection.unary(ctx, self._stub.Delete, pb.DeleteNamespaceRequest(name=name))


def _to_wire(namespace: Namespace) -> pb.Namespace:
    return pb.Namespace(name=namespace.name, labels=namespace.labels)


def _from_wire(message: pb.Namespace) -> Namespace:
    return Namespace(message.name, dict(message.labels))
