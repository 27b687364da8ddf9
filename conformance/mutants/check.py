"""``python -m conformance.mutants.check [AREA ...]``: plant every mutant and see whether its clause's checks notice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from conformance import patience
from conformance.areas import BUILT
from conformance.catalogue import Level, load
from conformance.coverage import beyond_fakes, reasons
from conformance.mutants.engine import Mutant, mutants_of
from conformance.results import Outcome
from conformance.run import Reporter, Run, Wish, run


@dataclass
class Verdict:
    """What became of the mutants of some areas.

    Attributes:
        killed: by a check of their own clause.
        killed_by_others: only by checks of other clauses of the area: their own clause's checks are blind.
        survived: by nothing: a bug of the suite.
        invalid: the fakes do not start with them, or no check of their clause ran: mutant id -> why.
        missing: MUST clauses without a mutant.
    """

    killed: list[str] = field(default_factory=list)
    killed_by_others: dict[str, list[str]] = field(default_factory=dict)
    survived: list[str] = field(default_factory=list)
    invalid: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every MUST clause has a mutant and its own checks kill all of them."""
        return not (self.killed_by_others or self.survived or self.invalid or self.missing)

    def summary(self) -> dict[str, Any]:
        """Counts, for ``--json``."""
        return {
            "killed": len(self.killed),
            "survived": len(self.survived),
            "killed_by_others": len(self.killed_by_others),
            "invalid": len(self.invalid),
            "missing": len(self.missing),
        }


def judge(
    areas: Sequence[str] = BUILT,
    *,
    clauses: Sequence[str] = (),
    workers: str = "auto",
    reporter: Reporter | None = None,
) -> Verdict:
    """Plant the mutants of some areas, each alone, in fakes of its own.

    Args:
        clauses: only mutants of these.
        workers: as for a run.
    """
    chosen = [m for m in mutants_of(areas).values() if m.area in areas and (not clauses or m.clause in clauses)]
    verdict = Verdict(missing=_missing(areas, clauses))
    wish = Wish(subjects=[f"mutant:{m.id}" for m in chosen], areas=areas, workers=workers)
    with patience.short():
        first = run(wish, reporter) if chosen else Run(wish)
        survivors = [m for m in chosen if not _sort(verdict, m, first)]
        if invalid := [m for m in chosen if m.id in verdict.invalid]:
            # What a check stands on may itself have been too late once; whoever cannot be judged cannot so twice.
            verdict.invalid.clear()
            again = run(replace(wish, subjects=[f"mutant:{m.id}" for m in invalid]))
            survivors += [m for m in invalid if not _sort(verdict, m, again)]
        if survivors:
            # Only those whose own checks saw nothing are worth the whole area's time.
            second = run(replace(wish, subjects=[f"mutant:{m.id}@area" for m in survivors]))
            _sort_survivors(verdict, survivors, second)
    return verdict


def _sort(verdict: Verdict, mutant: Mutant, seen: Run) -> bool:
    """Put a mutant where the first round says; False if a second has to tell."""
    name = f"mutant:{mutant.id}"
    if _killers(seen, name):
        verdict.killed.append(mutant.id)
        return True
    results = seen.tally.of(name)
    if broken := [r.message for r in results if r.outcome is Outcome.ERROR]:
        verdict.invalid[mutant.id] = broken[0]
        return True
    if not any(r.outcome is Outcome.PASSED for r in results):
        verdict.invalid[mutant.id] = results[0].reason if results else "its clause has no check"
        return True
    return False


def _sort_survivors(verdict: Verdict, survivors: Sequence[Mutant], seen: Run) -> None:
    """Put those where the second round says, in which all checks of their areas have looked at them."""
    for m in survivors:
        killers = _killers(seen, f"mutant:{m.id}@area")
        if any(m.clause in clauses for clauses in killers.values()):
            # A mistake that shows only at times: its own check saw it at the second look.
            verdict.killed.append(m.id)
        elif killers:
            verdict.killed_by_others[m.id] = list(killers)
        else:
            verdict.survived.append(m.id)


def _killers(seen: Run, subject: str) -> dict[str, Sequence[str]]:
    """Failed checks, with the clauses that they decide."""
    return {r.name: r.clauses for r in seen.tally.of(subject) if r.outcome is Outcome.FAILED}


def _missing(areas: Sequence[str], clauses: Sequence[str]) -> list[str]:
    excused = {*reasons(), *beyond_fakes()}
    have = {m.clause for m in mutants_of(areas).values()}
    return [
        c.id
        for c in load().values()
        if c.area in areas
        and c.level is Level.MUST
        and c.id not in have
        and (not clauses or c.id in clauses)
        # What no check can decide, or none on the fakes, no mutant can test.
        and c.id not in excused
    ]


def main(areas: Sequence[str], say: Callable[[str], object] = print) -> int:
    """Judge and print; 0 when nothing is left to do."""
    verdict = judge(areas or BUILT, workers="0")
    for id in verdict.survived:
        say(f"SURVIVED   {id}")
    for id, killers in verdict.killed_by_others.items():
        say(f"BY OTHERS  {id}: {', '.join(killers[:3])}")
    for id, why in verdict.invalid.items():
        say(f"INVALID    {id}: {why}")
    say(f"MISSING    {' '.join(verdict.missing) or 'nothing'}")
    say(str(verdict.summary()))
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
