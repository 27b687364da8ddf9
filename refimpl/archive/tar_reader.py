"""Reading tar as a stream, in the dialects that layers come in (DIF-029, DIF-039).

ustar with prefix, PAX (names, numbers, times, attributes, sparse files of all three forms), GNU long names, star.
Python's ``tarfile`` reads more and refuses less: layers that containerd calls damaged would pass. Errors have Go's
texts, since clients see them.
"""

from __future__ import annotations

from collections.abc import Iterator

from refimpl.archive.stream import ByteStream
from refimpl.archive.tar_header import (
    BLOCK,
    DIRECTORY,
    GLOBAL,
    REGULAR,
    XATTR_PREFIX,
    Header,
    invalid_header,
    parse_decimal,
    parse_number,
    parse_octal,
    parse_pax_records,
    parse_pax_time,
    text_of,
)
from refimpl.archive.tar_sparse import MISSING, UNREFERENCED, Fragment, check, listed_map, sparse
from refimpl.contract.errors import Unknown
from refimpl.contract.times import SECOND

_ZERO = bytes(BLOCK)
_ZEROS = bytes(1 << 16)
_MAX_SPECIAL = 1 << 20  # extended headers and long names: larger ones are an attack
_OLD_REGULAR, _GNU_SPARSE = "\0", "S"
_WITHOUT_CONTENT = frozenset("123456")
_SPECIAL = frozenset({"x", GLOBAL, "L", "K"})
_USTAR, _GNU = b"ustar\0", b"ustar  \0"
_STAR = b"tar\0"  # behind all fields, where the standard has nothing


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
    """The entries of an archive, extended headers merged into what they describe.

    Global ones come as entries without content. Their records but for the path are not looked at; and what was said
    about the next entry before one is forgotten, as in Go's reader.

    Raises:
        Unknown: the archive is damaged.
    """
    pax: list[tuple[str, bytes]] = []
    long_name = long_link = ""
    while (block := _next_block(stream)) is not None:
        header, size = _parse(block)
        if header.typeflag in _SPECIAL:
            data = _special(stream, size)
            match header.typeflag:
                case "x":
                    pax = _records(data)
                case typeflag if typeflag == GLOBAL:
                    header.name = text_of(dict(_records(data)).get("path", b"")) or header.name
                    pax, long_name, long_link = [], "", ""
                    yield Entry(header, stream, 0)
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


def _records(data: bytes) -> list[tuple[str, bytes]]:
    """The records of an extended header; those of a sparse map have to make one, whatever the header is for."""
    records = parse_pax_records(data)
    listed_map(records)
    return records


def _field(block: bytes, start: int, length: int) -> str:
    return text_of(block[start : start + length].partition(b"\0")[0])


def _parse(block: bytes) -> tuple[Header, int]:
    """A header as the block alone describes it, and the size of what follows."""
    _check_sum(block)
    ustar, gnu = block[257:263] == _USTAR, block[257:265] == _GNU
    typeflag = chr(block[156])
    size = parse_number(block[124:136])
    if (size < 0 and typeflag not in _WITHOUT_CONTENT) or (typeflag == _GNU_SPARSE and not gnu):
        raise invalid_header()
    header = Header(
        name=_field(block, 0, 100),
        typeflag=typeflag,
        mode=parse_number(block[100:108]) & 0o7777,
        uid=parse_number(block[108:116]),
        gid=parse_number(block[116:124]),
        mtime=parse_number(block[136:148]) * SECOND,
        linkname=_field(block, 157, 100),
    )
    if ustar or gnu:
        header.device = (parse_number(block[329:337]), parse_number(block[337:345]))
        if prefix := _extend(header, block, gnu=gnu):
            header.name = f"{prefix}/{header.name}"
    return header, size


def _extend(header: Header, block: bytes, *, gnu: bool) -> str:
    """Read what each dialect has behind the device: its prefix is the answer, its time of access goes to the header."""
    if gnu:
        accessed, changed = block[345:357], block[357:369]
        try:
            atime = parse_number(accessed) * SECOND if accessed[0] else None
            if changed[0]:
                parse_number(changed)
        except Unknown:
            # No times: Go's own writer, before its version 1.8, put a prefix there.
            prefix = _field(block, 345, 155)
            return prefix if prefix.isascii() else ""
        header.atime = atime
        return ""
    if block[508:] == _STAR:
        header.atime = parse_number(block[476:488]) * SECOND
        parse_number(block[488:500])  # for its errors
        return _field(block, 345, 131)
    return _field(block, 345, 155)


def _check_sum(block: bytes) -> None:
    """Unsigned as the standard has it, or signed as old Suns wrote it."""
    given = parse_octal(block[148:156])
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
    if size < 0:
        raise invalid_header()
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
        case "ctime":
            parse_pax_time(value)  # for its errors: nobody can set it
        case _ if key.startswith(XATTR_PREFIX):
            header.xattrs[key.removeprefix(XATTR_PREFIX)] = value
    return size
