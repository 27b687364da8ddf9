"""Blobs for tests of content stores."""

from __future__ import annotations

import hashlib

from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext

CTX = CallContext()


def digest_of(data: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put(store: ContentStore, data: bytes, ref: str = "put") -> str:
    """Store some bytes; their digest."""
    writer = store.writer(CTX, ref)
    writer.write(data)
    writer.commit(CTX, len(data))
    return digest_of(data)


def read(store: ContentStore, digest: str) -> bytes:
    """All of a blob."""
    reader = store.reader(CTX, digest)
    try:
        return reader.read_at(0, reader.size)
    finally:
        reader.close()
