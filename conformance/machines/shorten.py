"""Makes a sequence of operations on which two subjects differ as short as it gets.

Hypothesis could do it, but it gives up after so many tries without success, and in a sequence of forty operations most
tries are without success. What is known here is simpler and stronger: an operation can always be left out, and so can a
label or a change of a file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Done:
    """One rule that was executed.

    Attributes:
        rule: the rule's function.
        drawn: its arguments.
        result: its answer, which later rules may have got as an argument.
        pinned: never left out.
    """

    rule: Callable[..., Any]
    drawn: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    pinned: bool = False


def recorded(rule: F) -> F:
    """Have a rule noted in its machine's ``done``, so that it can be executed again without Hypothesis.

    A rule that draws ``id`` alone sets up the example: it always stays.
    """

    @functools.wraps(rule)
    def execute(machine: Any, **drawn: Any) -> Any:
        done = Done(rule, drawn, pinned=set(drawn) == {"id"})
        machine.done.append(done)
        done.result = rule(machine, **drawn)
        return done.result

    return execute  # type: ignore[return-value]  # a rule is only ever called with what was drawn for it, by name


def again(machine: Any, sequence: Sequence[Done]) -> None:
    """Execute rules on a machine; those that were given the answer of one that is left out are left out too."""
    fresh: dict[int, Any] = {}
    produced = {id(done.result): done for done in sequence if _is_handle(done.result)}
    for done in sequence:
        drawn = {}
        for name, value in done.drawn.items():
            if _is_handle(value):
                if id(value) not in produced or not _is_handle(fresh.get(id(value))):
                    break
                drawn[name] = fresh[id(value)]
            else:
                drawn[name] = value
        else:
            result = done.rule(machine, **drawn)
            if _is_handle(done.result):
                fresh[id(done.result)] = result


def _is_handle(value: Any) -> bool:
    return getattr(value, "handle", False) is True


def shorten(sequence: Sequence[Done], fails: Callable[[Sequence[Done]], bool]) -> list[Done]:
    """The shortest sequence found that still fails; ``sequence`` itself must.

    Args:
        fails: whether the subjects still differ. It may raise to have the search given up.
    """
    current = list(sequence)
    width = len(current) // 2
    while width:
        at = 0
        while at < len(current):
            shorter = current[:at] + [d for d in current[at : at + width] if d.pinned] + current[at + width :]
            if len(shorter) < len(current) and fails(shorter):
                current = shorter
            else:
                at += width
        width //= 2
    return _simplify(current, fails)


def _simplify(current: list[Done], fails: Callable[[Sequence[Done]], bool]) -> list[Done]:
    """Leave out what is inside of operations: parts of lists, labels."""
    progress = True
    while progress:
        progress = False
        for at, done in enumerate(current):
            for simpler in _simpler(done):
                candidate = [*current[:at], simpler, *current[at + 1 :]]
                if fails(candidate):
                    current, progress = candidate, True
                    break
    return current


def _simpler(done: Done) -> Iterator[Done]:
    for name, value in done.drawn.items():
        if isinstance(value, list):
            for at in range(len(value)):
                yield replace(done, drawn={**done.drawn, name: value[:at] + value[at + 1 :]})
        elif name == "labels" and value != {}:
            yield replace(done, drawn={**done.drawn, name: {}})
