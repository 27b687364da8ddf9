"""Snapshots: a few keys and names in two namespaces, with files in them, on a snapshotter that both subjects have."""

from __future__ import annotations

from operator import methodcaller
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from conformance.machines.base import CONTEXTS, LABELS, PATHS, Machine, given, mostly, quietly
from conformance.machines.files import CHANGES, change
from conformance.machines.pair import CTX, OTHER, Term
from conformance.machines.shorten import recorded
from conformance.machines.values import tree
from refimpl.contract.snapshots import Info

COMPARED = ("overlayfs", "native")
"""The snapshotters that need nothing but directories."""

KEYS = ["k1", "k2", "k3", "n1", "n2"]
"""Keys and names share one space, so both are drawn from the same few."""

NAMES = ["n1", "n2", "n3", "k1"]

At = tuple[Term, str]
"""A context and a key."""

ANY = st.tuples(CONTEXTS, st.sampled_from(KEYS))
EXISTING = mostly(lambda machine: list(machine.kinds), ANY)
ACTIVE = mostly(lambda machine: machine.of("prepare"), EXISTING)
OPEN = mostly(lambda machine: machine.of("prepare") + machine.of("view"), EXISTING)
COMMITTED = mostly(lambda machine: machine.of("commit"), EXISTING)
PARENT = mostly(lambda machine: machine.of("commit") or [(CTX, ""), (CTX, ""), (OTHER, "")], EXISTING)
ON_PARENT = st.one_of(
    # A parent of the same namespace, mostly a committed one, or none.
    st.tuples(PARENT, st.sampled_from(KEYS)).map(lambda drawn: (drawn[0][0], drawn[1], drawn[0][1])),
    st.tuples(CONTEXTS, st.sampled_from(KEYS), st.sampled_from(["", "", "", "", "", "", "nope"])),
)
FILTERS = st.sampled_from(
    [(), ("kind==committed",), ("kind==Active", "parent==n1"), ("name~=^n",), ("parent!=n1",), ("labels.k",),
     ('labels."x/y.z"==v',), ("kind=",), ("created==1",)]
)  # fmt: skip


class SnapshotsMachine(Machine):
    """Two snapshotters of one kind.

    Attributes:
        kinds: what there is, by what the left subject answered: the method that made it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[At, str] = {}

    def of(self, verb: str) -> list[At]:
        """What was made by a method."""
        return [at for at, kind in self.kinds.items() if kind == verb]

    @initialize(id=st.sampled_from(COMPARED))
    @recorded
    def choose(self, id: str) -> None:
        """One snapshotter for the whole example."""
        if any(id not in side.subject.snapshotters for side in self.pair.sides):
            id = self.pair.sides[0].subject.snapshotters[0]
        self.pair.use("snapshotter", methodcaller("snapshotter", id), "snapshotter")
        self.pair.say(f"snapshotter = snapshotters({id!r})")
        self._mounts = self.pair.offer(frozenset({"mount"}))

    @rule(verb=st.sampled_from(["prepare", "prepare", "view"]), at=ON_PARENT, labels=LABELS)
    @recorded
    def make(self, verb: str, at: tuple[Term, str, str], labels: Any) -> None:
        """Make an active snapshot or a view."""
        ctx, key, parent = at
        if self.ok(self.pair.call("snapshotter", verb, ctx, key, parent, labels)):
            self.kinds[ctx, key] = verb

    @rule(at=PARENT, name=st.sampled_from(["n1", "n2", "n3"]), changes=st.lists(CHANGES, max_size=3))
    @recorded
    def lay(self, at: At, name: str, changes: list[Any]) -> None:
        """A whole layer in one go, so that there is something to stand on."""
        ctx, parent = at
        if not self.ok(self.pair.call("snapshotter", "prepare", ctx, "laying", parent)):
            return
        self.kinds[ctx, "laying"] = "prepare"
        if self._mounts:
            with self.pair.mounted("snapshotter", ctx, "laying") as done:
                for each in changes if done else []:
                    change(self.pair, each)
        if self.ok(self.pair.call("snapshotter", "commit", ctx, name, "laying")):
            del self.kinds[ctx, "laying"]
            self.kinds[ctx, name] = "commit"

    @given(lambda machine: machine.of("prepare"))
    @rule(at=ACTIVE, name=st.sampled_from(NAMES), labels=LABELS)
    @recorded
    def commit(self, at: At, name: str, labels: Any) -> None:
        """Commit a key of any kind under a name that may be taken."""
        ctx, key = at
        if self.ok(self.pair.call("snapshotter", "commit", ctx, name, key, labels)):
            self.kinds.pop(at, None)
            self.kinds[ctx, name] = "commit"

    @given(lambda machine: machine.kinds)
    @rule(at=EXISTING | COMMITTED)
    @recorded
    def remove(self, at: At) -> None:
        """Remove, also what others stand on."""
        if self.ok(self.pair.call("snapshotter", "remove", *at)):
            self.kinds.pop(at, None)

    @quietly(1)
    @rule(at=EXISTING, filters=FILTERS)
    @recorded
    def look(self, at: At, filters: tuple[str, ...]) -> None:
        """Everything that can be asked about one key, and a list."""
        for method in ("stat", "mounts", "usage"):
            self.pair.call("snapshotter", method, *at)
        self.pair.call("snapshotter", "walk", at[0], filters)

    @given(lambda machine: machine.kinds)
    @rule(at=EXISTING, labels=LABELS, paths=PATHS)
    @recorded
    def update(self, at: At, labels: Any, paths: tuple[str, ...]) -> None:
        """Change labels, all or some."""
        ctx, key = at
        info = Term(
            f"Info({key!r}, labels={labels!r})",
            lambda side: Info(key, labels=labels.value(side) if isinstance(labels, Term) else labels),
        )
        self.ok(self.pair.call("snapshotter", "update", ctx, info, paths))

    @quietly(4)
    @rule()
    @recorded
    def collect(self) -> None:
        """Collect garbage: nothing that is held may go."""
        self.pair.collect()
        self.compare_all()
        self.changes = 0

    @given(lambda machine: machine.of("prepare") or machine.of("view"))
    @rule(at=OPEN, changes=st.lists(CHANGES, min_size=2, max_size=8))
    @recorded
    def change_files(self, at: At, changes: list[Any]) -> None:
        """Change files in a snapshot and look at the tree and at what it takes."""
        if not self._mounts:
            return
        with self.pair.mounted("snapshotter", *at) as done:
            if done:
                for each in changes:
                    change(self.pair, each)
                self._tree()
        if done:
            self.pair.call("snapshotter", "usage", *at)

    @given(lambda machine: machine.of("commit"))
    @rule(at=COMMITTED)
    @recorded
    def look_into(self, at: At) -> None:
        """Compare the tree of a committed snapshot, by a view that is removed again."""
        ctx, name = at
        if not self._mounts or not self.ok(self.pair.call("snapshotter", "view", ctx, "looking", name)):
            return
        with self.pair.mounted("snapshotter", ctx, "looking") as done:
            if done:
                self._tree()
        self.pair.call("snapshotter", "remove", ctx, "looking")

    def _tree(self) -> None:
        self.pair.both("fs.tree", "tree(fs)", lambda side: tree(side.named["fs"]))

    def compare_all(self) -> None:
        """Both namespaces, and what their leases hold."""
        for ctx in (CTX, OTHER):
            self.pair.call("snapshotter", "walk", ctx)
            self.pair.call("leases", "list_resources", ctx, "hold")
