"""Reading tar as a stream, in the dialects that layers come in (DIF-029, DIF-039).

ustar with prefix, PAX (names, numbers, times, attributes, sparse files of all three forms), GNU long names. Python's
``tarfile`` reads more and refuses less: layers that containerd calls damaged would pass. Errors have Go's texts, since
clients see them.
"""

from __future__ import annotations

from collections.abc import Iterator

from refimpl.archive.stream import ByteStream
from refimpl.archive.tar_header import (
    BLOCK,
    DIRECTORY,
    REGULAR,
    XATTR_PREFIX,
    Header,
    invalid_header,
    parse_decimal,
    parse_number,
    parse_pax_records,
    parse_pax_time,
    text_of,
)
from refimpl.archive.tar_sparse import MISSING, UNREFERENCED, Fragment, check, sparse
from refimpl.contract.errors import Unknown
from refimpl.contract.times import SECOND

_ZERO = bytes(BLOCK)
_ZEROS = bytes(1 << 16)
_MAX_SPECIAL = 1 << 20  # extended headers and long names: larger ones are an attack
_OLD_REGULAR, _GNU_SPARSE = "\0", "S"
_WITHOUT_CONTENT = frozenset("123456")
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"


class Entry:
    """A header with its content, which can be read once, before the next entry is asked for."""

    def __init__(self, header: Header, stream: ByteStream, size: int) -> None:
        self.header = header
        self._stream = stream
        self._left = size
        self._padding = -size % BLOCK
        self._fragments: list[Fragment] | None = None

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
            if fragment.size > self._left:
                yield from self._stored(self._left)
                raise Unknown(MISSING)
            yield from self._stored(fragment.size)
            at = fragment.end
        yield from _zeros(self.header.size - at)
        if self._left:
            raise Unknown(UNREFERENCED)

    def _stored(self, size: int) -> Iterator[memoryview]:
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

    def scatter(self, fragments: list[Fragment]) -> None:
        """Say where the stored bytes belong in a sparse file.

        Raises:
            Unknown: they cannot belong there.
        """
        if self.header.typeflag in _WITHOUT_CONTENT:
            raise invalid_header()
        check(fragments, self.header.size)
        self._fragments = fragments

    def take(self, size: int) -> bytes:
        """The next stored bytes, for a map that precedes the content.

        Raises:
            Unknown: there are fewer.
        """
        data = b"".join(self._stored(min(size, self._left)))
        if len(data) < size:
            raise Unknown("unexpected EOF")
        return data


def _zeros(size: int) -> Iterator[bytes]:
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
                case "g":
                    parse_pax_records(data)  # for its errors
                case "L":
                    long_name = text_of(data.partition(b"\0")[0])
                case "K":
                    long_link = text_of(data.partition(b"\0")[0])
            continue
        entry = _described(header, stream, size, pax, (long_name, long_link))
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
    wanted = min(size, _MAX_SPECIAL + 1)
    data = stream.read(wanted)
    if len(data) < wanted:
        raise Unknown("unexpected EOF")
    if len(data) > _MAX_SPECIAL:
        raise Unknown("archive/tar: header field too long")
    stream.read(-size % BLOCK)
    return data


def _field(block: bytes, start: int, length: int) -> str:
    return text_of(block[start : start + length].partition(b"\0")[0])


def _parse(block: bytes) -> tuple[Header, int]:
    """A header as the block alone describes it, and the size of what follows."""
    _check_sum(block)
    magic = block[257:265]
    ustar, gnu = magic == _USTAR or block[257:263] == _USTAR[:6], magic == _GNU
    typeflag = chr(block[156])
    name = _field(block, 0, 100)
    if ustar and (prefix := _field(block, 345, 155)):
        name = f"{prefix}/{name}"
    size = parse_number(block[124:136])
    if size < 0 or (typeflag == _GNU_SPARSE and not gnu):
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
    if given != unsigned and given != unsigned - 256 * sum(byte > 127 for byte in rest):
        raise invalid_header()


def _described(
    header: Header, stream: ByteStream, size: int, pax: list[tuple[str, bytes]], gnu: tuple[str, str]
) -> Entry:
    """The entry, with what its extended header says about it, and GNU's long name and link, which come last."""
    records = dict(pax)
    for key, value in records.items():
        size = _apply_record(header, key, value, size)
    header.name, header.linkname = gnu[0] or header.name, gnu[1] or header.linkname
    if header.typeflag == _OLD_REGULAR:
        # Before the standard had a type for them, directories were files with a slash.
        header.typeflag = DIRECTORY if header.name.endswith("/") else REGULAR
    if header.typeflag in _WITHOUT_CONTENT:
        size = 0
    header.size = size
    entry = Entry(header, stream, size)
    if (found := sparse(records, pax, entry.take)) is not None:
        header.name = text_of(found.name) or header.name
        header.size = size if found.size is None else found.size
        entry.scatter(found.fragments)
    return entry


def _apply_record(header: Header, key: str, value: bytes, size: int) -> int:
    """Put one record into a header; answers with the size as known now."""
    if not value and not key.startswith(XATTR_PREFIX):
        return size  # an empty value takes the record back
    match key:
        case "path":
            header.name = text_of(value)
        case "linkpath":
            header.linkname = text_of(value)
        case "size":
            size = parse_decimal(value)
        case "uid":
            header.uid = parse_decimal(value)
        case "gid":
            header.gid = parse_decimal(value)
        case "mtime":
            header.mtime = parse_pax_time(value)
        case "atime":
            header.atime = parse_pax_time(value)
        case _ if key.startswith(XATTR_PREFIX):
            header.xattrs[key.removeprefix(XATTR_PREFIX)] = value
    if size < 0:
        raise invalid_header()
    return size
