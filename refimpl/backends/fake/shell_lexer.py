"""Tokens of the fake shell: operators, line ends and words with their parts."""

from __future__ import annotations

from collections.abc import Callable

from refimpl.backends.fake.shell_syntax import (
    NAME,
    NAME_START,
    Arithmetic,
    Node,
    Parameter,
    Part,
    Substitution,
    SyntaxFailure,
    Text,
    Word,
)

OPERATORS = ("&&", "||", ";;", ">>", ">&", "<&", "<>", ">|", "|", "&", ";", "<", ">", "(", ")")
END = ""
"""The token at the end of the script."""

_BREAKS = frozenset(" \t\n|&;<>()")
_SPECIAL_NAMES = frozenset("?$!#@*-0123456789")
_PARAMETER_OPS = (":-", ":=", ":+", ":?", "-", "=", "+", "?", "##", "#", "%%", "%")

Token = str | Word
"""An operator, ``\\n``, ``END``, or a word."""


class Lexer:
    """Reads one script.

    Args:
        parse: makes the node of a command substitution from its text.
    """

    def __init__(self, text: str, parse: Callable[[str], Node]) -> None:
        self.text = text
        self.at = 0
        self._parse = parse

    def token(self) -> Token:
        """The next token."""
        self._skip_blanks()
        if self.at >= len(self.text):
            return END
        if self.text[self.at] == "\n":
            self.at += 1
            return "\n"
        for operator in OPERATORS:
            if self.text.startswith(operator, self.at):
                self.at += len(operator)
                return operator
        return self.word()

    def redirected_number(self) -> int | None:
        """A digit right before ``<`` or ``>``, taken; None if there is none."""
        self._skip_blanks()
        here = self.text[self.at : self.at + 2]
        if len(here) == 2 and here[0].isdigit() and here[1] in "<>":
            self.at += 1
            return int(here[0])
        return None

    def _skip_blanks(self) -> None:
        while self.at < len(self.text):
            if self.text.startswith("\\\n", self.at):
                self.at += 2
            elif self.text[self.at] in " \t":
                self.at += 1
            elif self.text[self.at] == "#":
                while self.at < len(self.text) and self.text[self.at] != "\n":
                    self.at += 1
            else:
                return

    def word(self, stop: frozenset[str] = _BREAKS) -> Word:
        """A word, up to one of ``stop`` outside quotes."""
        parts: list[Part] = []
        while self.at < len(self.text) and self.text[self.at] not in stop:
            letter = self.text[self.at]
            if letter == "'":
                end = self.text.find("'", self.at + 1)
                if end < 0:
                    raise SyntaxFailure("unterminated quoted string", incomplete=True)
                parts.append(Text(self.text[self.at + 1 : end], quoted=True))
                self.at = end + 1
            elif letter == '"':
                self.at += 1
                parts.extend(self._quoted())
            elif letter == "\\":
                following = self.text[self.at + 1 : self.at + 2]
                if following not in {"", "\n"}:
                    parts.append(Text(following, quoted=True))
                self.at += 2
            elif letter in "$`":
                parts.append(self._expansion(quoted=False))
            else:
                self._letter(parts, letter, quoted=False)
        return tuple(parts)

    @staticmethod
    def _join(parts: list[Part], letter: str, *, quoted: bool) -> None:
        last = parts[-1] if parts else None
        if isinstance(last, Text) and last.quoted is quoted:
            parts[-1] = Text(last.text + letter, quoted)
        else:
            parts.append(Text(letter, quoted))

    def _letter(self, parts: list[Part], letter: str, *, quoted: bool) -> None:
        self._join(parts, letter, quoted=quoted)
        self.at += 1

    def _quoted(self) -> list[Part]:
        # An empty pair of quotes is a word, too.
        parts: list[Part] = [Text("", quoted=True)]
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == '"':
                self.at += 1
                return parts
            if letter == "\\" and self.text[self.at + 1 : self.at + 2] in {"$", "`", '"', "\\", "\n"}:
                if self.text[self.at + 1] != "\n":
                    self._join(parts, self.text[self.at + 1], quoted=True)
                self.at += 2
            elif letter in "$`":
                parts.append(self._expansion(quoted=True))
            else:
                self._letter(parts, letter, quoted=True)
        raise SyntaxFailure("unterminated quoted string", incomplete=True)

    def _expansion(self, *, quoted: bool) -> Part:
        if self.text[self.at] == "`":
            return self._backquoted(quoted=quoted)
        self.at += 1
        following = self.text[self.at : self.at + 1]
        if self.text.startswith("((", self.at):
            return self._arithmetic(quoted=quoted)
        if following == "(":
            return Substitution(self._parse(self._balanced()), quoted)
        if following == "{":
            return self._braced(quoted=quoted)
        if following in _SPECIAL_NAMES and following:
            self.at += 1
            return Parameter(following, quoted=quoted)
        if following in NAME_START and following:
            return Parameter(self._name(), quoted=quoted)
        return Text("$", quoted=True)

    def _name(self) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in NAME:
            self.at += 1
        return self.text[start : self.at]

    def _backquoted(self, *, quoted: bool) -> Part:
        end = self.text.find("`", self.at + 1)
        if end < 0:
            raise SyntaxFailure("EOF in backquote substitution", incomplete=True)
        script = self.text[self.at + 1 : end]
        self.at = end + 1
        return Substitution(self._parse(script), quoted)

    def _arithmetic(self, *, quoted: bool) -> Part:
        inside = self._balanced()
        inner = Lexer(inside[1:-1], self._parse)
        return Arithmetic(inner.word(frozenset()), quoted)

    def _balanced(self) -> str:
        """What stands between the parenthesis here and its partner; quotes count."""
        depth, start, quote = 0, self.at + 1, ""
        while self.at < len(self.text):
            letter = self.text[self.at]
            self.at += 1
            if letter == "\\" and quote != "'":
                self.at += 1
            elif quote:
                quote = "" if letter == quote else quote
            elif letter in "'\"":
                quote = letter
            elif letter == "(":
                depth += 1
            elif letter == ")":
                depth -= 1
                if depth == 0:
                    return self.text[start : self.at - 1]
        raise SyntaxFailure('unexpected end of file (expecting ")")', incomplete=True)

    def _braced(self, *, quoted: bool) -> Part:
        self.at += 1
        length = self.text.startswith("#", self.at) and not self.text.startswith("#}", self.at)
        self.at += 1 if length else 0
        name = self.text[self.at : self.at + 1] if self.text[self.at : self.at + 1] in _SPECIAL_NAMES else self._name()
        if name and name in _SPECIAL_NAMES:
            self.at += 1
        op = next((op for op in _PARAMETER_OPS if self.text.startswith(op, self.at)), "")
        self.at += len(op)
        word: Word = self.word(frozenset("}")) if op else ()
        if not self.text.startswith("}", self.at) or not name:
            raise SyntaxFailure("bad substitution" if self.at < len(self.text) else 'missing "}"', incomplete=True)
        self.at += 1
        return Parameter(name, "#" if length else op, () if length else word, quoted)
