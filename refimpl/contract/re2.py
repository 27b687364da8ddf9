r"""Regular expressions in the syntax of RE2, which filters speak, run by Python's ``re``.

The two differ where it hurts: RE2 has no look-around and no back-references, ``\d \w \s \b`` mean ASCII only, ``$`` is
the very end of the text, flags may come anywhere, and ``\z``, ``\pL``, ``\Q...\E``, ``[[:alpha:]]`` and ``(?U)`` exist
only there. ``compile`` translates what both can express and refuses the rest, so an expression means here what it means
to containerd, or nothing at all. It answers whether something is found, not what: groups capture nothing and lazy
repetition is repetition.

Refused although RE2 has it: scripts (``\p{Greek}``), which the standard library does not know. Python searches by
backtracking, so an expression like ``(a*)*b`` can take long, where RE2 promises linear time.
"""

from __future__ import annotations

import functools
import re
import string
import sys
import unicodedata
from dataclasses import dataclass, replace

_MAX_REPEAT = 1000
"""Greatest count in ``{n,m}``, also for repetitions inside one another taken together."""

_MAX_DEPTH = 100
"""Groups inside one another; Go allows 1000, Python's stack does not."""

_Ranges = list[tuple[int, int]]
"""Code points from first to last, both included."""

_DIGIT: _Ranges = [(0x30, 0x39)]
_UPPER: _Ranges = [(0x41, 0x5A)]
_LOWER: _Ranges = [(0x61, 0x7A)]
_WORD: _Ranges = [*_DIGIT, *_UPPER, (0x5F, 0x5F), *_LOWER]
_PERL = {"d": _DIGIT, "w": _WORD, "s": [(0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20)]}
_POSIX: dict[str, _Ranges] = {
    "alnum": [*_DIGIT, *_UPPER, *_LOWER],
    "alpha": [*_UPPER, *_LOWER],
    "ascii": [(0x00, 0x7F)],
    "blank": [(0x09, 0x09), (0x20, 0x20)],
    "cntrl": [(0x00, 0x1F), (0x7F, 0x7F)],
    "digit": _DIGIT,
    "graph": [(0x21, 0x7E)],
    "lower": _LOWER,
    "print": [(0x20, 0x7E)],
    "punct": [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)],
    "space": [(0x09, 0x0D), (0x20, 0x20)],
    "upper": _UPPER,
    "word": _WORD,
    "xdigit": [*_DIGIT, (0x41, 0x46), (0x61, 0x66)],
}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_PLACES = {"A": r"\A", "z": r"\Z", "b": r"(?a:\b)", "B": r"(?a:\B)"}
_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}", re.ASCII)
_FLAGS = re.compile(r"([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED = re.compile(r"P<([0-9A-Za-z_]+)>")
_PROPERTY = re.compile(r"\{(\^?)([^}]*)\}|()([A-Z])")
_CODE_POINT = re.compile(r"\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{2})")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")


class SyntaxError(ValueError):  # noqa: A001 - always used with the module's name, as `re.error` is
    """Not an expression of RE2, or one that Python cannot run."""


@functools.lru_cache(maxsize=256)
def compile(expression: str) -> re.Pattern[str]:  # noqa: A001 - the twin of `re.compile`
    """Translate an expression; ``search`` on the answer says whether it is found.

    Raises:
        SyntaxError: RE2 would not take it, or Python cannot express it.
    """
    try:
        return re.compile(_Translator(expression).translate())
    except (re.error, RecursionError, OverflowError) as err:
        raise SyntaxError(str(err)) from err


@dataclass(frozen=True, slots=True)
class _Flags:
    """What applies from here to the end of the group. ``U`` only swaps greedy and lazy, which makes no difference."""

    i: bool = False
    m: bool = False
    s: bool = False

    def changed(self, on: str, off: str) -> _Flags:
        known = {flag: True for flag in on if flag != "U"} | {flag: False for flag in off if flag != "U"}
        return replace(self, **known)


@dataclass(slots=True)
class _Piece:
    """A translated part and how often it may repeat what is in it."""

    pattern: str
    repeats: int = 1


class _Translator:
    """Reads an expression from left to right; every part becomes a pattern of Python that stands for itself."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._offset = 0
        self._names: set[str] = set()

    def translate(self) -> str:
        piece = self._alternatives(_Flags(), 0)
        if self._rest:
            raise SyntaxError("unexpected )")
        return piece.pattern

    @property
    def _rest(self) -> str:
        return self._text[self._offset :]

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
        patterns, repeats = [""], 1
        while (character := self._peek()) and character != ")":
            if character == "|":
                self._offset += 1
                patterns.append("")
                continue
            changed = self._flags_only(flags)
            if changed is not None:
                flags = changed
                if self._peek() and self._peek() in "*+?":
                    raise SyntaxError("missing argument to repetition operator")
                continue
            piece = self._repeated(self._atom(flags, depth))
            patterns[-1] += piece.pattern
            repeats = max(repeats, piece.repeats)
        return _Piece("|".join(patterns), repeats)

    def _flags_only(self, flags: _Flags) -> _Flags | None:
        """``(?flags)``, which changes what follows."""
        if not self._rest.startswith("(?"):
            return None
        match = _FLAGS.match(self._text, self._offset + 2)
        if match is None or match[3] == ":":
            return None
        self._offset = match.end()
        return flags.changed(match[1], match[2] or "")

    def _repeated(self, piece: _Piece) -> _Piece:
        counts = self._repetition()
        if counts is None:
            return piece
        suffix, times = counts
        if self._peek() == "?":
            self._offset += 1
        before = self._offset
        if self._repetition() is not None:
            raise SyntaxError("invalid nested repetition operator")
        self._offset = before
        repeats = piece.repeats * max(times, 1)
        if repeats > _MAX_REPEAT:
            raise SyntaxError("invalid repeat count")
        return _Piece(f"(?:{piece.pattern}){suffix}", repeats)

    def _repetition(self) -> tuple[str, int] | None:
        """A repetition operator in Python's spelling, and its greatest count; None if there is none here."""
        if self._peek() and self._peek() in "*+?":
            return self._next(), 1
        match = self._take(_COUNT)
        if match is None:
            return None
        least, most = int(match[1]), int(match[3] or match[1])
        if least > _MAX_REPEAT or most > _MAX_REPEAT or least > most:
            raise SyntaxError("invalid repeat count")
        return match[0], most

    def _atom(self, flags: _Flags, depth: int) -> _Piece:
        character = self._peek()
        if character == "(":
            return self._group(flags, depth)
        if character in "*+?":
            raise SyntaxError("missing argument to repetition operator")
        if character == "[":
            return _Piece(_folded(self._class(), flags))
        if character == "\\":
            return _Piece(self._escaped(flags))
        self._offset += 1
        if character == ".":
            return _Piece("(?s:.)" if flags.s else "[^\n]")
        if character == "^":
            return _Piece("(?m:^)" if flags.m else r"\A")
        if character == "$":
            return _Piece("(?m:$)" if flags.m else r"\Z")
        return _Piece(_folded(re.escape(character), flags))

    def _group(self, flags: _Flags, depth: int) -> _Piece:
        self._offset += 1
        if self._peek() == "?":
            self._offset += 1
            if named := self._take(_NAMED):
                if named[1] in self._names:
                    raise SyntaxError("duplicate capture group name")
                self._names.add(named[1])
            elif scoped := self._take(_FLAGS):
                flags = flags.changed(scoped[1], scoped[2] or "")
            else:
                raise SyntaxError("invalid or unsupported Perl syntax")
        inner = self._alternatives(flags, depth + 1)
        if self._next() != ")":
            raise SyntaxError("missing closing )")
        return _Piece(f"(?:{inner.pattern})", inner.repeats)

    def _escaped(self, flags: _Flags) -> str:
        following = self._text[self._offset + 1 : self._offset + 2]
        if following in _PLACES:
            self._offset += 2
            return _PLACES[following]
        if following == "Q":
            literal, _, _ = self._text[self._offset + 2 :].partition(r"\E")
            self._offset = min(self._offset + 2 + len(literal) + len(r"\E"), len(self._text))
            return f"(?:{_folded(re.escape(literal), flags)})"
        ranges = self._escaped_class()
        if ranges is not None:
            return _folded(_bracket(ranges), flags)
        return _folded(re.escape(self._escaped_character()), flags)

    def _escaped_class(self) -> _Ranges | None:
        r"""``\d \D \w \W \s \S \pL \p{Lu} \PL``; None if there is none here."""
        kind = self._text[self._offset + 1 : self._offset + 2]
        if kind.lower() in _PERL and kind:
            self._offset += 2
            ranges = _PERL[kind.lower()]
            return ranges if kind.islower() else _complement(ranges)
        if kind in {"p", "P"}:
            self._offset += 2
            match = self._take(_PROPERTY)
            if match is None:
                raise SyntaxError("invalid character class range")
            ranges = list(_property(match[2] if match[2] is not None else match[4]))
            return ranges if (kind == "p") != bool(match[1]) else _complement(ranges)
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

    def _class(self) -> str:
        self._offset += 1
        negated = self._peek() == "^"
        self._offset += negated
        ranges: _Ranges = []
        first = True
        while first or self._peek() != "]":
            first = False
            ranges += self._class_item()
        self._offset += 1
        return _bracket(ranges, negated=negated)

    def _class_item(self) -> _Ranges:
        if self._rest.startswith("[:") and ":]" in self._rest:
            name, _, _ = self._rest[2:].partition(":]")
            self._offset += len(name) + 4
            ranges = _POSIX.get(name.removeprefix("^"))
            if ranges is None:
                raise SyntaxError("invalid character class range")
            return _complement(ranges) if name.startswith("^") else ranges
        if self._peek() == "\\":
            escaped = self._escaped_class()
            if escaped is not None:
                return escaped
        low = high = self._class_character()
        if self._peek() == "-" and self._text[self._offset + 1 : self._offset + 2] not in {"", "]"}:
            self._offset += 1
            high = self._class_character()
        if low > high:
            raise SyntaxError("invalid character class range")
        return [(ord(low), ord(high))]

    def _class_character(self) -> str:
        return self._escaped_character() if self._peek() == "\\" else self._next()


def _folded(pattern: str, flags: _Flags) -> str:
    return f"(?i:{pattern})" if flags.i else pattern


def _bracket(ranges: _Ranges, *, negated: bool = False) -> str:
    inside = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)
    return f"[{'^' if negated else ''}{inside}]"


def _complement(ranges: _Ranges) -> _Ranges:
    result: _Ranges = []
    start = 0
    for low, high in sorted(ranges):
        if low > start:
            result.append((start, low - 1))
        start = max(start, high + 1)
    if start <= sys.maxunicode:
        result.append((start, sys.maxunicode))
    return result


@functools.cache
def _property(name: str) -> tuple[tuple[int, int], ...]:
    """Code points of a general category such as ``Lu`` or ``L``."""
    if name == "Any":
        return ((0, sys.maxunicode),)
    if not name or name[0] not in string.ascii_uppercase or len(name) > 2:
        raise SyntaxError("invalid character class range")
    ranges: _Ranges = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)).startswith(name):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1] = (ranges[-1][0], code)
            else:
                ranges.append((code, code))
    if not ranges:
        raise SyntaxError("invalid character class range")
    return tuple(ranges)
