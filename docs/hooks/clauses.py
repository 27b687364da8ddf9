"""Pages of the contract: one per area of ``conformance/clauses``, an anchor per clause.

Nothing is written twice: what a page says about a clause is the clause's own record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape
from importlib import resources

from conformance.catalogue import Clause, Level, load

# Fields in the order in which a reader asks: where it is seen, how it is judged, how we know.
_FIELDS = ("surface", "plugins", "needs", "since", "check", "mutant", "observed", "source")


def by_area() -> dict[str, list[Clause]]:
    """The clauses by area, areas in alphabetical order, clauses in the order of their file."""
    areas: dict[str, list[Clause]] = {}
    for clause in load().values():
        areas.setdefault(clause.area, []).append(clause)
    return areas


def link(clause: Clause) -> str:
    """A Markdown link to a clause from a page one folder away."""
    return f"[{clause.id}](../clauses/{clause.area}.md#{clause.id.lower()})"


def introduction(area: str) -> str:
    """The comment on top of an area's file, as one paragraph; empty without one."""
    lines = []
    file = resources.files("conformance") / "clauses" / f"{area}.toml"
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(line for line in lines if line and not line.startswith("---"))


def _counts(clauses: Iterable[Clause]) -> list[int]:
    levels = Counter(clause.level for clause in clauses)
    return [levels[level] for level in Level]


def _value(value: str | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"<code>{escape(item)}</code>" for item in value) or "nothing"
    return escape(value)


def _entry(clause: Clause) -> str:
    # Raw HTML, since clauses are full of characters that Markdown would take for its own.
    rows = "".join(f"<dt>{name.capitalize()}</dt><dd>{_value(getattr(clause, name))}</dd>" for name in _FIELDS)
    level = clause.level.value
    heading = f"## {clause.id} {{ #{clause.id.lower()} }}"
    return (
        f"{heading}\n\n"
        f'<div class="clause"><p><span class="level {level.lower()}">{level}</span> '
        f"<strong>{escape(clause.title)}</strong></p><p>{escape(clause.text)}</p><dl>{rows}</dl></div>\n"
    )


def area_page(area: str, clauses: list[Clause]) -> str:
    """The page of one area."""
    counts = ", ".join(f"{n} {level.value}" for n, level in zip(_counts(clauses), Level, strict=True) if n)
    head = f"# Clauses: {area}\n\n{len(clauses)} clauses: {counts}.\n\n"
    return head + f"<p>{escape(introduction(area))}</p>\n\n" + "\n".join(_entry(clause) for clause in clauses)


def index_page(areas: dict[str, list[Clause]]) -> str:
    """The table of all areas."""
    lines = [
        "# The contract",
        "",
        "The contract is a list of numbered clauses. Each is one statement that a black-box check can decide, says",
        "what was observed on the real daemon, and names a mutant: a plausible wrong implementation that its check",
        "has to catch. Ids are never reused.",
        "",
        "| area | first id | MUST | SHOULD | MAY |",
        "| --- | --- | --- | --- | --- |",
    ]
    for area, clauses in areas.items():
        counts = " | ".join(str(n) for n in _counts(clauses))
        lines.append(f"| [{area}]({area}.md) | {clauses[0].id} | {counts} |")
    return "\n".join([*lines, ""])


def pages() -> dict[str, str]:
    """All pages of the contract: path in the guide to Markdown text."""
    areas = by_area()
    result = {"clauses/index.md": index_page(areas)}
    for area, members in areas.items():
        result[f"clauses/{area}.md"] = area_page(area, members)
    return result
