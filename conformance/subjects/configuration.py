"""Configurations of instances that a check starts: what it asks for, over what every instance has."""

from __future__ import annotations

import tomllib

import tomli_w


def merged(base: str, overrides: str) -> str:
    """Two TOML texts as one: overriding tables are merged into those of the base."""
    if not overrides:
        return base

    def merge(below: dict[str, object], above: dict[str, object]) -> dict[str, object]:
        result = dict(below)
        for key, value in above.items():
            old = result.get(key)
            result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        return result

    return tomli_w.dumps(merge(tomllib.loads(base), tomllib.loads(overrides)))
