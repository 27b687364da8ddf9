r"""Classes of characters in regular expressions: ``[a-z]``, ``\d``, ``[[:alpha:]]``, ``\pL``, with or without case.

A class is a list of ranges of code points. What RE2 calls a digit, a letter of a word or white space is ASCII only.
"""

from __future__ import annotations

import functools
import re
import string
import sys
import unicodedata

Ranges = list[tuple[int, int]]
"""Code points from first to last, both included."""

_DIGIT: Ranges = [(0x30, 0x39)]
_UPPER: Ranges = [(0x41, 0x5A)]
_LOWER: Ranges = [(0x61, 0x7A)]
_WORD: Ranges = [*_DIGIT, *_UPPER, (0x5F, 0x5F), *_LOWER]
PERL: dict[str, Ranges] = {"d": _DIGIT, "w": _WORD, "s": [(0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20)]}
POSIX: dict[str, Ranges] = {
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

_MORE_CASES = {"s": "\u017f", "S": "\u017f", "k": "\u212a", "K": "\u212a"}
_DOTTED, _DOTLESS = 0x130, 0x131


def only(character: str) -> Ranges:
    """The class of a single character."""
    return [(ord(character), ord(character))]


def pattern(ranges: Ranges, *, fold: bool, negated: bool = False) -> re.Pattern[str]:
    """What matches one character of a class, or with ``negated`` one that is none of it.

    Args:
        fold: take a letter for the same in any case.
    """
    inside = _bracket(ranges)
    if fold:
        # Python's re knows how letters fold, but takes the Turkish i without and I with a dot for cases of i.
        turkish = [(code, code) for code in (_DOTTED, _DOTLESS) if any(low <= code <= high for low, high in ranges)]
        inside = f"{_bracket(turkish)}|(?![\u0130\u0131])(?i:{_bracket(_without_turkish(ranges))})"
    return re.compile(f"(?!{inside})(?s:.)" if negated else inside)


def _without_turkish(ranges: Ranges) -> Ranges:
    parts = [part for low, high in ranges for part in ((low, min(high, _DOTTED - 1)), (max(low, _DOTLESS + 1), high))]
    return [(low, high) for low, high in parts if low <= high]


def _bracket(ranges: Ranges) -> str:
    """Python's spelling of a class; nothing is in an empty one."""
    return "[" + "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges) + "]" if ranges else "(?!)"


def others(ranges: Ranges, *, fold: bool) -> Ranges:
    """All characters but these, and but those that differ from them only in case where case does not matter."""
    result: Ranges = []
    start = 0
    for low, high in sorted(ranges + (_other_case(ranges) if fold else [])):
        if low > start:
            result.append((start, low - 1))
        start = max(start, high + 1)
    if start <= sys.maxunicode:
        result.append((start, sys.maxunicode))
    return result


def _other_case(ranges: Ranges) -> Ranges:
    """The ASCII letters of a class in their other case; long s and the Kelvin sign are cases of s and k."""
    letters = {chr(code) for low, high in ranges for code in range(low, min(high, 0x7F) + 1) if chr(code).isalpha()}
    cases = {letter.swapcase() for letter in letters} | {_MORE_CASES[x] for x in letters if x in _MORE_CASES}
    return [(ord(letter), ord(letter)) for letter in cases]


@functools.cache
def category(name: str) -> tuple[tuple[int, int], ...]:
    """Code points of a general category of Unicode, such as ``Lu`` or ``L``, or ``Any``; none for another name."""
    if name == "Any":
        return ((0, sys.maxunicode),)
    if not name or name[0] not in string.ascii_uppercase or len(name) > 2:
        return ()
    ranges: Ranges = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)).startswith(name):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1] = (ranges[-1][0], code)
            else:
                ranges.append((code, code))
    return tuple(ranges)
