"""mallopt(3), through ctypes: how the C library keeps a process's memory."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8


def limit_arenas(most: int) -> None:
    """Let all threads share so many heaps, which are else up to eight for each processor; glibc's business alone.

    A heap keeps what its threads once needed. Where they come and go, and each may hold messages of a megabyte, that
    adds up.

    Args:
        most: counts for threads that begin later.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Other C libraries have no such call, and no such heaps.
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, most)
