"""The walking differ: layers from two trees, and a tree from a layer, whoever performs the mounts.

``apply``: blob -> decompress -> tar -> tree, with everything that passes digested on its way.
``compare``: two trees -> tar -> digest and gzip -> content store.
Clauses DIF-001 to DIF-015, DIF-018, DIF-049 to DIF-056, DIF-066, MNT-028.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from refimpl.archive.apply import apply_layer, describe
from refimpl.archive.compression import GzipCompressor
from refimpl.archive.layer import write_layer
from refimpl.archive.media_types import TAR, TAR_GZIP, ProcessorFailed, StreamProcessor, plain_layer
from refimpl.archive.stream import ByteStream, Digesting, blob_chunks
from refimpl.archive.whiteouts import LiteralWhiteouts, OverlayWhiteouts, RemovingWhiteouts, Whiteouts
from refimpl.contract import digest as digests
from refimpl.contract.content import ContentStore, Info, Writer
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from refimpl.contract.mount_options import parse_options
from refimpl.contract.mounts import Mount, Mounter, RootFS
from refimpl.contract.times import Clock
from refimpl.contract.types import Descriptor, TypedAny

UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
"""On a compressed layer's blob: the digest of the tar in it, known to images as the diff id (DIF-050)."""

_WRITE_AT = 1 << 18  # bytes that are gathered before they are compressed or stored


class WalkingDiffer:
    """A ``contract.diff.Differ`` over any mounter.

    Args:
        content: where layers come from and go to.
        mounter: performs the mounts of a call.
        directory: the tree at a path outside any mount, for writing an overlay's upper directory itself.
        clock: what whiteouts are stamped with.
        user_namespace: the kernel makes an overlay's marks, through a mount, and nobody makes devices.
        processors: those of the configuration.
    """

    def __init__(
        self,
        content: ContentStore,
        mounter: Mounter,
        directory: Callable[[str], RootFS],
        clock: Clock,
        *,
        user_namespace: bool = False,
        processors: Sequence[StreamProcessor] = (),
    ) -> None:
        self._content = content
        self._mounter = mounter
        self._directory = directory
        self._clock = clock
        self._user_namespace = user_namespace
        self._processors = processors

    def apply(
        self,
        ctx: CallContext,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        payloads: Mapping[str, TypedAny] | None = None,
    ) -> Descriptor:
        """Unpack a blob onto what ``mounts`` show (DIF-001, DIF-012).

        Raises:
            NotFound: no such blob in this namespace (DIF-009).
            InvalidArgument: no mounts (DIF-014).
            Unknown: a media type that nobody processes (DIF-007), a damaged archive, a mount that fails (DIF-013).
        """
        if not mounts:
            raise InvalidArgument("no mounts to apply a layer to")
        try:
            reader = self._content.reader(ctx, descriptor.digest)
        except ContainerdError as error:
            what = "failed to get reader from content store"
            if isinstance(error, InvalidArgument) and _may_be_asked(ctx) and not _is_digest(descriptor.digest):
                # A digest that is none names nothing either.
                raise NotFound(f"{what}: content digest {descriptor.digest}") from error
            raise type(error)(f"{what}: {error.message}", bare=error.bare) from error
        try:
            blob = blob_chunks(ctx, reader)
            with plain_layer(ctx, descriptor.media_type, blob, self._processors, payloads) as chunks:
                layer = Digesting(chunks)
                stream = ByteStream(layer)
                self._unpack(ctx, stream, mounts)
                # Padding and garbage behind the archive belong to the layer too (DIF-002).
                stream.drain()
        finally:
            reader.close()
        return Descriptor(TAR, layer.digest, layer.size)

    def _unpack(self, ctx: CallContext, stream: ByteStream, mounts: Sequence[Mount]) -> None:
        if len(mounts) == 1 and (direct := self._upper_directory(mounts[0])) is not None:
            with _explained(""):
                upper, lowers, whiteouts = direct
                trees = _Trees(lowers, self._directory)
                self._extract(ctx, self._directory(upper), stream, whiteouts, trees)
            return
        with (
            _explained("failed to mount"),
            self._mounter.mounted(ctx, mounts) as fs,
            _explained("mount callback failed"),
        ):
            self._extract(ctx, fs, stream, RemovingWhiteouts(), ())

    def _extract(
        self, ctx: CallContext, fs: RootFS, stream: ByteStream, whiteouts: Whiteouts, parents: Iterable[RootFS]
    ) -> None:
        """Write a layer's entries to a tree."""
        devices = not self._user_namespace
        apply_layer(ctx, fs, stream, whiteouts=whiteouts, parents=parents, devices=devices)

    def _upper_directory(self, mount: Mount) -> tuple[str, list[str], Whiteouts] | None:
        """Where a single union's writable layer is, what is below it, and how it marks whiteouts (DIF-015, DIF-018)."""
        options = parse_options(mount.options)
        if mount.type == "overlay" and (upper := options.value("upperdir")):
            if self._user_namespace:
                return None
            lower = options.value("lowerdir")
            return upper, lower.split(":") if lower else [], OverlayWhiteouts()
        if mount.type == "aufs":
            branches = next((o.removeprefix("br:") for o in options.data if o.startswith("br:")), "")
            first, _, mode = branches.partition(":")[0].partition("=")
            if mode == "rw":
                return first, [], LiteralWhiteouts()
        return None

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
        """Store what turns ``lower`` into ``upper`` as a layer (DIF-049 to DIF-055).

        Raises:
            Unimplemented: a media type that no layer is made in (DIF-053).
            Unavailable: somebody else writes under ``ref``.
            Unknown: a mount that fails, a tree that cannot be read.
        """
        media_type = media_type or TAR_GZIP
        if media_type not in {TAR, TAR_GZIP}:
            raise Unimplemented(f"unsupported diff media type: {media_type}")
        with (
            _explained("failed to mount"),
            self._mounter.mounted(ctx, lower) as old,
            _explained("mount callback failed"),
            _explained("failed to mount"),
            self._mounter.mounted(ctx, upper, read_only=True) as new,
            _explained("mount callback failed"),
        ):
            return self._store(ctx, old, new, media_type, ref, dict(labels or {}))

    def _store(
        self, ctx: CallContext, old: RootFS, new: RootFS, media_type: str, ref: str, labels: dict[str, str]
    ) -> Descriptor:
        own = not ref
        ref = ref or f"{self._clock.now()}-{secrets.token_urlsafe(3)}"
        with _explained("failed to open writer"):
            writer = self._content.writer(ctx, ref)
        try:
            if not own:
                writer.truncate(0)
            self._write(ctx, writer, old, new, media_type, labels)
            digest = writer.digest()
            with _explained("failed to commit"):
                self._commit(ctx, writer, digest, labels)
        except BaseException:
            writer.close()
            if own:
                self._forget(ctx, ref)
            raise
        info = self._labelled(ctx, self._content.info(ctx, digest), labels)
        return Descriptor(media_type, digest, info.size)

    def _write(
        self, ctx: CallContext, writer: Writer, old: RootFS, new: RootFS, media_type: str, labels: dict[str, str]
    ) -> None:
        """Write the archive and, if it is compressed, add the label with its digest."""
        if media_type == TAR:
            with _explained("failed to write diff"):
                gathered = _Gathered(writer.write)
                write_layer(ctx, gathered.write, old, new, self._clock.now())
                gathered.flush()
            return
        digest, compressor = hashlib.sha256(), GzipCompressor()

        def compress(data: bytes) -> None:
            digest.update(data)
            if packed := compressor.compress(data):
                writer.write(packed)

        with _explained("failed to write compressed diff"):
            gathered = _Gathered(compress)
            write_layer(ctx, gathered.write, old, new, self._clock.now())
            gathered.flush()
            writer.write(compressor.finish())
        labels[UNCOMPRESSED_LABEL] = f"sha256:{digest.hexdigest()}"

    def _commit(self, ctx: CallContext, writer: Writer, digest: str, labels: Mapping[str, str]) -> None:
        try:
            writer.commit(ctx, 0, digest, labels)
        except AlreadyExists:
            return  # an equal layer is as good (DIF-051)

    def _forget(self, ctx: CallContext, ref: str) -> None:
        """Drop the ingest that nobody else knows of, also after the caller went away."""
        try:
            self._content.abort(CallContext(ctx.namespace, ctx.lease), ref)
        except ContainerdError:
            return  # the failure that led here is the one to report

    def _labelled(self, ctx: CallContext, info: Info, labels: Mapping[str, str]) -> Info:
        """Give a blob that was there before the label it lacks (DIF-051)."""
        wanted = labels.get(UNCOMPRESSED_LABEL)
        if not wanted or UNCOMPRESSED_LABEL in info.labels:
            return info
        changed = Info(info.digest, labels={**info.labels, UNCOMPRESSED_LABEL: wanted})
        return self._content.update(ctx, changed, [f"labels.{UNCOMPRESSED_LABEL}"])


def _may_be_asked(ctx: CallContext) -> bool:
    """Whether the namespace, which a store of its own may do without, is not what was wrong."""
    try:
        ctx.require_namespace()
    except ContainerdError as error:
        return isinstance(error, FailedPrecondition)
    return True


def _is_digest(text: str) -> bool:
    try:
        digests.validate(text)
    except InvalidArgument:
        return False
    return True


class _Trees:
    """The trees at some paths, each opened when it is come to; one that is not there is passed over."""

    def __init__(self, paths: Sequence[str], directory: Callable[[str], RootFS]) -> None:
        self._paths = paths
        self._directory = directory
        self._opened: dict[str, RootFS] = {}

    def __iter__(self) -> Iterator[RootFS]:
        for path in self._paths:
            if path not in self._opened:
                try:
                    self._opened[path] = self._directory(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
            yield self._opened[path]


class _Gathered:
    """Small writes made into large ones: an archive is written header by header."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Take some bytes."""
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _WRITE_AT:
            self.flush()

    def flush(self) -> None:
        """Pass on what was gathered."""
        if self._parts:
            data, self._parts, self._size = b"".join(self._parts), [], 0
            self._write(data)


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Say in front of an error what was being done; an error of the system becomes Unknown, a kind stays."""
    try:
        yield
    except ContainerdError as error:
        if not doing or doing == "failed to mount" or isinstance(error, ProcessorFailed):
            raise  # from inside the block: it says itself what went wrong
        raise type(error)(_joined(doing, error.message), bare=error.bare) from error
    except OSError as error:
        raise Unknown(_joined(doing, describe(error))) from error


def _joined(*parts: str) -> str:
    return ": ".join(filter(None, parts))
