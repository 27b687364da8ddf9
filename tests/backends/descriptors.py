"""What this process has open."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def descriptors() -> set[str]:
    """Number and name of every open file: what is not among those of before was opened since.

    Compare them so, and not by how many they are: what threads of earlier tests still have open may be closed any time.
    """
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add(f"{link.name}: {link.readlink()}")
    return found
