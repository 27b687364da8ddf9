"""The terminal: progress while a run goes on, failures that teach, and a matrix of plugins by subjects at the end."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from conformance.catalogue import Level, load
from conformance.results import Outcome, Result
from conformance.run import Run

_STYLE = {
    Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.SKIPPED: "yellow", Outcome.KNOWN: "magenta",
    Outcome.ERROR: "bold red",
}  # fmt: skip

_REASONS = 8
"""Reasons for skips that are shown for a subject; the report has all of them."""

PLAIN_LINES = 20
"""Lines of progress where there is no terminal to draw a bar on."""

SHOWN_CALLS = 12
"""Calls of the conversation shown with a failure; the report has all of them."""


class Progressing:
    """Shows a run as it goes: a bar on a terminal, a line now and then elsewhere. Writes to standard error only."""

    def __init__(self, console: Console | None = None, label: str = "checks") -> None:
        self._console = console or Console(stderr=True)
        self._label, self._total, self._seen = label, 0, 0
        self._counts: Counter[Outcome] = Counter()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._started = time.monotonic()

    def total(self, checks: int) -> None:
        """Begin to draw."""
        self._total = checks
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=self._console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(self._label, total=checks, note="")
            self._bar.start()
        else:
            self._console.print(f"{checks} {self._label}", highlight=False)

    def result(self, result: Result) -> None:
        """Count, and name a failure the moment it is seen."""
        self._seen += 1
        self._counts[result.outcome] += 1
        if result.outcome is Outcome.FAILED and not result.subject.startswith("mutant:"):
            self._print(f"[bold red]failed[/] {result.subject}: {' '.join(result.clauses)} {_plain(result.title)}")
        if self._bar is not None:
            self._bar.update(self._task, completed=self._seen, note=self._note())
        elif self._total and self._seen % max(1, self._total // PLAIN_LINES) == 0:
            self._console.print(
                f"{self._seen}/{self._total} {self._note()} {time.monotonic() - self._started:.1f} s", highlight=False
            )

    def close(self) -> None:
        """Stop drawing."""
        if self._bar is not None:
            self._bar.stop()

    def _note(self) -> str:
        return ", ".join(
            f"{count} {outcome.value}" for outcome, count in sorted(self._counts.items(), key=lambda i: i[0].value)
        )

    def _print(self, text: str) -> None:
        (self._bar.console if self._bar is not None else self._console).print(text, highlight=False)


def show(run: Run, console: Console, *, strict: bool = False) -> None:
    """Print what came out: failures first, then the matrix, then what was skipped and why."""
    for subject in run.tally.subjects():
        if why := run.unreachable(subject):
            console.print(Text.assemble((f"{subject} could not be judged: ", "bold red"), why))
        for result in run.tally.of(subject):
            if result.outcome in (Outcome.FAILED, Outcome.ERROR) and not run.unreachable(subject):
                failure(result, console)
    matrix(run, console)
    _subjects(run, console)
    for complaint in run.complaints:
        console.print(Text.assemble(("known failures: ", "bold red"), complaint))
    _verdict(run, console, strict=strict)


def failure(result: Result, console: Console) -> None:
    """One failure, with all that explains it: the rule, what was seen and said, what the real daemon did."""
    width = min(console.width, 110)
    console.rule(Text(f"{' '.join(result.clauses)} on {result.subject}", style="bold red"), align="left")
    for id in result.clauses:
        clause = load()[id]
        console.print(Text.assemble((f"{id} {clause.level.value} ", "bold"), clause.title))
        console.print(textwrap.indent(textwrap.fill(clause.text, width - 4), "    "), markup=False, highlight=False)
    console.print(Text.assemble(("  check     ", "bold"), result.name))
    if result.location:
        console.print(Text.assemble(("  at        ", "bold"), result.location))
    for number, line in enumerate(result.message.splitlines()[:20]):
        console.print(Text.assemble(("  seen      " if not number else "            ", "bold"), line))
    if result.calls:
        more = len(result.calls) - SHOWN_CALLS
        console.print(
            Text("  calls" + (f" (the last {SHOWN_CALLS} of {len(result.calls)})" if more > 0 else ""), style="bold")
        )
        for call in result.calls[-SHOWN_CALLS:]:
            console.print(textwrap.shorten(call, 2 * width), markup=False, highlight=False, soft_wrap=False)
    for id in result.clauses:
        clause = load()[id]
        console.print(Text.assemble(("  observed  ", "bold"), clause.observed))
        console.print(Text.assemble(("  source    ", "bold"), "; ".join(clause.source)))


def matrix(run: Run, console: Console) -> None:
    """A row per plugin URI, a column per subject: clauses passed / failed / skipped."""
    subjects = [subject for subject in run.tally.subjects() if not run.unreachable(subject)]
    if not subjects:
        return
    table = Table(title="clauses passed / failed / skipped", title_justify="left", header_style="bold")
    table.add_column("plugin", overflow="fold")
    for subject in subjects:
        table.add_column(subject, justify="right", overflow="fold")
    for plugin, row in run.tally.matrix().items():
        table.add_row(plugin, *(_cell(row.get(subject, Counter())) for subject in subjects))
    if table.row_count:
        console.print(table)


def _cell(counts: Counter[Outcome]) -> Text:
    if not counts:
        return Text("-", style="dim")
    if set(counts) == {Outcome.ERROR}:
        return Text("not judged", style=_STYLE[Outcome.ERROR])
    failed = counts[Outcome.FAILED] + counts[Outcome.ERROR]
    skipped = counts[Outcome.SKIPPED]
    text = Text(str(counts[Outcome.PASSED]), style=_STYLE[Outcome.PASSED])
    text.append(" / ").append(str(failed), style=_STYLE[Outcome.FAILED] if failed else "dim")
    text.append(" / ").append(str(skipped), style=_STYLE[Outcome.SKIPPED] if skipped else "dim")
    if counts[Outcome.KNOWN]:
        text.append(f" (+{counts[Outcome.KNOWN]} known)", style=_STYLE[Outcome.KNOWN])
    return text


def _subjects(run: Run, console: Console) -> None:
    for subject in run.tally.subjects():
        identity = run.identities.get(subject)
        counts = run.tally.counts(subject)
        who = f"{identity.product} {identity.version}".strip() if identity else "never reached"
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        console.print(Text.assemble((subject, "bold"), f" ({who}): {told}"))
        reasons = list(run.tally.skip_reasons(subject).items())
        for reason, count in reasons[:_REASONS]:
            console.print(Text(f"  {count} skipped: {reason}", style=_STYLE[Outcome.SKIPPED]))
        if rest := reasons[_REASONS:]:
            text = f"  {sum(count for _, count in rest)} skipped for {len(rest)} more reasons, which --report DIR tells"
            console.print(Text(text, style=_STYLE[Outcome.SKIPPED]))
        left = [text for result in run.tally.of(subject) for text in result.left]
        if left:
            console.print(Text(f"  {len(left)} objects could not be cleaned up, the first: {left[0]}", style="red"))


def _verdict(run: Run, console: Console, *, strict: bool) -> None:
    for subject in run.tally.subjects():
        if run.unreachable(subject):
            continue
        broken, unsure = run.tally.broken(subject), run.tally.skipped(subject)
        weak = run.tally.broken(subject, Level.SHOULD)
        parts = [Text("every MUST that was decided holds", style="green")]
        if broken:
            parts = [Text(f"{len(broken)} MUST broken: {_ids(broken)}", style="bold red")]
        if unsure:
            text = f"{len(unsure)} MUST undecided" + (f": {_ids(unsure)}" if strict else "")
            if later := sum(clause.since.startswith("2") for clause in unsure):
                # Nothing is amiss with a daemon of 1.6 that does not know them.
                text += f" ({later} of 2.x: --profile 1.6 leaves them out)"
            parts.append(Text(text, style="yellow"))
        if weak:
            parts.append(Text(f"{len(weak)} SHOULD broken: {_ids(weak)}", style="yellow"))
        console.print(Text.assemble((f"{subject}: ", "bold")) + Text("; ").join(parts))
    console.print(f"{len(run.tally.results)} checks in {run.seconds:.1f} s", highlight=False)


def _ids(clauses: Sequence[object]) -> str:
    names = [str(getattr(clause, "id", clause)) for clause in clauses]
    return " ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def output_console() -> Console:
    """Standard output, as wide as the terminal, or wide enough for the matrix where there is none."""
    return Console(width=None if sys.stdout.isatty() else max(120, shutil.get_terminal_size((120, 24)).columns))
