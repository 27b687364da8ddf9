"""io.containerd.grpc.v1.images: the wire in front of images-service. It keeps nothing. Clauses IMG-001 to 028."""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty

from refimpl.api import images_v1_pb2 as pb
from refimpl.api import images_v1_pb2_grpc as wire
from refimpl.contract.context import CallContext
from refimpl.contract.images import ImageStore
from refimpl.grpc import convert
from refimpl.grpc.calls import unary
from refimpl.grpc.fronts import service
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE


class ImagesFront(wire.ImagesServicer):
    """containerd.services.images.v1.Images."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def register_grpc(self, server: grpc.Server) -> None:
        """Put the service on the server."""
        wire.add_ImagesServicer_to_server(self, server)

    @unary
    def Get(self, request: pb.GetImageRequest, ctx: CallContext) -> pb.GetImageResponse:
        """One record (IMG-007)."""
        image = self._store.get(ctx, request.name)
        return pb.GetImageResponse(image=convert.image_to(image))

    @unary
    def List(self, request: pb.ListImagesRequest, ctx: CallContext) -> pb.ListImagesResponse:
        """All records wanted (IMG-008 to 011)."""
        images = self._store.list(ctx, list(request.filters))
        return pb.ListImagesResponse(images=map(convert.image_to, images))

    @unary
    def Create(self, request: pb.CreateImageRequest, ctx: CallContext) -> pb.CreateImageResponse:
        """Make a record (IMG-001); a request without one is an empty one (IMG-025). A source date is 2.x (IMG-027)."""
        image = self._store.create(ctx, convert.image_from(request.image))
        return pb.CreateImageResponse(image=convert.image_to(image))

    @unary
    def Update(self, request: pb.UpdateImageRequest, ctx: CallContext) -> pb.UpdateImageResponse:
        """Change a record (IMG-012 to 018)."""
        paths = list(request.update_mask.paths)
        image = self._store.update(ctx, convert.image_from(request.image), paths)
        return pb.UpdateImageResponse(image=convert.image_to(image))

    @unary
    def Delete(self, request: pb.DeleteImageRequest, ctx: CallContext) -> Empty:
        """Remove a record (IMG-019 to 021). A target to compare with is 2.x, and ignored (IMG-026)."""
        self._store.delete(ctx, request.name, sync=request.sync)
        return Empty()


def init(ic: InitContext) -> ImagesFront:
    """Stand before the service."""
    return ImagesFront(service(ic, "images"))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "images", init=init, requires=(SERVICE,))]
