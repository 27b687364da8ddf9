"""The two meta pages: where the current state begins.

They are written in turn, each with a checksum, so that one of them is always whole. The transaction with the number
``txid`` writes page ``txid % 2``; the state is that of the whole page with the higher number. After the page header::

    magic u32 | version u32 | page size u32 | flags u32 | root bucket: page u64, sequence u64 | freelist u64
    | high water mark u64 | txid u64 | checksum u64 (FNV-1a over the 56 bytes before it)
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from refimpl.backends.real.bolt.format import FIRST_PAGE, HEADER_SIZE, META, PAGE_HEADER, InvalidDatabase

MAGIC = 0xED0CDAED
VERSION = 2

NO_FREELIST = 0xFFFF_FFFF_FFFF_FFFF
"""In place of the free list's page: the list is not stored and has to be found by walking the tree."""

META_SIZE = HEADER_SIZE + 64
"""From the page's first byte. It lies within one sector, so a torn write leaves it whole or old."""

SMALLEST_FILE = 4096
"""A file with less than this is none of ours, whatever its page size."""

_BODY = struct.Struct("=IIIIQQQQQ")
_CHECKSUM = struct.Struct("=Q")

_PAGE_SIZES = tuple(1 << shift for shift in range(10, 25))
"""Where a second meta page may begin: 1 KiB to 16 MiB."""


def fnv1a(data: bytes) -> int:
    """The 64 bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFF_FFFF_FFFF_FFFF
    return value


@dataclass(frozen=True, slots=True)
class Meta:
    """One state of the database.

    Attributes:
        page_size: bytes of a page.
        root: page of the root bucket.
        sequence: sequence of the root bucket.
        freelist: page of the free list, or ``NO_FREELIST``.
        high_water: first page number never used; as many pages belong to the file.
        txid: number of the transaction that made this state.
    """

    page_size: int
    root: int
    sequence: int
    freelist: int
    high_water: int
    txid: int

    @property
    def page(self) -> int:
        """The meta page that holds this state."""
        return self.txid % 2

    def pack(self) -> bytes:
        """The whole meta page."""
        body = _BODY.pack(
            MAGIC, VERSION, self.page_size, 0, self.root, self.sequence, self.freelist, self.high_water, self.txid
        )
        page = PAGE_HEADER.pack(self.page, META, 0, 0) + body + _CHECKSUM.pack(fnv1a(body))
        return page.ljust(self.page_size, b"\0")


def parse(data: bytes, page: int) -> Meta:
    """Read a meta page.

    Args:
        data: ``META_SIZE`` bytes or more, from the page's first byte.
        page: its number, for the error.

    Raises:
        InvalidDatabase: it is not a meta page, of another version, or damaged. The texts are bbolt's (MET-019).
    """
    if len(data) < META_SIZE:
        raise InvalidDatabase("invalid database")
    magic, version, page_size, _, root, sequence, freelist, high_water, txid = _BODY.unpack_from(data, HEADER_SIZE)
    if magic != MAGIC:
        raise InvalidDatabase("invalid database")
    if version != VERSION:
        raise InvalidDatabase("version mismatch")
    # A sum of 0 passes unseen in bbolt 1.3 and is refused by 1.4. None was written within ten years (MET-022).
    (checksum,) = _CHECKSUM.unpack_from(data, META_SIZE - _CHECKSUM.size)
    if checksum != fnv1a(data[HEADER_SIZE : META_SIZE - _CHECKSUM.size]):
        raise InvalidDatabase("checksum error")
    meta = Meta(page_size, root, sequence, freelist, high_water, txid)
    if page_size not in _PAGE_SIZES:
        raise InvalidDatabase(f"no page has {page_size} bytes", page)
    for what, number in (("root", root), ("free list", freelist)):
        if not FIRST_PAGE <= number < high_water and not (what == "free list" and number == NO_FREELIST):
            raise InvalidDatabase(f"the {what} is said to be page {number} of {high_water}", page)
    return meta


def choose(read: Callable[[int, int], bytes], file_size: int, default_page_size: int) -> Meta:
    """The current state of a file.

    Args:
        read: gives bytes by offset and length, fewer at the end of the file.
        file_size: the file's length.
        default_page_size: what page size to take where no meta page tells one.

    Raises:
        InvalidDatabase: there is no whole meta page, or the file is too short for what it says.
    """
    if file_size < SMALLEST_FILE:
        raise InvalidDatabase("invalid database")
    page_size = _find_page_size(read) or default_page_size
    if file_size < 2 * page_size:
        raise InvalidDatabase("file size too small")
    found: list[Meta] = []
    errors: list[InvalidDatabase] = []
    for page in (0, 1):
        try:
            found.append(parse(read(page * page_size, META_SIZE), page))
        except InvalidDatabase as error:
            errors.append(error)
    if not found:
        raise errors[0]
    meta = max(found, key=lambda each: each.txid)
    if meta.high_water * page_size > file_size:
        raise InvalidDatabase(f"file size too small: {file_size} bytes for {meta.high_water} pages of {page_size}")
    return meta


def _find_page_size(read: Callable[[int, int], bytes]) -> int:
    """The page size by the first meta page that is whole; 0 if none is."""
    for offset in (0, *_PAGE_SIZES):
        try:
            return parse(read(offset, META_SIZE), min(offset, 1)).page_size
        except InvalidDatabase:
            continue
    return 0
