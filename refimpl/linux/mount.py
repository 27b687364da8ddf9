"""mount(2) and umount2(2), through ctypes: the only place that performs mounts."""

from __future__ import annotations

import ctypes
import os

_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, type: str, flags: int, data: str) -> None:
    """mount(2).

    Raises:
        OSError: with the kernel's errno.
    """
    if _libc.mount(source.encode(), target.encode(), type.encode(), ctypes.c_ulong(flags), data.encode() or None):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def unmount(target: str) -> None:
    """umount2(2), detached: open files may live on, the mount point is free at once.

    Raises:
        OSError: with the kernel's errno.
    """
    if _libc.umount2(target.encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)
