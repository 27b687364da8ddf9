"""All that makes a tree on the disk what it is, for comparisons."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

_LONG = "d" * 200
DEPTH = 100
"""Directories of that name in one another are more than a path can name, and fewer than Python can call itself."""


def properties(root: Path) -> dict[str, object]:
    """Every property but inode numbers and the time of access, by path; names of one file are listed together."""
    paths = [root, *sorted(root.rglob("*"))]
    found = {os.path.relpath(path, root): os.lstat(path) for path in paths}
    names: dict[int, list[str]] = {}
    for name, one in found.items():
        names.setdefault(one.st_ino, []).append(name)
    return {
        name: (
            one.st_mode,
            one.st_uid,
            one.st_gid,
            one.st_rdev,
            one.st_mtime_ns,
            names[one.st_ino],
            *_more(root / name),
        )
        for name, one in found.items()
    }  # fmt: skip


def open_files(below: Path) -> list[str]:
    """What this process has open below a directory; the rest is other tests'."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found.append(link.readlink())
    return [str(path) for path in found if path.is_relative_to(below)]


def deepen(root: Path, depth: int) -> None:
    """Make a directory in a directory in a directory, of which no path can tell."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(_LONG, dir_fd=here)
        here = _inner(here)
    os.close(here)


def depth_of(root: Path) -> int:
    """How many directories are in one another below ``root``."""
    here, depth = os.open(root, os.O_RDONLY), 0
    while _has_inner(here):
        here, depth = _inner(here), depth + 1
    os.close(here)
    return depth


def _has_inner(here: int) -> bool:
    with os.scandir(here) as entries:
        return any(entry.name == _LONG for entry in entries)


def _inner(here: int) -> int:
    inner = os.open(_LONG, os.O_RDONLY, dir_fd=here)
    os.close(here)
    return inner


def _more(path: Path) -> tuple[object, ...]:
    mode = os.lstat(path).st_mode
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    if stat.S_ISREG(mode):
        return attributes, path.read_bytes()
    return attributes, path.readlink() if stat.S_ISLNK(mode) else None
