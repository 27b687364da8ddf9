"""The records of one snapshotter: keys, parents, children, labels and times, without what is behind them.

Everything here happens inside a transaction that the caller holds. On disk: ``v1/<namespace>/snapshots/<snapshotter>``
(``refimpl.metadata.buckets``). Clauses MET-038 to 040, SNP-106, LEA-023.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from refimpl.contract import kv
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unknown
from refimpl.contract.quoting import quoted
from refimpl.contract.snapshots import Info
from refimpl.metadata import buckets, leases


@dataclass(frozen=True, slots=True)
class Creation:
    """A snapshot that is about to get its record.

    Attributes:
        backend_key, backend_parent: the back end's names.
        created_at, updated_at: Unix nanoseconds.
    """

    key: str
    parent: str
    backend_key: str
    backend_parent: str
    labels: Mapping[str, str]
    created_at: int
    updated_at: int


class SnapshotRecords:
    """The records of a snapshotter, in all namespaces.

    Args:
        name: the snapshotter's plugin id.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def get(self, v1: kv.Bucket, namespace: str, key: str) -> kv.Bucket:
        """One record.

        Raises:
            NotFound: there is none.
        """
        record = buckets.find(v1, namespace, buckets.SNAPSHOTS, self._name, key)
        if record is None:
            raise NotFound(f"snapshot {key} does not exist")
        return record

    def list(self, v1: kv.Bucket, namespace: str) -> Iterator[tuple[str, kv.Bucket]]:
        """Keys and records of a namespace, in byte order of the keys."""
        return buckets.subbuckets(buckets.find(v1, namespace, buckets.SNAPSHOTS, self._name))

    def backend_keys(self, v1: kv.Bucket) -> set[str]:
        """The back end's names for all snapshots of all namespaces."""
        return {
            buckets.text(record, buckets.NAME)
            for namespace, _ in buckets.subbuckets(v1)
            for _, record in self.list(v1, namespace)
        }

    def reserve(self, ctx: CallContext, v1: kv.Bucket, key: str, parent: str, target: str) -> tuple[str, str]:
        """The back end's names for a new snapshot and its parent; uses up a number (SNP-106).

        Args:
            target: name of the snapshot that a remote snapshotter may have ready; empty for none.

        Raises:
            AlreadyExists: the target is there (SNP-100), or the key is taken (SNP-016).
            NotFound: no such parent (SNP-015).
            Unknown: no key (SNP-030); looked at last, behind the lease.
        """
        namespace = ctx.namespace
        home = buckets.make(v1, namespace, buckets.SNAPSHOTS, self._name)
        if target and buckets.find(home, target) is not None:
            raise AlreadyExists(f"target snapshot {quoted(target)}")
        if key and buckets.find(home, key) is not None:
            raise AlreadyExists(f"snapshot {quoted(key)}")
        backend_parent = buckets.text(_parent(home, parent), buckets.NAME) if parent else ""
        if not key:
            leases.require(ctx, v1)
            raise Unknown("bucket name required")
        return f"{namespace}/{home.next_sequence()}/{key}", backend_parent

    def create(self, ctx: CallContext, v1: kv.Bucket, namespace: str, creation: Creation) -> None:
        """Make a record, in the parent's children and in the caller's lease too.

        Raises:
            AlreadyExists: somebody else took the key meanwhile.
            InvalidArgument: the parent was replaced by another snapshot of its name meanwhile.
            NotFound: the parent is gone, or there is no such lease.
        """
        home = self._home(v1, namespace)
        record = self._new(ctx, v1, home, creation.key)
        if creation.parent:
            parent = _parent(home, creation.parent)
            if buckets.text(parent, buckets.NAME) != creation.backend_parent:
                # Removed and made again while the back end was working: another snapshot of the same name.
                raise InvalidArgument(f"mismatched parent {creation.parent} from target {creation.key}")
            _add_child(parent, creation.key)
            record.put(buckets.PARENT, buckets.encode_name(creation.parent))
        buckets.write_times(record, creation.created_at, creation.updated_at)
        buckets.write_labels(record, creation.labels)
        record.put(buckets.NAME, buckets.encode_name(creation.backend_key))

    def commit(
        self, ctx: CallContext, v1: kv.Bucket, name: str, key: str, labels: Mapping[str, str], now: int
    ) -> tuple[str, str]:
        """Replace the record of ``key`` by one of ``name`` with the same parent; the back end's names for both.

        Raises:
            AlreadyExists: the name is taken; looked at first (SNP-019), before the lease too.
            NotFound: no such key, or no such lease.
            Unknown: no name.
        """
        namespace = ctx.namespace
        home = self._home(v1, namespace)
        if not name:
            raise Unknown("bucket name required")
        if buckets.find(home, name) is not None:
            # Before the lease is looked at: a name that is taken is AlreadyExists under a lease that is gone, too.
            raise AlreadyExists(f"snapshot {quoted(name)}")
        record = self._new(ctx, v1, home, name)
        active = self.get(v1, namespace, key)
        backend_key = buckets.text(active, buckets.NAME)
        backend_name = f"{namespace}/{home.next_sequence()}/{name}"
        record.put(buckets.NAME, buckets.encode_name(backend_name))
        above = buckets.text(active, buckets.PARENT)
        if above:
            parent = _parent(home, above)
            _drop_child(parent, key)
            _add_child(parent, name)
            record.put(buckets.PARENT, buckets.encode_name(above))
        buckets.write_times(record, now, now)
        buckets.write_labels(record, labels)
        buckets.remove(home, key)
        leases.remove_snapshot(ctx, v1, self._name, key)
        return backend_name, backend_key

    def remove(self, ctx: CallContext, v1: kv.Bucket, key: str) -> None:
        """Drop a record, also from the parent's children and from the caller's lease.

        Raises:
            FailedPrecondition: it has children (MET-039).
            NotFound: there is none.
        """
        record = self.get(v1, ctx.namespace, key)
        if any(buckets.keys(record.bucket(buckets.CHILDREN))):
            raise FailedPrecondition("cannot remove snapshot with child")
        home = self._home(v1, ctx.namespace)
        parent = buckets.find(home, buckets.text(record, buckets.PARENT))
        if parent is not None:
            _drop_child(parent, key)
        buckets.remove(home, key)
        leases.remove_snapshot(ctx, v1, self._name, key)

    def _home(self, v1: kv.Bucket, namespace: str) -> kv.Bucket:
        home = buckets.find(v1, namespace, buckets.SNAPSHOTS, self._name)
        if home is None:
            raise NotFound(f"can not find snapshotter {quoted(self._name)}")
        return home

    def _new(self, ctx: CallContext, v1: kv.Bucket, home: kv.Bucket, key: str) -> kv.Bucket:
        if not key:
            raise Unknown("bucket name required")
        leases.add_snapshot(ctx, v1, self._name, key)
        if buckets.find(home, key) is not None:
            raise AlreadyExists(f"snapshot {quoted(key)}")
        return buckets.create(home, key)


def read_info(key: str, record: kv.Bucket) -> Info:
    """What a record knows; the kind is the back end's to say."""
    return Info(
        key,
        parent=buckets.text(record, buckets.PARENT),
        created_at=buckets.read_time(record, buckets.CREATED_AT),
        updated_at=buckets.read_time(record, buckets.UPDATED_AT),
        labels=buckets.read_labels(record),
    )


def _parent(home: kv.Bucket, name: str) -> kv.Bucket:
    record = buckets.find(home, name)
    if record is None:
        raise NotFound(f"parent snapshot {name} does not exist")
    return record


def _add_child(parent: kv.Bucket, key: str) -> None:
    buckets.put(buckets.make(parent, buckets.CHILDREN), key, buckets.NIL)


def _drop_child(parent: kv.Bucket, key: str) -> None:
    children = parent.bucket(buckets.CHILDREN)
    if children is not None:
        children.delete(buckets.encode_name(key))
