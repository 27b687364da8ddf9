"""The command ``refimpl compare``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from conformance.machines.pair import opened_pair
from conformance.machines.play import MACHINES, Progress, play, told
from conformance.subjects.base import SubjectError


def random_(
    machines: Annotated[
        list[str] | None, typer.Argument(metavar="[MACHINE]...", help=f"Any of {', '.join(MACHINES)} (default: all).")
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SUBJECT",
            help="Give two of them, as `refimpl conform` writes them (default: fake and daemon:containerd).",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long each machine runs.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed draws the same operations.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")] = False,
) -> None:
    """Perform the same random operations on two subjects and compare what comes of each.

    A difference that no clause allows is shown as the shortest sequence of calls that leads to it.

    Exit status: 0 no difference, 1 the subjects differ, 2 usage or a subject that cannot be reached.
    """  # fmt: skip
    chosen = machines or list(MACHINES)
    if unknown := [name for name in chosen if name not in MACHINES]:
        _fail(f"there is no machine {unknown[0]!r}; there are: {', '.join(MACHINES)}")
    subjects = subject or ["fake", "daemon:containerd"]
    if len(subjects) != 2:
        _fail(f"two subjects are compared, not {len(subjects)}: give --subject twice")
    results = []
    try:
        with opened_pair(*subjects) as pair:
            for name in chosen:
                done = play(name, pair, seconds=seconds, start=seed, notice=Progress(seconds))
                results.append(done)
                if not json_output:
                    typer.echo(told(done))
    except (SubjectError, ValueError) as error:
        _fail(str(error))
    if json_output:
        typer.echo(json.dumps({"subjects": subjects, "machines": [done.as_dict() for done in results]}, indent=2))
    raise typer.Exit(1 if any(done.difference for done in results) else 0)


def _fail(message: str) -> None:
    typer.echo(f"refimpl: {message}", err=True)
    raise typer.Exit(2)
