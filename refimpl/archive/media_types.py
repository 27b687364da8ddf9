"""Media types of layers, and how a stream of one becomes a plain tar (DIF-004 to DIF-008, DIF-042 to DIF-045)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from refimpl.archive.compression import decompressed
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.types import TypedAny

TAR = "application/vnd.oci.image.layer.v1.tar"
"""A plain layer; what ``Apply`` answers with."""

TAR_GZIP = TAR + "+gzip"
"""What ``Diff`` makes when it is not told otherwise."""

_DOCKER = "application/vnd.docker.image.rootfs.diff.tar"
_DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
_OCI = {TAR, "application/vnd.oci.image.layer.nondistributable.v1.tar"}
_MAYBE_COMPRESSED = {_DOCKER, _DOCKER + ".gzip", _DOCKER_FOREIGN, _DOCKER_FOREIGN + ".gzip"}
_COMPRESSIONS = {"gzip", "zstd"}
_STEPS_MAX = 16  # a chain of processors that feeds itself is a mistake in the configuration


class ProcessorFailed(Unknown):
    """A stream processor ended badly; its own words are the message, whatever was being done with its stream."""


class ProcessedStream(Protocol):
    """What a processor makes of a stream, piece by piece."""

    def __iter__(self) -> Iterator[bytes]:
        """Itself."""
        ...

    def __next__(self) -> bytes:
        """The next piece.

        Raises:
            ProcessorFailed: at the end, if the processor failed, however much it has written (DIF-045).
            Canceled, DeadlineExceeded: nobody waits any more.
        """
        ...

    def close(self) -> None:
        """Let go of the processor, ending it if it still works. Idempotent."""
        ...


class StreamProcessor(Protocol):
    """Turns streams of some media types into another one."""

    @property
    def id(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def accepts(self) -> Sequence[str]:
        """The media types that it reads."""
        ...

    @property
    def returns(self) -> str:
        """The media type that it writes."""
        ...

    def process(
        self, ctx: CallContext, media_type: str, chunks: Iterator[bytes], payload: TypedAny | None
    ) -> ProcessedStream:
        """Start the processor; answer with the processed stream.

        Raises:
            Unknown: the processor could not be started.
        """
        ...


@contextmanager
def plain_layer(
    ctx: CallContext,
    media_type: str,
    chunks: Iterator[bytes],
    processors: Sequence[StreamProcessor] = (),
    payloads: Mapping[str, TypedAny] | None = None,
) -> Iterator[Iterator[bytes]]:
    """The tar in a stream of ``media_type``, for the length of the block; processors end with it.

    Args:
        processors: those of the configuration; the last that accepts a type wins, over the built-in decompressor too.
        payloads: what each processor is given, by its id.

    Raises:
        Unknown: nobody can process the type, or whoever can does not start.
    """
    failure = f"failed to get stream processor for {media_type}"
    with ExitStack() as started:
        for _ in range(_STEPS_MAX):
            processor = next((p for p in reversed(processors) if media_type in p.accepts), None)
            if processor is not None:
                try:
                    stream = processor.process(ctx, media_type, chunks, (payloads or {}).get(processor.id))
                except Unknown as error:
                    raise Unknown(f"{failure}: {error.message}") from error
                started.callback(stream.close)
                chunks, media_type = stream, processor.returns
            elif (compressed := _compressed(media_type)) is None:
                raise Unknown(f"{failure}: no processor for media-type")
            else:
                chunks, media_type = decompressed(chunks) if compressed else chunks, TAR
            if media_type == TAR:
                yield chunks
                return
        raise Unknown(f"{failure}: no end of processors")


def _compressed(media_type: str) -> bool | None:
    """Whether a layer of this type may be compressed; None if it is no layer's type."""
    if media_type in _MAYBE_COMPRESSED:
        return True
    base, *suffixes = media_type.split("+")
    if base not in _OCI:
        return None
    # Of several suffixes the alphabetically last one counts; an unknown one says nothing (DIF-008).
    last = max(suffixes, default="")
    return None if last == "encrypted" else last in _COMPRESSIONS
