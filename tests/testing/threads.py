"""Which threads are left of something that ended."""

from __future__ import annotations

import threading
from collections.abc import Collection


def left(before: Collection[threading.Thread]) -> list[str]:
    """Names of the threads that were not there before and do not end; one on its way out gets its moment."""
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(30)
    return [thread.name for thread in threading.enumerate() if thread not in before]
