"""Byte streams as layers are read: pulled in chunks, never held whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from refimpl.contract.content import Reader
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown

CHUNK = 1 << 18
"""Bytes that are asked for at once."""


def blob_chunks(ctx: CallContext, reader: Reader) -> Iterator[bytes]:
    """A blob's bytes in order; ends early with an error if the caller goes away.

    Raises:
        Canceled, DeadlineExceeded: nobody waits any more.
    """
    offset = 0
    while offset < reader.size:
        ctx.check()
        data = reader.read_at(offset, CHUNK)
        if not data:
            raise Unknown("unexpected EOF")
        offset += len(data)
        yield data


class Digesting:
    """Chunks that are counted and digested on their way.

    Attributes:
        size: bytes that have passed.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def digest(self) -> str:
        """sha256 of what has passed."""
        return f"sha256:{self._hash.hexdigest()}"


class ByteStream:
    """Chunks, read in pieces of another size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")

    def read(self, size: int) -> bytes:
        """``size`` bytes; fewer only at the end."""
        if len(self._chunk) >= size:
            piece, self._chunk = self._chunk[:size], self._chunk[size:]
            return bytes(piece)
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """``size`` bytes in pieces as they come, without copying; fewer only at the end."""
        while size > 0:
            if not self._chunk:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._chunk = memoryview(chunk)
                continue
            piece, self._chunk = self._chunk[:size], self._chunk[size:]
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> int:
        """Pass over ``size`` bytes; answers with how many there were."""
        return sum(map(len, self.pieces(size)))

    def drain(self) -> None:
        """Read to the end and forget it."""
        self._chunk = memoryview(b"")
        for _ in self._chunks:
            pass
