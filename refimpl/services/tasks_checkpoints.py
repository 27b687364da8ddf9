"""Checkpoints on their way between a runtime's directory and the content store, for tasks-service.

A checkpoint is a directory that a runtime writes and reads. As content it is two blobs: that directory as a tar, and
the container's spec, so that both can travel as an image. Options decide where the directory is; they are typed, and
for the two families of runtimes whose options are known the type is checked before anything happens. Clauses TSK-010,
TSK-078 to 086.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from refimpl.api import linux_runc_pb2, runc_v1_pb2, typeurl
from refimpl.archive.apply import apply_layer
from refimpl.archive.layer import write_layer
from refimpl.archive.stream import ByteStream, blob_chunks
from refimpl.contract.containers import Container
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, ContainerdError, Unknown
from refimpl.contract.quoting import quoted
from refimpl.contract.scratch import Scratch
from refimpl.contract.times import Clock
from refimpl.contract.types import Descriptor, TypedAny

CHECKPOINT = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
"""Media type of the directory as a tar, not compressed."""

CONFIG = "application/vnd.containerd.container.checkpoint.config.v1+proto"
"""Media type of the spec: a marshalled Any."""

PREFIX = "ctrd-checkpoint"
"""What the names of the directories begin with."""

RUNC = ("io", "containerd", "runc")
LINUX_V1 = "io.containerd.runtime.v1.linux"

O = TypeVar("O", bound=Message)  # noqa: E741  # of options


def restore_path(runtime: str, options: TypedAny | None) -> str:
    """The directory to restore from that the options of a create name; empty for none (TSK-085).

    Raises:
        Unknown: options of a type that this runtime does not take (TSK-010).
    """
    message: runc_v1_pb2.Options | linux_runc_pb2.CreateOptions | None
    if runtime.split(".")[: len(RUNC)] == list(RUNC):
        message = _opened(options, runc_v1_pb2.Options, f"invalid task create option for {runtime}")
    elif runtime == LINUX_V1:
        message = _opened(options, linux_runc_pb2.CreateOptions, f"invalid task create option for {runtime}")
    else:
        return ""
    return "" if message is None else message.criu_image_path


def image_path(runtime: str, options: TypedAny | None) -> str:
    """The directory to leave a checkpoint in that its options name; empty for the content store (TSK-081).

    Raises:
        Unknown: options of a type that this runtime does not take.
    """
    message: runc_v1_pb2.CheckpointOptions | linux_runc_pb2.CheckpointOptions | None
    refusal = f"invalid task checkpoint option for {runtime}"
    if runtime.split(".")[: len(RUNC)] == list(RUNC):
        message = _opened(options, runc_v1_pb2.CheckpointOptions, refusal)
    elif runtime == LINUX_V1:
        message = _opened(options, linux_runc_pb2.CheckpointOptions, refusal)
    else:
        return ""
    return "" if message is None else message.image_path


class Checkpoints:
    """Moves checkpoints from and to the content store.

    Args:
        content: of the caller's namespace.
        scratch: where the directories are made that nobody names.
        clock: of the tar's time stamps for what is not there.
    """

    def __init__(self, content: ContentStore, scratch: Scratch, clock: Clock) -> None:
        self._content, self._scratch, self._clock = content, scratch, clock

    def unpack(self, ctx: CallContext, descriptor: Descriptor) -> str:
        """Unpack a checkpoint's tar; answers with the directory, which stays when the task is gone (TSK-083, TSK-086).

        Raises:
            Unknown: another media type, a blob that is not there, or no tar.
        """
        if descriptor.media_type != CHECKPOINT:
            raise Unknown(f"unsupported checkpoint type {quoted(descriptor.media_type)}")
        try:
            reader = self._content.reader(ctx, descriptor.digest)
        except ContainerdError as error:
            raise Unknown(str(error)) from error
        path, tree = self._scratch.make(PREFIX)
        try:
            with contextlib.closing(reader):
                apply_layer(ctx, tree, ByteStream(blob_chunks(ctx, reader)))
        except ContainerdError:
            self._scratch.remove(path)
            raise
        return path

    def drop(self, path: str) -> None:
        """Remove what ``unpack`` made, for a task that did not come about."""
        self._scratch.remove(path)

    def store(self, ctx: CallContext, container: Container, write: Callable[[str], None]) -> list[Descriptor]:
        """Have ``write`` fill a directory, and store that and the container's spec, in this order (TSK-079).

        Raises:
            Exception: what ``write`` raises; nothing is stored.
        """
        path, tree = self._scratch.make(PREFIX)
        nothing, empty = self._scratch.make(PREFIX)
        try:
            write(path)
            spec = container.spec or TypedAny()
            config = Any(type_url=spec.type_url, value=spec.value).SerializeToString()

            def pack(take: Callable[[bytes], object]) -> None:
                write_layer(ctx, take, empty, tree, self._clock.now())

            image = self._commit(ctx, CHECKPOINT, path, pack)
            return [image, self._commit(ctx, CONFIG, f"{path}/spec", lambda take: take(config))]
        finally:
            self._scratch.remove(path)
            self._scratch.remove(nothing)

    def _commit(
        self, ctx: CallContext, media_type: str, ref: str, fill: Callable[[Callable[[bytes], object]], object]
    ) -> Descriptor:
        """Store what ``fill`` writes. No labels: only a lease keeps it from the collector, as containerd has it."""
        writer = self._content.writer(ctx, ref)
        with contextlib.closing(writer):
            fill(writer.write)
            size, digest = writer.status().offset, writer.digest()
            # The same bytes again are the same descriptor, as in 2.x; 1.6 fails here (TSK-080).
            with contextlib.suppress(AlreadyExists):
                writer.commit(ctx)
        return Descriptor(media_type, digest, size)


def _opened(options: TypedAny | None, kind: type[O], refusal: str) -> O | None:
    if options is None:
        return None
    if options.type_url in typeurl.JSON_TYPES:
        raise Unknown(refusal)
    try:
        message = typeurl.unpack(Any(type_url=options.type_url, value=options.value))
    except (typeurl.UnknownType, typeurl.MalformedValue) as error:
        raise Unknown(str(error)) from error
    if not isinstance(message, kind):
        raise Unknown(refusal)
    return message
