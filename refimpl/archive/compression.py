"""Compression of layers: found by looking at the bytes, undone and done chunk by chunk (DIF-003, DIF-005, DIF-006)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import zstandard
from isal import isal_zlib

from refimpl.contract.errors import Unknown

# The library's type description declares an instance where the class is.
_GzipError: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]

_GZIP_MAGIC = b"\x1f\x8b\x08"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = (b"\x2a\x4d\x18", range(0x50, 0x60))
_GZIP_WINDOW = 31  # 15 bits, with gzip's header and trailer
_GZIP_LEVEL = 2
_PEEK = 10


def decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The stream without its compression, if it has one.

    Raises:
        Unknown: damaged or cut short, with the text that containerd gives.
    """
    source = iter(chunks)
    start = b""
    while len(start) < _PEEK and (chunk := next(source, None)) is not None:
        start += chunk
    source = chain([start], source)
    if start.startswith(_GZIP_MAGIC):
        return _gunzip(source)
    if start.startswith(_ZSTD_MAGIC) or (start[1:4] == _SKIPPABLE[0] and start[0] in _SKIPPABLE[1]):
        return _unzstd(source)
    return source


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Members one after the other are one stream; anything else behind a member is an error (DIF-006)."""
    member = isal_zlib.decompressobj(wbits=_GZIP_WINDOW)
    fresh = True
    for chunk in chunks:
        data: bytes = chunk
        while data:
            try:
                out = member.decompress(data)
            except _GzipError as error:
                raise Unknown(_gzip_text(str(error))) from error
            if out:
                yield out
            fresh = False
            data = member.unused_data if member.eof else b""
            if member.eof:
                member, fresh = isal_zlib.decompressobj(wbits=_GZIP_WINDOW), True
    if not fresh:
        raise Unknown("unexpected EOF")


def _gzip_text(text: str) -> str:
    """The library's text as containerd's clients know it."""
    if "wrapper" in text:
        return "gzip: invalid header"
    return "gzip: invalid checksum" if "hecksum" in text else "flate: corrupt input"


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    fresh = True
    for chunk in chunks:
        data: bytes = chunk
        while data:
            try:
                out = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise Unknown(f"invalid zstd stream: {error}") from error
            if out:
                yield out
            fresh = False
            data = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame, fresh = decompressor.decompressobj(), True
    if not fresh:
        raise Unknown("unexpected EOF")


class GzipCompressor:
    """Bytes in, gzip out; equal input gives equal output, as there is no time in the header (DIF-052)."""

    def __init__(self) -> None:
        self._compressor = isal_zlib.compressobj(level=_GZIP_LEVEL, wbits=_GZIP_WINDOW)

    def compress(self, data: bytes) -> bytes:
        """What is ready after ``data``; may be empty."""
        return self._compressor.compress(data)

    def finish(self) -> bytes:
        """The rest."""
        return self._compressor.flush()
