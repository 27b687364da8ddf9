"""Older schemas brought up to date when the database is opened.

The number in ``v1/version`` counts the steps that were made; each step is one function, and all that are missing run in
one transaction, in order (MET-007, MET-010). A greater number than ours is a newer release's: left alone, and its data
served as far as we know them (MET-006).

==== ============================================================================================================
step what it changes
==== ============================================================================================================
1    every snapshot that is a parent gets the index of its children (MET-008)
2    ``content/ingest/<ref> = <back-end ref>`` becomes ``content/ingests/<ref>/ref`` (MET-009)
3    nothing: marks a change of the library that wrote the file
==== ============================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

from refimpl.contract import kv
from refimpl.contract.encoding import DecodeError, decode_varint, encode_varint
from refimpl.metadata import buckets

_OLD_INGESTS = b"ingest"


def needs_migration(root: kv.Bucket) -> bool:
    """Whether ``migrate`` has anything to do: a new database, or an older one."""
    v1 = root.bucket(buckets.SCHEMA)
    return v1 is None or _version(v1) < SCHEMA_VERSION


def migrate(root: kv.Bucket) -> None:
    """Make the schema's bucket in a new database, or run the missing steps in an older one; then note the version.

    Other buckets at the top are somebody else's and stay, as does all that is in them (MET-011, MET-012).
    """
    v1 = root.bucket(buckets.SCHEMA)
    if v1 is None:
        v1 = root.create_bucket(buckets.SCHEMA)
    else:
        for step in _STEPS[max(_version(v1), 0) :]:
            step(v1)
    v1.put(buckets.VERSION, encode_varint(SCHEMA_VERSION))


def _version(v1: kv.Bucket) -> int:
    try:
        return decode_varint(v1.get(buckets.VERSION) or b"")
    except DecodeError:
        return 0


def _add_children(v1: kv.Bucket) -> None:
    for _, namespace in buckets.subbuckets(v1):
        for _, snapshots in buckets.subbuckets(namespace.bucket(buckets.SNAPSHOTS)):
            parents = [(key, buckets.text(record, buckets.PARENT)) for key, record in buckets.subbuckets(snapshots)]
            for key, parent in parents:
                record = buckets.find(snapshots, parent)
                # An orphan is no reason to refuse the whole database.
                if record is not None:
                    buckets.put(buckets.make(record, buckets.CHILDREN), key, buckets.NIL)


def _move_ingests(v1: kv.Bucket) -> None:
    for _, namespace in buckets.subbuckets(v1):
        content = namespace.bucket(buckets.CONTENT)
        old = buckets.find(content, _OLD_INGESTS) if content is not None else None
        if content is None or old is None:
            continue
        refs = [(ref, old.get(buckets.encode_name(ref)) or b"") for ref in buckets.keys(old)]
        for ref, backend_ref in refs:
            buckets.make(content, buckets.INGESTS, ref).put(buckets.REF, backend_ref)
        content.delete_bucket(_OLD_INGESTS)


def _new_library(_v1: kv.Bucket) -> None:
    """Step 3 of the original: the file is the same, written by bbolt instead of bolt."""


_STEPS: tuple[Callable[[kv.Bucket], None], ...] = (_add_children, _move_ingests, _new_library)

SCHEMA_VERSION = len(_STEPS)
"""What containerd 1.6 writes: 3."""
