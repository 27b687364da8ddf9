"""Leases and the collector: what refers to what is drawn at random, and collections are compared by who is left.

Nothing is held by the machine itself, so both subjects must collect only when they are told to.
"""

from __future__ import annotations

from functools import partial
from operator import itemgetter, methodcaller
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from conformance.machines.base import CONTEXTS, Machine, data_of, digest_of, given, mostly, quietly
from conformance.machines.pair import CTX, OTHER, Outcome, Side, Term
from conformance.machines.shorten import recorded
from refimpl.contract import content, snapshots
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.images import Image
from refimpl.contract.leases import Resource
from refimpl.contract.types import Descriptor, TypedAny

WORDS = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["k1", "n1", "n2"])
SNAPSHOTTERS = ("overlayfs", "native")
LEASES = st.sampled_from(["l1", "l2", "l3"])
REFS = st.sampled_from(["r1", "r2"])
IMAGES = st.sampled_from(["i1", "i2"])
CONTAINERS = st.sampled_from(["c1", "c2"])
NOBODY = ""

At = tuple[Term, str]
"""A context and a name."""

Snapshot = tuple[Term, str, str]
"""A context, a snapshotter and a key."""


def there(kind: str, otherwise: st.SearchStrategy[str]) -> st.SearchStrategy[At]:
    """Something of a kind that is there, mostly."""
    return mostly(lambda machine: list(machine.known[kind]), st.tuples(CONTEXTS, otherwise))


LEASE = there("leases", LEASES)
UNDER = st.one_of(st.tuples(CONTEXTS, st.just(NOBODY)), LEASE)
"""A context and the lease of a call: none, or mostly one that is there."""

SNAPSHOT = mostly(
    lambda machine: list(machine.known["snapshots"]), st.tuples(CONTEXTS, st.sampled_from(SNAPSHOTTERS), KEYS)
)
PARENTS = st.runner().flatmap(
    lambda machine: st.sampled_from(["", "", "n1", *(key for _, _, key in machine.known["committed"])])
)

EXPIRE, FLAT = "containerd.io/gc.expire", "containerd.io/gc.flat"
LEASE_LABELS = st.sampled_from(
    [{}, {}, {FLAT: "1"}, {FLAT: ""}, {EXPIRE: "2001-01-01T00:00:00Z"}, {EXPIRE: "2999-01-01T00:00:00Z"},
     {EXPIRE: "soon"}, {EXPIRE: "2001-01-01T00:00:00+01:00", FLAT: "true"}, {"containerd.io/gc.root": "1"}]
)  # fmt: skip

_BLOB = there("blobs", WORDS).map(itemgetter(1))
_TO_BLOBS = st.tuples(
    st.sampled_from(
        [
            "gc.ref.content",
            "gc.ref.content.0",
            "gc.ref.content/x",
            "gc.ref.content.",
            "gc.ref.contentx",
            "gc.Ref.content",
        ]
    ),
    _BLOB,
)
_TO_SNAPSHOTS = st.one_of(
    SNAPSHOT.map(lambda at: (f"gc.ref.snapshot.{at[1]}", at[2])),
    SNAPSHOT.map(lambda at: (f"gc.ref.snapshot.{at[1]}/x", at[2])),
    st.tuples(st.sampled_from(["gc.ref.snapshot.native.x", "gc.ref.snapshot", "gc.ref.snapshot."]), KEYS),
)
_PLAIN = st.sampled_from([("gc.root", "1"), ("gc.root", "0"), ("gc.root", ""), ("gc.expire", "2001-01-01T00:00:00Z")])
REFERENCES = st.lists(st.one_of(_TO_BLOBS, _TO_SNAPSHOTS, _PLAIN, st.just(("gc.root", "yes"))), max_size=2)
"""Labels by the end of their key; what looks like a reference to a blob has a word for a value."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class LeasesMachine(Machine):
    """Two collectors and all that they look at.

    Attributes:
        known: what was made, by kind, in the order in which it was made. A collection may have taken it since.
    """

    needs = frozenset({"config", "containers"})

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, dict[Any, None]] = {
            kind: {} for kind in ("blobs", "ingests", "snapshots", "committed", "images", "containers", "leases")
        }
        self._parents: dict[Snapshot, str] = {}
        self._bereft: set[Snapshot] = set()
        for name in SNAPSHOTTERS:
            self.pair.use(name, methodcaller("snapshotter", name), "snapshotter")

    # ---- what may hold, and what may be held

    @rule(at=UNDER, word=WORDS, references=REFERENCES)
    @recorded
    def store(self, at: At, word: str, references: list[tuple[str, str]]) -> None:
        """Commit a blob with labels."""
        where, bytes_, labels = _under(*at), data_of(self.pair, word), self._labels(references)

        def upload(side: Side) -> None:
            store = side.named["content"]
            writer = store.writer(where.value(side), f"store-{word}")
            try:
                writer.write(bytes_.value(side))
                writer.commit(where.value(side), 0, "", labels.value(side))
            finally:
                writer.close()

        done = self.pair.both("store", f"store(content, {where}, {bytes_}, {labels}, ref='store-{word}')", upload)
        self._remember("blobs", (at[0], word), self.ok(done))

    @given(lambda machine: machine.known["blobs"])
    @rule(at=there("blobs", WORDS), references=REFERENCES)
    @recorded
    def label_blob(self, at: At, references: list[tuple[str, str]]) -> None:
        """Give a blob other labels."""
        ctx, word = at
        digest, labels = digest_of(self.pair, word), self._labels(references)
        info = Term(
            f"content.Info({digest}, labels={labels})",
            lambda side: content.Info(digest.value(side), labels=labels.value(side)),
        )
        self.ok(self.pair.call("content", "update", _under(ctx), info, ("labels",)))

    @given(lambda machine: machine.known["blobs"])
    @rule(at=there("blobs", WORDS), lease=st.sampled_from([NOBODY, NOBODY, "l1"]))
    @recorded
    def delete_blob(self, at: At, lease: str) -> None:
        """Forget a blob, whatever refers to it."""
        ctx, word = at
        self._forget("blobs", at, self.pair.call("content", "delete", _under(ctx, lease), digest_of(self.pair, word)))

    @rule(at=UNDER, ref=REFS, expected=st.none() | WORDS)
    @recorded
    def begin(self, at: At, ref: str, expected: str | None) -> None:
        """Open an ingest and leave it unfinished."""
        declared = {} if expected is None else {"expected": digest_of(self.pair, expected)}
        if self.ok(self.pair.call("content", "writer", _under(*at), ref, **declared, keep="w1")):
            self.pair.call("w1", "close")
            self._remember("ingests", (at[0], ref))

    @given(lambda machine: machine.known["ingests"])
    @rule(at=there("ingests", REFS), lease=st.sampled_from([NOBODY, NOBODY, "l1"]))
    @recorded
    def abort(self, at: At, lease: str) -> None:
        """Drop an ingest."""
        ctx, ref = at
        self._forget("ingests", at, self.pair.call("content", "abort", _under(ctx, lease), ref))

    @rule(
        at=UNDER, id_=st.sampled_from(SNAPSHOTTERS), verb=st.sampled_from(["prepare", "view"]), key=KEYS,
        parent=PARENTS, references=REFERENCES,
    )  # fmt: skip
    @recorded
    def open_snapshot(
        self, at: At, id_: str, verb: str, key: str, parent: str, references: list[tuple[str, str]]
    ) -> None:
        """Make a snapshot with labels."""
        done = self.pair.call(id_, verb, _under(*at), key, parent, self._labels(references))
        if self.ok(done):
            self._remember("snapshots", (at[0], id_, key))
            self._parents[at[0], id_, key] = parent

    @given(lambda machine: machine.known["snapshots"])
    @rule(at=SNAPSHOT, lease=st.sampled_from([NOBODY, NOBODY, "l1"]), name=KEYS, references=REFERENCES)
    @recorded
    def commit_snapshot(self, at: Snapshot, lease: str, name: str, references: list[tuple[str, str]]) -> None:
        """Commit one with labels."""
        ctx, id_, key = at
        done = self.pair.call(id_, "commit", _under(ctx, lease), name, key, self._labels(references))
        if self.ok(done):
            self._forget("snapshots", at)
            self._remember("snapshots", (ctx, id_, name))
            self._remember("committed", (ctx, id_, name))
            self._parents[ctx, id_, name] = self._parents.pop(at, "")

    @given(lambda machine: machine.known["snapshots"])
    @rule(at=SNAPSHOT, references=REFERENCES)
    @recorded
    def label_snapshot(self, at: Snapshot, references: list[tuple[str, str]]) -> None:
        """Give a snapshot other labels."""
        ctx, id_, key = at
        labels = self._labels(references)
        info = Term(
            f"snapshots.Info({key!r}, labels={labels})", lambda side: snapshots.Info(key, labels=labels.value(side))
        )
        self.ok(self.pair.call(id_, "update", _under(ctx), info, ("labels",)))

    @given(lambda machine: machine.known["snapshots"])
    @rule(at=SNAPSHOT, lease=st.sampled_from([NOBODY, NOBODY, "l1"]))
    @recorded
    def remove_snapshot(self, at: Snapshot, lease: str) -> None:
        """Remove a snapshot."""
        ctx, id_, key = at
        if at in self._bereft:
            # Whether a parent whose child was collected can still be removed is free (MET-040).
            return
        if self._forget("snapshots", at, self.pair.call(id_, "remove", _under(ctx, lease), key)):
            self._parents.pop(at, None)

    @rule(at=st.tuples(CONTEXTS, IMAGES), verb=st.sampled_from(["create", "update"]), word=WORDS, references=REFERENCES)
    @recorded
    def name_image(self, at: At, verb: str, word: str, references: list[tuple[str, str]]) -> None:
        """Make or change an image record."""
        ctx, name = at
        digest, labels = digest_of(self.pair, word), self._labels(references)
        image = Term(
            f"Image({name!r}, Descriptor(MANIFEST, {digest}, 9), {labels})",
            lambda side: Image(name, Descriptor(MANIFEST, digest.value(side), 9), labels.value(side)),
        )
        self._remember("images", at, self.ok(self.pair.call("images", verb, _under(ctx), image)))

    @given(lambda machine: machine.known["images"])
    @rule(at=there("images", IMAGES), sync=st.booleans())
    @recorded
    def delete_image(self, at: At, sync: bool) -> None:
        """Remove an image record; with ``sync`` that is a collection."""
        ctx, name = at
        if self._forget("images", at, self.pair.call("images", "delete", _under(ctx), name, sync=sync)) and sync:
            self._after_collection()

    @rule(root=SNAPSHOT, id_=CONTAINERS, references=REFERENCES)
    @recorded
    def create_container(self, root: Snapshot, id_: str, references: list[tuple[str, str]]) -> None:
        """Make a container record that may name a snapshot which is not there."""
        ctx, snapshotter, key = root
        labels = self._labels(references)
        container = Term(
            f"container({id_!r}, snapshotter={snapshotter!r}, snapshot_key={key!r}, labels={labels})",
            lambda side: Container(
                id_,
                labels.value(side),
                runtime=RuntimeInfo("io.containerd.runc.v2"),
                spec=TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b"{}"),
                snapshotter=snapshotter,
                snapshot_key=key,
            ),
        )
        self._remember(
            "containers", (ctx, id_), self.ok(self.pair.call("containers", "create", _under(ctx), container))
        )

    @given(lambda machine: machine.known["containers"])
    @rule(at=there("containers", CONTAINERS))
    @recorded
    def delete_container(self, at: At) -> None:
        """Remove a container record."""
        ctx, id_ = at
        self._forget("containers", at, self.pair.call("containers", "delete", _under(ctx), id_))

    # ---- leases

    @rule(at=st.tuples(CONTEXTS, LEASES), labels=LEASE_LABELS)
    @recorded
    def create_lease(self, at: At, labels: dict[str, str]) -> None:
        """Make a lease of any kind."""
        ctx, id_ = at
        self._remember("leases", at, self.ok(self.pair.call("leases", "create", _under(ctx), id_, labels)))

    @given(lambda machine: machine.known["leases"])
    @rule(at=LEASE, sync=st.booleans())
    @recorded
    def delete_lease(self, at: At, sync: bool) -> None:
        """End a lease; with ``sync`` that is a collection."""
        ctx, id_ = at
        if self._forget("leases", at, self.pair.call("leases", "delete", _under(ctx), id_, sync=sync)) and sync:
            self._after_collection()

    @given(lambda machine: machine.known["leases"])
    @rule(
        at=LEASE,
        verb=st.sampled_from(["add_resource", "add_resource", "delete_resource"]),
        resource=st.one_of(
            st.tuples(st.just("content"), WORDS),
            st.tuples(st.sampled_from(["snapshots/native", "snapshots/overlayfs", "snapshots/none"]), KEYS),
            st.tuples(st.just("ingests"), st.sampled_from(["r1", "r2", ""])),
            st.tuples(st.sampled_from(["images", "snapshots", "content/x", "snapshots/", ""]), st.just("k1")),
        ),
    )
    @recorded
    def change_lease(self, at: At, verb: str, resource: tuple[str, str]) -> None:
        """Put something on a lease, or take it off."""
        (ctx, lease), (type_, id_) = at, resource
        if type_ == "content":
            digest = digest_of(self.pair, id_)
            held = Term(f"Resource({digest}, 'content')", lambda side: Resource(digest.value(side), "content"))
        else:
            held = Term(f"Resource({id_!r}, {type_!r})", lambda _: Resource(id_, type_))
        self.ok(self.pair.call("leases", verb, _under(ctx), lease, held))

    # ---- collections

    @quietly(3)
    @rule()
    @recorded
    def collect(self) -> None:
        """Collect garbage and compare who is left."""
        self.pair.collect()
        self._after_collection()
        self.changes = 0

    def _after_collection(self) -> None:
        """Compare who is left, and forget who is not."""
        self.compare_all()
        side = self.pair.sides[0]
        for ctx in (CTX, OTHER):
            where = _under(ctx).value(side)
            for id_ in SNAPSHOTTERS:
                left = {info.name for info in side.named[id_].walk(where)}
                self._forget_all_but(ctx, id_, left)
            leases = {lease.id for lease in side.named["leases"].list(where)}
            for lease in [lease for lease in self.known["leases"] if lease[0] is ctx and lease[1] not in leases]:
                self._forget("leases", lease)

    def _forget_all_but(self, ctx: Term, id_: str, left: set[str]) -> None:
        for at in [at for at in self._parents if at[:2] == (ctx, id_) and at[2] not in left]:
            self._bereft.add((ctx, id_, self._parents.pop(at)))
            self._forget("snapshots", at)
            self._forget("committed", at)
        self._bereft = {at for at in self._bereft if at[:2] != (ctx, id_) or at[2] in left}

    def compare_all(self) -> None:
        """Everything that a collection may take, or must not."""
        for ctx in (CTX, OTHER):
            where = _under(ctx, NOBODY)
            for surface, method in (
                ("content", "walk"),
                ("overlayfs", "walk"),
                ("native", "walk"),
                ("images", "list"),
                ("containers", "list"),
            ):
                self.pair.call(surface, method, where)
            self.pair.both("content.list_statuses", f"content.list_statuses({where})", partial(_ingests, where))
            self.pair.call("leases", "list", where)
            for lease in self.known["leases"]:
                if lease[0] is ctx:
                    self.pair.call("leases", "list_resources", where, lease[1])

    def _remember(self, kind: str, at: Any, really: bool = True) -> None:
        if really:
            self.known[kind][at] = None

    def _forget(self, kind: str, at: Any, outcome: Outcome | None = None) -> bool:
        if outcome is not None and not self.ok(outcome):
            return False
        self.known[kind].pop(at, None)
        return True

    def _labels(self, references: list[tuple[str, str]]) -> Term:
        named = {f"containerd.io/{key}": self._value(key, value) for key, value in references}
        written = ", ".join(f"{key!r}: {value!r}" for key, value in named.items())
        return Term(f"{{{written}}}", lambda side: {k: _resolved(side, value) for k, value in named.items()})

    def _value(self, key: str, value: str) -> str | Term:
        return digest_of(self.pair, value) if "content" in key else value


def _ingests(where: Term, side: Side) -> list[content.Status]:
    """In an order of our own: the listing has none."""
    return sorted(side.named["content"].list_statuses(where.value(side)), key=lambda status: str(status.ref))


def _resolved(side: Side, value: str | Term) -> str:
    found: str = value.value(side) if isinstance(value, Term) else value
    return found


def _under(ctx: Term, lease: str = NOBODY) -> Term:
    return Term(f"{ctx}.with_lease({lease!r})", lambda side: ctx.value(side).with_lease(lease))
