"""mount(2), umount2(2) and unshare(2), through ctypes: the only place that performs mounts."""

from __future__ import annotations

import ctypes
import errno
import os

FLAGS: dict[str, int] = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "remount": 32,
    "mand": 64,
    "dirsync": 128,
    "noatime": 1024,
    "nodiratime": 2048,
    "bind": 4096,
    "rbind": 4096 | 16384,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
}
"""The bits of ``contract.mount_options``'s flags."""

DETACH, _NOFOLLOW = 2, 8
_CLONE_FS = 0x200

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)


def mount(source: str, target: str, type: str, flags: int, data: str) -> None:
    """mount(2).

    Raises:
        OSError: with the kernel's errno, about the source; EINVAL for a null byte.
    """
    words = [_bytes(word) for word in (source, target, type)]
    if _libc.mount(*words, flags, _bytes(data) or None):
        raise _failed(source or target)


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2); a symlink in the last place is not followed.

    Args:
        flags: DETACH takes the mount out of sight at once, and undoes it when nobody uses it any more.

    Raises:
        OSError: with the kernel's errno: EINVAL if nothing is mounted there, EBUSY if something is open or mounted
            below.
    """
    if _libc.umount2(_bytes(target), flags | _NOFOLLOW):
        raise _failed(target)


def unshare_working_directory() -> None:
    """Give the calling thread a working directory and umask of its own (unshare(2) with CLONE_FS).

    Raises:
        OSError: the kernel refuses.
    """
    if _libc.unshare(_CLONE_FS):
        raise _failed("")


def _bytes(word: str) -> bytes:
    encoded = os.fsencode(word)
    if b"\0" in encoded:
        # The kernel would end the text there, and do something else than was asked for.
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), word)
    return encoded


def _failed(about: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), about) if about else OSError(code, os.strerror(code))
