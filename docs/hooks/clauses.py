"""Pages of the contract: one per area of ``conformance/clauses``, an anchor per clause.

Nothing is written twice: what a page says about a clause is the clause's own record, and the checks and mutants that
cite it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources

from conformance.areas import BUILT
from conformance.catalogue import Clause, Level, load
from conformance.coverage import checks_by_clause, mutants_by_clause, reasons

# Fields in the order in which a reader asks: where it is seen, how it is judged, how we know.
_FIELDS = ("surface", "plugins", "needs", "since", "check", "mutant", "observed", "source")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What of an area's clauses is decided, and by what.

    Attributes:
        checks: names of the test functions, by clause id.
        mutants: ids of the mutants that these have to catch, by clause id.
        reasons: why there is no check, by clause id.
    """

    checks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mutants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def rows(self, clause: Clause) -> dict[str, str]:
        """Rows of the clause's table: heading to HTML."""
        found: dict[str, str] = {}
        if checks := self.checks.get(clause.id):
            found["Decided by"] = "<br>".join(escape(_sentence(name)) for name in dict.fromkeys(checks))
        elif reason := self.reasons.get(clause.id):
            found["No check"] = escape(reason)
        if mutants := self.mutants.get(clause.id):
            found["Mutants"] = "<br>".join(f"<code>{escape(id)}</code>" for id in mutants)
        return found


@functools.cache
def evidence(area: str) -> Evidence:
    """The checks and mutants of an area, as the suite itself finds them."""
    if area not in BUILT:
        return Evidence(reasons=reasons())
    try:
        mutants = mutants_by_clause(area)
    except ModuleNotFoundError as error:
        # An area gets its checks first.
        if error.name != f"conformance.mutants.{area}":
            raise
        mutants = {}
    return Evidence(checks_by_clause(area), mutants, reasons())


def _sentence(check: str) -> str:
    """A check's name as the sentence that it is."""
    return check.removeprefix("test_").replace("_", " ")


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


def _entry(clause: Clause, known: Evidence) -> str:
    # Raw HTML, since clauses are full of characters that Markdown would take for its own.
    values = {name.capitalize(): _value(getattr(clause, name)) for name in _FIELDS} | known.rows(clause)
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in values.items())
    level = clause.level.value
    heading = f"## {clause.id} {{ #{clause.id.lower()} }}"
    return (
        f"{heading}\n\n"
        f'<div class="clause"><p><span class="level {level.lower()}">{level}</span> '
        f"<strong>{escape(clause.title)}</strong></p><p>{escape(clause.text)}</p><dl>{rows}</dl></div>\n"
    )


def area_page(area: str, clauses: list[Clause], known: Evidence | None = None) -> str:
    """The page of one area."""
    known = evidence(area) if known is None else known
    counts = ", ".join(f"{n} {level.value}" for n, level in zip(_counts(clauses), Level, strict=True) if n)
    decided = sum(1 for clause in clauses if clause.id in known.checks)
    mutants = sum(len(known.mutants.get(clause.id, ())) for clause in clauses)
    head = f"# Clauses: {area}\n\n{len(clauses)} clauses: {counts}. {decided} have checks; {mutants} mutants.\n\n"
    entries = "\n".join(_entry(clause, known) for clause in clauses)
    return head + f"<p>{escape(introduction(area))}</p>\n\n" + entries


def index_page(areas: dict[str, list[Clause]]) -> str:
    """The table of all areas."""
    lines = [
        "# The contract",
        "",
        "The contract is a list of numbered clauses. Each is one statement that a black-box check can decide, says",
        "what was observed on the real daemon, and names a mutant: a plausible wrong implementation that its check",
        "has to catch. Ids are never reused. [The suite](../conformance.md) says how checks are run.",
        "",
        "| area | first id | MUST | SHOULD | MAY | with checks | mutants |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for area, clauses in areas.items():
        known = evidence(area)
        numbers = (*_counts(clauses), sum(c.id in known.checks for c in clauses), sum(map(len, known.mutants.values())))
        counts = " | ".join(map(str, numbers))
        lines.append(f"| [{area}]({area}.md) | {clauses[0].id} | {counts} |")
    return "\n".join([*lines, ""])


def pages() -> dict[str, str]:
    """All pages of the contract: path in the guide to Markdown text."""
    areas = by_area()
    result = {"clauses/index.md": index_page(areas)}
    for area, members in areas.items():
        result[f"clauses/{area}.md"] = area_page(area, members)
    return result
