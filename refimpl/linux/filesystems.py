"""What the file system of a directory is and can do."""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile

from refimpl.linux.mountinfo import Mounted, mounted

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
    return mount_of(path).type


def mount_of(path: str) -> Mounted:
    """The mount that a path is on.

    Raises:
        OSError: there is no such path.
    """
    real = os.path.realpath(path, strict=True)
    found = Mounted("", "", "")
    for each in mounted():
        # Later lines lie above earlier ones, and a longer mount point is nearer.
        inside = real == each.point or real.startswith(each.point.rstrip("/") + "/")
        if inside and len(each.point) >= len(found.point):
            found = each
    return found
