"""Ingests and blobs: writers of a few refs in two namespaces that share their contents.

Every call is made under the namespace's lease, so no collection takes what an example still works with.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, consumes, multiple, rule

from conformance.machines.base import (
    CONTEXTS,
    LABELS,
    PATHS,
    TOO_LONG,
    Machine,
    data,
    data_of,
    digest_of,
    given,
    mostly,
    quietly,
)
from conformance.machines.pair import CTX, OTHER, Side, Term
from conformance.machines.shorten import recorded
from refimpl.contract.content import EMPTY_DIGEST, Info, Status
from refimpl.contract.errors import NotFound

REFS = ["r1", "r2", "r3", "up/../4"]
WORDS = ["a", "b", "ab", "aa", "ba"]
FILTERS = st.sampled_from(
    [(), ("labels.k==1",), ("labels.k",), ("labels.k!=1",), ("labels.k==1", 'labels."x/y.z"==v'), ("size>3",),
     ("bad==",), ("digest~=^sha256",), ("nosuch",)]
)  # fmt: skip
REF_FILTERS = st.sampled_from(
    [(), ("ref==r1",), ("ref~=^r",), ("ref!=r1",), ("ref==r1", "ref==r2"), ("x==1",), ("==",)]
)

BUSY_TRIES = 1
"""How often an example opens a ref that somebody holds: some implementations think about it for a second (CNT-036)."""

At = tuple[Term, str]
"""A context, and a ref or a word."""

ANY_REF = st.tuples(CONTEXTS, st.sampled_from(REFS))
ANY_WORD = st.tuples(CONTEXTS, st.sampled_from(WORDS))
INGEST = mostly(lambda machine: machine.ingests, ANY_REF)
BLOB = mostly(lambda machine: machine.blobs, ANY_WORD)
EXPECTED = st.none() | mostly(lambda machine: [word for _, word in machine.blobs], st.sampled_from(WORDS))


@dataclass(frozen=True, slots=True)
class Open:
    """An open writer.

    Attributes:
        total: the size that was announced.
        declared: whether size or digest were announced.
    """

    name: str
    ctx: Term
    ref: str
    total: Term | None
    declared: bool
    handle: ClassVar[bool] = True


class ContentMachine(Machine):
    """Two content stores.

    Attributes:
        ingests, blobs: what there is, by what the left subject answered.
    """

    writers: Bundle[Open] = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self._opened = self._busy = 0
        self._held: set[tuple[str, str]] = set()
        self._ended: set[str] = set()
        self._doomed: set[str] = set()
        self._holders: dict[str, At] = {}
        # Digests that the back end may hold; the empty blob may be there from any example.
        self._stored = {EMPTY_DIGEST}
        # Refs whose uploads may have begun with the bytes of another namespace.
        self._shared: set[At] = set()
        self.ingests: list[At] = []
        self.blobs: list[At] = []
        spelt = ("".join(word) for size in range(1, 5) for word in itertools.product("ab", repeat=size))
        self._words = {digest_of(self.pair, word).value(self.pair.sides[0]): word for word in spelt}

    @rule(target=writers, at=ANY_REF, total=st.sampled_from(["", "", "", "a", "ab"]), expected=st.none() | EXPECTED)
    @recorded
    def open(self, at: At, total: str, expected: str | None) -> Open | MultipleResults[Open]:
        """Open a ref, new or resumed, with or without saying what will come."""
        ctx, ref = at
        if (held := (ctx.text, ref) in self._held) and self._busy == BUSY_TRIES:
            return multiple()
        if at in self._shared and self._ingest(at) is None:
            # What a shared upload leaves behind is free (CNT-112).
            return multiple()
        self._busy += held
        self._opened += 1
        name = f"w{self._opened}"
        declared: dict[str, Any] = {}
        if total and not self._conflicts(at, total):
            declared["total"] = _length(data_of(self.pair, total))
        if expected:
            declared["expected"] = digest_of(self.pair, expected)
        if not self.ok(self.pair.call("content", "writer", ctx, ref, **declared, keep=name)):
            return multiple()
        self._held.add((ctx.text, ref))
        self._holders[name] = at
        self.ingests.append(at)
        if expected:
            self._shared.add(at)
        return Open(name, ctx, ref, declared.get("total"), bool(declared))

    @rule(at=ANY_WORD, labels=LABELS)
    @recorded
    def store(self, at: At, labels: Any) -> None:
        """Upload a blob in one go, so that there is something to look at."""
        (ctx, word), sent = at, data_of(self.pair, at[1])

        def upload(side: Side) -> None:
            writer = side.named["content"].writer(ctx.value(side), f"store-{word}")
            try:
                writer.truncate(0)
                writer.write(sent.value(side))
                writer.commit(ctx.value(side), 0, "", labels.value(side) if isinstance(labels, Term) else labels)
            finally:
                writer.close()

        done = self.pair.both("store", f"store(content, {ctx}, {sent}, {labels!r}, ref='store-{word}')", upload)
        if self.ok(done):
            self.blobs.append(at)
            self._stored.add(digest_of(self.pair, word).value(self.pair.sides[0]))

    def _conflicts(self, at: At, total: str) -> bool:
        """Whether a ref was begun with another total: what is left of the old bytes then is free (CNT-042, CNT-111)."""
        begun = self._ingest(at)
        return begun is not None and begun.total not in {0, len(data(self.pair, total))}

    def _ingest(self, at: At) -> Status | None:
        """What the left subject has under a ref."""
        (ctx, ref), side = at, self.pair.sides[0]
        try:
            found: Status = side.named["content"].status(ctx.value(side), ref)
        except NotFound:
            return None
        return found

    @rule(writer=writers, word=st.sampled_from(["a", "b", "ab", ""]))
    @recorded
    def write(self, writer: Open, word: str) -> None:
        """Append."""
        self._write(writer, word)

    @rule(writer=writers, word=st.sampled_from(["a", "b"]))
    @recorded
    def start_over(self, writer: Open, word: str) -> None:
        """Drop what was received, and begin with something else."""
        if writer.name not in self._ended:
            self.ok(self.pair.call(writer.name, "truncate", 0))
            self._write(writer, word)

    def _write(self, writer: Open, word: str) -> None:
        if writer.name in self._ended:
            return
        if self.ok(self.pair.call(writer.name, "write", data_of(self.pair, word))):
            self._look_at(writer)
        else:
            # A refusal ends a stream; an object could go on.
            self._release(writer)

    @rule(
        writer=consumes(writers),
        size=st.sampled_from(["right", "right", "right", "none", "wrong"]),
        expected=st.sampled_from(["right", "right", "right", "none", "none", "wrong", "bad"]),
        labels=LABELS,
    )
    @recorded
    def commit(self, writer: Open, size: str, expected: str, labels: Any) -> None:
        """Commit with the right or the wrong size and digest, or none; the writer is closed whatever happens."""
        name = writer.name
        if name in self._ended:
            return
        if name in self._doomed and self._left(writer).digest() in self._stored:
            # Whether it can still be committed is free, as the bytes are there (CNT-113).
            self._release(writer)
            return
        if writer.declared and self.pair.in_process:
            # A stream remembers what its first message declared (CNT-020), an object in this process does not.
            size, expected = (kind.replace("none", "right") for kind in (size, expected))
        empty_of_total = writer.total is not None and self._left(writer).status().offset == 0
        fits = size != "wrong" and labels is not TOO_LONG and not empty_of_total
        if not fits and expected == "right" and self.pair.in_process and self._is_there(writer):
            # A stream is ended by a digest that is there before size and labels are looked at (CNT-026), an object not.
            expected = "wrong"
        sizes = {"right": self._size(writer), "none": 0, "wrong": 5}
        digests = {
            "right": _on_writer(f"{name}.digest()", name, lambda w: w.digest()),
            "none": "",
            "wrong": digest_of(self.pair, "wrong"),
            "bad": "sha256:zz",
        }
        digest = self._left(writer).digest()
        word = self._words.get(digest)
        done = self.pair.call(name, "commit", writer.ctx, sizes[size], digests[expected], labels)
        if self.ok(done):
            self._stored.add(digest)
        if not done.kind and word:
            self.blobs.append((writer.ctx, word))
            self.ingests = [at for at in self.ingests if at != (writer.ctx, writer.ref)]
        self._release(writer)

    def _left(self, writer: Open) -> Any:
        return self.pair.sides[0].named[writer.name]

    def _is_there(self, writer: Open) -> bool:
        side = self.pair.sides[0]
        try:
            side.named["content"].info(writer.ctx.value(side), self._left(writer).digest())
        except NotFound:
            return False
        return True

    def _size(self, writer: Open) -> Term:
        """What was received or, as 0 would declare nothing, what was announced."""
        total = writer.total
        if total is None:
            return _on_writer(f"{writer.name}.status().offset", writer.name, _offset)
        return Term(
            f"{writer.name}.status().offset or {total}",
            lambda side: _offset(side.named[writer.name]) or total.value(side),
        )

    @rule(writer=consumes(writers))
    @recorded
    def close(self, writer: Open) -> None:
        """Let go of the ref, keeping what was received."""
        if writer.name not in self._ended:
            self._release(writer)

    def _release(self, writer: Open) -> None:
        self.pair.call(writer.name, "close")
        self._ended.add(writer.name)
        self._holders.pop(writer.name, None)
        self._held.discard((writer.ctx.text, writer.ref))

    def _look_at(self, writer: Open) -> None:
        self.pair.call(writer.name, "digest")
        # Not the whole status: the total is the ingest's in one process and the stream's on a wire (CNT-041).
        self.pair.both("w.status", f"{writer.name}.status().offset", lambda side: _offset(side.named[writer.name]))

    @given(lambda machine: machine.ingests)
    @rule(at=INGEST)
    @recorded
    def abort(self, at: At) -> None:
        """Drop an ingest, maybe under its writer."""
        if self.ok(self.pair.call("content", "abort", *at)):
            self._doomed |= {name for name, held in self._holders.items() if held == at}
            self.ingests = [other for other in self.ingests if other != at]

    @quietly(1)
    @rule(at=INGEST, filters=REF_FILTERS)
    @recorded
    def look_at_ingests(self, at: At, filters: tuple[str, ...]) -> None:
        """Ask for an ingest, and list."""
        self.pair.call("content", "status", *at)
        self._list(at[0], filters)

    def _list(self, ctx: Term, filters: tuple[str, ...]) -> None:
        """In an order of our own: the listing has none."""

        def listed(side: Side) -> Any:
            return sorted(side.named["content"].list_statuses(ctx.value(side), filters), key=_ref)

        self.pair.both("content.list_statuses", f"content.list_statuses({ctx}, {filters!r})", listed)

    @quietly(1)
    @rule(at=BLOB, filters=FILTERS)
    @recorded
    def look_at_blobs(self, at: At, filters: tuple[str, ...]) -> None:
        """Ask for a blob, read it, and list."""
        ctx, word = at
        if not self.pair.call("content", "info", ctx, digest_of(self.pair, word)).kind:
            self._read(ctx, word)
        self.pair.call("content", "walk", ctx, filters)

    def _read(self, ctx: Term, word: str) -> None:
        digest = digest_of(self.pair, word)

        def read(side: Side) -> bytes:
            reader = side.named["content"].reader(ctx.value(side), digest.value(side))
            try:
                return bytes(reader.read_at(0, reader.size))
            finally:
                reader.close()

        self.pair.both("content.reader", f"read(content, {ctx}, {digest})", read)

    @given(lambda machine: machine.blobs)
    @rule(at=BLOB, labels=LABELS, paths=PATHS)
    @recorded
    def update(self, at: At, labels: Any, paths: tuple[str, ...]) -> None:
        """Change labels, all or some."""
        ctx, word = at
        digest = digest_of(self.pair, word)
        info = Term(
            f"Info({digest}, labels={labels!r})",
            lambda side: Info(digest.value(side), labels=labels.value(side) if isinstance(labels, Term) else labels),
        )
        self.ok(self.pair.call("content", "update", ctx, info, paths))

    @given(lambda machine: machine.blobs)
    @rule(at=BLOB, at_once=st.booleans())
    @recorded
    def delete(self, at: At, at_once: bool) -> None:
        """Forget a blob; its bytes stay until a collection, which comes at once or later."""
        ctx, word = at
        if self.ok(self.pair.call("content", "delete", ctx, digest_of(self.pair, word))):
            self.blobs = [other for other in self.blobs if other != at]
            if at_once or not self.pair.quiet:
                self.pair.collect()

    @quietly(4)
    @rule()
    @recorded
    def collect(self) -> None:
        """Collect garbage: nothing that is held may go."""
        self.pair.collect()
        self.compare_all()
        self.changes = 0

    def compare_all(self) -> None:
        """Both namespaces, blob by blob and ingest by ingest, and what their leases hold."""
        for ctx in (CTX, OTHER):
            self._list(ctx, ())
            self.pair.call("content", "walk", ctx)
            self.pair.call("leases", "list_resources", ctx, "hold")


def _length(data: Term) -> Term:
    return Term(f"len({data})", lambda side: len(data.value(side)))


def _on_writer(text: str, name: str, ask: Any) -> Term:
    return Term(text, lambda side: ask(side.named[name]))


def _offset(writer: Any) -> int:
    offset: int = writer.status().offset
    return offset


def _ref(status: Any) -> str:
    ref: str = status.ref
    return ref
