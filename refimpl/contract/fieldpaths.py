"""Field paths of updates: which fields of a record the caller means to change.

A path is a field's name, or ``<field>.<key>`` for one entry of a map. The key is everything behind the first dot, so it
may hold dots and slashes and needs no quotes (CTR-023, IMG-012, NSP-011). No paths at all means the whole record.
"""

from __future__ import annotations

from collections.abc import Mapping


def map_key(path: str, field: str) -> str | None:
    """The key, if ``path`` means one entry of the map ``field``."""
    prefix = f"{field}."
    return path.removeprefix(prefix) if path.startswith(prefix) else None


def with_key(current: Mapping[str, str], wanted: Mapping[str, str], key: str) -> dict[str, str]:
    """``current`` with the value that ``wanted`` has for ``key``; without the key if that is empty or missing."""
    changed = {other: value for other, value in current.items() if other != key}
    if wanted.get(key):
        changed[key] = wanted[key]
    return changed
