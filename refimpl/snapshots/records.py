"""A snapshotter's database: what each key is and stands on. containerd keeps it in ROOT/metadata.db.

::

    v1/
      snapshots/                  its sequence is the last number given out
        NAME/                     see ``record``
      parents/
        uvarint(parent's number) 00 uvarint(child's number) = name of the child

A snapshot has children if ``parents`` has a key that begins with its number. What is done to the storage while a write
transaction is open is undone by its caller if the transaction fails.
Clauses SNP-009 to SNP-032, SNP-058 to SNP-073, SNX-005, SNX-008.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from refimpl.contract import kv
from refimpl.contract.encoding import encode_uvarint
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unknown
from refimpl.contract.quoting import quoted
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.contract.times import Clock
from refimpl.snapshots.record import (
    Record,
    Snapshot,
    decode_name,
    encode_name,
    read,
    read_id,
    read_parent,
    write,
)

_V1, _SNAPSHOTS, _PARENTS = b"v1", b"snapshots", b"parents"


class Records:
    """The records within one transaction.

    Args:
        root: the root bucket of the transaction.
        clock: the time of changes.
    """

    def __init__(self, root: kv.Bucket, clock: Clock) -> None:
        self._root = root
        self._clock = clock

    def get(self, key: str) -> Record:
        """The record of any kind.

        Raises:
            NotFound: no such snapshot (SNP-029).
        """
        bucket = self._find(key)
        if bucket is None:
            raise NotFound("snapshot does not exist")
        return read(key, bucket)

    def has(self, key: str) -> bool:
        """Whether there is such a snapshot, of any kind."""
        return self._find(key) is not None

    def mountable(self, key: str) -> Snapshot:
        """An active snapshot or a view.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it is committed (SNP-035).
        """
        if self.get(key).kind is Kind.COMMITTED:
            raise FailedPrecondition(f"requested snapshot {key} not active or view")
        return self.snapshot(key)

    def snapshot(self, key: str) -> Snapshot:
        """A snapshot with its ancestors.

        Raises:
            NotFound: no such snapshot.
            Unknown: the database is damaged.
        """
        record = self.get(key)
        parents: list[int] = []
        parent = record.info.parent
        while parent:
            # The two values that are wanted and no more: images have a hundred layers, and this is asked all the time.
            bucket = self._find(parent)
            if bucket is None:
                raise NotFound(f"missing parent {quoted(parent)} bucket")
            id = read_id(parent, bucket)
            if id in parents or id == record.id:
                raise Unknown(f"failed to read snapshot {quoted(key)}: {quoted(parent)} is its own ancestor")
            parents.append(id)
            parent = read_parent(bucket)
        return Snapshot(record.id, record.kind, tuple(parents))

    def all(self) -> Iterator[Record]:
        """Every record, in byte order of the names."""
        snapshots = self._bucket(_SNAPSHOTS)
        if snapshots is None:
            return
        for key, value in snapshots.items():
            bucket = snapshots.bucket(key) if value is None else None
            if bucket is not None:
                yield read(decode_name(key), bucket)

    def create(self, kind: Kind, key: str, parent: str, labels: Mapping[str, str]) -> Snapshot:
        """Add an active snapshot or a view.

        Raises:
            NotFound: no such parent (SNP-015).
            InvalidArgument: the parent is not committed (SNP-014).
            AlreadyExists: the key is taken (SNP-016).
            Unknown: an empty key (SNP-030) or label key (SNP-060).
        """
        below = None
        if parent:
            bucket = self._find(parent)
            if bucket is None:
                raise NotFound(f"missing parent {quoted(parent)} bucket")
            below = read(parent, bucket)
            if below.kind is not Kind.COMMITTED:
                raise InvalidArgument(f"parent {quoted(parent)} is not committed snapshot")
        snapshots = self._made(_SNAPSHOTS)
        made = _create(snapshots, key, f"snapshot {key}")
        now = self._clock.now()
        record = Record(snapshots.next_sequence(), Info(key, parent, kind, now, now, labels))
        write(made, record)
        if below is not None:
            self._made(_PARENTS).put(_link(below.id, record.id), encode_name(key))
        return self.snapshot(key)

    def commit(self, name: str, key: str, usage: Usage, labels: Mapping[str, str]) -> None:
        """Turn an active snapshot into a committed one, under the same number.

        Raises:
            AlreadyExists: the name is taken (SNP-017).
            NotFound: no such key (SNP-018).
            FailedPrecondition: the key is not active (SNP-020, SNP-021).
            Unknown: an empty name (SNP-030).
        """
        snapshots = self._made(_SNAPSHOTS)
        made = _create(snapshots, name, f"committed snapshot {name}")
        found = self._find(key)
        if found is None:
            raise NotFound(f"failed to get active snapshot {quoted(key)}")
        record = read(key, found)
        if record.kind is not Kind.ACTIVE:
            raise FailedPrecondition(f"snapshot {quoted(key)} is not active")
        now = self._clock.now()
        info = Info(name, record.info.parent, Kind.COMMITTED, now, now, labels)
        write(made, Record(record.id, info, usage))
        snapshots.delete_bucket(encode_name(key))
        if info.parent:
            self._made(_PARENTS).put(_link(self.get(info.parent).id, record.id), encode_name(name))

    def remove(self, key: str) -> Record:
        """Forget a snapshot.

        Raises:
            NotFound: no such snapshot (SNP-022).
            FailedPrecondition: another one stands on it (SNP-023).
        """
        found = self._find(key)
        if found is None:
            raise NotFound(f"snapshot {key}")
        record = read(key, found)
        if self._has_children(record.id):
            raise FailedPrecondition("cannot remove snapshot with child")
        if record.info.parent:
            self._made(_PARENTS).delete(_link(self.get(record.info.parent).id, record.id))
        self._made(_SNAPSHOTS).delete_bucket(encode_name(key))
        return record

    def update(self, info: Info, fieldpaths: Sequence[str]) -> Record:
        """Change labels: all of them, or those that the paths name (SNP-064 to SNP-070).

        Raises:
            NotFound: no such snapshot.
            InvalidArgument: a path that names anything else.
        """
        record = self.get(info.name)
        labels = dict(record.info.labels)
        for path in fieldpaths or ("labels",):
            if path == "labels":
                labels = dict(info.labels)
            elif path.startswith("labels."):
                key = path.removeprefix("labels.")
                labels[key] = info.labels.get(key, "")
            else:
                raise InvalidArgument(f"cannot update {quoted(path)} field on snapshot {quoted(info.name)}")
        changed = replace(record, info=replace(record.info, labels=labels, updated_at=self._clock.now()))
        bucket = self._find(info.name)
        assert bucket is not None, "read a moment ago, in this transaction"
        write(bucket, changed)
        return read(info.name, bucket)

    def _bucket(self, name: bytes) -> kv.Bucket | None:
        v1 = self._root.bucket(_V1)
        return v1.bucket(name) if v1 is not None else None

    def _made(self, name: bytes) -> kv.Bucket:
        return self._root.create_bucket_if_not_exists(_V1).create_bucket_if_not_exists(name)

    def _find(self, key: str) -> kv.Bucket | None:
        snapshots = self._bucket(_SNAPSHOTS)
        return snapshots.bucket(encode_name(key)) if snapshots is not None and key else None

    def _has_children(self, id: int) -> bool:
        parents = self._bucket(_PARENTS)
        prefix = encode_uvarint(id) + b"\0"
        first = next(parents.items(prefix), None) if parents is not None else None
        return first is not None and first[0].startswith(prefix)


def _create(snapshots: kv.Bucket, name: str, what: str) -> kv.Bucket:
    if not name:
        raise Unknown("bucket name required")
    try:
        return snapshots.create_bucket(encode_name(name))
    except AlreadyExists as error:
        raise AlreadyExists(what) from error


def _link(parent: int, child: int) -> bytes:
    return encode_uvarint(parent) + b"\0" + encode_uvarint(child)
