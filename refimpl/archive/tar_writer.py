"""Writing tar exactly as containerd's differ does, so that equal trees give equal digests (DIF-060, DIF-061, DIF-065).

An entry is ustar as long as ustar can say it all; else a PAX extended header comes before it. What decides is how Go's
archive/tar decides: a name of more than 100 bytes or outside ASCII, a number that octal digits cannot hold, a time
before 1970, an attribute.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from refimpl.archive.tar_header import BLOCK, XATTR_PREFIX, Header, bytes_of, format_pax_record
from refimpl.contract.times import SECOND

_NAME = 100
_PREFIX = 155
_MAGIC = b"ustar\x0000"


class TarWriter:
    """An archive under way.

    Args:
        write: takes the archive's bytes in order.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._left = 0
        self._padding = 0

    def add(self, header: Header) -> None:
        """Write an entry's header; its ``size`` bytes of content have to follow. Times are cut to the second.

        Raises:
            ValueError: a device number that tar cannot hold.
        """
        assert self._left == 0, "the content of the entry before is complete"
        name, linkname = bytes_of(header.name), bytes_of(header.linkname)
        mtime = header.mtime // SECOND
        records, prefix = self._records(header, name, linkname, mtime)
        if records:
            self._write_extended(name, records)
        elif prefix:
            name = name[len(prefix) + 1 :]
        block = _block(name, header, mtime)
        block[156:157] = header.typeflag.encode()
        _put(block, 157, 100, linkname if not records else _ascii(linkname))
        _put(block, 345, _PREFIX, prefix if not records else b"")
        self._write(_summed(block))
        self._left, self._padding = header.size, -header.size % BLOCK

    def content(self, data: bytes) -> None:
        """Write the next piece of the current entry's content."""
        assert len(data) <= self._left, "no more than the header said"
        self._write(data)
        self._left -= len(data)
        if self._left == 0 and self._padding:
            self._write(bytes(self._padding))

    def finish(self) -> None:
        """Mark the archive's end: two blocks of zeros, and no filling up to a tape's record."""
        assert self._left == 0, "the content of the last entry is complete"
        self._write(bytes(2 * BLOCK))

    @staticmethod
    def _records(header: Header, name: bytes, linkname: bytes, mtime: int) -> tuple[dict[str, bytes], bytes]:
        """What ustar cannot say, and how it splits the name."""
        records: dict[str, bytes] = {}
        prefix = b""
        # A long name may be split between two fields if nothing else asks for records.
        split = _split(name)
        if not name.isascii() or len(name) > _NAME:
            if split:
                prefix = split
            else:
                records["path"] = name
        if not linkname.isascii() or len(linkname) > _NAME:
            records["linkpath"] = linkname
        for key, number, digits in (("uid", header.uid, 7), ("gid", header.gid, 7), ("size", header.size, 11)):
            if not 0 <= number < 8**digits:
                records[key] = str(number).encode()
        if not 0 <= mtime < 8**11:
            records["mtime"] = str(mtime).encode()
        for key, value in header.xattrs.items():
            records[XATTR_PREFIX + key] = value
        if records and split:
            records["path"] = name
        return records, prefix

    def _write_extended(self, name: bytes, records: dict[str, bytes]) -> None:
        data = b"".join(format_pax_record(key, records[key]) for key in sorted(records))
        directory, base = posixpath.split(name)
        block = bytearray(BLOCK)
        _put(block, 0, _NAME, _ascii(posixpath.join(directory, b"PaxHeaders.0", base))[:_NAME].rstrip(b"/"))
        for start, length, number in ((100, 8, 0), (108, 8, 0), (116, 8, 0), (124, 12, len(data)), (136, 12, 0)):
            _put_octal(block, start, length, number)
        block[156:157] = b"x"
        self._write(_summed(block) + data + bytes(-len(data) % BLOCK))


def _split(name: bytes) -> bytes:
    """The part of a long name that goes into ustar's prefix field; empty if the name does not split."""
    if len(name) <= _NAME or not name.isascii():
        return b""
    length = min(len(name) - name.endswith(b"/"), _PREFIX + 1)
    at = name.rfind(b"/", 0, length)
    rest = len(name) - at - 1
    return name[:at] if at > 0 and 0 < rest <= _NAME else b""


def _ascii(text: bytes) -> bytes:
    """For fields that a record overrules anyway."""
    return bytes(byte for byte in text if 0 < byte < 128)


def _block(name: bytes, header: Header, mtime: int) -> bytearray:
    block = bytearray(BLOCK)
    shown = _ascii(name)
    _put(block, 0, _NAME, shown)
    if len(shown) > _NAME and shown[_NAME - 1 : _NAME] == b"/":
        # A cut name must not look like a directory's to readers that know no records.
        end = len(shown[:_NAME].rstrip(b"/"))
        block[end] = 0
    _put_octal(block, 100, 8, header.mode)
    _put_octal(block, 108, 8, header.uid)
    _put_octal(block, 116, 8, header.gid)
    _put_octal(block, 124, 12, header.size)
    _put_octal(block, 136, 12, mtime)
    for start, number in ((329, header.device[0]), (337, header.device[1])):
        if not 0 <= number < 8**7:
            raise ValueError(f"device number {number} of {header.name} does not fit into a tar header")
        _put_octal(block, start, 8, number)
    return block


def _put(block: bytearray, start: int, length: int, text: bytes) -> None:
    piece = text[:length]
    block[start : start + len(piece)] = piece


def _put_octal(block: bytearray, start: int, length: int, number: int) -> None:
    """Octal digits with a NUL behind; what does not fit is 0 and stands in a record."""
    digits = f"{number:0{length - 1}o}" if 0 <= number < 8 ** (length - 1) else "0" * (length - 1)
    block[start : start + length] = digits.encode() + b"\0"


def _summed(block: bytearray) -> bytes:
    block[257:265] = _MAGIC
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}".encode() + b"\0 "
    return bytes(block)
