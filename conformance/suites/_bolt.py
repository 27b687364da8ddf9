"""Database files in bbolt's format, read, written and examined without the help of anybody who is judged.

Written from the format alone, and simple where an engine is not: a file is read as a whole, and a new one has one page
for each bucket, however large.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

MAGIC, VERSION = 0xED0CDAED, 2
PAGE = 4096
NO_FREELIST = (1 << 64) - 1
"""In the place of the free list's page: there is none."""

SMALLEST = 32768
"""Bytes of a new file."""

_HEADER = struct.Struct("<QHHI")  # id, flags, count, overflow
_META = struct.Struct("<4I6Q")  # magic, version, page size, flags, root, sequence, freelist, pgid, txid, checksum
_ELEMENT = struct.Struct("<4I")  # leaf: flags, pos, ksize, vsize
_BRANCH = struct.Struct("<2IQ")  # pos, ksize, pgid
_BUCKET = struct.Struct("<2Q")  # root, sequence
_IS_BRANCH, _IS_LEAF, _IS_META, _IS_FREELIST = 1, 2, 4, 16
_META_AT = _HEADER.size
_SUMMED = _META.size - 8


class Damaged(Exception):
    """A file that is no database, or whose parts contradict each other."""


class Bucket(dict[bytes, "bytes | Bucket"]):
    """Keys with values, and buckets.

    Attributes:
        sequence: its counter.
    """

    def __init__(self, items: Mapping[str | bytes, bytes | str | Bucket] | None = None, *, sequence: int = 0) -> None:
        super().__init__({_bytes(key): _value(value) for key, value in (items or {}).items()})
        self.sequence = sequence

    def at(self, *way: str | bytes) -> bytes | Bucket | None:
        """What is found on a way through buckets; None for nothing."""
        found: bytes | Bucket | None = self
        for name in way:
            found = found.get(_bytes(name)) if isinstance(found, Bucket) else None
        return found

    def bucket(self, *way: str | bytes) -> Bucket:
        """The bucket on a way.

        Raises:
            AssertionError: there is none.
        """
        found = self.at(*way)
        assert isinstance(found, Bucket), f"there is no bucket {'/'.join(map(_shown, way))}"
        return found

    def value(self, *way: str | bytes) -> bytes:
        """The value on a way.

        Raises:
            AssertionError: there is none.
        """
        found = self.at(*way)
        assert isinstance(found, bytes), f"there is no value {'/'.join(map(_shown, way))}"
        return found

    @property
    def names(self) -> set[str]:
        """Keys and buckets as text."""
        return set(map(_shown, self))


def _bytes(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name


def _value(value: bytes | str | Bucket) -> bytes | Bucket:
    return value.encode() if isinstance(value, str) else value


def _shown(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Meta:
    """One of the two pages that say where the tree is."""

    version: int
    root: int
    sequence: int
    freelist: int
    pgid: int
    txid: int
    checksum: int
    sound: bool


def checksum(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 & NO_FREELIST
    return found


def meta(data: bytes, page: int) -> Meta:
    """The meta page 0 or 1 of a file's bytes."""
    at = page * PAGE + _META_AT
    magic, version, size, _, root, sequence, freelist, pgid, txid, stored = _META.unpack_from(data, at)
    right = checksum(data[at : at + _SUMMED]) == stored
    return Meta(version, root, sequence, freelist, pgid, txid, stored, (magic, size) == (MAGIC, PAGE) and right)


def current(data: bytes) -> Meta:
    """The meta page that counts.

    Raises:
        Damaged: neither is sound.
    """
    sound = [found for found in (meta(data, 0), meta(data, 1)) if found.sound]
    if not sound:
        raise Damaged("no sound meta page")
    return max(sound, key=lambda found: found.txid)


def read(file: Path) -> Bucket:
    """All that a file holds, as of its last commit. No lock is taken: whoever has it open must be quiet.

    Raises:
        Damaged: it cannot be read to the end.
    """
    data = file.read_bytes()
    found = current(data)
    try:
        return _Reader(data).bucket(found.root, found.sequence)
    except (struct.error, RecursionError) as error:
        raise Damaged(str(error)) from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def bucket(self, page: int, sequence: int) -> Bucket:
        found = Bucket(sequence=sequence)
        for _, key, value, is_bucket in self.items(page * PAGE):
            found[key] = self._sub(value) if is_bucket else value
        return found

    def _sub(self, value: bytes) -> Bucket:
        root, sequence = _BUCKET.unpack_from(value)
        if root:
            return self.bucket(root, sequence)
        inline = _Reader(value)
        found = Bucket(sequence=sequence)
        found.update((key, plain) for _, key, plain, _ in inline.items(_BUCKET.size))
        return found

    def items(self, at: int) -> Iterator[tuple[int, bytes, bytes, bool]]:
        """Page offset, key, value and whether that is a bucket, of all leaves below the page at an offset."""
        _, flags, count, _ = _HEADER.unpack_from(self._data, at)
        for index in range(count):
            element = at + _HEADER.size + index * _ELEMENT.size
            if flags == _IS_BRANCH:
                yield from self.items(_BRANCH.unpack_from(self._data, element)[2] * PAGE)
            elif flags == _IS_LEAF:
                kind, position, length, size = _ELEMENT.unpack_from(self._data, element)
                start = element + position + length
                yield at, self._data[start - length : start], self._data[start : start + size], bool(kind & 1)
            else:
                raise Damaged(f"page {at // PAGE} has flags {flags:#x}")


# ------------------------------------------------------------------------------------------------------------- writing


def write(file: Path, root: Bucket, *, version: int = VERSION, freelist: bool = True) -> None:
    """Make a new file, with transactions 0 and 1 and small buckets inside their parents.

    Args:
        version: of the format.
        freelist: whether the file has a free list.
    """
    writer = _Writer()
    page = writer.page(root)
    writer.finish(file, page, root.sequence, version, 2 if freelist else NO_FREELIST)


class _Writer:
    def __init__(self) -> None:
        self._pages: list[bytes] = []

    def page(self, bucket: Bucket) -> int:
        """Write a bucket and those in it; the number of its page."""
        leaf = self._leaf(bucket)
        number = 3 + sum(len(page) // PAGE for page in self._pages)
        overflow = (len(leaf) - 1) // PAGE
        header = _HEADER.pack(number, _IS_LEAF, len(bucket), overflow)
        self._pages.append((header + leaf[_HEADER.size :]).ljust((overflow + 1) * PAGE, b"\0"))
        return number

    def _leaf(self, bucket: Bucket) -> bytes:
        items = [(key, *self._packed(value)) for key, value in sorted(bucket.items())]
        elements, data = b"", b""
        for index, (key, value, kind) in enumerate(items):
            position = (len(items) - index) * _ELEMENT.size + len(data)
            elements += _ELEMENT.pack(kind, position, len(key), len(value))
            data += key + value
        return _HEADER.pack(0, _IS_LEAF, len(items), 0) + elements + data

    def _packed(self, value: bytes | Bucket) -> tuple[bytes, int]:
        if not isinstance(value, Bucket):
            return value, 0
        if not any(isinstance(each, Bucket) for each in value.values()):
            leaf = self._leaf(value)
            if len(leaf) <= PAGE // 4:
                return _BUCKET.pack(0, value.sequence) + leaf, 1
        return _BUCKET.pack(self.page(value), value.sequence), 1

    def finish(self, file: Path, root: int, sequence: int, version: int, freelist: int) -> None:
        pgid = 3 + sum(len(page) // PAGE for page in self._pages)
        whole = b""
        for txid in (0, 1):
            body = _META.pack(MAGIC, version, PAGE, 0, root, sequence, freelist, pgid, txid, 0)[:_SUMMED]
            header = _HEADER.pack(txid, _IS_META, 0, 0)
            whole += (header + body + struct.pack("<Q", checksum(body))).ljust(PAGE, b"\0")
        whole += _HEADER.pack(2, _IS_FREELIST, 0, 0).ljust(PAGE, b"\0") + b"".join(self._pages)
        file.write_bytes(whole.ljust(SMALLEST, b"\0"))


# ----------------------------------------------------------------------------------------------------------- examining


def problems(file: Path) -> list[str]:
    """What is wrong with a file: pages in use twice or not at all, keys out of order."""
    data = file.read_bytes()
    found = current(data)
    examined = _Examination(data, found)
    examined.bucket(found.root)
    return examined.conclude()


class _Examination:
    def __init__(self, data: bytes, found: Meta) -> None:
        self._data, self._meta = data, found
        self._used: dict[int, str] = {0: "meta", 1: "meta"}
        self.problems: list[str] = []

    def bucket(self, page: int) -> None:
        self._page(page, None, None)

    def _page(self, page: int, least: bytes | None, limit: bytes | None) -> None:
        number, flags, count, overflow = _HEADER.unpack_from(self._data, page * PAGE)
        if number != page:
            self.problems.append(f"page {page} says that it is {number}")
        for each in range(page, page + overflow + 1):
            self._use(each, "tree")
        keys: list[bytes] = []
        for index in range(count):
            element = page * PAGE + _HEADER.size + index * _ELEMENT.size
            if flags == _IS_BRANCH:
                position, length, child = _BRANCH.unpack_from(self._data, element)
                keys.append(self._data[element + position : element + position + length])
                following = self._branch_key(page, index + 1) if index + 1 < count else limit
                self._page(child, keys[-1], following)
            elif flags == _IS_LEAF:
                kind, position, length, _ = _ELEMENT.unpack_from(self._data, element)
                start = element + position + length
                keys.append(self._data[start - length : start])
                if kind & 1 and (root := _BUCKET.unpack_from(self._data, start)[0]):
                    self.bucket(root)
            else:
                self.problems.append(f"page {page} is of no kind: {flags:#x}")
                return
        self._order(page, keys, least, limit)

    def _branch_key(self, page: int, index: int) -> bytes:
        element = page * PAGE + _HEADER.size + index * _BRANCH.size
        position, length, _ = _BRANCH.unpack_from(self._data, element)
        return self._data[element + position : element + position + length]

    def _order(self, page: int, keys: list[bytes], least: bytes | None, limit: bytes | None) -> None:
        if any(a >= b for a, b in pairwise(keys)):
            self.problems.append(f"page {page}: keys out of order")
        if keys and ((least is not None and keys[0] < least) or (limit is not None and keys[-1] >= limit)):
            self.problems.append(f"page {page}: keys that belong elsewhere")

    def _use(self, page: int, by: str) -> None:
        if page in self._used:
            self.problems.append(f"page {page} is used by {self._used[page]} and by {by}")
        if not 2 <= page < self._meta.pgid:
            self.problems.append(f"page {page} is out of bounds")
        self._used[page] = by

    def conclude(self) -> list[str]:
        """Account for the pages that no tree has."""
        if self._meta.freelist == NO_FREELIST:
            return self.problems
        at = self._meta.freelist * PAGE
        _, flags, count, overflow = _HEADER.unpack_from(self._data, at)
        if flags != _IS_FREELIST:
            return [*self.problems, f"page {self._meta.freelist} is no free list"]
        for page in range(self._meta.freelist, self._meta.freelist + overflow + 1):
            self._use(page, "the free list")
        start = at + _HEADER.size
        if count == 0xFFFF:
            (count,) = struct.unpack_from("<Q", self._data, start)
            start += 8
        for page in struct.unpack_from(f"<{count}Q", self._data, start):
            self._use(page, "nobody")
        lost = [page for page in range(self._meta.pgid) if page not in self._used]
        return [*self.problems, *(f"page {page} is lost" for page in lost)]
