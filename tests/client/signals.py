"""What a process makes of signals: as the kernel tells, and for what begins in a block."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: without, the first process of a namespace is deaf to it."""
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None, "every process has this line, zombies too"
    return bool(int(found[1], 16) >> (number - 1) & 1)


@contextmanager
def heard(number: int, by: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """Have what begins in this block hear a signal, also where ``nohup`` or a shell's background has us ignore it."""
    before = signal.signal(number, by)
    try:
        yield
    finally:
        signal.signal(number, before)
