"""Leases in the metadata database, and what the other stores do for the lease that a call is under.

On disk: ``v1/<namespace>/leases/<id>`` (``refimpl.metadata.buckets``). Clauses LEA-001 to 042. A lease holds by its
entries alone: nothing checks that what it lists exists, and entries of what is gone stay until removed (LEA-014).

The functions below the class are called inside the transaction that makes or drops a resource, so the entry and the
record come and go together. They do nothing for a call that is under no lease.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence

from refimpl.contract import digest, kv
from refimpl.contract.context import CallContext
from refimpl.contract.encoding import encode_time
from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound, Unimplemented
from refimpl.contract.leases import Lease, Resource
from refimpl.contract.quoting import quoted
from refimpl.metadata import adaptors, buckets
from refimpl.metadata.database import Database


class LeaseManager:
    """A ``contract.leases.LeaseManager`` over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, ctx: CallContext, id: str = "", labels: Mapping[str, str] | None = None) -> Lease:
        """Make a lease. Neither the id nor the length of labels is checked (LEA-004, LEA-005).

        Raises:
            AlreadyExists: the id is taken (LEA-003).
            InvalidArgument: no id; drawing one is the service's part (LEA-002).
            Unknown: a label without key.
        """
        namespace = ctx.require_namespace()
        if not id:
            raise InvalidArgument("lease id must be provided")
        now = self._database.clock.now()
        with self._database.update() as v1:
            try:
                record = buckets.create(buckets.make(v1, namespace, buckets.LEASES), id)
            except AlreadyExists:
                raise AlreadyExists(f"lease {quoted(id)}") from None
            buckets.write_labels(record, labels or {})
            record.put(buckets.CREATED_AT, encode_time(now))
            return _read(id, record)

    def delete(self, ctx: CallContext, id: str, *, sync: bool = False) -> None:
        """Drop a lease with its list (LEA-007). Waiting for the collection, with ``sync``, is the service's part.

        Raises:
            NotFound: no such lease.
        """
        namespace = ctx.require_namespace()
        with self._database.update() as v1:
            leases = buckets.find(v1, namespace, buckets.LEASES)
            if leases is None or not buckets.remove(leases, id):
                raise NotFound(f"lease {quoted(id)}")
            self._database.mark_dirty("leases")

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Lease]:
        """The leases for which any filter holds, in byte order of the ids, expired ones among them (LEA-006).

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        namespace = ctx.require_namespace()
        wanted = adaptors.parse(filters)
        with self._database.view() as v1:
            records = buckets.subbuckets(buckets.find(v1, namespace, buckets.LEASES))
            leases = [_read(id, record) for id, record in records]
        return [lease for lease in leases if wanted(adaptors.lease(lease))]

    def add_resource(self, ctx: CallContext, lease: str, resource: Resource) -> None:
        """Put an entry on the list; one that is there already is no error (LEA-015).

        Raises:
            NotFound: no such lease (LEA-016).
            Unimplemented: an unknown type (LEA-011).
            InvalidArgument: a type of the wrong form, no id, or no digest where one is due (LEA-011 to 013).
        """
        namespace = ctx.require_namespace()
        with self._database.update() as v1:
            record = _get(v1, namespace, lease)
            path, key = _place(resource)
            if not key or not all(path):
                what = f"resource {quoted(resource.id)} of type {quoted(resource.type)}"
                raise InvalidArgument(f"{what} has an empty name")
            buckets.put(buckets.make(record, *path), key, buckets.NIL)

    def delete_resource(self, ctx: CallContext, lease: str, resource: Resource) -> None:
        """Take an entry off the list; one that is not there is no error, and a deletion too (LEA-018, GC-045).

        Raises:
            NotFound, Unimplemented, InvalidArgument: as ``add_resource``, but for empty names, which cannot be there.
        """
        namespace = ctx.require_namespace()
        with self._database.update() as v1:
            record = _get(v1, namespace, lease)
            path, key = _place(resource)
            _drop(record, path, key)
            self._database.mark_dirty("leases")

    def list_resources(self, ctx: CallContext, lease: str) -> builtins.list[Resource]:
        """All entries: content, ingests, snapshots by snapshotter, each in byte order (LEA-017).

        Raises:
            NotFound: no such lease.
        """
        namespace = ctx.require_namespace()
        with self._database.view() as v1:
            record = _get(v1, namespace, lease)
            found = [Resource(key, "content") for key in buckets.keys(record.bucket(buckets.CONTENT))]
            found += [Resource(key, "ingests") for key in buckets.keys(record.bucket(buckets.INGESTS))]
            for snapshotter, entries in buckets.subbuckets(record.bucket(buckets.SNAPSHOTS)):
                found += [Resource(key, f"snapshots/{snapshotter}") for key in buckets.keys(entries)]
            return found


def require(ctx: CallContext, v1: kv.Bucket) -> kv.Bucket | None:
    """The record of the lease that the call is under; None for a call under no lease.

    Raises:
        NotFound: the call names a lease that does not exist (LEA-021).
    """
    if not ctx.lease:
        return None
    record = buckets.find(v1, ctx.require_namespace(), buckets.LEASES, ctx.lease)
    if record is None:
        raise NotFound("lease does not exist")
    return record


def add_content(ctx: CallContext, v1: kv.Bucket, digest: str) -> bool:
    """Put a blob on the call's lease (LEA-019, LEA-020); whether there is a lease. NotFound as ``require``."""
    return _add(ctx, v1, (buckets.CONTENT,), digest)


def add_ingest(ctx: CallContext, v1: kv.Bucket, ref: str) -> bool:
    """Put an ingest on the call's lease (LEA-019); whether there is a lease. NotFound as ``require``."""
    return _add(ctx, v1, (buckets.INGESTS,), ref)


def add_snapshot(ctx: CallContext, v1: kv.Bucket, snapshotter: str, key: str) -> bool:
    """Put a snapshot on the call's lease (LEA-023); whether there is a lease. NotFound as ``require``."""
    return _add(ctx, v1, (buckets.SNAPSHOTS, snapshotter), key)


def remove_content(ctx: CallContext, v1: kv.Bucket, digest: str) -> None:
    """Take a blob off the call's lease, and off no other (LEA-025). A lease that is unknown lists nothing."""
    _remove(ctx, v1, (buckets.CONTENT,), digest)


def remove_ingest(ctx: CallContext, v1: kv.Bucket, ref: str) -> None:
    """Take an ingest off the call's lease; as ``remove_content``."""
    _remove(ctx, v1, (buckets.INGESTS,), ref)


def remove_snapshot(ctx: CallContext, v1: kv.Bucket, snapshotter: str, key: str) -> None:
    """Take a snapshot off the call's lease; as ``remove_content``."""
    _remove(ctx, v1, (buckets.SNAPSHOTS, snapshotter), key)


def _add(ctx: CallContext, v1: kv.Bucket, path: Sequence[bytes | str], key: str) -> bool:
    record = require(ctx, v1)
    if record is None:
        return False
    buckets.put(buckets.make(record, *path), key, buckets.NIL)
    return True


def _remove(ctx: CallContext, v1: kv.Bucket, path: Sequence[bytes | str], key: str) -> None:
    if ctx.lease:
        record = buckets.find(v1, ctx.require_namespace(), buckets.LEASES, ctx.lease)
        if record is not None:
            _drop(record, path, key)


def _drop(record: kv.Bucket, path: Sequence[bytes | str], key: str) -> None:
    entries = buckets.find(record, *path)
    if entries is not None and key:
        entries.delete(buckets.encode_name(key))


def _get(v1: kv.Bucket, namespace: str, lease: str) -> kv.Bucket:
    record = buckets.find(v1, namespace, buckets.LEASES, lease)
    if record is None:
        raise NotFound(f"lease {quoted(lease)}")
    return record


def _read(id: str, record: kv.Bucket) -> Lease:
    return Lease(id, buckets.read_time(record, buckets.CREATED_AT), buckets.read_labels(record))


def _place(resource: Resource) -> tuple[Sequence[bytes | str], str]:
    """Where the record of a lease lists a resource: the way to the bucket, and the key in it."""
    kind, *rest = resource.type.split("/")
    if kind not in {"content", "ingests", "snapshots"}:
        raise Unimplemented(f"resource type {resource.type} not supported yet")
    if kind == "snapshots":
        if len(rest) != 1:
            raise InvalidArgument(f"invalid snapshot resource type {resource.type}")
        return (buckets.SNAPSHOTS, rest[0]), resource.id
    if rest:
        raise InvalidArgument(f"invalid resource type {resource.type}")
    if kind == "ingests":
        return (buckets.INGESTS,), resource.id
    try:
        digest.validate(resource.id)
    except InvalidArgument as err:
        raise InvalidArgument(f"invalid content resource id {resource.id}: {err.message}") from err
    return (buckets.CONTENT,), resource.id
