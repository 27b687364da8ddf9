"""Removing a tree of any depth, of which nothing outside may be touched, whatever is renamed meanwhile."""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(directory: int, name: str) -> None:
    """Remove the entry ``name`` of an open directory and all below it.

    Symlinks are removed, not followed. One file descriptor is open at a time, however deep the tree is: the way up is
    ``..``, which is compared with the directory that was come from.

    Args:
        directory: an open directory; O_PATH is enough.
        name: one name, without a slash.

    Raises:
        OSError: FileNotFoundError if there is no such entry; EBUSY for what something is mounted on; ESTALE if a
            directory on the way was moved elsewhere meanwhile. What was removed until then is gone.
    """
    if not stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
        os.unlink(name, dir_fd=directory)
        return
    here = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        # Per level from the top to ``here``: which directory it is, and its subdirectories that are not yet removed.
        levels = [(_identity(here), _clear(here))]
        while True:
            full = levels[-1][1]
            if full:
                here = _replace(here, os.open(full[-1], _DIRECTORY, dir_fd=here))
                levels.append((_identity(here), _clear(here)))
                continue
            levels.pop()
            if not levels:
                break
            here = _replace(here, os.open("..", _DIRECTORY, dir_fd=here))
            identity, full = levels[-1]
            emptied = full.pop()
            if _identity(here) != identity:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), emptied)
            os.rmdir(emptied, dir_fd=here)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=directory)


def _clear(here: int) -> list[str]:
    """Remove all that is no directory, and empty directories; answers with those that are not empty."""
    with os.scandir(here) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    full = []
    for name, is_directory in names:
        if not is_directory:
            os.unlink(name, dir_fd=here)
            continue
        try:
            os.rmdir(name, dir_fd=here)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            full.append(name)
    return full


def _identity(directory: int) -> tuple[int, int]:
    found = os.fstat(directory)
    return found.st_dev, found.st_ino


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new
