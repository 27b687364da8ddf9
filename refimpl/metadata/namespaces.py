"""Namespaces in the metadata database.

On disk: ``v1/<name>`` (``refimpl.metadata.buckets``). Clauses NSP-001 to 030, MET-029. A namespace is there as soon as
anything is written in it; a record of its own, the bucket ``labels``, it has only if somebody made it or set a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refimpl.contract import kv
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unknown
from refimpl.contract.fieldpaths import map_key
from refimpl.contract.identifiers import validate_namespace
from refimpl.contract.namespaces import Namespace
from refimpl.contract.quoting import quoted
from refimpl.metadata import buckets, labels
from refimpl.metadata.database import Database


class NamespaceStore:
    """A ``contract.namespaces.NamespaceStore`` over the database. No call looks at the context's namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ctx: CallContext, name: str) -> Namespace:
        """A namespace with its labels; without any if there is no such namespace (NSP-006)."""
        with self._database.view() as v1:
            record = buckets.find(v1, name)
            return Namespace(name, buckets.read_labels(record) if record is not None else {})

    def list(self, ctx: CallContext) -> list[Namespace]:
        """All namespaces, in byte order of the names (NSP-007)."""
        with self._database.view() as v1:
            return [Namespace(name, buckets.read_labels(record)) for name, record in buckets.subbuckets(v1)]

    def create(self, ctx: CallContext, namespace: Namespace) -> Namespace:
        """Make a namespace; the answer is what was asked for, labels that are not stored included (NSP-004).

        Raises:
            InvalidArgument: not an identifier, labels too long (NSP-003, NSP-015).
            AlreadyExists: the namespace is there, by whatever way (NSP-005).
            Unknown: the name ``version`` (MET-054), or a label without key.
        """
        validate_namespace(namespace.name)
        kept = labels.validated(namespace.labels, "namespace")
        if "" in namespace.labels:
            # Elsewhere a label without key and value is nothing; here it is a label without key.
            raise Unknown("key required")
        with self._database.update() as v1:
            try:
                record = buckets.create(v1, namespace.name)
            except AlreadyExists:
                raise AlreadyExists(f"namespace {quoted(namespace.name)}") from None
            # Even when empty: it tells a namespace that was made from one that came about (NSP-030).
            _put_labels(buckets.make(record, buckets.LABELS), kept)
        return namespace

    def update(self, ctx: CallContext, namespace: Namespace, fieldpaths: Sequence[str] = ()) -> Namespace:
        """Change the labels that ``fieldpaths`` name, or all of them (NSP-010 to 015); the answer is the result.

        A namespace that is not there comes about, unless there is nothing to write (NSP-013).

        Raises:
            InvalidArgument: not an identifier (NSP-014), or a path other than ``labels.<key>`` (NSP-012).
            Unknown: labels too long (NSP-015), a label without key, or the name ``version`` (MET-054).
        """
        validate_namespace(namespace.name)
        with self._database.update() as v1:
            changes = dict(namespace.labels)
            if fieldpaths:
                changes = {key: namespace.labels.get(key, "") for key in map(_label_key, fieldpaths)}
            elif (record := buckets.find(v1, namespace.name)) is not None:
                changes = dict.fromkeys(buckets.read_labels(record), "") | changes
            _check_lengths(changes)
            if changes:
                _put_labels(buckets.make(v1, namespace.name, buckets.LABELS), changes)
            return self.get(ctx, namespace.name)

    def delete(self, ctx: CallContext, name: str, *, delete_cgroup: bool = False) -> None:
        """Remove a namespace that holds no objects; leases and ingests go with it (NSP-016, NSP-017).

        Args:
            delete_cgroup: for whoever keeps the namespace's cgroup; nothing to this store.

        Raises:
            NotFound: no such namespace (NSP-020).
            FailedPrecondition: it holds objects; the text lists their kinds.
            Unknown: the name ``version``.
        """
        with self._database.update() as v1:
            record = buckets.find(v1, name)
            if record is None and name and v1.get(buckets.encode_name(name)) is not None:
                raise Unknown("incompatible value")
            if record is None:
                raise NotFound(f"namespace {quoted(name)}")
            held = _held(record)
            if held:
                raise FailedPrecondition(f"namespace {quoted(name)} must be empty, but it still has {', '.join(held)}")
            buckets.remove(v1, name)


def _label_key(path: str) -> str:
    key = map_key(path, "labels")
    if key is None:
        raise InvalidArgument(f"cannot update {quoted(path)} field", bare=True)
    return key


def _check_lengths(changes: Mapping[str, str]) -> None:
    try:
        labels.validated(changes, "namespace")
    except InvalidArgument as err:
        # The kind gets lost on this one call of containerd.
        raise Unknown(str(err)) from err


def _put_labels(record: kv.Bucket, changes: Mapping[str, str]) -> None:
    for key, value in changes.items():
        if value:
            buckets.put(record, key, buckets.encode_name(value))
        elif key:
            record.delete(buckets.encode_name(key))


def _held(record: kv.Bucket) -> list[str]:
    """Kinds of objects in a namespace, in the order and words of the message."""
    kinds = {"images": (buckets.IMAGES,), "blobs": (buckets.CONTENT, buckets.BLOB), "containers": (buckets.CONTAINERS,)}
    held = [kind for kind, path in kinds.items() if _any(buckets.find(record, *path))]
    snapshotters = buckets.subbuckets(record.bucket(buckets.SNAPSHOTS))
    return held + [f"snapshots on {quoted(name)} snapshotter" for name, snapshots in snapshotters if _any(snapshots)]


def _any(bucket: kv.Bucket | None) -> bool:
    return bucket is not None and next(iter(bucket.items()), None) is not None
