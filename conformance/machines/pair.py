"""Two subjects side by side: every operation is performed on both, and what came of it is compared.

Operations are recorded as lines of a check (``snapshotter.commit(ctx, 'n1', 'k1')``), so that the shortest failing
sequence can be read, pasted into a suite and run.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from conformance.cleanup import purge
from conformance.machines.freedoms import Freedom, explained
from conformance.machines.values import comparable
from conformance.subjects.base import Subject, SubjectError
from conformance.subjects.spec import parse
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError

QUIET = """\
version = 2
[plugins."io.containerd.gc.v1.scheduler"]
pause_threshold = 0.000001
mutation_threshold = 0
deletion_threshold = 0
startup_delay = "0s"
"""
"""A collector that works only when it is told to: otherwise two right subjects could differ at any moment."""

CRASH = "crash:"
"""What the kind of an outcome begins with that no contract knows."""

HOLD = "hold"
"""The lease under which the calls of ``ctx`` and ``other`` are made."""


@dataclass(frozen=True, slots=True)
class Term:
    """An argument that is not the same object on both subjects, such as a context.

    Attributes:
        text: how it is written in a step.
        value: what it is on one side.
    """

    text: str
    value: Callable[[Side], Any]

    def __repr__(self) -> str:
        return self.text


CTX = Term("ctx", lambda side: side.named["ctx"])
OTHER = Term("other", lambda side: side.named["other"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one operation on one side.

    Attributes:
        kind: class of the error; empty for success.
        value: the comparable part of the answer.
        text: the error's text, which no implementation has to share.
    """

    kind: str = ""
    value: Any = None
    text: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.kind else repr(self.value)


@dataclass(slots=True)
class Side:
    """One of the two subjects.

    Attributes:
        label: the subject as written on the command line.
        named: objects by the names that steps use: contexts, surfaces, open writers.
    """

    label: str
    subject: Subject
    named: dict[str, Any] = field(default_factory=dict)

    def attempt(self, keep: str, operation: Callable[[Side], Any]) -> Outcome:
        """Perform an operation; whatever it raises is an outcome."""
        try:
            answer = operation(self)
            outcome = Outcome(value=comparable(answer))
        except ContainerdError as error:
            return Outcome(type(error).__name__, text=str(error))
        except OSError as error:
            return Outcome(f"errno {error.errno}", text=str(error))
        except Exception as error:  # noqa: BLE001  # whatever a subject throws instead of an answer is a finding
            return Outcome(f"{CRASH} {type(error).__name__}", text=str(error))
        if keep:
            self.named[keep] = answer
        return outcome


@runtime_checkable
class Closing(Protocol):
    """An open ingest, by the two methods that nothing else here has together."""

    def digest(self) -> str:
        """Its digest so far."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Difference(AssertionError):
    """Two subjects, one operation, two outcomes, and no clause that allows it.

    Attributes:
        operation: what freedoms know the operation by.
        steps: the calls from the beginning to the one that differs, as lines of a check.
        outcomes: by subject.
    """

    def __init__(self, operation: str, steps: list[str], outcomes: dict[str, Outcome]) -> None:
        self.operation, self.steps, self.outcomes = operation, steps, outcomes
        shown = "\n".join(f"  {label}: {outcome}" for label, outcome in outcomes.items())
        super().__init__("\n".join([*steps, "", shown]))


class Pair:
    """Two subjects that are open.

    Attributes:
        token: unique to the present example; contents begin with it, since back ends share blobs between namespaces.
        steps, examples: counted over the pair's life.
        used: how often a freedom explained a difference, by clause.
        texts: error texts that differ (step, left, right), the first of each operation and kind: they may. The system's
            own, which have paths in them, are left out.
        notice, starts: called after every step, and before every example.
        broken: whether the present example found a difference.
    """

    def __init__(self, left: Side, right: Side) -> None:
        self.sides = (left, right)
        self.token = ""
        self.steps = self.examples = 0
        self.used: Counter[str] = Counter()
        self.texts: dict[str, tuple[str, str, str]] = {}
        self.notice: Callable[[], None] = lambda: None
        self.starts: Callable[[], None] = lambda: None
        self._lines: list[str] = []
        self._indent = ""
        self._namespaces: list[str] = []
        self._kinds: dict[str, str] = {}
        self.broken = False

    @property
    def quiet(self) -> bool:
        """Whether both collect garbage only when they are told to."""
        return all("config" in side.subject.capabilities for side in self.sides)

    @property
    def in_process(self) -> bool:
        """Whether one of them is spoken to as objects, where no stream or message lies in between."""
        return any("in-process" in side.subject.capabilities for side in self.sides)

    def offer(self, words: frozenset[str]) -> bool:
        """Whether both subjects offer all of these."""
        return all(words <= side.subject.offers for side in self.sides)

    @property
    def lines(self) -> list[str]:
        """The steps of the present example."""
        return list(self._lines)

    def begin(self) -> None:
        """Start an example: two new namespaces, each with a lease that may hold what is made there."""
        self.starts()
        self.examples += 1
        self.broken = False
        self.token = uuid.uuid4().hex[:8]
        self._lines, self._indent = [], ""
        self._namespaces = [f"machine-{self.token}", f"machine-{self.token}-other"]
        for side in self.sides:
            subject = side.subject
            side.named = {name: getattr(subject, name) for name in ("content", "images", "containers", "leases")}
            assert subject.leases is not None, "looked at when the pair was opened"
            for name, namespace in zip(("ctx", "other"), self._namespaces, strict=True):
                plain = CallContext(namespace=namespace)
                subject.leases.create(plain, HOLD)
                side.named[name] = plain.with_lease(HOLD)

    def end(self) -> None:
        """End an example: what it left open is closed, what it made is removed."""
        for side in self.sides:
            for thing in side.named.values():
                if isinstance(thing, Closing):
                    thing.close()
            for namespace in self._namespaces:
                purge(side.subject, CallContext(namespace=namespace))

    def use(self, name: str, pick: Callable[[Subject], Any], kind: str) -> None:
        """Give an object of each subject a name.

        Args:
            kind: what freedoms call objects of this kind, such as ``snapshotter``.
        """
        self._kinds[name] = kind
        for side in self.sides:
            side.named[name] = pick(side.subject)

    def say(self, line: str) -> None:
        """Write a line into the record that is no operation."""
        self._lines.append(self._indent + line)

    def call(self, surface: str, method: str, *args: Any, keep: str = "", **kwargs: Any) -> Outcome:
        """Call a method of a surface (or of something kept) on both; the left outcome, once they are known to agree.

        Args:
            keep: a name for the answer.

        Raises:
            Difference: the outcomes differ, and no freedom explains it; or one is no answer at all but a crash.
        """
        written = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
        text = f"{surface}.{method}({written})"

        def operation(side: Side) -> Any:
            return getattr(side.named[surface], method)(
                *(_on(side, arg) for arg in args), **{name: _on(side, arg) for name, arg in kwargs.items()}
            )

        kind = self._kinds.get(surface, surface.rstrip("0123456789"))
        return self.both(f"{kind}.{method}", text, operation, keep=keep)

    def both(self, name: str, text: str, operation: Callable[[Side], Any], *, keep: str = "") -> Outcome:
        """Perform any operation on both sides; ``call`` for those that are one method.

        Args:
            name: what freedoms know the operation by.
            text: the operation as a line of a check.

        Raises:
            Difference: see ``call``.
        """
        self.say(f"{keep} = {text}" if keep else text)
        self.steps += 1
        left, right = (side.attempt(keep, operation) for side in self.sides)
        self.notice()
        crashed = CRASH in left.kind or CRASH in right.kind
        if crashed or (left.kind, left.value) != (right.kind, right.value):
            freedom = None if crashed else explained(name, left, right)
            if freedom is None:
                self.broken = True
                raise Difference(name, self.lines, {s.label: o for s, o in zip(self.sides, (left, right), strict=True)})
            self._allow(freedom)
        elif left.kind and left.text != right.text and "errno" not in left.kind:
            self.texts.setdefault(f"{name} {left.kind}", (text, left.text, right.text))
        return left

    def _allow(self, freedom: Freedom) -> None:
        self.used[freedom.clause] += 1
        self.say(f"# differs, and may: {freedom.clause}, {freedom.why}")

    @contextmanager
    def mounted(self, snapshotter: str, ctx: Term, key: str) -> Iterator[bool]:
        """The mounts of a snapshot performed on both sides, known as ``fs``; whether that worked.

        Raises:
            Difference: one could be mounted and the other could not.
        """
        with ExitStack() as stack:

            def enter(side: Side) -> None:
                mounter = side.subject.mounter
                assert mounter is not None, "asked for only where both mount"
                mounts = side.named[snapshotter].mounts(ctx.value(side), key)
                side.named["fs"] = stack.enter_context(mounter.mounted(ctx.value(side), mounts))

            done = self.both("mounted", f"with mounted({snapshotter}.mounts({ctx}, {key!r})) as fs:", enter)
            self._indent = "    "
            try:
                yield not done.kind
            finally:
                self._indent = ""

    def collect(self) -> None:
        """Have both collect garbage, in all namespaces."""
        self.both("collect", "collect(ctx)", lambda side: side.subject.collect(_plain(CTX.value(side))))


def _plain(ctx: CallContext) -> CallContext:
    return ctx.with_lease("")


def _on(side: Side, argument: Any) -> Any:
    return argument.value(side) if isinstance(argument, Term) else argument


@contextmanager
def opened_pair(left: str, right: str) -> Iterator[Pair]:
    """Two subjects by their words on the command line, open for the length of the block.

    One that can be given a configuration is started with a collector that stays quiet; of one that runs already
    nothing but new namespaces is used.

    Raises:
        SubjectError: one of them cannot be reached or started, or lacks what the machines need.
    """
    with ExitStack() as stack:
        # Twice the same word is two subjects of one kind.
        labels = (left, right) if left != right else (f"{left} (1)", f"{right} (2)")
        sides = [Side(label, _opened(stack, word)) for label, word in zip(labels, (left, right), strict=True)]
        for side in sides:
            if lacking := {"content", "images", "leases", "snapshotter", "gc"} - side.subject.offers:
                raise SubjectError(f"{side.label} cannot be compared: it has no {', '.join(sorted(lacking))}")
        yield Pair(*sides)


def _opened(stack: ExitStack, word: str) -> Subject:
    subject = parse(word)
    if "config" in subject.capabilities:
        return stack.enter_context(subject.spawn(QUIET))
    stack.callback(subject.close)
    subject.open()
    return subject
