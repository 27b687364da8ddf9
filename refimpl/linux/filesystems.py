"""What the file system of a directory is and can do."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import tempfile
from pathlib import Path

_DT_UNKNOWN = 0
_DIRENT = struct.Struct("=QqHB")  # inode, offset, length of the entry, type; then the name
_BUFFER = 32 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


def supports_d_type(directory: str) -> bool:
    """Whether the file system says in a directory's entries what each of them is, as overlayfs needs it.

    An empty directory gets a file for the time of the look.

    Raises:
        OSError: the directory cannot be read, or not written to.
    """
    if os.listdir(directory):
        return _DT_UNKNOWN not in _types(directory)
    with tempfile.NamedTemporaryFile(dir=directory, prefix="d-type-"):
        return _DT_UNKNOWN not in _types(directory)


def _types(directory: str) -> set[int]:
    """The types that the entries of a directory have in its listing."""
    found = set()
    buffer = ctypes.create_string_buffer(_BUFFER)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while size := _libc.getdents64(descriptor, buffer, _BUFFER):
            if size < 0:
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), directory)
            offset = 0
            while offset < size:
                _, _, length, type = _DIRENT.unpack_from(buffer, offset)
                found.add(type)
                offset += length
    finally:
        os.close(descriptor)
    return found


def filesystem_type(path: str) -> str:
    """The type of the file system that a path is on, as /proc/self/mountinfo names it (``ext4``, ``fuse.zfs``).

    Raises:
        OSError: there is no such path.
    """
    return _mount_of(path)[0]


def mounted_source(path: str) -> tuple[str, str, str]:
    """Mount point, type and source of the mount that a path is on.

    Raises:
        OSError: there is no such path.
    """
    type, point, source = _mount_of(path)
    return point, type, source


def _mount_of(path: str) -> tuple[str, str, str]:
    real = os.path.realpath(path, strict=True)
    found = ("", "", "")
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        point = _unescaped(before.split(b" ")[4])
        # Later lines lie above earlier ones, and a longer mount point is nearer.
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(found[1]):
            type, source = map(_unescaped, after.split(b" ")[:2])
            found = (type, point, source)
    return found


def _unescaped(field: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), field))
