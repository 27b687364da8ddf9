r"""Regular expressions in the syntax of RE2, which filters speak.

Python's ``re`` reads another language: RE2 has no look-around and no back-references, ``\d \w \s \b`` mean ASCII only,
``$`` is the very end of the text, flags may come anywhere, and ``\z``, ``\pL``, ``\Q...\E``, ``[[:alpha:]]`` and
``(?U)`` exist only there. ``compile`` reads RE2 and refuses the rest, so an expression means here what it means to
containerd, or nothing at all. It answers whether something is found, not what: groups capture nothing, and lazy
repetition is repetition.

Refused although RE2 has it: scripts (``\p{Greek}``), which the standard library does not know.
"""

from __future__ import annotations

import functools
import re
import sys
from dataclasses import dataclass, replace

from refimpl.contract.automaton import Assertion, Automaton, Character, Choice, Node, Place, Repeat, Sequence
from refimpl.contract.charclass import PERL, POSIX, Ranges, category, only, others, pattern

_MAX_REPEAT = 1000
"""Greatest count in ``{n,m}``, also for repetitions inside one another taken together."""

_MAX_DEPTH = 100
"""Groups inside one another; Go allows 1000, Python's stack does not."""

_REPETITIONS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_PLACES = {"A": Place.TEXT_START, "z": Place.TEXT_END, "b": Place.WORD_EDGE, "B": Place.NO_WORD_EDGE}
_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}", re.ASCII)
_FLAGS = re.compile(r"([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED = re.compile(r"P<([0-9A-Za-z_]+)>")
_POSIX_NAME = re.compile(r"\[:(.*?):\]", re.DOTALL)
_PROPERTY = re.compile(r"\{(\^?)([^}]*)\}|()([A-Z])")
_CODE_POINT = re.compile(r"\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{2})")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")


class SyntaxError(ValueError):  # noqa: A001 - always used with the module's name, as `re.error` is
    """Not an expression of RE2, or one that Python cannot run."""


@functools.lru_cache(maxsize=256)
def compile(expression: str) -> Automaton:  # noqa: A001 - the twin of `re.compile`
    """Read an expression; ``found_in`` on the answer says whether a text has it.

    Raises:
        SyntaxError: RE2 would not take it, or it needs what we do not have.
    """
    return Automaton(_Parser(expression).parse())


@dataclass(frozen=True, slots=True)
class _Flags:
    """What applies from here to the end of the group. ``U`` only swaps greedy and lazy, which makes no difference."""

    i: bool = False
    m: bool = False
    s: bool = False

    def changed(self, on: str, off: str) -> _Flags:
        known = {flag: True for flag in on if flag != "U"} | {flag: False for flag in off if flag != "U"}
        return replace(self, **known)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the expression, and how often what is in it may repeat."""

    node: Node
    repeats: int = 1


class _Parser:
    """Reads an expression from left to right."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._offset = 0

    def parse(self) -> Node:
        piece = self._alternatives(_Flags(), 0)
        if self._peek():
            raise SyntaxError("unexpected )")
        return piece.node

    def _at(self, text: str) -> bool:
        return self._text.startswith(text, self._offset)

    def _peek(self) -> str:
        return self._text[self._offset : self._offset + 1]

    def _next(self) -> str:
        character = self._peek()
        if not character:
            raise SyntaxError("the expression ends too early")
        self._offset += 1
        return character

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._offset)
        if match is not None:
            self._offset = match.end()
        return match

    def _alternatives(self, flags: _Flags, depth: int) -> _Piece:
        """Up to the end of the group, or of the expression."""
        if depth > _MAX_DEPTH:
            raise SyntaxError("expression nests too deeply")
        alternatives: list[list[_Piece]] = [[]]
        while (character := self._peek()) and character != ")":
            pieces = alternatives[-1]
            if character == "|":
                self._offset += 1
                alternatives.append([])
            elif (repetition := self._repetition()) is not None:
                # Of whatever is last on the pile: flags in between leave nothing there.
                if not pieces:
                    raise SyntaxError("missing argument to repetition operator")
                pieces.append(_repeated(pieces.pop(), *repetition))
            elif (changed := self._flags_only(flags)) is not None:
                flags = changed
            elif self._at(r"\Q"):
                pieces += [_Piece(_character(only(literal), flags)) for literal in self._quoted()]
            else:
                pieces.append(self._atom(flags, depth))
        sequences = [Sequence(tuple(piece.node for piece in pieces)) for pieces in alternatives]
        repeats = [piece.repeats for pieces in alternatives for piece in pieces]
        return _Piece(Choice(tuple(sequences)), max(repeats, default=1))

    def _flags_only(self, flags: _Flags) -> _Flags | None:
        """``(?flags)``, which changes what follows."""
        if not self._at("(?"):
            return None
        match = _FLAGS.match(self._text, self._offset + 2)
        if match is None or match[3] == ":":
            return None
        self._offset = match.end()
        return flags.changed(match[1], match[2] or "")

    def _repetition(self) -> tuple[int, int | None] | None:
        """The bounds of a repetition; None if there is none here."""
        found = self._operator()
        if found is not None:
            if self._peek() == "?":
                self._offset += 1
            if self._operator() is not None:
                raise SyntaxError("invalid nested repetition operator")
        return found

    def _operator(self) -> tuple[int, int | None] | None:
        if self._peek() and self._peek() in _REPETITIONS:
            return _REPETITIONS[self._next()]
        match = self._take(_COUNT)
        if match is None:
            return None
        least = int(match[1])
        most = (int(match[3]) if match[3] else None) if match[2] else least
        if least > _MAX_REPEAT or (most is not None and not least <= most <= _MAX_REPEAT):
            raise SyntaxError("invalid repeat count")
        return least, most

    def _quoted(self) -> str:
        r"""What stands between ``\Q`` and ``\E``, or the end."""
        literal, _, _ = self._text[self._offset + 2 :].partition(r"\E")
        self._offset = min(self._offset + 2 + len(literal) + len(r"\E"), len(self._text))
        return literal

    def _atom(self, flags: _Flags, depth: int) -> _Piece:
        character = self._peek()
        if character == "(":
            return self._group(flags, depth)
        if character == "[":
            return _Piece(self._class(flags))
        if character == "\\":
            return _Piece(self._escaped(flags))
        self._offset += 1
        if character == ".":
            return _Piece(_character([] if flags.s else only("\n"), flags, negated=True))
        if character == "^":
            return _Piece(Assertion(Place.LINE_START if flags.m else Place.TEXT_START))
        if character == "$":
            return _Piece(Assertion(Place.LINE_END if flags.m else Place.TEXT_END))
        return _Piece(_character(only(character), flags))

    def _group(self, flags: _Flags, depth: int) -> _Piece:
        self._offset += 1
        if self._peek() == "?":
            self._offset += 1
            if self._take(_NAMED):
                pass
            elif scoped := self._take(_FLAGS):
                flags = flags.changed(scoped[1], scoped[2] or "")
            else:
                raise SyntaxError("invalid or unsupported Perl syntax")
        inner = self._alternatives(flags, depth + 1)
        if self._next() != ")":
            raise SyntaxError("missing closing )")
        return inner

    def _escaped(self, flags: _Flags) -> Node:
        following = self._text[self._offset + 1 : self._offset + 2]
        if following in _PLACES:
            self._offset += 2
            return Assertion(_PLACES[following])
        escaped = self._escaped_class()
        if escaped is not None:
            ranges, negated = escaped
            # Negated after case is folded, not before: (?i)\W has no k, though the complement has the Kelvin sign.
            return _character(ranges, flags, negated=negated)
        return _character(only(self._escaped_character()), flags)

    def _escaped_class(self) -> tuple[Ranges, bool] | None:
        r"""``\d \D \w \W \s \S \pL \p{Lu} \PL``, and whether all but that is meant; None if there is none here."""
        kind = self._text[self._offset + 1 : self._offset + 2]
        if kind.lower() in PERL and kind:
            self._offset += 2
            return PERL[kind.lower()], kind.isupper()
        if kind in {"p", "P"}:
            self._offset += 2
            match = self._take(_PROPERTY)
            if match is None:
                raise SyntaxError("invalid character class range")
            ranges = list(category(match[2] if match[2] is not None else match[4]))
            if not ranges:
                raise SyntaxError("invalid character class range")
            return ranges, (kind == "P") != bool(match[1])
        return None

    def _escaped_character(self) -> str:
        self._offset += 1
        if octal := self._take(_OCTAL):
            return chr(int(octal[0], 8))
        character = self._next()
        if character == "x":
            match = self._take(_CODE_POINT)
            if match is None or int(match[1] or match[2], 16) > sys.maxunicode:
                raise SyntaxError("invalid escape sequence")
            return chr(int(match[1] or match[2], 16))
        if character in _CONTROLS:
            return _CONTROLS[character]
        if not character.isascii() or character.isalnum():
            raise SyntaxError("invalid escape sequence")
        return character

    def _class(self, flags: _Flags) -> Character:
        self._offset += 1
        negated = self._peek() == "^"
        self._offset += negated
        ranges: Ranges = []
        first = True
        while first or self._peek() != "]":
            first = False
            ranges += self._class_item(flags)
        self._offset += 1
        return _character(ranges, flags, negated=negated)

    def _class_item(self, flags: _Flags) -> Ranges:
        if (name := self._take(_POSIX_NAME)) is not None:
            ranges = POSIX.get(name[1].removeprefix("^"))
            if ranges is None:
                raise SyntaxError("invalid character class range")
            return others(ranges, fold=flags.i) if name[1].startswith("^") else ranges
        if self._peek() == "\\":
            escaped = self._escaped_class()
            if escaped is not None:
                ranges, negated = escaped
                return others(ranges, fold=flags.i) if negated else ranges
        low = high = self._class_character()
        if self._peek() == "-" and self._text[self._offset + 1 : self._offset + 2] not in {"", "]"}:
            self._offset += 1
            high = self._class_character()
        if low > high:
            raise SyntaxError("invalid character class range")
        return [(ord(low), ord(high))]

    def _class_character(self) -> str:
        return self._escaped_character() if self._peek() == "\\" else self._next()


def _repeated(piece: _Piece, least: int, most: int | None) -> _Piece:
    times = piece.repeats * max(most or 0, least, 1)
    if times > _MAX_REPEAT:
        raise SyntaxError("invalid repeat count")
    return _Piece(Repeat(piece.node, least, most), times)


def _character(ranges: Ranges, flags: _Flags, *, negated: bool = False) -> Character:
    return Character(pattern(ranges, fold=flags.i, negated=negated))
