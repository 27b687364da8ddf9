"""Manifests and indexes: the documents that tie an image together, read from any content store.

An *index* lists manifests, usually one for each platform; a *manifest* lists a config and layers. What refers to what
is also told to the collector, by labels (IMG-032, 033).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refimpl.client.platforms import Choice
from refimpl.contract.content import ContentStore, Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound
from refimpl.contract.types import Descriptor, Platform

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})
_LAYERS = ("application/vnd.oci.image.layer.", DOCKER_LAYER, "application/vnd.docker.image.rootfs.foreign.diff.tar")

REFERENCE = "containerd.io/gc.ref.content"
"""Label of a blob, continued by a name: the digest of another blob that it keeps."""

LARGEST = 16 * 1024 * 1024
"""Bytes of a document that are read; what is larger is no document."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A descriptor as a document lists it.

    Attributes:
        platform: what an index says about it; None if nothing.
    """

    descriptor: Descriptor
    platform: Platform | None = None


def read_blob(ctx: CallContext, content: ContentStore, descriptor: Descriptor) -> bytes:
    """The bytes of a document.

    Raises:
        NotFound: it is not in the store.
        InvalidArgument: it is too large to be a document.
    """
    reader = content.reader(ctx, descriptor.digest)
    try:
        if reader.size > LARGEST:
            raise InvalidArgument(f"document {descriptor.digest} has {reader.size} bytes")
        return reader.read_at(0, reader.size)
    finally:
        reader.close()


def children(ctx: CallContext, content: ContentStore, descriptor: Descriptor) -> list[Entry]:
    """What a document refers to: manifests of an index, config and layers of a manifest; nothing for other blobs.

    Raises:
        NotFound: the document is not in the store.
        InvalidArgument: it is of another kind than its media type says (IMG-047).
    """
    if descriptor.media_type in INDEXES:
        return [_entry(item) for item in _items(_document(ctx, content, descriptor), "manifests")]
    if descriptor.media_type in MANIFESTS:
        document = _document(ctx, content, descriptor)
        return [_entry(document.get("config")), *(_entry(item) for item in _items(document, "layers"))]
    return []


def choose(ctx: CallContext, content: ContentStore, target: Descriptor, choice: Choice) -> Descriptor:
    """The manifest of an image for a platform; an image that is a manifest has no choice.

    Raises:
        NotFound: no manifest fits, or the document that should is not in the store.
        InvalidArgument: the target is neither manifest nor index, or a document is not what it says.
    """
    if target.media_type in MANIFESTS:
        children(ctx, content, target)
        return target
    if target.media_type not in INDEXES:
        raise InvalidArgument(f"{target.digest} of type {target.media_type} is neither a manifest nor an index")
    entries = [entry for entry in children(ctx, content, target) if choice.accepts(entry.platform)]
    for entry in sorted(entries, key=lambda entry: choice.rank(entry.platform)):
        if entry.descriptor.media_type in INDEXES:
            try:
                return choose(ctx, content, entry.descriptor, choice)
            except NotFound:
                continue
        if entry.descriptor.media_type not in MANIFESTS:
            continue
        # A manifest without a platform is judged by its config (IMG-040).
        if entry.platform is not None or choice.accepts(config_platform(ctx, content, entry.descriptor)):
            return entry.descriptor
    raise NotFound(f"no manifest found for platform {choice} in {target.digest}")


def config_platform(ctx: CallContext, content: ContentStore, manifest: Descriptor) -> Platform:
    """The platform that a manifest's config names."""
    config = config_of(ctx, content, children(ctx, content, manifest)[0].descriptor)
    return platform_from(config)


def config_of(ctx: CallContext, content: ContentStore, descriptor: Descriptor) -> dict[str, Any]:
    """An image's config."""
    return _object(read_blob(ctx, content, descriptor), descriptor.digest)


def is_layer(media_type: str) -> bool:
    """Whether blobs of this type are layers."""
    return media_type.startswith(_LAYERS)


def label_children(ctx: CallContext, content: ContentStore, parent: Descriptor, entries: Sequence[Entry]) -> None:
    """Tell the collector what a document keeps, leaving its other labels alone (IMG-032, 033)."""
    labels: dict[str, str] = {}
    counts: dict[str, int] = {}
    for entry in entries:
        key = _reference(entry.descriptor.media_type)
        if key.endswith("."):
            number = counts.get(key, 0)
            counts[key] = number + 1
            key = f"{key}{number}"
        labels[key] = entry.descriptor.digest
    if labels:
        content.update(ctx, Info(parent.digest, labels=labels), [f"labels.{key}" for key in labels])


def platform_from(document: Mapping[str, Any]) -> Platform:
    """The platform in an index entry or a config."""
    return Platform(*(str(document.get(name) or "") for name in ("os", "architecture", "variant")))


def _reference(media_type: str) -> str:
    if media_type in MANIFESTS:
        return f"{REFERENCE}.m."
    if media_type in CONFIGS:
        return f"{REFERENCE}.config"
    return f"{REFERENCE}.l." if is_layer(media_type) else f"{REFERENCE}."


def _document(ctx: CallContext, content: ContentStore, descriptor: Descriptor) -> dict[str, Any]:
    document = _object(read_blob(ctx, content, descriptor), descriptor.digest)
    said = document.get("mediaType") or ""
    if "fsLayers" in document:
        raise InvalidArgument(f"{descriptor.digest}: schema 1 documents are not supported")
    if descriptor.media_type in INDEXES:
        if "config" in document or "layers" in document or said in MANIFESTS:
            raise InvalidArgument(f"{descriptor.digest}: expected index but found manifest")
    elif "manifests" in document or said in INDEXES:
        raise InvalidArgument(f"{descriptor.digest}: expected manifest but found index")
    return document


def _object(data: bytes, digest: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InvalidArgument(f"{digest} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgument(f"{digest} is not a JSON object")
    return document


def _items(document: Mapping[str, Any], name: str) -> list[Any]:
    items = document.get(name) or []
    if not isinstance(items, list):
        raise InvalidArgument(f"{name} is not a list")
    return items


def _entry(item: Any) -> Entry:
    try:
        descriptor = Descriptor(
            str(item["mediaType"]), str(item["digest"]), int(item["size"]), dict(item.get("annotations") or {})
        )
        return Entry(descriptor, platform_from(item["platform"]) if item.get("platform") else None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"not a descriptor: {item!r}") from error
