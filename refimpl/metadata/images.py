"""Image records in the metadata database.

On disk: ``v1/<namespace>/images/<name>`` (``refimpl.metadata.buckets``). Clauses IMG-001 to 030, MET-041. The store
knows names and targets, not content: what a target refers to is the collector's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from refimpl.contract import digest, kv
from refimpl.contract.context import CallContext
from refimpl.contract.encoding import decode_varint, encode_varint
from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound, Unknown
from refimpl.contract.fieldpaths import map_key, with_key
from refimpl.contract.images import Image
from refimpl.contract.quoting import quoted
from refimpl.contract.types import Descriptor
from refimpl.metadata import adaptors, buckets, labels
from refimpl.metadata.database import Database


class ImageStore:
    """A ``contract.images.ImageStore`` over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ctx: CallContext, name: str) -> Image:
        """One record, by the exact bytes of its name.

        Raises:
            NotFound: no such image (IMG-007).
        """
        namespace = ctx.require_namespace()
        with self._database.view() as v1:
            record = buckets.find(v1, namespace, buckets.IMAGES, name)
            if record is None:
                raise NotFound(f"image {quoted(name)}")
            return _read(name, record)

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Image]:
        """The records for which any filter holds, in byte order of the names (IMG-008 to 011).

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        namespace = ctx.require_namespace()
        wanted = adaptors.parse(filters)
        with self._database.view() as v1:
            records = buckets.subbuckets(buckets.find(v1, namespace, buckets.IMAGES))
            images = [_read(name, record) for name, record in records]
        return [image for image in images if wanted(adaptors.image(image))]

    def create(self, ctx: CallContext, image: Image) -> Image:
        """Make a record; the answer is what was stored, with the times of the clock (IMG-001).

        Raises:
            AlreadyExists: the name is taken (IMG-002).
            InvalidArgument: no name, no valid target, labels too long (IMG-003 to 005).
            Unknown: a label or an annotation without key.
        """
        _check_name(image)
        namespace = ctx.require_namespace()
        now = self._database.clock.now()
        stored = replace(_validated(image), created_at=now, updated_at=now)
        with self._database.update() as v1:
            try:
                record = buckets.create(buckets.make(v1, namespace, buckets.IMAGES), image.name)
            except AlreadyExists:
                raise AlreadyExists(f"image {quoted(image.name)}") from None
            _write(record, stored)
        return stored

    def update(self, ctx: CallContext, image: Image, fieldpaths: Sequence[str] = ()) -> Image:
        """Change what ``fieldpaths`` name, or labels and target without any (IMG-012 to 018).

        Raises:
            NotFound: no such image.
            InvalidArgument: no name, a path that names no mutable field, or a result that ``create`` would refuse.
            Unknown: as ``create``.
        """
        _check_name(image)
        namespace = ctx.require_namespace()
        with self._database.update() as v1:
            record = buckets.find(v1, namespace, buckets.IMAGES, image.name)
            if record is None:
                raise NotFound(f"image {quoted(image.name)}")
            changed = _read(image.name, record)
            for path in fieldpaths or ("labels", "target"):
                changed = _apply(changed, image, path)
            changed = replace(_validated(changed), updated_at=self._database.clock.now())
            _write(record, changed)
        return changed

    def delete(self, ctx: CallContext, name: str, *, sync: bool = False) -> None:
        """Drop a record (IMG-019). Waiting for the collection, with ``sync``, is the service's part.

        Raises:
            NotFound: no such image.
        """
        namespace = ctx.require_namespace()
        with self._database.update() as v1:
            images = buckets.find(v1, namespace, buckets.IMAGES)
            if images is None or not buckets.remove(images, name):
                raise NotFound(f"image {quoted(name)}")
            self._database.mark_dirty("images")


def _check_name(image: Image) -> None:
    if not image.name:
        raise InvalidArgument("Image.Name required", bare=True)


def _apply(current: Image, wanted: Image, path: str) -> Image:
    """``current`` with the field of that path taken from ``wanted``."""
    target = current.target
    if (key := map_key(path, "labels")) is not None:
        return replace(current, labels=with_key(current.labels, wanted.labels, key))
    if (key := map_key(path, "annotations")) is not None:
        annotations = with_key(target.annotations, wanted.target.annotations, key)
        return replace(current, target=replace(target, annotations=annotations))
    if path == "labels":
        return replace(current, labels=wanted.labels)
    if path == "annotations":
        return replace(current, target=replace(target, annotations=wanted.target.annotations))
    if path == "target":
        return replace(current, target=wanted.target)
    raise InvalidArgument(f"cannot update {quoted(path)} field on image {quoted(current.name)}")


def _validated(image: Image) -> Image:
    """The record as it may be stored, without empty labels and annotations.

    An update is judged by its result, so this comes after the field paths (IMG-018).
    """
    kept = labels.validated(image.labels, "image")
    target = image.target
    try:
        digest.validate(target.digest)
    except InvalidArgument as err:
        raise InvalidArgument(f"Target.Digest {quoted(target.digest)} invalid: {err.message}") from err
    if target.size <= 0:
        raise InvalidArgument("Target.Size must be greater than zero")
    if not target.media_type:
        raise InvalidArgument("Target.MediaType must be set")
    return replace(image, labels=kept, target=replace(target, annotations=labels.without_empty(target.annotations)))


def _read(name: str, record: kv.Bucket) -> Image:
    return Image(
        name=name,
        target=_read_target(record),
        labels=buckets.read_labels(record),
        created_at=buckets.read_time(record, buckets.CREATED_AT),
        updated_at=buckets.read_time(record, buckets.UPDATED_AT),
    )


def _read_target(record: kv.Bucket) -> Descriptor:
    annotations = buckets.read_labels(record, buckets.ANNOTATIONS)
    target = record.bucket(buckets.TARGET)
    if target is None:
        return Descriptor(annotations=annotations)
    size = target.get(buckets.SIZE)
    return Descriptor(
        media_type=buckets.text(target, buckets.MEDIA_TYPE),
        digest=buckets.text(target, buckets.DIGEST),
        size=decode_varint(size) if size else 0,
        annotations=annotations,
    )


def _write(record: kv.Bucket, image: Image) -> None:
    buckets.write_times(record, image.created_at, image.updated_at)
    try:
        buckets.write_labels(record, image.labels)
    except Unknown as err:
        raise Unknown(f"writing labels for image {image.name}: {err}") from err
    try:
        buckets.write_labels(record, image.target.annotations, buckets.ANNOTATIONS)
    except Unknown as err:
        raise Unknown(f"writing Annotations for image {image.name}: {err}") from err
    target = buckets.make(record, buckets.TARGET)
    target.put(buckets.DIGEST, buckets.encode_name(image.target.digest))
    target.put(buckets.MEDIA_TYPE, buckets.encode_name(image.target.media_type))
    target.put(buckets.SIZE, encode_varint(image.target.size))
