"""mkdocs hook: adds the generated pages (plugins, clauses, decisions) to the guide and to its navigation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs.hooks import clauses, plugins

DECISIONS = Path("docs/adr")


def decision_pages() -> dict[str, str]:
    """The decision records of ``docs/adr``, as they are."""
    return {f"decisions/{path.name}": path.read_text(encoding="utf-8") for path in sorted(DECISIONS.glob("*.md"))}


def all_pages() -> dict[str, str]:
    """Every generated page: path in the guide to Markdown text."""
    return {**plugins.pages(), **clauses.pages(), **decision_pages()}


def _section(title: str, prefix: str, generated: dict[str, str]) -> dict[str, Any]:
    return {title: [path for path in generated if path.startswith(prefix)]}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the generated sections to the navigation of mkdocs.yml."""
    generated = all_pages()
    nav: list[Any] = config["nav"]
    for title, prefix in (("Plugins", "plugins/"), ("The contract", "clauses/"), ("Decisions", "decisions/")):
        nav.append(_section(title, prefix, generated))
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Hand the generated pages to mkdocs."""
    for path, text in all_pages().items():
        files.append(File.generated(config, path, content=text))
    return files
