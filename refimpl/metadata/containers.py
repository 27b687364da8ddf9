"""Container records in the metadata database.

On disk: ``v1/<namespace>/containers/<id>`` (``refimpl.metadata.buckets``). Clauses CTR-001 to 045, MET-031, MET-032.
Spec, runtime options and extensions are bytes with a name, kept as they came; nobody looks whether image, snapshot or
runtime exist. A sandbox id is the next release's, and neither stored nor touched (CTR-042, MET-014).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from refimpl.contract import kv
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.encoding import decode_any, encode_any
from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound, Unknown
from refimpl.contract.fieldpaths import map_key, with_key
from refimpl.contract.identifiers import validate_identifier
from refimpl.contract.quoting import quoted
from refimpl.contract.types import TypedAny
from refimpl.metadata import adaptors, buckets, labels
from refimpl.metadata.database import Database

_MUTABLE = ("labels", "spec", "extensions", "image", "snapshotkey")
"""What an update without paths replaces; each is a path of its own too."""


class ContainerStore:
    """A ``contract.containers.ContainerStore`` over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ctx: CallContext, id: str) -> Container:
        """One record.

        Raises:
            NotFound: no such container in this namespace (CTR-012).
        """
        namespace = ctx.require_namespace()
        with self._database.view() as v1:
            record = buckets.find(v1, namespace, buckets.CONTAINERS, id)
            if record is None:
                raise NotFound(f"container {quoted(id)} in namespace {quoted(namespace)}")
            return _read(id, record)

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Container]:
        """The records for which any filter holds, in byte order of the ids (CTR-013, CTR-016, CTR-017).

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        namespace = ctx.require_namespace()
        wanted = adaptors.parse(filters)
        with self._database.view() as v1:
            records = buckets.subbuckets(buckets.find(v1, namespace, buckets.CONTAINERS))
            containers = [_read(id, record) for id, record in records]
        return [container for container in containers if wanted(adaptors.container(container))]

    def create(self, ctx: CallContext, container: Container) -> Container:
        """Make a record; the answer is what was stored, with the times of the clock (CTR-001, CTR-002).

        Raises:
            AlreadyExists: the id is taken (CTR-003).
            InvalidArgument: bad id, no runtime name, no spec, a snapshot key without snapshotter, labels too long, an
                extension without key (CTR-004 to 006, CTR-008, CTR-010, CTR-011).
            Unknown: a label without key (CTR-010).
        """
        namespace = ctx.require_namespace()
        try:
            stored = _validated(container)
        except InvalidArgument as err:
            raise InvalidArgument(f"create container failed validation: {err.message}") from err
        now = self._database.clock.now()
        stored = replace(stored, created_at=now, updated_at=now, sandbox_id="")
        with self._database.update() as v1:
            try:
                record = buckets.create(buckets.make(v1, namespace, buckets.CONTAINERS), container.id)
            except AlreadyExists:
                raise AlreadyExists(f"container {quoted(container.id)}") from None
            _write(record, stored)
        return stored

    def update(self, ctx: CallContext, container: Container, fieldpaths: Sequence[str] = ()) -> Container:
        """Change what ``fieldpaths`` name, or all that is mutable without any (CTR-018 to 029).

        Raises:
            NotFound: no such container (CTR-028).
            InvalidArgument: no id; a path that names no mutable field (CTR-021); without paths, another runtime or
                snapshotter than stored (CTR-019); a result that ``create`` would refuse.
            Unknown: a label without key.
        """
        if not container.id:
            raise InvalidArgument("Container.ID required", bare=True)
        namespace = ctx.require_namespace()
        with self._database.update() as v1:
            containers = buckets.find(v1, namespace, buckets.CONTAINERS)
            if containers is None:
                raise NotFound(f"cannot update container {quoted(container.id)} in namespace {quoted(namespace)}")
            record = buckets.find(containers, container.id)
            if record is None:
                raise NotFound(f"container {quoted(container.id)}")
            changed = _read(container.id, record)
            if not fieldpaths:
                _check_immutable(changed, container)
            for path in fieldpaths or _MUTABLE:
                changed = _apply(changed, container, path)
            try:
                changed = _validated(changed)
            except InvalidArgument as err:
                raise InvalidArgument(f"update failed validation: {err.message}") from err
            changed = replace(changed, updated_at=self._database.clock.now())
            _write(record, changed)
        return changed

    def delete(self, ctx: CallContext, id: str) -> None:
        """Drop a record; a task of it runs on (CTR-030 to 032).

        Raises:
            NotFound: no such container.
        """
        namespace = ctx.require_namespace()
        with self._database.update() as v1:
            containers = buckets.find(v1, namespace, buckets.CONTAINERS)
            if containers is None:
                raise NotFound(f"cannot delete container {quoted(id)} in namespace {quoted(namespace)}")
            if not buckets.remove(containers, id):
                raise NotFound(f"container {id}")
            self._database.mark_dirty("containers")


def _check_immutable(current: Container, wanted: Container) -> None:
    if wanted.snapshotter != current.snapshotter:
        raise InvalidArgument("container.Snapshotter field is immutable")
    if wanted.runtime.name != current.runtime.name:
        raise InvalidArgument("container.Runtime.Name field is immutable")


def _apply(current: Container, wanted: Container, path: str) -> Container:
    """``current`` with the field of that path taken from ``wanted``."""
    if (key := map_key(path, "labels")) is not None:
        return replace(current, labels=with_key(current.labels, wanted.labels, key))
    if (key := map_key(path, "extensions")) is not None:
        # There is no way to take an extension away: without a value it becomes an empty one (CTR-025).
        return replace(current, extensions={**current.extensions, key: wanted.extensions.get(key, TypedAny())})
    match path:
        case "labels":
            return replace(current, labels=wanted.labels)
        case "spec":
            return replace(current, spec=wanted.spec)
        case "extensions":
            return replace(current, extensions=wanted.extensions)
        case "image":
            return replace(current, image=wanted.image)
        case "snapshotkey":
            return replace(current, snapshot_key=wanted.snapshot_key)
    raise InvalidArgument(f"cannot update {quoted(path)} field on {quoted(current.id)}")


def _validated(container: Container) -> Container:
    """The record as it may be stored, without empty labels."""
    try:
        validate_identifier(container.id)
    except InvalidArgument as err:
        raise InvalidArgument(f"container.ID: {err.message}") from err
    if "" in container.extensions:
        raise InvalidArgument("container.Extension keys must not be zero-length")
    kept = labels.validated(container.labels, "containers")
    if not container.runtime.name:
        raise InvalidArgument("container.Runtime.Name must be set")
    if container.spec is None:
        raise InvalidArgument("container.Spec must be set")
    if container.snapshot_key and not container.snapshotter:
        raise InvalidArgument("container.Snapshotter must be set if container.SnapshotKey is set")
    return replace(container, labels=kept)


def _read(id: str, record: kv.Bucket) -> Container:
    runtime = record.bucket(buckets.RUNTIME)
    return Container(
        id=id,
        labels=buckets.read_labels(record),
        image=buckets.text(record, buckets.IMAGE),
        runtime=RuntimeInfo() if runtime is None else _read_runtime(runtime),
        spec=_read_any(record, buckets.SPEC),
        snapshotter=buckets.text(record, buckets.SNAPSHOTTER),
        snapshot_key=buckets.text(record, buckets.SNAPSHOT_KEY),
        created_at=buckets.read_time(record, buckets.CREATED_AT),
        updated_at=buckets.read_time(record, buckets.UPDATED_AT),
        extensions=_read_extensions(record),
    )


def _read_runtime(runtime: kv.Bucket) -> RuntimeInfo:
    return RuntimeInfo(buckets.text(runtime, buckets.NAME), _read_any(runtime, buckets.OPTIONS))


def _read_any(record: kv.Bucket, key: bytes) -> TypedAny | None:
    encoded = record.get(key)
    return None if encoded is None else decode_any(encoded)


def _read_extensions(record: kv.Bucket) -> Mapping[str, TypedAny]:
    extensions = record.bucket(buckets.EXTENSIONS)
    if extensions is None:
        return {}
    return {key: decode_any(extensions.get(buckets.encode_name(key)) or b"") for key in buckets.keys(extensions)}


def _write(record: kv.Bucket, container: Container) -> None:
    """All fields of a record; keys that are not ours stay (MET-013)."""
    try:
        _write_fields(record, container)
    except Unknown as err:
        raise Unknown(f"failed to write container {quoted(container.id)}: {err}") from err


def _write_fields(record: kv.Bucket, container: Container) -> None:
    buckets.write_times(record, container.created_at, container.updated_at)
    assert container.spec is not None, "validated"
    record.put(buckets.SPEC, encode_any(container.spec))
    record.put(buckets.IMAGE, buckets.encode_name(container.image))
    record.put(buckets.SNAPSHOTTER, buckets.encode_name(container.snapshotter))
    record.put(buckets.SNAPSHOT_KEY, buckets.encode_name(container.snapshot_key))
    runtime = buckets.make(record, buckets.RUNTIME)
    runtime.put(buckets.NAME, buckets.encode_name(container.runtime.name))
    if container.runtime.options is not None:
        runtime.put(buckets.OPTIONS, encode_any(container.runtime.options))
    # containerd merges where it answers as if it had replaced; here the answer is the truth (CTR-026).
    buckets.remove(record, buckets.EXTENSIONS)
    for key, extension in container.extensions.items():
        buckets.put(buckets.make(record, buckets.EXTENSIONS), key, encode_any(extension))
    buckets.write_labels(record, container.labels)
