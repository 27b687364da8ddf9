"""Waiting for something that another process does: bounded, and by looking at it."""

from __future__ import annotations

import time
from collections.abc import Callable

from conformance import patience

PAUSE = 0.01
"""Seconds between two looks."""


def until(condition: Callable[[], object], seconds: float = patience.SECONDS) -> bool:
    """Whether the condition came to hold within the time; it is looked at one last time when that is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return bool(condition())
        time.sleep(PAUSE)
    return True
