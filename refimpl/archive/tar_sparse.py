"""Sparse files of PAX's in all three forms of GNU tar's: where the bytes that an archive stores belong (DIF-029).

Forms 0.0 and 0.1 have their map in the extended header, as pairs of records or as one list; form 1.0 has it before the
content, as decimal lines that fill up blocks. What is damaged is damaged in the words that clients know from Go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from refimpl.archive.tar_header import BLOCK, invalid_header, parse_decimal
from refimpl.contract.errors import Unknown

MISSING = "archive/tar: sparse file references non-existent data"
"""The map names more than is stored."""

UNREFERENCED = "archive/tar: sparse file contains unreferenced data"
"""The map names less than is stored."""

_MAP_MAX = 1 << 20  # bytes of a stored map: a larger one is an attack on the memory
_PAIR = ("GNU.sparse.offset", "GNU.sparse.numbytes")
_MOST = (1 << 63) - 1


class Fragment(NamedTuple):
    """A piece of a sparse file that is in the archive."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where it ends in the file."""
        return self.offset + self.size


class Sparse(NamedTuple):
    """What an extended header says about a sparse file.

    Attributes:
        name: of the file; empty if the header's own counts.
        size: of the file with its holes; None if the stored size counts.
        fragments: where the stored bytes belong.
    """

    name: bytes
    size: int | None
    fragments: list[Fragment]


def sparse(
    records: Mapping[str, bytes], pax: Sequence[tuple[str, bytes]], take: Callable[[int], bytes]
) -> Sparse | None:
    """The sparse file that these records describe; None if they describe none.

    Args:
        records: of the extended header, the last of each key.
        pax: the same in their order.
        take: gives the next stored bytes, of which a map of form 1.0 is made.

    Raises:
        Unknown: a map that contradicts itself.
    """
    listed = listed_map(pax) or records.get("GNU.sparse.map", b"")
    version = records.get("GNU.sparse.major", b""), records.get("GNU.sparse.minor", b"")
    stored = version == (b"1", b"0")
    # The forms before 1.0 need not say which they are; one that nobody knows is no sparse file.
    if not stored and version not in {(b"0", b"0"), (b"0", b"1")} and (any(version) or not listed):
        return None
    size = records.get("GNU.sparse.size") or records.get("GNU.sparse.realsize")
    fragments = _stored_map(take) if stored else _fragments(_pairs(listed, records.get("GNU.sparse.numblocks", b"")))
    return Sparse(records.get("GNU.sparse.name", b""), parse_decimal(size) if size else None, fragments)


def check(fragments: Sequence[Fragment], size: int) -> None:
    """See that fragments come in order and lie within a file of ``size`` bytes.

    Raises:
        Unknown: they do not.
    """
    at = 0
    for fragment in fragments:
        if fragment.offset < at or fragment.size < 0 or fragment.end > min(size, _MOST):
            raise invalid_header()
        at = fragment.end


def listed_map(pax: Sequence[tuple[str, bytes]]) -> bytes:
    """The map of form 0.0, as form 0.1 would write it; empty for none.

    Raises:
        Unknown: its records are not in pairs.
    """
    numbers: list[bytes] = []
    for key, value in pax:
        if key in _PAIR:
            if key != _PAIR[len(numbers) % 2] or b"," in value:
                raise invalid_header()
            numbers.append(value)
    return b",".join(numbers)


def _pairs(listed: bytes, blocks: bytes) -> list[bytes]:
    numbers = listed.split(b",") if listed else []
    if len(numbers) != 2 * parse_decimal(blocks):
        raise invalid_header()
    return numbers


def _stored_map(take: Callable[[int], bytes]) -> list[Fragment]:
    data = bytearray()

    def lines(count: int) -> list[bytes]:
        while data.count(b"\n") < count:
            if len(data) >= _MAP_MAX:
                raise Unknown("archive/tar: sparse map too long")
            data.extend(take(BLOCK))
        return bytes(data).split(b"\n", count)[:count]

    count = parse_decimal(lines(1)[0])
    if not 0 <= count <= _MOST // 2:
        raise invalid_header()
    return _fragments(lines(1 + 2 * count)[1:])


def _fragments(numbers: Sequence[bytes]) -> list[Fragment]:
    values = [parse_decimal(number) for number in numbers]
    return [Fragment(*pair) for pair in zip(values[::2], values[1::2], strict=True)]
