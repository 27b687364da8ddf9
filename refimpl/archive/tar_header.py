"""One entry of a tar archive, and how its numbers and records are written in 512-byte blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import FileType
from refimpl.contract.times import SECOND

BLOCK = 512
"""Bytes of a block."""

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_DIGITS_MAX = 19  # of what fits into 64 bits

XATTR_PREFIX = "SCHILY.xattr."
"""Of the PAX records that hold extended attributes."""

_TEXTS = {"path", "linkpath", "uname", "gname"}
"""Of the PAX records whose values hold no null bytes; of all others the keys hold none."""

REGULAR, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = "0", "1", "2", "3", "4", "5", "6"
GLOBAL = "g"
"""Of PAX's global extended header, whose records are for all entries behind it."""

TYPES: Mapping[str, FileType] = {
    REGULAR: FileType.FILE,
    SYMLINK: FileType.SYMLINK,
    CHAR: FileType.CHAR,
    BLOCK_DEVICE: FileType.BLOCK,
    DIRECTORY: FileType.DIRECTORY,
    FIFO: FileType.FIFO,
}
"""What an entry makes, by its type flag; a hardlink makes nothing new."""


@dataclass(slots=True)
class Header:
    """What an archive says about one entry.

    Attributes:
        name: path as written, a directory's with a slash at the end.
        typeflag: one character; see ``TYPES``.
        mode: permission bits with set-uid, set-gid and sticky.
        size: bytes of content; 0 for what has none.
        mtime: nanoseconds since the Unix epoch.
        atime: the same; None if the archive does not say.
        device: (major, minor).
        xattrs: extended attributes.
    """

    name: str
    typeflag: str = REGULAR
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    atime: int | None = None
    linkname: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)


def invalid_header() -> Unknown:
    """The archive is damaged, in containerd's words (DIF-039)."""
    return Unknown("archive/tar: invalid tar header")


def parse_number(raw: bytes) -> int:
    """A number in octal, or in base 256 if the first bit is set.

    Raises:
        Unknown: neither, or more than 64 bits.
    """
    if raw and raw[0] & 0x80:
        value = int.from_bytes(raw, "big", signed=False)
        bits = len(raw) * 8 - 1
        value &= (1 << bits) - 1
        value = value - (1 << bits) if value >> (bits - 1) else value
        if not _LEAST <= value <= _MOST:
            raise invalid_header()
        return value
    return parse_octal(raw)


def parse_octal(raw: bytes) -> int:
    """A number in octal, between blanks and nulls; nothing is 0.

    Raises:
        Unknown: no such number.
    """
    text = raw.strip(b" \0").partition(b"\0")[0]
    if not text:
        return 0
    # Digits only: int() takes signs, underscores and spaces as well.
    if text.strip(b"01234567"):
        raise invalid_header()
    return int(text, 8)


def parse_decimal(raw: bytes) -> int:
    """A decimal number with or without a sign, of 64 bits.

    Raises:
        Unknown: no such number.
    """
    digits = raw.removeprefix(b"-" if raw[:1] == b"-" else b"+")
    # Longer ones are out of range whatever they are, and slow to convert.
    if not digits.isdigit() or len(digits := digits.lstrip(b"0") or b"0") > _DIGITS_MAX:
        raise invalid_header()
    number = -int(digits) if raw[:1] == b"-" else int(digits)
    if not _LEAST <= number <= _MOST:
        raise invalid_header()
    return number


def parse_pax_time(raw: bytes) -> int:
    """Decimal seconds with a fraction, as nanoseconds; digits beyond are cut.

    Raises:
        Unknown: no such number.
    """
    seconds, _, fraction = raw.partition(b".")
    if fraction and not fraction.isdigit():
        raise invalid_header()
    nanoseconds = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    return parse_decimal(seconds) * SECOND + (-nanoseconds if seconds.startswith(b"-") else nanoseconds)


def parse_pax_records(data: bytes) -> list[tuple[str, bytes]]:
    """The records of an extended header, in order.

    Raises:
        Unknown: lengths that do not fit.
    """
    records: list[tuple[str, bytes]] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at)
        if space < 0:
            raise invalid_header()
        end = at + parse_decimal(data[at:space])
        record = data[space + 1 : end]
        if end > len(data) or not record.endswith(b"\n"):
            raise invalid_header()
        key, sign, value = record[:-1].partition(b"=")
        if not key or not sign or b"\0" in (value if text_of(key) in _TEXTS else key):
            raise invalid_header()
        records.append((text_of(key), value))
        at = end
    return records


def format_pax_record(key: str, value: bytes) -> bytes:
    """A record, whose length counts its own digits."""
    body = b" " + bytes_of(key) + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def text_of(raw: bytes) -> str:
    """A name as Python's file functions have it: bytes that are no UTF-8 survive."""
    return raw.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """A name as it is written."""
    return text.encode("utf-8", "surrogateescape")
