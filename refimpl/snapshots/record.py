"""One snapshot's record, as it is kept in a bucket.

::

    id                      uvarint: the number of the snapshot
    kind                    one byte: 1 view, 2 active, 3 committed
    parent                  name of the parent; absent without one
    createdat, updatedat    time
    inodes, size            varint; of committed ones only
    labels/                 label = value; absent without labels

The encodings are those of ``contract.encoding``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refimpl.contract import kv
from refimpl.contract.encoding import (
    DecodeError,
    decode_time,
    decode_uvarint,
    decode_varint,
    encode_time,
    encode_uvarint,
    encode_varint,
)
from refimpl.contract.errors import InvalidArgument, Unknown
from refimpl.contract.quoting import quoted
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.contract.times import ZERO_TIME

_ID, _KIND, _PARENT, _LABELS = b"id", b"kind", b"parent", b"labels"
_CREATED_AT, _UPDATED_AT, _INODES, _SIZE = b"createdat", b"updatedat", b"inodes", b"size"

NO_USAGE = Usage()
"""Of a view, and of an active snapshot until it is measured."""


@dataclass(frozen=True, slots=True)
class Record:
    """A snapshot as the database has it.

    Attributes:
        id: number of the snapshot, never used twice.
        info: what ``stat`` answers.
        usage: as it was at commit.
    """

    id: int
    info: Info
    usage: Usage = NO_USAGE

    @property
    def kind(self) -> Kind:
        """View, active or committed."""
        return self.info.kind


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot with what it stands on.

    Attributes:
        parents: numbers of the ancestors, nearest first.
    """

    id: int
    kind: Kind
    parents: tuple[int, ...] = ()


def read_id(name: str, bucket: kv.Bucket) -> int:
    """The number alone; errors as ``read``."""
    try:
        id, _ = decode_uvarint(bucket.get(_ID) or b"")
    except DecodeError as error:
        raise _unreadable(name, error) from error
    return id


def read(name: str, bucket: kv.Bucket) -> Record:
    """A record.

    Raises:
        Unknown: it is not one; the message says of which snapshot.
    """
    id = read_id(name, bucket)
    try:
        kind = Kind((bucket.get(_KIND) or b"\0")[0])
        parent = read_parent(bucket)
        created, updated = (_time(bucket.get(key)) for key in (_CREATED_AT, _UPDATED_AT))
        size, inodes = (_number(bucket.get(key)) for key in (_SIZE, _INODES))
    except ValueError as error:
        raise _unreadable(name, error) from error
    return Record(id, Info(name, parent, kind, created, updated, _read_labels(bucket)), Usage(size, inodes))


def read_parent(bucket: kv.Bucket) -> str:
    """The parent's name alone; empty without one."""
    return decode_name(bucket.get(_PARENT) or b"")


def write(bucket: kv.Bucket, record: Record) -> None:
    """Write a record over what is there.

    Raises:
        Unknown: a label without a key.
    """
    info = record.info
    bucket.put(_ID, encode_uvarint(record.id))
    bucket.put(_KIND, bytes([info.kind.value]))
    if info.parent:
        bucket.put(_PARENT, encode_name(info.parent))
    bucket.put(_CREATED_AT, encode_time(info.created_at))
    bucket.put(_UPDATED_AT, encode_time(info.updated_at))
    if info.kind is Kind.COMMITTED:
        bucket.put(_INODES, encode_varint(record.usage.inodes))
        bucket.put(_SIZE, encode_varint(record.usage.size))
    _write_labels(bucket, info.labels)


def _read_labels(bucket: kv.Bucket) -> dict[str, str]:
    labels = bucket.bucket(_LABELS)
    if labels is None:
        return {}
    return {decode_name(key): decode_name(value) for key, value in labels.items() if value is not None}


def _write_labels(bucket: kv.Bucket, labels: Mapping[str, str]) -> None:
    """Replace the labels; an empty value is no label (SNP-058)."""
    if bucket.bucket(_LABELS) is not None:
        bucket.delete_bucket(_LABELS)
    kept = {key: value for key, value in labels.items() if value}
    if not kept:
        return
    into = bucket.create_bucket(_LABELS)
    for key, value in kept.items():
        try:
            into.put(encode_name(key), encode_name(value))
        except InvalidArgument as error:
            raise Unknown(f"failed to set label {quoted(key)}:{quoted(value)}: {error.message}") from error


def _unreadable(name: str, error: ValueError) -> Unknown:
    return Unknown(f"failed to read snapshot {quoted(name)}: {error}")


def _time(encoded: bytes | None) -> int:
    return decode_time(encoded) if encoded else ZERO_TIME


def _number(encoded: bytes | None) -> int:
    return decode_varint(encoded) if encoded else 0


def encode_name(name: str) -> bytes:
    """A name as a key; the inverse of ``decode_name``."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(key: bytes) -> str:
    """A key as a name. Whatever some tool wrote there can be listed, and removed by what was listed."""
    return key.decode("utf-8", "surrogateescape")
