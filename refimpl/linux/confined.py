"""Opening paths that must stay below a directory, whatever symlinks, ``..`` or races the tree below it holds.

openat2(2) with RESOLVE_IN_ROOT lets the kernel do it in one call: every symlink is resolved as if the directory were
``/``. Where a kernel or a sandbox refuses that call, the path is walked name by name without following anything, and
symlinks are read as text. Both are as safe; the walk is several times slower.

Python's own calls with ``dir_fd`` are no substitute: they follow symlinks in the middle of a path, and absolute ones to
the ``/`` of the process.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
import struct
from collections import deque

_OPENAT2 = 437  # the same number on every architecture that Python runs on, alpha aside
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_REFUSED = {errno.ENOSYS, errno.EPERM}
_RACES = {errno.EAGAIN, errno.EINTR}
_RETRIES = 32
_PATH_MAX = 4096
_SYMLINKS_MAX = 40

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long


def open_below(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path as if the directory ``root`` were ``/``.

    Args:
        root: an open directory (O_PATH is enough), which may be any mount's.
        path: absolute or not, that makes no difference; ``..`` at the root leads to the root.
        flags: as of open(2); O_CLOEXEC is added. A final symlink is followed, inside the root, unless O_NOFOLLOW says
            otherwise.
        mode: permission bits of a file that O_CREAT makes, less the process's umask.

    Returns:
        A file descriptor, the caller's to close.

    Raises:
        OSError: what open(2) gives, with ``path`` as it was given.
        ValueError: a null byte in the path.
    """
    name = os.fsencode(path) or b"."
    if b"\0" in name:
        raise ValueError("embedded null byte")
    flags |= os.O_CLOEXEC
    if len(name) < _PATH_MAX and _kernel_can():
        for _ in range(_RETRIES):
            fd: int = _syscall(_OPENAT2, root, name, _how(flags, mode), 24)
            if fd >= 0:
                return fd
            error = ctypes.get_errno()
            # The kernel gives up on ".." when anything was renamed or mounted meanwhile, on the whole machine.
            if error not in _RACES:
                raise OSError(error, os.strerror(error), path)
    return walk_below(root, path, flags, mode)


@functools.lru_cache(64)
def _how(flags: int, mode: int) -> bytes:
    return struct.pack("QQQ", flags, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)


@functools.cache
def _kernel_can() -> bool:
    fd = _syscall(_OPENAT2, -100, b"/", _how(os.O_PATH | os.O_CLOEXEC, 0), 24)
    if fd >= 0:
        os.close(fd)
        return True
    return ctypes.get_errno() not in _REFUSED


def walk_below(root: int, path: str, flags: int, mode: int = 0) -> int:
    """``open_below`` without openat2(2), and for paths longer than the kernel takes (4095 bytes)."""
    names = deque(part for part in path.split("/") if part not in {"", "."})
    trail: list[str] = []  # the names of directories, no symlinks among them, that ``here`` was reached by
    symlinks = 0
    exclusive = os.O_CREAT | os.O_EXCL
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        while names:
            name = names.popleft()
            if name == "..":
                if not stat.S_ISDIR(os.fstat(here).st_mode):
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                # Not the kernel's "..": the directory may have been moved to outside the root since.
                trail = trail[:-1]
                here = _replace(here, _descend(root, trail, path))
                continue
            if not names and (flags & os.O_NOFOLLOW or flags & exclusive == exclusive):
                return _open_at(here, name, flags, mode, path)
            try:
                entry = _open_at(here, name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, path)
            except FileNotFoundError:
                if names or not flags & os.O_CREAT:
                    raise
                return _open_at(here, name, flags | os.O_NOFOLLOW, mode, path)
            kind = os.fstat(entry).st_mode
            if stat.S_ISLNK(kind):
                text = _read_and_close(entry)
                symlinks += 1
                if symlinks > _SYMLINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if text.startswith("/"):
                    trail = []
                    here = _replace(here, _descend(root, trail, path))
                names.extendleft(reversed([part for part in text.split("/") if part not in {"", "."}]))
                continue
            if not names:
                os.close(entry)
                return _open_at(here, name, flags | os.O_NOFOLLOW, mode, path)
            trail.append(name)
            here = _replace(here, entry)
        return _open_at(here, ".", flags, mode, path)
    finally:
        os.close(here)


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new


def _read_and_close(entry: int) -> str:
    try:
        return os.readlink("", dir_fd=entry)
    finally:
        os.close(entry)


def _descend(root: int, names: list[str], path: str) -> int:
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    for name in names:
        try:
            entry = _open_at(here, name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, 0, path)
        except OSError:
            os.close(here)
            raise
        here = _replace(here, entry)
    return here


def _open_at(directory: int, name: str, flags: int, mode: int, path: str) -> int:
    try:
        return os.open(name, flags, mode, dir_fd=directory)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
