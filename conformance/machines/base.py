"""What the machines share: an example is one life of two pairs of namespaces, and its end is compared too."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition

from conformance.machines.pair import CTX, OTHER, Outcome, Pair, Term
from conformance.machines.shorten import Done

VAIN = 3
"""How many operations of an example may be refused while there is nothing to work on."""

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

CONTEXTS = st.sampled_from([CTX, CTX, OTHER])
"""Two namespaces, the second for what must not be shared."""

TOO_LONG = Term("TOO_LONG", lambda _: {"k": "x" * 4096})
"""Labels of which one is a byte too long."""

_FITTING = st.sampled_from([{}, {"k": "1"}, {"k": "2", "x/y.z": "v"}, {"k": ""}, {"a": "", "x/y.z": "w"}])
LABELS = st.one_of(*[_FITTING] * 7, st.just(TOO_LONG))
PATHS = st.sampled_from([(), ("labels",), ("labels.k",), ("labels.k", "labels.x/y.z"), ("labels.none",), ("size",)])

PREAMBLE = """\
# `ctx` and `other` are contexts of two namespaces, each with a lease of its own; `salt` is new bytes.
# data(word) = salt + each letter of the word; digest(word) is the digest of that."""
"""What the steps take as given."""


def data(pair: Pair, word: str) -> bytes:
    """The bytes that a word of letters stands for: no other example has them."""
    return b"".join(f"{pair.token}{letter}".encode() for letter in word)


def data_of(pair: Pair, word: str) -> Term:
    """``data`` as an argument."""
    found = data(pair, word)
    return Term(f"data({word!r})", lambda _: found)


def digest_of(pair: Pair, word: str) -> Term:
    """The digest of a word's bytes as an argument."""
    found = "sha256:" + hashlib.sha256(data(pair, word)).hexdigest()
    return Term(f"digest({word!r})", lambda _: found)


def mostly(pick: Callable[[Any], Sequence[T]], otherwise: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Mostly what is there, sometimes anything: operations on nothing teach little.

    Args:
        pick: what is there, asked of the machine at the moment of drawing.
    """

    def choose(machine: Any) -> st.SearchStrategy[T]:
        found = pick(machine)
        there = st.sampled_from(found) if found else otherwise
        return st.one_of(there, there, there, there, otherwise)

    return st.runner().flatmap(choose)


def given(there: Callable[[Any], Any]) -> Callable[[F], F]:
    """Let a rule that works on something happen once that is there; in vain it happens a few times in an example."""
    allowed: Callable[[F], F] = precondition(lambda machine: machine.vain < VAIN or there(machine))
    return allowed


def quietly(count: int) -> Callable[[F], F]:
    """Let a rule happen only after so many operations that may have changed something."""
    allowed: Callable[[F], F] = precondition(lambda machine: machine.changes >= count)
    return allowed


class Machine(RuleBasedStateMachine):
    """Two subjects under the same random operations.

    Attributes:
        pair: the subjects; set on a subclass for each run.
        needs: what both subjects have to offer besides what every pair has.
        latest: what the latest machine of the class executed.
        changes: operations that succeeded since everything was last compared or collected.
        vain: operations that were refused.
    """

    pair: ClassVar[Pair]
    latest: ClassVar[list[Done]] = []
    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.changes = self.vain = 0
        self.done: list[Done] = []
        type(self).latest = self.done
        self.pair.begin()

    def ok(self, outcome: Outcome) -> bool:
        """Whether an operation succeeded; counts it."""
        self.changes += not outcome.kind
        self.vain += bool(outcome.kind)
        return not outcome.kind

    def compare_all(self) -> None:
        """Compare all that can be listed; done when an example ends."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Compare what is left, and remove it."""
        try:
            if not self.pair.broken:
                self.compare_all()
        finally:
            self.pair.end()
