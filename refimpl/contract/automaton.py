"""Whether a regular expression is found in a text, in time that grows with the text and no faster.

Python's ``re`` searches by trying one way after the other; with ``(a*)*b`` and a few dozen characters it never comes
back, holding up every other thread. A filter comes from a client, so it must not be able to do that. This searches as
RE2 does: all ways at once, as a set of states that each character moves on. Moves are remembered, so a list of a
thousand names pays for a character's classes once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag, auto

_MOST_MOVES = 20_000
"""Moves remembered; then they are forgotten and collected anew."""


class Place(IntFlag):
    """What can be true between two characters."""

    TEXT_START = auto()
    TEXT_END = auto()
    LINE_START = auto()
    LINE_END = auto()
    WORD_EDGE = auto()
    NO_WORD_EDGE = auto()


@dataclass(frozen=True, slots=True)
class Character:
    """One character that the pattern, a class, matches."""

    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Assertion:
    """No character, but one of these places."""

    place: Place


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Any one of them."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same again and again.

    Attributes:
        least, most: how often; None for without end.
    """

    part: Node
    least: int
    most: int | None


Node = Character | Assertion | Sequence | Choice | Repeat


@dataclass(slots=True)
class _State:
    """Where a search can be: before a character or a place (``test``), or at a fork.

    Attributes:
        then: states that come next; none for the one that means found.
    """

    test: re.Pattern[str] | Place | None
    then: tuple[int, ...]


_FOUND = 0


class Automaton:
    """An expression, ready to be looked for."""

    def __init__(self, node: Node) -> None:
        self._states = [_State(None, ())]
        self._start = self._add(node, _FOUND)
        self._moves: dict[tuple[frozenset[int], str, str], frozenset[int] | None] = {}

    def found_in(self, text: str) -> bool:
        """Whether the expression matches any part of ``text``."""
        states: frozenset[int] = frozenset()
        before = ""
        for after in [*text, ""]:
            moved = self._move(states, before, after)
            if moved is None:
                return True
            states, before = moved, after
        return False

    def _move(self, states: frozenset[int], before: str, after: str) -> frozenset[int] | None:
        """Where the states get with the character ``after``; None if the expression is found before it."""
        key = (states, before, after)
        moves = self._moves
        if key not in moves:
            if len(moves) >= _MOST_MOVES:
                # A new one, not an emptied one: another thread may be about to look into this one.
                moves = self._moves = {}
            moves[key] = self._work_out(states, before, after)
        return moves[key]

    def _work_out(self, states: frozenset[int], before: str, after: str) -> frozenset[int] | None:
        reached = self._reach({*states, self._start}, _places(before, after))
        if _FOUND in reached:
            return None
        moved: set[int] = set()
        for index in reached:
            state = self._states[index]
            if after and isinstance(state.test, re.Pattern) and state.test.fullmatch(after):
                moved.update(state.then)
        return frozenset(moved)

    def _reach(self, states: Iterable[int], places: Place) -> set[int]:
        """All states that can be got to without a character."""
        reached: set[int] = set()
        waiting = list(states)
        while waiting:
            index = waiting.pop()
            if index in reached:
                continue
            reached.add(index)
            state = self._states[index]
            if state.test is None or (isinstance(state.test, Place) and state.test & places):
                waiting.extend(state.then)
        return reached

    def _add(self, node: Node, then: int) -> int:
        """The state to begin ``node`` in, so that the search goes on in ``then`` behind it."""
        match node:
            case Character(pattern):
                return self._new(pattern, then)
            case Assertion(place):
                return self._new(place, then)
            case Sequence(parts):
                for part in reversed(parts):
                    then = self._add(part, then)
                return then
            case Choice(parts):
                return self._new(None, *(self._add(part, then) for part in parts))
            case Repeat(part, least, most):
                return self._add_repeat(part, least, most, then)

    def _add_repeat(self, part: Node, least: int, most: int | None, then: int) -> int:
        entry = then
        if most is None:
            entry = self._new(None)
            self._states[entry].then = (self._add(part, entry), then)
        else:
            for _ in range(most - least):
                entry = self._new(None, self._add(part, entry), then)
        for _ in range(least):
            entry = self._add(part, entry)
        return entry

    def _new(self, test: re.Pattern[str] | Place | None, *then: int) -> int:
        self._states.append(_State(test, then))
        return len(self._states) - 1


def _places(before: str, after: str) -> Place:
    """What is true between two characters; no character is the start or the end of the text."""
    places = Place.WORD_EDGE if _is_word(before) != _is_word(after) else Place.NO_WORD_EDGE
    if not before:
        places |= Place.TEXT_START
    if not after:
        places |= Place.TEXT_END
    if before in {"", "\n"}:
        places |= Place.LINE_START
    if after in {"", "\n"}:
        places |= Place.LINE_END
    return places


def _is_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())
