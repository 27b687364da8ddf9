"""Reading tar as a stream, in the dialects that layers come in (DIF-029, DIF-039).

ustar with prefix, PAX (names, numbers, times, attributes, sparse files of all three forms), GNU long names. Python's
``tarfile`` reads more and refuses less: layers that containerd calls damaged would pass. Errors have Go's texts, since
clients see them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from refimpl.archive.stream import ByteStream
from refimpl.archive.tar_header import (
    BLOCK,
    DIRECTORY,
    REGULAR,
    XATTR_PREFIX,
    Header,
    invalid_header,
    parse_number,
    parse_pax_records,
    parse_pax_time,
    text_of,
)
from refimpl.contract.errors import Unknown
from refimpl.contract.times import SECOND

_ZERO = bytes(BLOCK)
_ZEROS = bytes(1 << 16)
_MAX_SPECIAL = 1 << 20  # extended headers and long names: larger ones are an attack
_WITHOUT_CONTENT = frozenset("123456")
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"


class _Fragment(NamedTuple):
    """A piece of a sparse file that is in the archive."""

    offset: int
    size: int


class Entry:
    """A header with its content, which can be read once, before the next entry is asked for."""

    def __init__(self, header: Header, stream: ByteStream, size: int) -> None:
        self.header = header
        self._stream = stream
        self._left = size
        self._padding = -size % BLOCK
        self._fragments: list[_Fragment] | None = None

    def content(self) -> Iterator[bytes | memoryview]:
        """The file's bytes in pieces; holes of a sparse file come as zeros.

        Raises:
            Unknown: the archive ends first.
        """
        if self._fragments is None:
            yield from self._stored(self._left)
            return
        at = 0
        for fragment in self._fragments:
            yield from _zeros(fragment.offset - at)
            yield from self._stored(fragment.size)
            at = fragment.offset + fragment.size
        yield from _zeros(self.header.size - at)

    def _stored(self, size: int) -> Iterator[memoryview]:
        if size > self._left:
            raise invalid_header()
        for piece in self._stream.pieces(size):
            self._left -= len(piece)
            size -= len(piece)
            yield piece
        if size:
            raise Unknown("unexpected EOF")

    def finish(self) -> None:
        """Go to the end of what is stored.

        Raises:
            Unknown: the archive ends within the content; ending within its padding is accepted.
        """
        for _ in self._stored(self._left):
            pass
        self._stream.read(self._padding)

    def scatter(self, fragments: list[_Fragment]) -> None:
        """Say where the stored bytes belong in a sparse file."""
        self._fragments = fragments

    def take(self, size: int) -> bytes:
        """The next stored bytes, for a map that precedes the content."""
        return b"".join(self._stored(size))


def _zeros(size: int) -> Iterator[bytes]:
    if size < 0:
        raise invalid_header()
    while size > 0:
        piece = _ZEROS[:size]
        size -= len(piece)
        yield piece


def entries(stream: ByteStream) -> Iterator[Entry]:
    """The entries of an archive, extended headers merged into what they describe; global ones are left out.

    Raises:
        Unknown: the archive is damaged.
    """
    pax: list[tuple[str, bytes]] = []
    long_name = long_link = ""
    while (block := _next_block(stream)) is not None:
        header, size = _parse(block)
        if header.typeflag in "xgLK":
            data = _special(stream, size)
            match header.typeflag:
                case "x":
                    pax = parse_pax_records(data)
                case "L":
                    long_name = text_of(data.partition(b"\0")[0])
                case "K":
                    long_link = text_of(data.partition(b"\0")[0])
            continue
        header.name, header.linkname = long_name or header.name, long_link or header.linkname
        entry = _described(header, stream, size, pax)
        pax, long_name, long_link = [], "", ""
        yield entry
        entry.finish()


def _next_block(stream: ByteStream) -> bytes | None:
    """The next header; None at the end of the archive."""
    block = stream.read(BLOCK)
    if not block:
        return None
    if len(block) < BLOCK:
        raise Unknown("unexpected EOF")
    if block != _ZERO:
        return block
    second = stream.read(BLOCK)
    if 0 < len(second) < BLOCK:
        raise Unknown("unexpected EOF")
    if second and second != _ZERO:
        raise invalid_header()
    return None


def _special(stream: ByteStream, size: int) -> bytes:
    if size > _MAX_SPECIAL:
        raise Unknown("archive/tar: header field too long")
    data = stream.read(size)
    if len(data) < size:
        raise Unknown("unexpected EOF")
    stream.read(-size % BLOCK)
    return data


def _field(block: bytes, start: int, length: int) -> str:
    return text_of(block[start : start + length].partition(b"\0")[0])


def _parse(block: bytes) -> tuple[Header, int]:
    """A header as the block alone describes it, and the size of what follows."""
    _check_sum(block)
    magic = block[257:265]
    ustar, gnu = magic == _USTAR or block[257:263] == _USTAR[:6], magic == _GNU
    typeflag = chr(block[156]) if block[156] else REGULAR
    name = _field(block, 0, 100)
    if ustar and (prefix := _field(block, 345, 155)):
        name = f"{prefix}/{name}"
    size = parse_number(block[124:136])
    if size < 0:
        raise invalid_header()
    header = Header(
        name=name,
        typeflag=typeflag,
        mode=parse_number(block[100:108]) & 0o7777,
        uid=parse_number(block[108:116]),
        gid=parse_number(block[116:124]),
        mtime=parse_number(block[136:148]) * SECOND,
        linkname=_field(block, 157, 100),
    )
    if ustar or gnu:
        header.device = (parse_number(block[329:337]), parse_number(block[337:345]))
    if gnu and block[345]:
        header.atime = parse_number(block[345:357]) * SECOND
    return header, size


def _check_sum(block: bytes) -> None:
    """Unsigned as the standard has it, or signed as old Suns wrote it."""
    given = parse_number(block[148:156])
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    if given not in {unsigned, unsigned - 256 * sum(byte > 127 for byte in rest)}:
        raise invalid_header()


def _described(header: Header, stream: ByteStream, size: int, pax: list[tuple[str, bytes]]) -> Entry:
    """The entry, with what its extended header says about it."""
    records = dict(pax)
    for key, value in records.items():
        size = _apply_record(header, key, value, size)
    if header.typeflag == REGULAR and header.name.endswith("/"):
        header.typeflag = DIRECTORY
    if header.typeflag in _WITHOUT_CONTENT:
        size = 0
    header.size = size
    entry = Entry(header, stream, size)
    fragments = _sparse_map(entry, records, pax)
    if fragments is not None:
        _make_sparse(entry, records, fragments)
    return entry


def _apply_record(header: Header, key: str, value: bytes, size: int) -> int:
    """Put one record into a header; answers with the size as known now."""
    if not value and not key.startswith(XATTR_PREFIX):
        return size  # an empty value takes the record back
    try:
        match key:
            case "path":
                header.name = text_of(value)
            case "linkpath":
                header.linkname = text_of(value)
            case "size":
                size = int(value)
            case "uid":
                header.uid = int(value)
            case "gid":
                header.gid = int(value)
            case "mtime":
                header.mtime = parse_pax_time(value.decode())
            case "atime":
                header.atime = parse_pax_time(value.decode())
            case _ if key.startswith(XATTR_PREFIX):
                header.xattrs[key.removeprefix(XATTR_PREFIX)] = value
    except ValueError:
        raise invalid_header() from None
    if size < 0:
        raise invalid_header()
    return size


def _sparse_map(entry: Entry, records: dict[str, bytes], pax: list[tuple[str, bytes]]) -> list[_Fragment] | None:
    """Where the stored bytes of a PAX sparse file belong; None if it is not sparse."""
    if records.get("GNU.sparse.major") == b"1" and records.get("GNU.sparse.minor") == b"0":
        return _stored_map(entry)
    if "GNU.sparse.map" in records:
        numbers = records["GNU.sparse.map"].split(b",")
    else:
        numbers = [value for key, value in pax if key in {"GNU.sparse.offset", "GNU.sparse.numbytes"}]
        if not numbers:
            return None
    return _fragments(numbers)


def _stored_map(entry: Entry) -> list[_Fragment]:
    """The map of form 1.0: decimal lines before the content, padded to a block."""
    lines: list[bytes] = []
    rest = b""
    while not lines or len(lines) < 1 + 2 * _count(lines[0]):
        *more, rest = (rest + entry.take(BLOCK)).split(b"\n")
        lines += more
    return _fragments(lines[1 : 1 + 2 * _count(lines[0])])


def _count(line: bytes) -> int:
    if not line.isdigit():
        raise invalid_header()
    return int(line)


def _fragments(numbers: list[bytes]) -> list[_Fragment]:
    if len(numbers) % 2 or not all(number.isdigit() for number in numbers):
        raise invalid_header()
    values = [int(number) for number in numbers]
    return [_Fragment(*pair) for pair in zip(values[::2], values[1::2], strict=True)]


def _make_sparse(entry: Entry, records: dict[str, bytes], fragments: list[_Fragment]) -> None:
    header = entry.header
    if name := records.get("GNU.sparse.name"):
        header.name = text_of(name)
    size = records.get("GNU.sparse.realsize") or records.get("GNU.sparse.size")
    if size is None or not size.isdigit():
        raise invalid_header()
    header.size = int(size)
    entry.scatter(fragments)
