"""The small files by which the kernel tells of a cgroup. One that is not there, or gone meanwhile, says nothing."""

from __future__ import annotations

import contextlib

UNLIMITED = (1 << 64) - 1
"""What ``max`` stands for, unless a field has less room."""


def read(folder: str | None, name: str) -> str:
    """The content of a file of a cgroup, without white space around it; empty when there is none."""
    if folder is None:
        return ""
    try:
        with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def number(folder: str | None, name: str, unlimited: int = UNLIMITED) -> int:
    """The number in a file of a cgroup: 0 when there is none, ``unlimited`` for ``max``."""
    text = read(folder, name)
    if text == "max":
        return unlimited
    with contextlib.suppress(ValueError):
        return int(text)
    return 0


def table(folder: str | None, name: str) -> dict[str, int]:
    """A file of lines of a name and a number."""
    found = {}
    for line in read(folder, name).splitlines():
        words = line.split()
        if len(words) == 2 and words[1].isdigit():
            found[words[0]] = int(words[1])
    return found


def rdma_entries(folder: str | None, name: str) -> list[tuple[str, int, int]]:
    """Device, handles and objects of lines such as ``mlx4_0 hca_handle=2 hca_object=max``; ``max`` is 2^32 - 1."""
    found = []
    for line in read(folder, name).splitlines():
        device, _, rest = line.partition(" ")
        values = {"hca_handle": 0, "hca_object": 0}
        for word in rest.split():
            key, _, value = word.partition("=")
            with contextlib.suppress(ValueError):
                values[key] = (1 << 32) - 1 if value == "max" else int(value)
        found.append((device, values["hca_handle"], values["hca_object"]))
    return found
