"""Compression of layers: found by looking at the bytes, undone and done chunk by chunk (DIF-003, DIF-005, DIF-006)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import zstandard
from isal import isal_zlib

from refimpl.archive.stream import ByteStream
from refimpl.contract.errors import Unknown

# The library's type description declares an instance where the class is.
_GzipError: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]

_GZIP_MAGIC = b"\x1f\x8b\x08"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = (b"\x2a\x4d\x18", range(0x50, 0x60))
_GZIP_WINDOW = 31  # 15 bits, with gzip's header and trailer
_GZIP_LEVEL = 2
_PEEK = 10
_PIECE = 1 << 20  # bytes that come out at once: the most that a layer of zeros takes of the memory
_REPEATED_BYTE = 1  # a kind of zstd's blocks


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
        data, out = chunk, b""
        # A full piece may have left more behind it, even where no input is left.
        while data or len(out) == _PIECE:
            try:
                out = member.decompress(data, _PIECE)
            except _GzipError as error:
                raise Unknown(_gzip_text(str(error))) from error
            if out:
                yield out
            fresh = False
            data = member.unused_data if member.eof else member.unconsumed_tail
            if member.eof:
                member, fresh, out = isal_zlib.decompressobj(wbits=_GZIP_WINDOW), True, b""
    if not fresh:
        raise Unknown("unexpected EOF")


def _gzip_text(text: str) -> str:
    """The library's text as containerd's clients know it."""
    if "wrapper" in text:
        return "gzip: invalid header"
    return "gzip: invalid checksum" if "hecksum" in text else "flate: corrupt input"


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Frames one after the other are one stream.

    The library's own streams give all that their input holds at once, and four bytes can hold 128 KiB. A frame is
    therefore cut at its blocks, none of which holds more than that.
    """
    source = ByteStream(chunks)
    decompressor = zstandard.ZstdDecompressor()
    while magic := source.read(4):
        if magic[1:] == _SKIPPABLE[0] and magic[0] in _SKIPPABLE[1]:
            source.skip(int.from_bytes(_all(source, 4), "little"))
            continue
        frame = decompressor.decompressobj()
        try:
            for piece in _frame(magic, source):
                if out := frame.decompress(piece):
                    yield out
        except zstandard.ZstdError as error:
            raise Unknown(f"invalid zstd stream: {error}") from error


def _frame(magic: bytes, source: ByteStream) -> Iterator[bytes]:
    """A frame in pieces: its header, its blocks one by one, its checksum (RFC 8878, 3.1.1)."""
    if magic != _ZSTD_MAGIC:
        raise Unknown("invalid zstd stream: magic number mismatch")
    descriptor = _all(source, 1)
    flags = descriptor[0]
    single_segment, dictionary_id = flags >> 5 & 1, (0, 1, 2, 4)[flags & 3]
    content_size = (single_segment, 2, 4, 8)[flags >> 6]
    yield magic + descriptor + _all(source, (not single_segment) + dictionary_id + content_size)
    last = 0
    while not last:
        header = _all(source, 3)
        number = int.from_bytes(header, "little")
        last, kind, size = number & 1, number >> 1 & 3, number >> 3
        yield header + _all(source, 1 if kind == _REPEATED_BYTE else size)
    if flags >> 2 & 1:
        yield _all(source, 4)


def _all(source: ByteStream, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise Unknown("unexpected EOF")
    return data


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
