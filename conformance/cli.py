"""The commands ``refimpl conform`` and ``refimpl clauses``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from conformance import known
from conformance.areas import AREAS, BUILT
from conformance.catalogue import Clause, Level, load
from conformance.coverage import mutants_by_clause, reasons
from conformance.mutants.check import Verdict, judge
from conformance.report import files, terminal
from conformance.run import Run, UsageError, Wish, print_json, run
from conformance.subjects.spec import FORMS

clauses_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="The clauses of the contract: list them, show one whole."
)


def conform(
    subjects: Annotated[
        list[str] | None, typer.Argument(metavar="[SUBJECT]...", help="What is judged; see below.")
    ] = None,
    area: Annotated[list[str] | None, typer.Option(help=f"Only this area (repeatable): {', '.join(BUILT)}.")] = None,
    clause: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this clause (repeatable).")] = None,
    plugin: Annotated[list[str] | None, typer.Option(metavar="URI", help="Only clauses that bind this plugin.")] = None,
    snapshotter: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Snapshotters to judge (default: all that work).")
    ] = None,
    profile: Annotated[
        str, typer.Option(metavar="VERSION", help="Only clauses whose `since` fits this version, such as 1.6.")
    ] = "",
    known_failures: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML of differences that are known; one that passes is an error."),
    ] = None,
    workers: Annotated[
        str, typer.Option("-n", "--workers", metavar="N", help="Processes; 0 for this one alone.")
    ] = "auto",
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report.json, junit.xml and index.html here.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="A MUST that no check could decide fails the run.")] = False,
    mutants: Annotated[
        bool, typer.Option(help="Also plant every mutant in the fakes and see that a check notices.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON on standard output, nothing else.")
    ] = False,
) -> None:
    """Judge implementations of containerd's architecture, clause by clause.

    Exit status: 0 every MUST held, 1 some did not (or a mutant lives), 2 usage or a subject that cannot be judged.
    """
    if workers != "auto" and not workers.isdigit():
        _fail(f"-n takes a number or auto, not {workers!r}")
    wish = Wish(
        subjects=subjects or ["fake"],
        areas=area or [],
        clauses=clause or [],
        plugins=plugin or [],
        snapshotters=snapshotter or [],
        profile=profile,
        workers=_workers(workers, clause),
        known_failures=known_failures,
    )
    done, verdict = Run(wish), None
    try:
        # `--mutants` alone is about the suite, not about a subject: the fakes are judged mutant by mutant.
        if subjects or not mutants:
            done = _run(wish)
        if mutants:
            verdict = _judge(wish)
    except (UsageError, known.KnownFailuresError) as error:
        _fail(str(error))
    if report is not None:
        files.write(done, report, shlex.join(["refimpl", "conform", *sys.argv[2:]]))
    if json_output:
        print_json(done.summary() | ({"mutants": verdict.summary()} if verdict is not None else {}))
    else:
        console = terminal.output_console()
        if subjects or not mutants:
            terminal.show(done, console, strict=strict)
        if verdict is not None:
            show_verdict(verdict, console)
        if report is not None:
            console.print(f"report: {report / 'index.html'}", highlight=False)
    status = done.status(strict=strict) if subjects or not mutants else 0
    if verdict is not None and not verdict.clean:
        status = max(status, 1)
    raise typer.Exit(status)


def _run(wish: Wish) -> Run:
    progress = terminal.Progressing()
    try:
        return run(wish, progress)
    finally:
        progress.close()


def _judge(wish: Wish) -> Verdict:
    progress = terminal.Progressing(label="checks on mutants")
    try:
        return judge(wish.areas or BUILT, clauses=wish.clauses, workers=wish.workers, reporter=progress)
    finally:
        progress.close()


def _workers(workers: str, clauses: list[str] | None) -> str:
    """A few clauses are judged sooner than worker processes are started."""
    return "0" if workers == "auto" and clauses and len(clauses) <= 5 else workers


def show_verdict(verdict: Verdict, console: Console) -> None:
    """What became of the mutants, the living ones by name."""
    for id in verdict.survived:
        console.print(f"[bold red]survived[/] {id}", highlight=False)
    for id, killers in verdict.killed_by_others.items():
        console.print(
            f"[yellow]killed only by other clauses' checks[/] {id}: {', '.join(killers[:3])}", highlight=False
        )
    for id, why in verdict.invalid.items():
        console.print(f"[yellow]not judged[/] {id}: {why}", highlight=False)
    if verdict.missing:
        console.print(f"[yellow]MUST clauses without a mutant[/]: {' '.join(verdict.missing)}", highlight=False)
    counts = verdict.summary()
    console.print(
        "mutants: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()), highlight=False
    )


def _fail(message: str) -> None:
    typer.echo(f"refimpl: {message}", err=True)
    raise typer.Exit(2)


conform.__doc__ = f"{conform.__doc__}\n\nSubjects:\n\n\b\n{FORMS}\n"


@clauses_app.command("ls")
def clauses_ls(
    area: Annotated[str, typer.Option(help="Only this area.")] = "",
    level: Annotated[str, typer.Option(help="Only MUST, SHOULD or MAY.")] = "",
    plugin: Annotated[str, typer.Option(metavar="URI", help="Only clauses that bind this plugin.")] = "",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List clauses."""
    if area and area not in AREAS:
        _fail(f"there is no area {area!r}; there are: {', '.join(AREAS)}")
    if level and level.upper() not in Level.__members__:
        _fail(f"there is no level {level!r}; there are: {', '.join(Level.__members__)}")
    found = [
        clause
        for clause in load().values()
        if (not area or clause.area == area)
        and (not level or clause.level.value == level.upper())
        and (not plugin or plugin in clause.plugins)
    ]
    if json_output:
        typer.echo(json.dumps([clause.as_dict() for clause in found], indent=2, ensure_ascii=False))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("ID", "LEVEL", "AREA", "SINCE", "TITLE"):
        table.add_column(column, no_wrap=column != "TITLE")
    for clause in found:
        table.add_row(clause.id, clause.level.value, clause.area, clause.since, clause.title)
    terminal.output_console().print(table)
    typer.echo(f"{len(found)} clauses")


@clauses_app.command("show")
def clauses_show(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Clause ids, such as CNT-007.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show clauses whole: text, source, what was observed on the real daemons, check and mutant."""
    known_clauses = load()
    for id in ids:
        if id not in known_clauses:
            _fail(f"there is no clause {id!r}; `refimpl clauses ls` lists them")
    if json_output:
        values = [known_clauses[id].as_dict() for id in ids]
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    console = terminal.output_console()
    for id in ids:
        _show(known_clauses[id], console)


def _show(clause: Clause, console: Console) -> None:
    console.print(
        f"[bold]{clause.id}[/] {clause.level.value}, area {clause.area}, since {clause.since}", highlight=False
    )
    console.print(clause.title, style="bold", markup=False, highlight=False)
    console.print(clause.text, markup=False, highlight=False)
    rows = {
        "binds": ", ".join(clause.plugins),
        "surface": clause.surface,
        "needs": ", ".join(clause.needs) or "nothing special",
        "observed": clause.observed,
        "source": "; ".join(clause.source),
        "check": clause.check,
        "mutant": clause.mutant,
        "planted": ", ".join(mutants_by_clause(clause.area).get(clause.id, [])) or "no mutant",
    }
    if reason := reasons().get(clause.id):
        rows["no check"] = reason
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value.replace("[", "\\["))
    console.print(table, "")
