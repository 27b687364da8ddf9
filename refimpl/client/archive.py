"""Import: an image archive (OCI layout, or what ``docker save`` writes) into any content and image store.

The archive is a tar, compressed with gzip or not, read once from front to back. Every file becomes a blob under the
digest of its bytes; its path is only the key under which the archive's own documents find it (IMG-044). All of it
happens under one lease, so that the collector takes nothing half made, and what no image refers to afterwards is its
prey (IMG-051). Labels and records are those that ``ctr images import`` leaves (IMG-032, 033, 041 to 049).
"""

from __future__ import annotations

import json
import posixpath
import tarfile
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

from refimpl.client import docker_archive
from refimpl.client.images import record
from refimpl.client.leases import working_lease
from refimpl.client.manifests import OCI_INDEX, children, label_children
from refimpl.client.platforms import Choice
from refimpl.client.references import Naming
from refimpl.contract.content import ContentStore, Writer
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, ContainerdError, InvalidArgument
from refimpl.contract.images import Image, ImageStore
from refimpl.contract.leases import LeaseManager
from refimpl.contract.types import Descriptor

CHUNK = 1024 * 1024
"""Bytes that are in memory at a time."""

_LAYOUT = "oci-layout"
_DOCKER = "manifest.json"
_INDEX = "index.json"


class Stores(Protocol):
    """Where an import goes: a ``Client``, or any object with these three stores."""

    @property
    def content(self) -> ContentStore:
        """Takes the blobs."""
        ...

    @property
    def images(self) -> ImageStore:
        """Takes the records."""
        ...

    @property
    def leases(self) -> LeaseManager:
        """Holds everything until the records are made."""
        ...


@dataclass
class Found:
    """What an archive holds.

    Attributes:
        blobs: path in the archive -> digest and size (no media type).
        links: path of a symlink -> path that it stands for.
        layout: the ``oci-layout`` document, if there is one.
        docker: the ``manifest.json`` document, if there is one.
    """

    blobs: dict[str, Descriptor] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    layout: Any = None
    docker: Any = None


def import_archive(
    ctx: CallContext,
    stores: Stores,
    source: Path | BinaryIO,
    *,
    choice: Choice | None = None,
    base_name: str = "",
    index_name: str = "",
    digests: bool = False,
) -> list[Image]:
    """Store an archive's blobs and make a record for each image that it names.

    Args:
        choice: the platforms whose manifests are taken; by default this machine's.
        base_name: repository of tags that name none, and the only one whose images are taken; by default
            ``import-<today>`` without that limit.
        index_name: name of a record for the archive's own index; empty for none.
        digests: make a record ``<base name>@<digest>`` for everything that the index lists as well.

    Returns:
        The records, in the archive's order.

    Raises:
        InvalidArgument: not an archive, a damaged one, one of a version that is not known, or one from which
            ``choice`` leaves nothing; no record was made.
        NotFound: a document that the archive refers to is not in it.
    """
    base = base_name or f"import-{datetime.now(UTC).astimezone():%Y-%m-%d}"
    naming = Naming(base, strict=bool(base_name))
    with working_lease(ctx, stores.leases) as leased:
        index = _import_index(leased, stores.content, source)
        entries = children(leased, stores.content, index)
        wanted = [Image(index_name, index)] if index_name else []
        for entry in entries:
            name = naming.name(dict(entry.descriptor.annotations))
            if name:
                wanted.append(Image(name, entry.descriptor))
            if digests:
                wanted.append(Image(naming.digest_name(entry.descriptor.digest), entry.descriptor))
        if not _label(leased, stores.content, index, choice or Choice.default()):
            raise InvalidArgument("image might be filtered out: no manifest in the archive is for a wanted platform")
        return [record(leased, stores.images, image) for image in wanted]


def _label(ctx: CallContext, content: ContentStore, index: Descriptor, choice: Choice) -> bool:
    """Label every document below ``index`` for the collector; whether anything is left of the index."""
    todo, seen, some = [index], {index.digest}, False
    while todo:
        parent = todo.pop(0)
        entries = [entry for entry in children(ctx, content, parent) if choice.accepts(entry.platform)]
        some = some or bool(entries)
        label_children(ctx, content, parent, entries)
        fresh = [entry.descriptor for entry in entries if entry.descriptor.digest not in seen]
        seen.update(descriptor.digest for descriptor in fresh)
        todo += fresh
    return some


def _import_index(ctx: CallContext, content: ContentStore, source: Path | BinaryIO) -> Descriptor:
    """Store everything; the descriptor of the index on top."""
    with opened(source) as archive:
        found = _store(ctx, content, archive)
    if found.layout is not None:
        version = found.layout.get("imageLayoutVersion") if isinstance(found.layout, dict) else None
        if version != "1.0.0":
            raise InvalidArgument(f"OCI layout version {version!r} is not known")
        if _INDEX not in found.blobs:
            raise InvalidArgument(f"OCI layout without {_INDEX}")
        return replace(found.blobs[_INDEX], media_type=OCI_INDEX)
    if found.docker is not None:
        return docker_archive.build_index(ctx, content, found.docker, found.blobs, found.links)
    raise InvalidArgument(f"neither {_LAYOUT} nor {_DOCKER} in the archive")


def _store(ctx: CallContext, content: ContentStore, archive: tarfile.TarFile) -> Found:
    found = Found()
    for member in archive:
        name = posixpath.normpath(member.name)
        if member.issym():
            found.links[name] = posixpath.join(posixpath.dirname(name), member.linkname)
            found.links[name] = posixpath.normpath(found.links[name])
        if not member.isreg():
            continue
        data = archive.extractfile(member)
        assert data is not None, "a regular file has bytes"
        if name == _LAYOUT:
            found.layout = _json(data, name)
        elif name == _DOCKER:
            found.docker = _json(data, name)
        else:
            found.blobs[name] = store_stream(ctx, content, data, member.size)
    return found


def store_stream(ctx: CallContext, content: ContentStore, data: IO[bytes], size: int) -> Descriptor:
    """Store ``size`` bytes under their digest; bytes that are there already are as good. No media type."""
    # A ref of its own: two imports of one archive do not meet, and neither goes on with what the other left.
    ref = f"import-{uuid.uuid4().hex}"
    writer = content.writer(ctx, ref, total=size)
    try:
        digest = _fill(writer, data)
        # Without the digest: one that is named this late and exists already is not put under the lease (CNT-087).
        with suppress(AlreadyExists):
            writer.commit(ctx, size)
    except BaseException:
        writer.close()
        with suppress(ContainerdError):
            content.abort(replace(ctx, deadline=None, cancel=None), ref)
        raise
    return Descriptor("", digest, size)


def _fill(writer: Writer, data: IO[bytes]) -> str:
    while chunk := data.read(CHUNK):
        writer.write(chunk)
    return writer.digest()


class _Member(tarfile.TarInfo):
    """A tar header that is damaged is an error wherever it stands; tarfile takes all but the first for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"damaged header: {error}") from error


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[tarfile.TarFile]:
    """The archive, to be read from front to back; compression is noticed by its first bytes.

    Raises:
        InvalidArgument: not a tar, or a damaged one, found at any time inside the block.
    """
    if isinstance(source, Path):
        with source.open("rb") as file, opened(file) as archive:
            yield archive
        return
    try:
        # `*` looks at the first bytes, `|` reads from front to back: a pipe will do.
        with tarfile.open(fileobj=source, mode="r|*", tarinfo=_Member) as archive:
            yield archive
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InvalidArgument(f"image archive: {error}") from error


def _json(data: IO[bytes], name: str) -> Any:
    try:
        return json.loads(data.read())
    except ValueError as error:
        raise InvalidArgument(f"{name} is not JSON: {error}") from error
