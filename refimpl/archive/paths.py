"""Paths inside a root, with every symlink on the way resolved as if the root were ``/`` (DIF-035 to DIF-038)."""

from __future__ import annotations

import errno
import os
from collections import deque

from refimpl.contract.mounts import FileType, RootFS

_SYMLINKS_MAX = 255


def clean(path: str) -> str:
    """The path without ``.``, ``..`` and doubled slashes, from the root on; never above it."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name not in {"", "."}:
            names.append(name)
    return "/" + "/".join(names)


def resolve(fs: RootFS, path: str) -> str:
    """Where ``path`` leads; names that do not exist stay as they are.

    Raises:
        OSError: ELOOP for symlinks that lead to themselves.
    """
    names: list[str] = []
    # How many of them are there; what is below a name that is missing need not be looked for.
    there = 0
    todo = deque(path.split("/"))
    symlinks = 0
    while todo:
        name = todo.popleft()
        if name in {"", "."}:
            continue
        if name == "..":
            del names[-1:]
            there = min(there, len(names))
            continue
        if there < len(names):
            names.append(name)
            continue
        exists, target = _look(fs, "/" + "/".join([*names, name]))
        if target is None:
            names.append(name)
            there += exists
            continue
        symlinks += 1
        if symlinks > _SYMLINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            names.clear()
            there = 0
        todo.extendleft(reversed(target.split("/")))
    return "/" + "/".join(names)


def _look(fs: RootFS, path: str) -> tuple[bool, str | None]:
    """Whether there is such an entry, and its text if it is a symlink."""
    try:
        return True, fs.readlink(path) if fs.lstat(path).type is FileType.SYMLINK else None
    except (FileNotFoundError, NotADirectoryError):
        return False, None
