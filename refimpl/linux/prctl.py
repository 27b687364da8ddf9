"""prctl(2), through ctypes: what a process may change about itself."""

from __future__ import annotations

import ctypes
import os

PR_SET_NAME, PR_SET_CHILD_SUBREAPER, PR_SCHED_CORE = 15, 36, 62

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: int | bytes) -> None:
    """prctl(2).

    Args:
        arguments: at most four; bytes are passed as a pointer to a NUL-terminated string.

    Raises:
        OSError: with the kernel's errno.
    """
    words = [each if isinstance(each, bytes) else ctypes.c_ulong(each) for each in arguments]
    if _libc.prctl(option, *words, *[ctypes.c_ulong(0)] * (4 - len(words))):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "prctl")
