"""Whether this process is in a user namespace, where root is less than root."""

from __future__ import annotations

from pathlib import Path

UID_MAP = Path("/proc/self/uid_map")

_EVERYBODY = ["0", "0", "4294967295"]
"""The map of the initial namespace: everybody is who they are."""


def in_user_namespace(uid_map: Path = UID_MAP) -> bool:
    """Whether user ids are mapped here. A kernel without user namespaces has no map and maps nobody."""
    try:
        return uid_map.read_text().split() != _EVERYBODY
    except OSError:
        return False
