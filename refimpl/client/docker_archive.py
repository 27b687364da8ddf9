"""What ``docker save`` writes, turned into manifests and an index (IMG-048, 049).

Such an archive has a ``manifest.json`` that names config and layers by their paths; digests and sizes are those of the
blobs that the import has stored. The documents are written as Go writes them, so that the same archive gives the same
digests here and with ``ctr``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from refimpl.api import gojson
from refimpl.client import references
from refimpl.client.manifests import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_INDEX,
    config_of,
    platform_from,
)
from refimpl.client.platforms import normalized
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound
from refimpl.contract.types import Descriptor

UNCOMPRESSED = "containerd.io/uncompressed"
"""Label of a layer's blob: the digest of its uncompressed bytes (CNT-107)."""

_COMPRESSED = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd")
"""First bytes of gzip and zstd."""


def build_index(
    ctx: CallContext, content: ContentStore, entries: Any, blobs: Mapping[str, Descriptor], links: Mapping[str, str]
) -> Descriptor:
    """Store a manifest for each entry and an index over them; the index's descriptor.

    Args:
        entries: the ``manifest.json`` document.
        blobs: path in the archive -> digest and size.
        links: path of a symlink in the archive -> path that it stands for.

    Raises:
        InvalidArgument: the document is not what docker writes, or has a name that docker does not know.
        NotFound: a config or layer is not in the archive.
    """
    listed: list[dict[str, Any]] = []
    for entry in _typed(entries, list):
        config = _blob(_typed(_typed(entry, dict).get("Config"), str), blobs, links)
        config = replace(config, media_type=DOCKER_CONFIG)
        layers = [
            _layer(ctx, content, _blob(_typed(path, str), blobs, links)) for path in _typed(entry.get("Layers"), list)
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": _descriptor(config),
            "layers": [_descriptor(layer) for layer in layers],
        }
        stored = _descriptor(_store(ctx, content, manifest, DOCKER_MANIFEST))
        platform = _platform(config_of(ctx, content, config))
        names = [references.normalized(_typed(name, str)) for name in entry.get("RepoTags") or []]
        listed += [{**stored, "annotations": _annotations(name), "platform": platform} for name in names]
        if not names:
            listed.append({**stored, "platform": platform})
    return _store(ctx, content, {"schemaVersion": 2, "manifests": listed}, OCI_INDEX)


def _blob(path: str, blobs: Mapping[str, Descriptor], links: Mapping[str, str]) -> Descriptor:
    found = blobs.get(links.get(path, path))
    if found is None:
        raise NotFound(f'"{path}" in the archive')
    return found


def _layer(ctx: CallContext, content: ContentStore, blob: Descriptor) -> Descriptor:
    """The layer for a file: a compressed twin that is there already, or the file itself, typed by its first bytes."""
    for twin in content.walk(ctx, [f'labels."{UNCOMPRESSED}"=={blob.digest}']):
        blob = Descriptor("", twin.digest, twin.size)
        break
    reader = content.reader(ctx, blob.digest)
    try:
        compressed = reader.read_at(0, 4).startswith(_COMPRESSED)
    finally:
        reader.close()
    return replace(blob, media_type=DOCKER_LAYER_GZIP if compressed else DOCKER_LAYER)


def _store(ctx: CallContext, content: ContentStore, document: object, media_type: str) -> Descriptor:
    data = gojson.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with suppress(AlreadyExists):
        writer = content.writer(ctx, f"manifest-{digest}", total=len(data), expected=digest)
        try:
            writer.truncate(0)  # an earlier import may have been interrupted here
            writer.write(data)
            writer.commit(ctx, len(data), digest)
        finally:
            writer.close()
    return Descriptor(media_type, digest, len(data))


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def _annotations(name: str) -> dict[str, str]:
    return {references.Naming.IMAGE: name, references.Naming.REF: references.tag_of(name)}


def _platform(config: Mapping[str, Any]) -> dict[str, str]:
    platform = normalized(platform_from(config))
    named = {"architecture": platform.architecture, "os": platform.os}
    return {**named, "variant": platform.variant} if platform.variant else named


def _typed(value: Any, wanted: type) -> Any:
    if not isinstance(value, wanted):
        raise InvalidArgument(f"manifest.json: {value!r} where a {wanted.__name__} belongs")
    return value
