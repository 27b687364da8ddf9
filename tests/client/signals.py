"""What a process makes of signals, as the kernel tells."""

from __future__ import annotations

import re
from pathlib import Path


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: without, the first process of a namespace is deaf to it."""
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None, "every process has this line, zombies too"
    return bool(int(found[1], 16) >> (number - 1) & 1)
