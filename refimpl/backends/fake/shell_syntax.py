"""The fake shell's language: what a script is made of, and the parser.

A useful part of POSIX sh: lists, pipelines, ``if``, ``while``, ``until``, ``for``, ``case``, functions, subshells,
redirections without here-documents, and words with quotes, parameters, command substitution and arithmetic.
Messages are those of busybox's ash.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field

NAME_START = frozenset(string.ascii_letters + "_")
NAME = NAME_START | frozenset(string.digits)


class SyntaxFailure(Exception):
    """A script that cannot be read.

    Attributes:
        incomplete: more input could make it readable.
    """

    def __init__(self, message: str, *, incomplete: bool = False) -> None:
        super().__init__(f"syntax error: {message}")
        self.incomplete = incomplete


@dataclass(frozen=True, slots=True)
class Text:
    """Letters that stand for themselves; quoted ones are neither split nor matched."""

    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """``$name`` or ``${name<op>word}``; ``op`` ``#`` with no word is the length."""

    name: str
    op: str = ""
    word: Word = ()
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Substitution:
    """``$(script)``."""

    script: Node
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``$((word))``."""

    word: Word
    quoted: bool = False


Part = Text | Parameter | Substitution | Arithmetic
Word = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Redirect:
    """``number op word``, such as ``2 >& 1``."""

    number: int
    op: str
    word: Word


@dataclass(frozen=True, slots=True)
class Simple:
    """Assignments, words and redirections."""

    assignments: tuple[tuple[str, Word], ...] = ()
    words: tuple[Word, ...] = ()
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """``[!] a | b``."""

    commands: tuple[Node, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class AndOr:
    """``left && right`` or ``left || right``."""

    left: Node
    op: str
    right: Node


@dataclass(frozen=True, slots=True)
class Sequence:
    """Commands one after the other; the second of a pair says whether to wait for the first."""

    items: tuple[tuple[Node, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Subshell:
    """``( body )``."""

    body: Node


@dataclass(frozen=True, slots=True)
class If:
    """Conditions with their bodies, and what else."""

    branches: tuple[tuple[Node, Node], ...]
    otherwise: Node | None = None


@dataclass(frozen=True, slots=True)
class Loop:
    """``while`` or ``until``."""

    condition: Node
    body: Node
    until: bool = False


@dataclass(frozen=True, slots=True)
class For:
    """``for name in words``; without words over the parameters."""

    name: str
    words: tuple[Word, ...] | None
    body: Node


@dataclass(frozen=True, slots=True)
class Case:
    """``case word in pattern) body ;; esac``."""

    word: Word
    branches: tuple[tuple[tuple[Word, ...], Node], ...]


@dataclass(frozen=True, slots=True)
class Function:
    """``name() body``."""

    name: str
    body: Node


@dataclass(frozen=True, slots=True)
class Redirected:
    """A compound command with redirections."""

    body: Node
    redirects: tuple[Redirect, ...] = field(default_factory=tuple)


Node = (
    Simple | Pipeline | AndOr | Sequence | Subshell | If | Loop | For | Case | Function | Redirected
)  # fmt: skip


def plain(word: Word) -> str | None:
    """The text of a word without any quote or expansion; None for another."""
    if len(word) == 1 and isinstance(word[0], Text) and not word[0].quoted:
        return word[0].text
    return None
