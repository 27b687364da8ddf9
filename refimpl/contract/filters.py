"""containerd's filter language, with which lists are narrowed and events are chosen (SVC-026 to 040).

::

    filter    = selector { "," selector }              all must hold
    selector  = fieldpath [ operator value ]           without operator: the field is present
    fieldpath = field { "." field }
    field     = letters, digits and "_" | quoted
    operator  = "==" | "!=" | "~="                     "~=" finds a regular expression (RE2) in the value
    value     = text without comma and white space | quoted
    quoted    = "..."                                  for the value of "~=" also /.../ and |...|

White space may stand before a field, an operator and a value, never behind a value. Of several filters any one may
hold; no filter, or an empty one, lets everything through. What can be asked for differs by type: an *adaptor* answers
with the value of a field path, or None if the object has no such field.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from refimpl.contract import re2
from refimpl.contract.errors import InvalidArgument

Adaptor = Callable[[Sequence[str]], str | None]
"""The value at a field path, such as ``("labels", "app")``; None if the field is absent."""

Filter = Callable[[Adaptor], bool]
"""Whether the object behind an adaptor is wanted."""

_QUOTES = '"/|'
_SEPARATORS = ",."
_OPERATORS = "=!~"
_WHITE = " \t\n\v\f\r\x85\xa0"
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_NUMERIC_ESCAPES = {"x": 2, "u": 4, "U": 8}
_OCTAL_DIGITS = 3
_FORBIDDEN = {"\0": "unexpected null", "\ufffd": "rune error"}
_MAX_RUNE = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def parse(filters: Sequence[str]) -> Filter:
    """Understand a list of filters; the answer can be asked about any number of objects.

    Raises:
        InvalidArgument: one does not parse; the text marks the place with ``>|`` and ``|<`` (SVC-037).
    """
    if not filters:
        return _everything
    alternatives = [parse_one(text) for text in filters]
    return lambda adaptor: any(alternative(adaptor) for alternative in alternatives)


def parse_one(text: str) -> Filter:
    """Understand a single filter; errors as ``parse``."""
    if not text:
        return _everything
    conditions = _Parser(text).conditions()
    return lambda adaptor: all(condition(adaptor) for condition in conditions)


def map_value(fieldpath: Sequence[str], values: Mapping[str, str]) -> str | None:
    """What ``labels.<key>`` means, for adaptors: what is behind the first step, joined with dots, is the key (SVC-032).

    Args:
        fieldpath: the whole path, the map's name included.
        values: the map.
    """
    return values.get(".".join(fieldpath[1:])) if len(fieldpath) > 1 else None


def _everything(_adaptor: Adaptor) -> bool:
    return True


class _Kind(Enum):
    END = auto()
    FIELD = auto()
    VALUE = auto()
    QUOTED = auto()
    SEPARATOR = auto()
    OPERATOR = auto()
    ILLEGAL = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of a filter.

    Attributes:
        start: offset of its first character.
        text: as it stands there; for an illegal one, what is wrong with it.
    """

    kind: _Kind
    start: int
    text: str


class _Scanner:
    """Cuts a filter into tokens. What a run of characters is depends on whether a value is due."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.offset = 0
        self._value_due = False

    def peek(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.offset : self.offset + 1]

    def scan(self) -> _Token:
        """The next token, behind any white space."""
        while self.peek() and _is_white(self.peek()):
            self.offset += 1
        start, character = self.offset, self.peek()
        if not character:
            return _Token(_Kind.END, start, "")
        if character in _FORBIDDEN:
            return _Token(_Kind.ILLEGAL, start, _FORBIDDEN[character])
        if character in _QUOTES:
            return self._quoted()
        if character in _SEPARATORS:
            self.offset += 1
            self._value_due = False
            return _Token(_Kind.SEPARATOR, start, character)
        if character in _OPERATORS:
            self._value_due = True
            return self._run(_Kind.OPERATOR, lambda each: each in _OPERATORS)
        if self._value_due:
            self._value_due = False
            return self._run(_Kind.VALUE, _is_value)
        if _is_field(character):
            return self._run(_Kind.FIELD, _is_field)
        return _Token(_Kind.OTHER, start, character)

    def _run(self, kind: _Kind, belongs: Callable[[str], bool]) -> _Token:
        # The first character has been judged already; that of a value may be one that only quotes allow further on.
        start = self.offset
        self.offset += 1
        while self.peek() and belongs(self.peek()):
            self.offset += 1
        return _Token(kind, start, self.text[start : self.offset])

    def _quoted(self) -> _Token:
        """A quoted text with its quotes. An escape that is wrong is noted, and the end quote still looked for."""
        start, quote = self.offset, self.peek()
        complaint = ""
        self.offset += 1
        while (character := self.peek()) != quote:
            if character in {"", "\n", *_FORBIDDEN}:
                complaint = complaint or _FORBIDDEN.get(character, "quoted literal not terminated")
                return _Token(_Kind.ILLEGAL, start, complaint)
            self.offset += 1
            if character == "\\":
                complaint = complaint or self._escape(quote)
        self.offset += 1
        if complaint:
            return _Token(_Kind.ILLEGAL, start, complaint)
        return _Token(_Kind.QUOTED, start, self.text[start : self.offset])

    def _escape(self, quote: str) -> str:
        """Go past what follows a backslash; what is wrong with it, or nothing."""
        character = self.peek()
        if character and (character in _ESCAPES or character == quote):
            self.offset += 1
            return ""
        if character in _NUMERIC_ESCAPES:
            self.offset += 1
            return self._digits(16, _NUMERIC_ESCAPES[character])
        if _is_digit(character, 8):
            return self._digits(8, _OCTAL_DIGITS)
        return "illegal escape sequence"

    def _digits(self, base: int, count: int) -> str:
        for _ in range(count):
            if not _is_digit(self.peek(), base):
                return "illegal numeric escape sequence"
            self.offset += 1
        return ""


class _Parser:
    """Reads tokens from left to right and builds one condition a selector."""

    def __init__(self, text: str) -> None:
        self._scanner = _Scanner(text)

    def conditions(self) -> list[Filter]:
        """All selectors of the filter."""
        found = [self._selector()]
        while following := self._scanner.peek():
            if following != ",":
                shown = "\ufffd" if following in _FORBIDDEN else following
                raise self._error(self._scanner.offset, f"unexpected input: {shown}")
            self._scanner.scan()
            found.append(self._selector())
        return found

    def _selector(self) -> Filter:
        path = self._fieldpath()
        if self._scanner.peek() in {"", ","}:
            return lambda adaptor: adaptor(path) is not None
        operator = self._operator()
        value = self._value(other_quotes=operator == "~=")
        if operator == "==":
            return lambda adaptor: adaptor(path) == value
        if operator == "!=":
            # An absent field differs from everything but the empty text.
            return lambda adaptor: (adaptor(path) or "") != value
        return _matches(path, value)

    def _fieldpath(self) -> tuple[str, ...]:
        fields = [self._field()]
        while self._scanner.peek() == ".":
            self._scanner.scan()
            fields.append(self._field())
        return tuple(fields)

    def _field(self) -> str:
        token = self._scanner.scan()
        if token.kind is _Kind.FIELD:
            return token.text
        if token.kind is _Kind.QUOTED:
            return self._unquote(token, other_quotes=False)
        raise self._unfit(token, "expected field or quoted")

    def _operator(self) -> str:
        token = self._scanner.scan()
        if token.kind is not _Kind.OPERATOR:
            raise self._unfit(token, 'expected an operator ("=="|"!="|"~=")')
        if token.text not in {"==", "!=", "~="}:
            raise self._error(token.start, f'unsupported operator "{token.text}"')
        return token.text

    def _value(self, *, other_quotes: bool) -> str:
        token = self._scanner.scan()
        if token.kind in {_Kind.VALUE, _Kind.FIELD}:
            return token.text
        if token.kind is _Kind.QUOTED:
            return self._unquote(token, other_quotes=other_quotes)
        raise self._unfit(token, "expected value or quoted")

    def _unquote(self, token: _Token, *, other_quotes: bool) -> str:
        if token.text[0] != '"' and not other_quotes:
            raise self._error(token.start, "invalid quote encountered")
        try:
            return _unescape(token.text[1:-1])
        except ValueError:
            raise self._error(token.start, "unquoting failed: quote syntax error") from None

    def _unfit(self, token: _Token, expected: str) -> InvalidArgument:
        return self._error(token.start, token.text if token.kind is _Kind.ILLEGAL else expected)

    def _error(self, offset: int, what: str) -> InvalidArgument:
        text = self._scanner.text
        if offset < len(text):
            text = f"{text[:offset]} >|{text[offset]}|< {text[offset + 1 :]}"
        return InvalidArgument(f"filters: parse error: [{text}]: {what}")


def _matches(path: Sequence[str], expression: str) -> Filter:
    """A condition that searches: an absent field as empty text; a bad expression finds nothing (SVC-031)."""
    try:
        automaton = re2.compile(expression)
    except re2.SyntaxError:
        return lambda _adaptor: False
    return lambda adaptor: automaton.found_in(adaptor(path) or "")


def _unescape(text: str) -> str:
    """Take the backslashes out of what stands between two quotes, where the scanner found only escapes it knows.

    ``\\x`` and octal escapes name bytes of UTF-8, as in Go; bytes that make no character are replaced.
    """
    result = bytearray()
    offset = 0
    while offset < len(text):
        character, offset = text[offset], offset + 1
        if character != "\\":
            result += character.encode("utf-8", "surrogatepass")
            continue
        kind, offset = text[offset], offset + 1
        if kind in _ESCAPES:
            result += _ESCAPES[kind].encode()
        elif kind in _NUMERIC_ESCAPES:
            number, offset = int(text[offset : offset + _NUMERIC_ESCAPES[kind]], 16), offset + _NUMERIC_ESCAPES[kind]
            result += bytes([number]) if kind == "x" else _rune(number)
        elif _is_digit(kind, 8):
            number, offset = int(text[offset - 1 : offset + 2], 8), offset + 2
            result += bytes([number])
        else:
            result += kind.encode()
    return result.decode("utf-8", "replace")


def _rune(number: int) -> bytes:
    if number > _MAX_RUNE:
        raise ValueError("no such character")
    return b"\xef\xbf\xbd" if number in _SURROGATES else chr(number).encode()


def _is_digit(character: str, base: int) -> bool:
    return len(character) == 1 and character in "0123456789abcdefABCDEF" and int(character, 16) < base


def _is_field(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def _is_white(character: str) -> bool:
    return character in _WHITE or (not character.isascii() and unicodedata.category(character) in {"Zs", "Zl", "Zp"})


def _is_value(character: str) -> bool:
    """Visible characters: letters, marks, numbers, punctuation, symbols."""
    return character not in {",", *_FORBIDDEN} and unicodedata.category(character)[0] in "LMNPS"
