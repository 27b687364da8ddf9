"""What the guide holds beside the files of ``docs/guide``: plugins, clauses, decisions and commands, generated."""

from __future__ import annotations

from pathlib import Path

from docs.hooks import clauses, commands, plugins

DECISIONS = Path("docs/adr")


def decision_pages() -> dict[str, str]:
    """The decision records of ``docs/adr``, as they are."""
    return {f"decisions/{path.name}": path.read_text(encoding="utf-8") for path in sorted(DECISIONS.glob("*.md"))}


def all_pages() -> dict[str, str]:
    """Every generated page: path in the guide to Markdown text."""
    return {**plugins.pages(), **clauses.pages(), **decision_pages(), **commands.pages()}
