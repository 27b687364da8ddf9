"""Expansion of words in the fake shell: parameters, substitutions, splitting and file names."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from refimpl.backends.fake.processes_files import absolute
from refimpl.backends.fake.shell_arithmetic import evaluate
from refimpl.backends.fake.shell_syntax import Arithmetic, Node, Parameter, Substitution, Text, Word

if TYPE_CHECKING:
    from refimpl.backends.fake.processes import FakeProcess

_WILD = frozenset("*?[")


class ExpansionFailure(Exception):
    """A word that cannot be expanded; ends a script."""


class Values(Protocol):
    """What the shell knows."""

    process: FakeProcess

    def get(self, name: str) -> str | None:
        """A variable or special parameter; None if it is not set."""
        ...

    def set(self, name: str, value: str) -> None:
        """Set a variable."""
        ...

    def parameters(self) -> list[str]:
        """``$1`` and so on."""
        ...

    def output_of(self, script: Node) -> str:
        """What a script prints, run in a subshell."""
        ...


@dataclass(slots=True)
class _Piece:
    """Letters of a field, each with whether it was quoted; ``breaks`` ends the field before it."""

    text: str
    quoted: bool
    breaks: bool = False


class Expander:
    """Expands words with the values of one shell."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def fields(self, words: tuple[Word, ...]) -> list[str]:
        """Words as a command gets them: split and with file names in place of patterns."""
        found: list[str] = []
        for word in words:
            for pieces in self._split(self._pieces(word)):
                found.extend(self._names(pieces))
        return found

    def text(self, word: Word) -> str:
        """A word as one text, neither split nor matched."""
        return "".join(piece.text for piece in self._pieces(word))

    def pattern(self, word: Word) -> Callable[[str], bool]:
        """A word as a pattern of ``case``."""
        pattern = _glob(self._pieces(word))
        return lambda text: fnmatch.fnmatchcase(text, pattern)

    def _pieces(self, word: Word) -> list[_Piece]:
        pieces: list[_Piece] = []
        for part in word:
            if isinstance(part, Text):
                pieces.append(_Piece(part.text, quoted=part.quoted))
            elif isinstance(part, Parameter):
                pieces.extend(self._parameter(part))
            elif isinstance(part, Substitution):
                pieces.extend(self._result(self._values.output_of(part.script).rstrip("\n"), quoted=part.quoted))
            else:
                pieces.extend(self._result(self._arithmetic(part), quoted=part.quoted))
        return pieces

    def _arithmetic(self, part: Arithmetic) -> str:
        try:
            return str(evaluate(self.text(part.word), lambda name: self._values.get(name) or ""))
        except ValueError as error:
            raise ExpansionFailure(str(error)) from None

    @staticmethod
    def _result(text: str, *, quoted: bool) -> list[_Piece]:
        """What an expansion gave: an unquoted one is split at blanks."""
        if quoted:
            return [_Piece(text, quoted=True)]
        pieces: list[_Piece] = []
        words = text.split()
        for number, word in enumerate(words):
            pieces.append(_Piece(word, quoted=False, breaks=number > 0 or text[:1].isspace()))
        if words and text[-1:].isspace():
            pieces.append(_Piece("", quoted=False, breaks=True))
        return pieces

    def _parameter(self, part: Parameter) -> list[_Piece]:
        if part.name in "@*" and not part.op:
            values = self._values.parameters()
            if part.quoted and part.name == "*":
                return [_Piece(" ".join(values), quoted=True)]
            return [_Piece(v, quoted=part.quoted, breaks=n > 0) for n, v in enumerate(values) if v or part.quoted]
        value = self._values.get(part.name)
        if part.op == "#" and not part.word:
            return self._result(str(len(value or "")), quoted=part.quoted)
        if part.op.lstrip(":") in {"-", "=", "+", "?"} and part.op:
            return self._conditional(part, value)
        if part.op in {"#", "##", "%", "%%"}:
            return self._result(_cut(value or "", _glob(self._pieces(part.word)), part.op), quoted=part.quoted)
        return self._result(value or "", quoted=part.quoted)

    def _conditional(self, part: Parameter, value: str | None) -> list[_Piece]:
        unset = value is None or (part.op.startswith(":") and not value)
        kind = part.op[-1]
        if kind == "+":
            return [] if unset else self._pieces(part.word)
        if not unset:
            return self._result(value or "", quoted=part.quoted)
        if kind == "?":
            message = self.text(part.word) or ("parameter not set" if value is None else "parameter not set or null")
            raise ExpansionFailure(f"{part.name}: {message}")
        if kind == "=":
            self._values.set(part.name, self.text(part.word))
        return self._pieces(part.word)

    @staticmethod
    def _split(pieces: list[_Piece]) -> list[list[_Piece]]:
        fields: list[list[_Piece]] = []
        current: list[_Piece] = []
        for piece in pieces:
            if piece.breaks:
                if current:
                    fields.append(current)
                current = []
            if piece.text or piece.quoted:
                current.append(piece)
        return [*fields, current] if current else fields

    def _names(self, pieces: list[_Piece]) -> list[str]:
        text = "".join(piece.text for piece in pieces)
        if not any(_WILD & set(piece.text) for piece in pieces if not piece.quoted):
            return [text]
        return self._matches(_glob(pieces)) or [text]

    def _matches(self, pattern: str) -> list[str]:
        root = self._values.process.image.root
        found = ["/" if pattern.startswith("/") else ""]
        for step in (step for step in pattern.split("/") if step):
            following: list[str] = []
            for above in found:
                try:
                    names = root.listdir(absolute(self._values.process, above or "."))
                except OSError:
                    continue
                hidden = step.startswith(".")
                matching = (n for n in names if fnmatch.fnmatchcase(n, step) and (hidden or not n.startswith(".")))
                following.extend(f"{above.rstrip('/')}/{n}" if above else n for n in matching)
            found = following
        return found


def _glob(pieces: list[_Piece]) -> str:
    """A pattern for ``fnmatch`` in which quoted letters stand for themselves."""
    return "".join(
        "".join(f"[{letter}]" if letter in _WILD else letter for letter in piece.text) if piece.quoted else piece.text
        for piece in pieces
    )


def _cut(value: str, pattern: str, op: str) -> str:
    lengths = range(len(value) + 1)
    if op.startswith("#"):
        order = lengths if op == "#" else reversed(lengths)
        return next((value[n:] for n in order if fnmatch.fnmatchcase(value[:n], pattern)), value)
    order = reversed(lengths) if op == "%" else lengths
    return next((value[:n] for n in order if fnmatch.fnmatchcase(value[n:], pattern)), value)
