"""What refers to what: the roots of garbage collection and the references that they lead to.

Pure reading of the ``v1`` bucket. A *node* is one collectable record. It stays if a root leads to it:

=============== ======================================================================================================
root            holds
=============== ======================================================================================================
lease           itself and what it lists, until its ``containerd.io/gc.expire`` (LEA-028); a *flat* one holds what it
                lists and the parents of its snapshots, but not what their labels name (LEA-032)
image           its target, and what its labels name (GC-006, GC-011)
container       its snapshot, and what its labels name (GC-010)
ingest          itself, while its ``expireat`` lies ahead (GC-027)
blob, snapshot  itself, with a label ``containerd.io/gc.root`` of any value (GC-012)
=============== ======================================================================================================

From there on: a blob leads to what its labels name, a snapshot to its parent and what its labels name, an ingest to the
blob that it expects. Labels name blobs by ``containerd.io/gc.ref.content`` (alone, or followed by ``.`` or ``/`` and
anything, GC-007) and snapshots by ``containerd.io/gc.ref.snapshot.<snapshotter>`` (``/`` and anything may follow,
GC-008). References stay in their namespace (GC-018); one that names nothing is harmless (GC-017).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from refimpl.contract import kv
from refimpl.contract.times import ZERO_TIME, parse_rfc3339
from refimpl.metadata import buckets

CONTENT = "content"
INGESTS = "ingests"
LEASES = "leases"
SNAPSHOTS = "snapshots/"
"""Types of nodes, spelt as the resources of leases are; the snapshotter's name follows the last one."""

GC_ROOT = b"containerd.io/gc.root"
GC_EXPIRE = b"containerd.io/gc.expire"
GC_FLAT = b"containerd.io/gc.flat"
GC_REF = b"containerd.io/gc.ref."
GC_REF_CONTENT = b"containerd.io/gc.ref.content"
GC_REF_SNAPSHOT = b"containerd.io/gc.ref.snapshot."

_log = logging.getLogger(__name__)


class Node(NamedTuple):
    """A record that can be collected.

    Attributes:
        type: ``content``, ``ingests``, ``leases`` or ``snapshots/<snapshotter>``.
        key: digest, ref, lease id or snapshot key.
        flat: reached through a flat lease only, so its labels are not followed.
    """

    namespace: str
    type: str
    key: str
    flat: bool = False


class Reference(NamedTuple):
    """A node that is held, and why: a text for people, such as ``image "busybox"``."""

    node: Node
    reason: str


def roots(v1: kv.Bucket, now: int) -> Iterator[Reference]:
    """All that is held by itself, in every namespace; some nodes more than once.

    Args:
        now: Unix nanoseconds; what expires before is no root.

    Raises:
        DecodeError: an expiry that cannot be read. Nothing may be collected then (GC-044).
    """
    for namespace, bucket in buckets.subbuckets(v1):
        yield from _lease_roots(namespace, bucket, now)
        yield from _image_roots(namespace, bucket)
        yield from _container_roots(namespace, bucket)
        yield from _ingest_roots(namespace, bucket, now)
        for node, record in _labelled(namespace, bucket):
            if _label(record, GC_ROOT):
                yield Reference(node, f"label {GC_ROOT.decode()}")


def references(v1: kv.Bucket, node: Node) -> Iterator[Reference]:
    """What a node that stays leads to; nothing for a node that is not there."""
    record = find(v1, node)
    if record is None or node.type == LEASES:
        # What a lease holds are roots already; its own labels are no references (LEA-042).
        return
    if node.type == INGESTS:
        expected = buckets.text(record, buckets.EXPECTED)
        if expected:
            yield Reference(Node(node.namespace, CONTENT, expected), "expected by the ingest")
        return
    if node.type.startswith(SNAPSHOTS):
        parent = buckets.text(record, buckets.PARENT)
        if parent:
            yield Reference(node._replace(key=parent), "parent of the snapshot")
    if not node.flat:
        yield from _named_by_labels(node.namespace, record)


def everything(v1: kv.Bucket) -> Iterator[Node]:
    """Every node there is."""
    for namespace, bucket in buckets.subbuckets(v1):
        for lease, _ in buckets.subbuckets(bucket.bucket(buckets.LEASES)):
            yield Node(namespace, LEASES, lease)
        for ref, _ in buckets.subbuckets(buckets.find(bucket, buckets.CONTENT, buckets.INGESTS)):
            yield Node(namespace, INGESTS, ref)
        for node, _ in _labelled(namespace, bucket):
            yield node


def find(v1: kv.Bucket, node: Node) -> kv.Bucket | None:
    """The record of a node; None if there is none."""
    parent = _home(v1, node)
    return buckets.find(parent, node.key) if parent is not None else None


def remove(v1: kv.Bucket, node: Node) -> None:
    """Drop the record of a node, and a snapshot's entry in the children of its parent.

    containerd leaves that entry, and with it a parent that cannot be removed by hand any more (MET-040).
    """
    home = _home(v1, node)
    record = buckets.find(home, node.key) if home is not None else None
    if home is None or record is None:
        return
    if node.type.startswith(SNAPSHOTS):
        children = buckets.find(home, buckets.text(record, buckets.PARENT), buckets.CHILDREN)
        if children is not None:
            children.delete(buckets.encode_name(node.key))
    buckets.remove(home, node.key)


def _home(v1: kv.Bucket, node: Node) -> kv.Bucket | None:
    """The bucket in which the node's record is one of many."""
    if node.type == CONTENT:
        return buckets.find(v1, node.namespace, buckets.CONTENT, buckets.BLOB)
    if node.type == INGESTS:
        return buckets.find(v1, node.namespace, buckets.CONTENT, buckets.INGESTS)
    if node.type == LEASES:
        return buckets.find(v1, node.namespace, buckets.LEASES)
    return buckets.find(v1, node.namespace, buckets.SNAPSHOTS, node.type.removeprefix(SNAPSHOTS))


def _lease_roots(namespace: str, bucket: kv.Bucket, now: int) -> Iterator[Reference]:
    for lease, record in buckets.subbuckets(bucket.bucket(buckets.LEASES)):
        if _expired(_label(record, GC_EXPIRE), now):
            continue
        reason = f'lease "{lease}"'
        yield Reference(Node(namespace, LEASES, lease), reason)
        flat = bool(_label(record, GC_FLAT))
        for digest in buckets.keys(record.bucket(buckets.CONTENT)):
            yield Reference(Node(namespace, CONTENT, digest, flat), reason)
        for snapshotter, entries in buckets.subbuckets(record.bucket(buckets.SNAPSHOTS)):
            for key in buckets.keys(entries):
                yield Reference(Node(namespace, SNAPSHOTS + snapshotter, key, flat), reason)
        for ref in buckets.keys(record.bucket(buckets.INGESTS)):
            yield Reference(Node(namespace, INGESTS, ref), reason)


def _image_roots(namespace: str, bucket: kv.Bucket) -> Iterator[Reference]:
    for name, record in buckets.subbuckets(bucket.bucket(buckets.IMAGES)):
        target = record.bucket(buckets.TARGET)
        digest = buckets.text(target, buckets.DIGEST) if target is not None else ""
        if digest:
            yield Reference(Node(namespace, CONTENT, digest), f'image "{name}"')
        for node, reason in _named_by_labels(namespace, record):
            yield Reference(node, f'image "{name}", {reason}')


def _container_roots(namespace: str, bucket: kv.Bucket) -> Iterator[Reference]:
    for id, record in buckets.subbuckets(bucket.bucket(buckets.CONTAINERS)):
        snapshotter = buckets.text(record, buckets.SNAPSHOTTER)
        key = buckets.text(record, buckets.SNAPSHOT_KEY)
        if snapshotter and key:
            yield Reference(Node(namespace, SNAPSHOTS + snapshotter, key), f'container "{id}"')
        for node, reason in _named_by_labels(namespace, record):
            yield Reference(node, f'container "{id}", {reason}')


def _ingest_roots(namespace: str, bucket: kv.Bucket, now: int) -> Iterator[Reference]:
    for ref, record in buckets.subbuckets(buckets.find(bucket, buckets.CONTENT, buckets.INGESTS)):
        expires_at = buckets.read_time(record, buckets.EXPIRE_AT)
        # Without an expiry the ingest was only ever opened under leases: those hold it.
        if expires_at != ZERO_TIME and expires_at >= now:
            yield Reference(Node(namespace, INGESTS, ref), "ingest that has not expired")


def _labelled(namespace: str, bucket: kv.Bucket) -> Iterator[tuple[Node, kv.Bucket]]:
    """Blobs and snapshots: the nodes whose labels count."""
    for digest, record in buckets.subbuckets(buckets.find(bucket, buckets.CONTENT, buckets.BLOB)):
        yield Node(namespace, CONTENT, digest), record
    for snapshotter, snapshots in buckets.subbuckets(bucket.bucket(buckets.SNAPSHOTS)):
        for key, record in buckets.subbuckets(snapshots):
            yield Node(namespace, SNAPSHOTS + snapshotter, key), record


def _named_by_labels(namespace: str, record: kv.Bucket) -> Iterator[Reference]:
    labels = record.bucket(buckets.LABELS)
    if labels is None:
        return
    for label, value in labels.items(GC_REF):
        if not label.startswith(GC_REF):
            return
        if value is None:
            continue
        if label.startswith(GC_REF_SNAPSHOT):
            snapshotter = buckets.decode_name(label.removeprefix(GC_REF_SNAPSHOT)).partition("/")[0]
            node = Node(namespace, SNAPSHOTS + snapshotter, buckets.decode_name(value))
        elif label == GC_REF_CONTENT or label.startswith((GC_REF_CONTENT + b".", GC_REF_CONTENT + b"/")):
            node = Node(namespace, CONTENT, buckets.decode_name(value))
        else:
            continue
        yield Reference(node, f"label {buckets.decode_name(label)}")


def _label(record: kv.Bucket, key: bytes) -> bytes:
    labels = record.bucket(buckets.LABELS)
    return (labels.get(key) or b"") if labels is not None else b""


def _expired(label: bytes, now: int) -> bool:
    if not label:
        return False
    text = buckets.decode_name(label)
    try:
        return parse_rfc3339(text) < now
    except ValueError:
        _log.info("ignoring invalid expiration value %r", text)
        return False
