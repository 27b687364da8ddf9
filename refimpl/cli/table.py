"""Tables as Go's tools print them: every column as wide as its widest cell and four blanks, the last one too."""

from __future__ import annotations

from collections.abc import Sequence

_PADDING = 4


def table(rows: Sequence[Sequence[str]]) -> str:
    """The rows as text, without a final newline; the first one holds the titles."""
    widths = [max(len(cell) for cell in column) + _PADDING for column in zip(*rows, strict=True)]
    return "\n".join("".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
