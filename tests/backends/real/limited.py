"""``python -m tests.backends.real.limited KIND COUNT DIRECTORY``: unpack a large layer with little memory to spare.

The layer is made while it is read, so that nothing but the unpacking needs memory: ``entries`` is COUNT files of a byte
in directories of a thousand, ``zeros`` one file of COUNT MiB, as ``-zstd`` in zstd instead of gzip.
"""

from __future__ import annotations

import resource
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

from refimpl.archive.apply import apply_layer
from refimpl.archive.compression import decompressed
from refimpl.archive.stream import ByteStream
from refimpl.archive.whiteouts import OverlayWhiteouts
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.linux.tree import DirectoryTree
from tests.archive.hostile import base256, header, padded

SPARE = 48 << 20
"""Bytes of address space beyond what the program has when it begins."""

_MIB = 1 << 20


def entries(count: int) -> Iterator[bytes]:
    """A layer of many small files."""
    for number in range(count):
        if number % 1000 == 0:
            yield header(b"d%d/" % (number // 1000), typeflag=b"5", mode=0o755)
        yield header(b"d%d/f%d" % (number // 1000, number), size=1) + padded(b"x")
    yield bytes(1024)


def zeros(count: int) -> Iterator[bytes]:
    """A layer of one large file that compresses to next to nothing."""
    yield header(b"zeros", size=base256(count * _MIB, 12))
    for _ in range(count):
        yield bytes(_MIB)
    yield bytes(1024)


def packed(pieces: Iterator[bytes], compress: Callable[[bytes], bytes], flush: Callable[[], bytes]) -> Iterator[bytes]:
    """The layer, compressed, in blocks as a blob is read."""
    kept = bytearray()
    for piece in pieces:
        kept += compress(piece)
        if len(kept) >= 1 << 18:
            yield bytes(kept)
            kept.clear()
    yield bytes(kept) + flush()


def main(kind: str, count: int, directory: Path) -> int:
    """Unpack; the error, if any, on standard output."""
    gzip, zstd = zlib.compressobj(9, wbits=31), zstandard.ZstdCompressor(level=1).compressobj()
    pieces = entries(count) if kind == "entries" else zeros(count)
    if kind.endswith("zstd"):
        source = packed(pieces, zstd.compress, zstd.flush)
    else:
        source = packed(pieces, gzip.compress, gzip.flush)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + SPARE, size + SPARE))
    # As into an overlay: on a plain tree the names of what was written have to be kept for opaque directories.
    try:
        apply_layer(
            CallContext(),
            DirectoryTree(str(directory)),
            ByteStream(decompressed(source)),
            whiteouts=OverlayWhiteouts(),
        )
    except ContainerdError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
