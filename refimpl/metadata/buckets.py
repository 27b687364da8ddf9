"""The tree of the metadata database, schema v1, with the ways to walk in it.

``bucket/`` holds what is indented below it; values are named by their encoding (``refimpl.contract.encoding``). Names
are raw UTF-8. To be changed together with the code, and never without a migration (MET-030 to 042)::

    v1/
      version                                  varint: 3 in containerd 1.6
      <namespace>/
        labels/                                label map
        images/
          <image name>/
            createdat, updatedat               time
            target/
              digest, mediatype                text
              size                             varint
            labels/                            label map
            annotations/                       label map: those of the target
        containers/
          <container id>/
            createdat, updatedat               time
            spec                               Any
            image, snapshotter, snapshotKey    text, always there
            runtime/
              name                             text
              options                          Any, if given
            extensions/
              <extension key>                  Any
            labels/                            label map
        snapshots/
          <snapshotter>/                       sequence: the last n of a "name"
            <snapshot key>/
              name                             text: <namespace>/<n>/<key>, the key in the snapshotter
              createdat, updatedat             time
              parent                           text: key of the parent in this namespace, if any
              children/
                <child's snapshot key>         nil
              labels/                          label map
        content/
          blob/
            <digest>/
              createdat, updatedat             time
              size                             varint
              labels/                          label map
          ingests/
            <ingest ref>/                      sequence: n of "ref"
              ref                              text: <namespace>/<n>/<ref>, the ref in the content store
              expireat                         time, if (last) opened without a lease
              expected                         digest, if mapped to an existing blob
        leases/
          <lease id>/
            createdat                          time
            labels/                            label map
            content/
              <digest>                         nil
            ingests/
              <ingest ref>                     nil
            snapshots/
              <snapshotter>/
                <snapshot key>                 nil

A namespace is any bucket below ``v1``: there is no list of them. Buckets of objects come with the first object and stay
when the last one goes; a label map without labels has no bucket. What a newer release adds stays where it is (MET-013).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from refimpl.contract import kv
from refimpl.contract.encoding import decode_time, encode_time
from refimpl.contract.errors import Unknown
from refimpl.contract.quoting import quoted
from refimpl.contract.times import ZERO_TIME

SCHEMA = b"v1"
VERSION = b"version"

LABELS = b"labels"
ANNOTATIONS = b"annotations"
IMAGES = b"images"
CONTAINERS = b"containers"
SNAPSHOTS = b"snapshots"
CONTENT = b"content"
LEASES = b"leases"

BLOB = b"blob"
INGESTS = b"ingests"
CHILDREN = b"children"
EXTENSIONS = b"extensions"
RUNTIME = b"runtime"
TARGET = b"target"

CREATED_AT = b"createdat"
UPDATED_AT = b"updatedat"
EXPIRE_AT = b"expireat"
DIGEST = b"digest"
EXPECTED = b"expected"
IMAGE = b"image"
MEDIA_TYPE = b"mediatype"
NAME = b"name"
OPTIONS = b"options"
PARENT = b"parent"
REF = b"ref"
SIZE = b"size"
SNAPSHOT_KEY = b"snapshotKey"
SNAPSHOTTER = b"snapshotter"
SPEC = b"spec"

NIL = b""
"""Value of a key whose presence is all that counts."""


def encode_name(name: str) -> bytes:
    """A name as a key; the inverse of ``decode_name``."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(key: bytes) -> str:
    """A key as a name. Whatever some tool wrote there can be listed, and deleted by what was listed."""
    return key.decode("utf-8", "surrogateescape")


def find(bucket: kv.Bucket, *path: bytes | str) -> kv.Bucket | None:
    """The bucket at the end of ``path``, None if any step is missing."""
    found: kv.Bucket | None = bucket
    for step in path:
        key = _key(step)
        found = found.bucket(key) if found is not None and key else None
    return found


def make(bucket: kv.Bucket, *path: bytes | str) -> kv.Bucket:
    """The bucket at the end of ``path``, with every step that is missing made.

    Raises:
        Unknown: a step has no name, or is the name of a value, such as a namespace called ``version`` (MET-054).
    """
    for step in path:
        key = _key(step)
        _check_bucket_name(bucket, key)
        bucket = bucket.create_bucket_if_not_exists(key)
    return bucket


def create(bucket: kv.Bucket, name: bytes | str) -> kv.Bucket:
    """A new bucket.

    Raises:
        AlreadyExists: there is one.
        Unknown: as ``make``.
    """
    key = _key(name)
    _check_bucket_name(bucket, key)
    return bucket.create_bucket(key)


def remove(bucket: kv.Bucket, name: bytes | str) -> bool:
    """Drop a bucket with all that is in it, if it is there; whether it was."""
    if find(bucket, name) is None:
        return False
    bucket.delete_bucket(_key(name))
    return True


def put(bucket: kv.Bucket, name: bytes | str, value: bytes) -> None:
    """Set a value.

    Raises:
        Unknown: a name that is empty, longer than 32768 bytes, or that of a bucket. containerd hands out the texts of
            its database here, and their kind (CTR-010, LEA-005, NSP-015).
    """
    key = _key(name)
    if not key:
        raise Unknown("key required")
    if len(key) > kv.MAX_KEY_SIZE:
        raise Unknown("key too large")
    if bucket.bucket(key) is not None:
        raise Unknown("incompatible value")
    bucket.put(key, value)


def subbuckets(bucket: kv.Bucket | None) -> Iterator[tuple[str, kv.Bucket]]:
    """Names and buckets one step below, in byte order of the names; nothing for no bucket."""
    if bucket is None:
        return
    for key, value in bucket.items():
        if value is None:
            child = bucket.bucket(key)
            assert child is not None
            yield decode_name(key), child


def keys(bucket: kv.Bucket | None) -> Iterator[str]:
    """Names of the values in a bucket, in byte order; nothing for no bucket."""
    if bucket is None:
        return
    for key, value in bucket.items():
        if value is not None:
            yield decode_name(key)


def text(bucket: kv.Bucket, key: bytes) -> str:
    """A value that is text; empty if it is not there."""
    return decode_name(bucket.get(key) or b"")


def read_labels(bucket: kv.Bucket, kind: bytes = LABELS) -> dict[str, str]:
    """The label map of a record; empty if there is none."""
    labels = bucket.bucket(kind)
    if labels is None:
        return {}
    return {decode_name(key): decode_name(value) for key, value in labels.items() if value is not None}


def write_labels(bucket: kv.Bucket, labels: Mapping[str, str], kind: bytes = LABELS) -> None:
    """Replace the label map of a record; empty values are left out, and a map without any has no bucket (MET-034).

    Raises:
        Unknown: an empty key that has a value.
    """
    remove(bucket, kind)
    kept = {key: value for key, value in labels.items() if value}
    if not kept:
        return
    into = bucket.create_bucket(kind)
    for key, value in kept.items():
        try:
            put(into, key, encode_name(value))
        except Unknown as err:
            raise Unknown(f"failed to set label {quoted(key)}={quoted(value)}: {err}") from err


def read_time(bucket: kv.Bucket, key: bytes) -> int:
    """A timestamp in Unix nanoseconds; ``ZERO_TIME`` if it is not there."""
    encoded = bucket.get(key)
    return decode_time(encoded) if encoded else ZERO_TIME


def write_times(bucket: kv.Bucket, created_at: int, updated_at: int) -> None:
    """Both timestamps of a record, in Unix nanoseconds."""
    bucket.put(CREATED_AT, encode_time(created_at))
    bucket.put(UPDATED_AT, encode_time(updated_at))


def _key(step: bytes | str) -> bytes:
    return encode_name(step) if isinstance(step, str) else step


def _check_bucket_name(bucket: kv.Bucket, key: bytes) -> None:
    if not key:
        raise Unknown("bucket name required")
    if bucket.get(key) is not None:
        raise Unknown("incompatible value")
