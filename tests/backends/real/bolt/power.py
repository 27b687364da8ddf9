"""Power cuts: what a disk may hold when a recorded run of a database ends in the middle.

The disk promises what every disk does: what was written before a completed sync is there. Of what was written after the
last one, any part may be: any of the writes in any order, and of each of them any of its sectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from refimpl.backends.real.bolt.file import File

SECTOR = 512
_ALL_SUBSETS = 4
"""Up to so many writes, every subset of them is looked at."""
_SOME_SUBSETS = 12


class Write(NamedTuple):
    """Bytes on their way to the disk."""

    data: bytes
    offset: int


class Grow(NamedTuple):
    """A new length, on the disk when the call is back."""

    size: int


class Sync(NamedTuple):
    """All writes before it are on the disk."""


class Acknowledge(NamedTuple):
    """The caller was told that this transaction is on the disk."""

    txid: int


class RecordedFile(File):
    """A file that remembers what was done to it, in order.

    Attributes:
        events: what was done.
        forgetful: make no use of ``sync``: what an engine that does not wait for the disk would do.
    """

    def __init__(self, path: Path, *, forgetful: bool = False) -> None:
        super().__init__(path)
        self.events: list[Write | Grow | Sync | Acknowledge] = []
        self.forgetful = forgetful

    def write(self, data: bytes, offset: int) -> None:
        self.events.append(Write(data, offset))
        super().write(data, offset)

    def grow(self, size: int) -> None:
        super().grow(size)
        self.events.append(Grow(size))

    def sync(self) -> None:
        super().sync()
        if not self.forgetful:
            self.events.append(Sync())


@dataclass(frozen=True)
class Cut:
    """A moment at which the power may have gone.

    Attributes:
        disk: all that is certainly there.
        waiting: writes of which any part may be there.
        acknowledged: the last transaction that somebody was told about; 0 before the first.
    """

    disk: bytes
    waiting: tuple[Write, ...]
    acknowledged: int

    def images(self, random: Random) -> Iterator[bytes]:
        """What the disk may hold: all of it for few writes, a choice for many; whole writes and torn ones."""
        count = len(self.waiting)
        if count <= _ALL_SUBSETS:
            subsets = [list(which) for size in range(count + 1) for which in itertools.combinations(self.waiting, size)]
        else:
            subsets = [random.sample(self.waiting, random.randint(0, count)) for _ in range(_SOME_SUBSETS)]
            subsets.append(list(self.waiting))
        for subset in subsets:
            yield self._with(subset)
            if subset:
                pieces = [piece for write in subset for piece in _sectors(write)]
                yield self._with(random.sample(pieces, random.randint(0, len(pieces))))

    def _with(self, writes: list[Write]) -> bytes:
        disk = bytearray(self.disk)
        for data, offset in writes:
            disk[offset : offset + len(data)] = data
        return bytes(disk)


def _sectors(write: Write) -> list[Write]:
    return [Write(write.data[at : at + SECTOR], write.offset + at) for at in range(0, len(write.data), SECTOR)]


def cuts(before: bytes, events: list[Write | Grow | Sync | Acknowledge]) -> Iterator[Cut]:
    """Every moment between two events, before the first, and after the last.

    Args:
        before: what the disk had.
        events: what was done since.
    """
    disk, waiting, acknowledged = bytearray(before), list[Write](), 0
    yield Cut(bytes(disk), (), acknowledged)
    for event in events:
        if isinstance(event, Write):
            waiting.append(event)
        elif isinstance(event, Acknowledge):
            acknowledged = event.txid
        else:
            for data, offset in waiting:
                disk[offset : offset + len(data)] = data
            waiting = []
            if isinstance(event, Grow):
                disk += bytes(event.size - len(disk))
        yield Cut(bytes(disk), tuple(waiting), acknowledged)
