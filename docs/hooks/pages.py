"""mkdocs hook: adds the generated pages (plugins, clauses, decisions) to the guide and to its navigation."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs.hooks.guide import all_pages

_SECTIONS = (("Plugins", "plugins/"), ("The contract", "clauses/"), ("Decisions", "decisions/"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the generated sections to the navigation of mkdocs.yml."""
    paths = list(all_pages())
    nav: list[Any] = config["nav"]
    for title, prefix in _SECTIONS:
        nav.append({title: [path for path in paths if path.startswith(prefix)]})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Hand the generated pages to mkdocs."""
    for path, text in all_pages().items():
        files.append(File.generated(config, path, content=text))
    return files
