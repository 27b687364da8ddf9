"""Images over gRPC: a ``contract.images.ImageStore`` (containerd.services.images.v1)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from refimpl.api import images_v1_pb2 as pb
from refimpl.api.images_v1_pb2_grpc import ImagesStub
from refimpl.client import convert
from refimpl.client.connection import Connection
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, NotFound
from refimpl.contract.images import Image, ImageStore


class RemoteImages:
    """The image records of a daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = ImagesStub(connection.channel)

    def get(self, ctx: CallContext, name: str) -> Image:
        """One record."""
        answer = self._connection.unary(ctx, self._stub.Get, pb.GetImageRequest(name=name))
        return _from_wire(convert.present(answer, "image", answer.image))

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Image]:
        """The records for which any filter holds."""
        answer = self._connection.unary(ctx, self._stub.List, pb.ListImagesRequest(filters=filters))
        return [_from_wire(image) for image in answer.images]

    def create(self, ctx: CallContext, image: Image) -> Image:
        """Make a record."""
        answer = self._connection.unary(ctx, self._stub.Create, pb.CreateImageRequest(image=_to_wire(image)))
        return _from_wire(convert.present(answer, "image", answer.image))

    def update(self, ctx: CallContext, image: Image, fieldpaths: Sequence[str] = ()) -> Image:
        """Change a record."""
        question = pb.UpdateImageRequest(image=_to_wire(image), update_mask=convert.mask_to_wire(fieldpaths))
        answer = self._connection.unary(ctx, self._stub.Update, question)
        return _from_wire(convert.present(answer, "image", answer.image))

    def delete(self, ctx: CallContext, name: str, *, sync: bool = False) -> None:
        """Remove a record."""
        self._connection.unary(ctx, self._stub.Delete, pb.DeleteImageRequest(name=name, sync=sync))


def record(ctx: CallContext, images: ImageStore, image: Image, fieldpaths: Sequence[str] = ()) -> Image:
    """Make a record, or change the one there is, whatever others do with it meanwhile.

    Args:
        fieldpaths: what of one that is there is changed; by default all of it.
    """
    while True:
        ctx.check()
        with suppress(NotFound):
            return images.update(ctx, image, fieldpaths)
        with suppress(AlreadyExists):
            return images.create(ctx, image)


def _to_wire(image: Image) -> pb.Image:
    return pb.Image(
        name=image.name,
        labels=image.labels,
        target=convert.descriptor_to_wire(image.target),
        created_at=convert.time_to_wire(image.created_at),
        updated_at=convert.time_to_wire(image.updated_at),
    )


def _from_wire(message: pb.Image) -> Image:
    return Image(
        message.name,
        convert.descriptor_from_wire(message.target),
        dict(message.labels),
        convert.time_from_wire(message, "created_at"),
        convert.time_from_wire(message, "updated_at"),
    )
