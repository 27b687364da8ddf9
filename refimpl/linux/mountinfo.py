"""The table of what is mounted in this process's mount namespace.

Any user may have put anything into the path of a mount point: the kernel writes blanks, tabs, newlines, backslashes and
hashes as octal escapes, and every other byte as it is. So lines end at a newline and at nothing else that ends a line
of text in Python.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

TABLE = "/proc/self/mountinfo"

_ESCAPE = re.compile(rb"\\([0-7]{3})")


class Mounted(NamedTuple):
    """One line of the table.

    Attributes:
        point: where it is mounted.
        type: of the file system.
        source: as it was given to mount(2).
    """

    point: str
    type: str
    source: str


def mounted(table: str | Path = TABLE) -> list[Mounted]:
    """All mounts, in the order in which they were made: of two on one point, the later lies on top."""
    # Not by ``pathlib``, which is large: shims look here too, and a host has many of them.
    with open(table, "rb") as file:
        return [_parsed(line) for line in file.read().split(b"\n") if line]


def _parsed(line: bytes) -> Mounted:
    # 36 35 98:0 /root /point rw,noatime optional:fields - type source rw,options
    before, _, after = line.partition(b" - ")
    type, source = after.split(b" ")[:2]
    return Mounted(*map(unescaped, (before.split(b" ")[4], type, source)))


def unescaped(field: bytes) -> str:
    """A path or a source as the table writes it, as what it is."""
    return os.fsdecode(_ESCAPE.sub(lambda octal: bytes([int(octal[1], 8)]), field))
