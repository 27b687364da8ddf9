"""Compression is found by looking, and damage in it is an error (DIF-003, DIF-005, DIF-006, DIF-039)."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from refimpl.archive.compression import GzipCompressor, decompressed
from refimpl.archive.media_types import TAR, plain_layer
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.types import TypedAny

DATA = b"layer" * 5000
GZIP = gzip.compress(DATA, mtime=0)  # the tests are named after it, in every process alike
ZSTD = zstandard.compress(DATA)
SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"


def undone(data: bytes, size: int = 7) -> bytes:
    return b"".join(decompressed(data[at : at + size] for at in range(0, len(data), size)))


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "data,expected",
    [
        (DATA, DATA),
        (GZIP, DATA),
        (GZIP + GZIP, DATA + DATA),
        (ZSTD, DATA),
        (ZSTD + ZSTD, DATA + DATA),
        (SKIPPABLE + ZSTD, DATA),
        (b"", b""),
        (bz2.compress(DATA), bz2.compress(DATA)),
    ],
)
def test_the_stream_comes_out_however_it_is_cut(data: bytes, expected: bytes, size: int) -> None:
    assert undone(data, size) == expected


@pytest.mark.parametrize("size", [7, 1 << 20])
@pytest.mark.parametrize(
    "data,text",
    [
        (GZIP[:-3], "unexpected EOF"),
        (GZIP[:20], "unexpected EOF"),
        (ZSTD[:-3], "unexpected EOF"),
        (GZIP + bytes(100), "gzip: invalid header"),
        (GZIP[:-6] + bytes([GZIP[-6] ^ 1]) + GZIP[-5:], "gzip: invalid checksum"),
        (ZSTD + b"garbage behind", "invalid zstd stream"),
    ],
)
def test_damage_is_an_error(data: bytes, text: str, size: int) -> None:
    with pytest.raises(Unknown, match=text):
        undone(data, size)


@given(st.lists(st.binary(max_size=5000), max_size=5))
def test_what_is_compressed_is_gzip_and_always_the_same(pieces: list[bytes]) -> None:
    def compressed() -> bytes:
        compressor = GzipCompressor()
        return b"".join(map(compressor.compress, pieces)) + compressor.finish()

    assert gzip.decompress(compressed()) == b"".join(pieces)
    assert compressed() == compressed()


@pytest.mark.parametrize(
    "media_type,looked_into",
    [
        (TAR, False),
        (TAR + "+gzip", True),
        (TAR + "+zstd", True),
        (TAR + "+foo", False),
        (TAR + "+zstd+foo", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", True),
        ("application/vnd.docker.image.rootfs.diff.tar", True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", True),
    ],
)
def test_the_media_type_says_whether_compression_is_looked_for(media_type: str, looked_into: bool) -> None:
    with plain_layer(CallContext(), media_type, iter([GZIP])) as chunks:
        out = b"".join(chunks)
    assert out == (DATA if looked_into else GZIP)


@pytest.mark.parametrize("media_type", ["", "application/octet-stream", TAR + "+encrypted", "text/plain+gzip"])
def test_a_media_type_that_nobody_processes_is_an_error(media_type: str) -> None:
    with pytest.raises(Unknown) as error, plain_layer(CallContext(), media_type, iter([DATA])):
        pass
    assert str(error.value) == f"failed to get stream processor for {media_type}: no processor for media-type"


@dataclass(frozen=True)
class Reversing:
    """A processor that turns every chunk round and notes what it was given."""

    id: str
    accepts: Sequence[str]
    returns: str
    given: list[tuple[str, TypedAny | None]] = field(default_factory=list)

    def process(
        self, ctx: CallContext, media_type: str, chunks: Iterator[bytes], payload: TypedAny | None
    ) -> Generator[bytes, None, None]:
        ctx.check()
        self.given.append((media_type, payload))
        return (chunk[::-1] for chunk in chunks)


def test_processors_are_chained_and_the_last_one_that_accepts_a_type_wins() -> None:
    first = Reversing("first", ["secret"], TAR + "+gzip")
    shadowed = Reversing("shadowed", [TAR + "+gzip"], TAR)
    last = Reversing("last", [TAR + "+gzip"], TAR)
    payload = TypedAny("type", b"value")
    all_of_them = [first, shadowed, last]
    with plain_layer(CallContext(), "secret", iter([b"abc"]), all_of_them, {"last": payload}) as chunks:
        assert b"".join(chunks) == b"abc", "turned round twice, and not decompressed in between"
    assert (first.given, shadowed.given) == ([("secret", None)], [])
    assert last.given == [(TAR + "+gzip", payload)]


def test_processors_that_feed_themselves_are_an_error() -> None:
    ring = [Reversing("loop", ["loop"], "loop")]
    with (
        pytest.raises(Unknown, match="failed to get stream processor for loop: no end of processors"),
        plain_layer(CallContext(), "loop", iter([b""]), ring),
    ):
        pass


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_what_comes_out_at_once_is_little_however_much_a_chunk_holds(pack: Callable[[bytes], bytes]) -> None:
    data = pack(bytes(64 << 20))
    sizes = [len(piece) for piece in decompressed([data])]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 1 << 20


@given(st.binary(max_size=3000), st.integers(min_value=1, max_value=400), st.data())
def test_zstd_is_undone_block_by_block_or_refused(data: bytes, size: int, draw: st.DataObject) -> None:
    level, checksum = draw.draw(st.sampled_from([1, 3, 19])), draw.draw(st.booleans())
    packed = zstandard.ZstdCompressor(level=level, write_checksum=checksum).compress(data * 50)
    assert undone(packed + SKIPPABLE + packed, size) == data * 100
    cut = draw.draw(st.integers(min_value=1, max_value=len(packed) - 1))
    if cut >= 4:
        with pytest.raises(Unknown, match="unexpected EOF"):
            undone(packed[:cut], size)


@given(st.binary(min_size=1, max_size=200))
def test_a_damaged_zstd_frame_is_an_error_or_a_stream(garbage: bytes) -> None:
    with suppress(Unknown):
        undone(b"\x28\xb5\x2f\xfd" + garbage)
