"""Runs a machine for some seconds and hands back the shortest sequence on which the subjects differ, if any."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from conformance.machines.base import PREAMBLE, Machine
from conformance.machines.content import ContentMachine
from conformance.machines.leases import LeasesMachine
from conformance.machines.pair import Difference, Pair
from conformance.machines.shorten import Done, again, shorten
from conformance.machines.snapshots import SnapshotsMachine

MACHINES: dict[str, type[Machine]] = {
    "content": ContentMachine,
    "snapshots": SnapshotsMachine,
    "leases": LeasesMachine,
}

STEPS = 60
"""Operations in one example, at most."""

ROUND = 100
"""Examples under one seed. The first of a round are small."""


class _TimeIsUp(KeyboardInterrupt):
    """Ends a round from within: the one kind of exception that Hypothesis does not take for a failure of the test."""


PATIENCE = 60.0
"""Seconds in which a sequence is made shorter; then the shortest so far has to do."""


@dataclass(slots=True)
class Played:
    """What a machine did.

    Attributes:
        seconds: how long it ran.
        explained: differences that the contract allows, by clause.
        texts: error texts that differ: operation and kind -> (step, left, right).
        difference: the shortest sequence found; None when the subjects agree.
        seed: of the round that found it: the same subjects differ again under it.
    """

    machine: str
    examples: int = 0
    steps: int = 0
    seconds: float = 0.0
    explained: dict[str, int] = field(default_factory=dict)
    texts: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    difference: Difference | None = None
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        found = self.difference
        return {
            "machine": self.machine,
            "examples": self.examples,
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "explained": self.explained,
            "texts": {name: list(texts) for name, texts in self.texts.items()},
            "difference": None
            if found is None
            else {
                "steps": found.steps,
                "outcomes": {label: str(outcome) for label, outcome in found.outcomes.items()},
                "seed": self.seed,
            },
        }


def play(
    name: str,
    pair: Pair,
    *,
    seconds: float = 0.0,
    start: int = 0,
    rounds: int = 1,
    examples: int = ROUND,
    notice: Callable[[Played], None] = lambda _: None,
) -> Played:
    """Run a machine on two open subjects until they differ or the time is up.

    Args:
        name: a key of ``MACHINES``.
        seconds: how long to go on; 0 for a number of rounds.
        start: the first round's seed; the next round has the next one.
        rounds, examples: how many rounds of how many examples without ``seconds``.
        notice: called after every step with what is known so far.

    Raises:
        ValueError: the machine needs something that a subject does not offer.
    """
    machine = MACHINES[name]
    if not pair.offer(machine.needs):
        raise ValueError(f"the machine {name} needs {', '.join(sorted(machine.needs))} of both subjects")
    played = Played(name)
    before, began = (pair.examples, pair.steps), time.monotonic()
    pair.used.clear()
    pair.texts.clear()

    def count() -> None:
        played.examples, played.steps = pair.examples - before[0], pair.steps - before[1]
        played.seconds = time.monotonic() - began
        notice(played)

    def start_example() -> None:
        if seconds and played.difference is None and time.monotonic() - began > seconds:
            raise _TimeIsUp

    pair.notice, pair.starts = count, start_example
    number = 0
    while seconds or number < rounds:
        played.seed = start + number
        planted = type(machine.__name__, (machine,), {"pair": pair})
        try:
            _round(planted, played.seed, examples)
        except _TimeIsUp:
            break
        except Difference as found:
            played.difference = found
            played.difference = _shorter(planted, found)
            break
        number += 1
    played.explained, played.texts = dict(pair.used), dict(pair.texts)
    return played


def _round(machine: type[Machine], number: int, examples: int) -> None:
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=Verbosity.quiet,
            # See ``shorten``.
            phases=[Phase.generate],
            # A daemon takes the time that it takes.
            suppress_health_check=list(HealthCheck),
        ),
    )


def _shorter(machine: type[Machine], found: Difference) -> Difference:
    """The shortest difference at the same operation; the one that was found if it does not come again."""
    shortest, until = found, time.monotonic() + PATIENCE

    def fails(sequence: Sequence[Done]) -> bool:
        nonlocal shortest
        if time.monotonic() > until:
            return False
        try:
            _again(machine, sequence)
        except Difference as now:
            if now.operation == found.operation:
                shortest = now
                return True
        return False

    shorten(list(machine.latest), fails)
    return shortest


def _again(machine: type[Machine], sequence: Sequence[Done]) -> None:
    executed = machine()
    try:
        again(executed, sequence)
    finally:
        # It compares, too, unless a difference was found before.
        executed.teardown()


class Progress:
    """Tells on a stream how far a machine is, now and then."""

    def __init__(self, seconds: float, stream: TextIO | None = None, *, every: float = 2.0) -> None:
        self._stream, self._seconds, self._every = stream or sys.stderr, seconds, every
        self._next = 0.0

    def __call__(self, played: Played) -> None:
        """Say it, if it is time."""
        if played.seconds < self._next:
            return
        self._next = played.seconds + self._every
        rate = played.steps / max(played.seconds, 0.001)
        phase = f"of {self._seconds:.0f} s" if played.difference is None else "(they differ; making it shorter)"
        self._stream.write(
            f"{played.machine}: {played.seconds:.0f} s {phase}, {played.examples} examples, {played.steps} steps, "
            f"{rate:.0f} steps/s\n"
        )
        self._stream.flush()


def told(played: Played) -> str:
    """The result of a machine in words."""
    lines = [
        f"{played.machine}: {played.examples} examples, {played.steps} steps in {played.seconds:.0f} s: "
        + ("no difference" if played.difference is None else "the subjects differ")
    ]
    lines += [f"  allowed by {clause}: {count} times" for clause, count in sorted(played.explained.items())]
    if played.texts:
        lines.append(f"  {len(played.texts)} error texts differ, which they may (--json has them)")
    if played.difference is not None:
        lines += ["", PREAMBLE, str(played.difference), f"(seed {played.seed})"]
    return "\n".join(lines)
