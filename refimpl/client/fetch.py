"""Fetch: one blob from a registry into a content store, as an ingest that goes on where an earlier one stopped.

The ingest has the name that containerd's own pull gives it (``layer-sha256:...``), so either goes on with what the
other left (CNT-109). What a store has already is not asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from refimpl.client.manifests import CONFIGS, INDEXES, MANIFESTS, is_layer
from refimpl.client.registry import TRIES, BrokenOff, Reference
from refimpl.contract.content import ContentStore, Info, Writer
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    OutOfRange,
    Unavailable,
)
from refimpl.contract.types import Descriptor

SOURCE = "containerd.io/distribution.source"
"""Label of a blob, continued by a host without its port: the repositories there that have it (CNT-108)."""

LONGEST_LABEL = 4096
"""Bytes of a label's key and value together."""

PATIENCE = 60.0
"""Seconds that somebody else who fetches the same blob may stand still before we give up."""

_POLL = 0.1


class Source(Protocol):
    """Where bytes come from: a ``Registry``, or a document that is here already."""

    def blob(
        self, ctx: CallContext, descriptor: Descriptor, offset: int
    ) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        """The bytes of a blob, as ``Registry.blob``."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """A source of one document."""

    data: bytes

    @contextmanager
    def blob(self, ctx: CallContext, descriptor: Descriptor, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The document's bytes."""
        yield offset, iter([self.data[offset:]])


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a blob is.

    Attributes:
        offset: bytes of it that the store has.
        was_there: whether the store had the blob before.
        done: whether the blob is in the store.
    """

    descriptor: Descriptor
    offset: int = 0
    was_there: bool = False
    done: bool = False


Report = Callable[[Progress], None]


def fetch(ctx: CallContext, content: ContentStore, source: Source, descriptor: Descriptor, report: Report) -> None:
    """Have a blob in the store, held by the lease of ``ctx``.

    Raises:
        FailedPrecondition: the source has other bytes than the digest promises; nothing of them is kept.
        NotFound, PermissionDenied, Unavailable: as the source says; what has come stays as an ingest.
    """
    report(Progress(descriptor))
    resumed = True
    while resumed:
        writer = _open(ctx, content, descriptor)
        if writer is None:
            report(Progress(descriptor, descriptor.size, was_there=True, done=True))
            return
        with closing(writer):
            resumed = writer.status().offset > 0
            _fill(ctx, writer, source, descriptor, report)
            try:
                with suppress(AlreadyExists):
                    writer.commit(ctx, descriptor.size, descriptor.digest)
            except FailedPrecondition as error:
                with suppress(ContainerdError):
                    writer.close()
                    content.abort(ctx, ref_of(descriptor))
                if not resumed:
                    raise FailedPrecondition(
                        f"wrong digest: the registry sent other bytes for {descriptor.digest}"
                    ) from error
                # The beginning may have been another's mistake.
                continue
        report(Progress(descriptor, descriptor.size, done=True))
        return


def label_source(ctx: CallContext, content: ContentStore, descriptor: Descriptor, origin: Reference) -> None:
    """Note in which repository of which host a blob was found, beside those noted before (CNT-108)."""
    key = f"{SOURCE}.{origin.hostname}"
    before = content.info(ctx, descriptor.digest).labels.get(key, "")
    value = ",".join(sorted({*filter(None, before.split(",")), origin.repository}))
    if value != before and len(key) + len(value) <= LONGEST_LABEL:
        content.update(ctx, Info(descriptor.digest, labels={key: value}), [f"labels.{key}"])


def ref_of(descriptor: Descriptor) -> str:
    """The name of the ingest in which a blob is fetched: containerd's own."""
    kinds = (("manifest", MANIFESTS), ("index", INDEXES), ("config", CONFIGS))
    kind = next((name for name, types in kinds if descriptor.media_type in types), "")
    return f"{kind or ('layer' if is_layer(descriptor.media_type) else 'unknown')}-{descriptor.digest}"


def _open(ctx: CallContext, content: ContentStore, descriptor: Descriptor) -> Writer | None:
    """An ingest for a blob, once nobody else has it open; None if the blob is there."""
    ref = ref_of(descriptor)
    seen, since = -1, time.monotonic()
    while True:
        try:
            return content.writer(ctx, ref, total=descriptor.size, expected=descriptor.digest)
        except AlreadyExists:
            return None
        except Unavailable as error:
            if "locked" not in str(error):
                raise
            offset = _offset(ctx, content, ref)
            if offset != seen:
                seen, since = offset, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                raise
        ctx.check()
        time.sleep(_POLL)


def _offset(ctx: CallContext, content: ContentStore, ref: str) -> int:
    try:
        return content.status(ctx, ref).offset
    except ContainerdError:
        return 0  # just finished or given up


def _fill(ctx: CallContext, writer: Writer, source: Source, descriptor: Descriptor, report: Report) -> None:
    """Write what is missing; as long as bytes come, a broken connection only means to ask for the rest."""
    offset, failures = writer.status().offset, 0
    if offset > descriptor.size:
        writer.truncate(0)
        offset = 0
    while offset < descriptor.size:
        before = offset
        try:
            with source.blob(ctx, descriptor, offset) as (begins, chunks):
                for chunk in _from(offset - begins, chunks):
                    if offset + len(chunk) > descriptor.size:
                        raise FailedPrecondition(f"{descriptor.digest} has more than its {descriptor.size} bytes")
                    writer.write(chunk)
                    offset += len(chunk)
                    report(Progress(descriptor, offset))
        except OutOfRange:
            writer.truncate(0)
            offset = 0
            failures += 1
        except BrokenOff:
            failures = failures + 1 if offset == before else 1
            if failures >= TRIES:
                raise
        else:
            if offset < descriptor.size:
                raise FailedPrecondition(f"{descriptor.digest} ends after {offset} of its {descriptor.size} bytes")
        if failures >= TRIES:
            raise FailedPrecondition(f"{descriptor.digest} is not to be had from byte {before} on")


def _from(skip: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks without their first ``skip`` bytes: those of a registry that does not know ranges."""
    for chunk in chunks:
        rest = chunk[skip:]
        skip -= len(chunk) - len(rest)
        if rest:
            yield rest
