"""Export: images into an archive that is an OCI layout and that ``docker load`` takes as well (IMG-052 to 057).

Entries are sorted by name and carry no time and no owner, so that the same images give the same bytes; they are the
bytes that ``ctr images export`` of 1.6 writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from refimpl.api import gojson
from refimpl.client import references
from refimpl.client.archive import CHUNK, Stores
from refimpl.client.manifests import INDEXES, MANIFESTS, children, choose
from refimpl.client.platforms import Choice
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, Unknown
from refimpl.contract.images import Image
from refimpl.contract.types import Descriptor

_BLOCK = 512
_OCTAL_MAX = 8**11
"""Sizes from here on do not fit into a tar header's eleven octal digits."""


@dataclass(frozen=True, slots=True)
class _File:
    """An entry: a directory (neither), a document of ours, or a blob of the store."""

    mode: int
    data: bytes | None = None
    blob: Descriptor | None = None


def export_archive(
    ctx: CallContext, stores: Stores, names: Sequence[str], target: BinaryIO, *, choice: Choice | None = None
) -> None:
    """Write images with everything they need for the chosen platforms.

    Args:
        names: of the images; two names of one manifest are two entries of the index.
        choice: the platforms; by default this machine's.

    Raises:
        NotFound: no such image, or part of it is not in the store.
        InvalidArgument: an image that is neither manifest nor index.
        Unknown: a blob whose bytes are not those of its digest; the archive is incomplete.
    """
    choice = choice or Choice.default()
    images = [stores.images.get(ctx, name) for name in names]
    files: dict[str, _File] = {"blobs": _File(0o755), "blobs/sha256": _File(0o755)}
    for image in images:
        if image.target.media_type not in MANIFESTS | INDEXES:
            raise InvalidArgument(
                f"image {image.name} of type {image.target.media_type}: only manifests can be exported"
            )
        for blob in _blobs(ctx, stores.content, image.target, choice):
            # Missing content shows before the first byte is written.
            files[_path(blob)] = _File(
                0o444, blob=Descriptor("", blob.digest, stores.content.info(ctx, blob.digest).size)
            )
    files["index.json"] = _File(
        0o644, _document({"schemaVersion": 2, "manifests": [_entry(image) for image in images]})
    )
    files["manifest.json"] = _File(0o644, _document(_docker(ctx, stores.content, images, choice)))
    files["oci-layout"] = _File(0o444, _document({"imageLayoutVersion": "1.0.0"}))
    for name in sorted(files):
        _write(ctx, stores.content, target, name, files[name])
    target.write(bytes(2 * _BLOCK))


def _blobs(ctx: CallContext, content: ContentStore, parent: Descriptor, choice: Choice) -> Iterator[Descriptor]:
    """A document and all that it refers to, as far as it is for a wanted platform."""
    yield parent
    for entry in children(ctx, content, parent):
        if choice.accepts(entry.platform):
            yield from _blobs(ctx, content, entry.descriptor, choice)


def _entry(image: Image) -> dict[str, Any]:
    own = {references.Naming.IMAGE: image.name, references.Naming.REF: references.tag_of(image.name)}
    annotations = {**image.target.annotations, **own}
    return {
        "mediaType": image.target.media_type,
        "digest": image.target.digest,
        "size": image.target.size,
        "annotations": {key: annotations[key] for key in sorted(annotations)},
    }


def _docker(ctx: CallContext, content: ContentStore, images: Sequence[Image], choice: Choice) -> list[dict[str, Any]]:
    """One entry for each distinct manifest, with all its names."""
    found: dict[str, dict[str, Any]] = {}
    for image in images:
        manifest = choose(ctx, content, image.target, choice)
        if manifest.digest not in found:
            config, *layers = [entry.descriptor for entry in children(ctx, content, manifest)]
            found[manifest.digest] = {
                "Config": _path(config),
                "RepoTags": [],
                "Layers": [_path(layer) for layer in layers],
            }
        found[manifest.digest]["RepoTags"].append(references.familiar(image.name))
    return list(found.values())


def _path(blob: Descriptor) -> str:
    algorithm, _, encoded = blob.digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def _document(value: object) -> bytes:
    return gojson.dumps(value).encode()


def _write(ctx: CallContext, content: ContentStore, target: BinaryIO, name: str, file: _File) -> None:
    if file.blob is not None:
        target.write(_header(name, file.mode, file.blob.size))
        _copy(ctx, content, target, file.blob)
        target.write(bytes(-file.blob.size % _BLOCK))
    elif file.data is not None:
        target.write(_header(name, file.mode, len(file.data)) + file.data + bytes(-len(file.data) % _BLOCK))
    else:
        target.write(_header(f"{name}/", file.mode, 0, kind=b"5"))


def _copy(ctx: CallContext, content: ContentStore, target: BinaryIO, blob: Descriptor) -> None:
    """Copy a blob, checking what is read: the store only did so when it was written (CNT-073)."""
    digest = hashlib.new(blob.digest.partition(":")[0])
    reader = content.reader(ctx, blob.digest)
    try:
        for offset in range(0, blob.size, CHUNK):
            chunk = reader.read_at(offset, min(CHUNK, blob.size - offset))
            digest.update(chunk)
            target.write(chunk)
    finally:
        reader.close()
    if digest.hexdigest() != blob.digest.partition(":")[2]:
        raise Unknown(f"blob {blob.digest} has other bytes than its digest says")


def _header(name: str, mode: int, size: int, *, kind: bytes = b"0") -> bytes:
    """A ustar header with no time and no owner, as Go writes it; Python's leaves other fields blank."""
    octal = b"%011o\0" % size if size < _OCTAL_MAX else b"\x80" + size.to_bytes(11, "big")
    number = b"0000000\0"
    before = name.encode().ljust(100, b"\0") + b"%07o\0" % mode + number * 2 + octal + b"%011o\0" % 0
    after = kind + bytes(100) + b"ustar\x0000" + bytes(64) + number * 2 + bytes(167)
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after
