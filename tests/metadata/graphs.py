"""Graphs of things that refer to each other, and a plain model that says which of them a collection has to leave.

The model knows nothing of records, colours or transactions. It is held against the real containerd too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import strategies as st

from refimpl.contract.containers import Container, ContainerStore, RuntimeInfo
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.images import Image, ImageStore
from refimpl.contract.leases import LeaseManager
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.types import Descriptor, TypedAny
from tests.metadata.world import digest_of

ROOT = {"containerd.io/gc.root": "1"}
CONTENT_REF = "containerd.io/gc.ref.content"
SNAPSHOT_REF = "containerd.io/gc.ref.snapshot."
PAST = "2000-01-01T00:00:00Z"


@dataclass(frozen=True)
class Stores:
    """Where a graph is built: a database in this process, or a daemon behind its socket."""

    content: ContentStore
    snapshots: Snapshotter
    images: ImageStore
    containers: ContainerStore
    leases: LeaseManager


@dataclass(frozen=True)
class Thing:
    """A blob (by its bytes) or a snapshot, with its references.

    Attributes:
        parent: an earlier snapshot's number, -1 for none; snapshots only.
        names: numbers of the things that its labels name; some are not there.
    """

    snapshot: bool
    root: bool
    parent: int
    names: tuple[int, ...]
    leased: str
    namespace: str


@dataclass
class Graph:
    """Things, and what else holds them."""

    things: list[Thing]
    images: list[tuple[str, int]] = field(default_factory=list)
    containers: list[tuple[str, int]] = field(default_factory=list)

    def digest(self, number: int) -> str:
        return digest_of(f"blob {number}".encode())

    def key(self, number: int) -> str:
        return f"snapshot-{number}"

    def find(self, namespace: str, number: int, *, snapshot: bool) -> int | None:
        """The thing of that number, if it is of that kind and in that namespace."""
        if number < len(self.things):
            thing = self.things[number]
            if (thing.snapshot, thing.namespace) == (snapshot, namespace):
                return number
        return None

    def labels(self, thing: Thing) -> dict[str, str]:
        """Each name is said in both ways; at most one of them names something."""
        labels = dict(ROOT) if thing.root else {}
        for number in thing.names:
            labels[f"{CONTENT_REF}.{number}"] = self.digest(number)
            labels[f"{SNAPSHOT_REF}native/{number}"] = self.key(number)
        return labels

    def parent(self, number: int) -> int | None:
        """The parent that a snapshot gets: an earlier snapshot of its namespace."""
        thing = self.things[number]
        if not thing.snapshot or not 0 <= thing.parent < number:
            return None
        return self.find(thing.namespace, thing.parent, snapshot=True)

    def held(self) -> set[int]:
        """What stays, worked out by asking again and again whether anything can be added."""
        full, flat = set(self._roots()), {number for number, each in enumerate(self.things) if each.leased == "flat"}
        while True:
            more = {after for number in full for after in self._after(number)}
            more_flat = {parent for number in flat if (parent := self.parent(number)) is not None}
            if more <= full and more_flat <= flat:
                return full | flat
            full |= more
            flat |= more_flat

    def _roots(self) -> Iterator[int]:
        for number, thing in enumerate(self.things):
            if thing.root or thing.leased == "full":
                yield number
        for namespace, number in self.images:
            found = self.find(namespace, number, snapshot=False)
            if found is not None:
                yield found
        for namespace, number in self.containers:
            found = self.find(namespace, number, snapshot=True)
            if found is not None:
                yield found

    def _after(self, number: int) -> Iterator[int]:
        thing = self.things[number]
        for name in thing.names:
            if name < len(self.things) and self.things[name].namespace == thing.namespace:
                yield name
        parent = self.parent(number)
        if parent is not None:
            yield parent


NAMESPACES = st.sampled_from(["t", "other"])
THINGS = st.builds(
    Thing,
    snapshot=st.booleans(),
    root=st.sampled_from([True, False, False, False]),
    parent=st.integers(-1, 10),
    names=st.lists(st.integers(0, 13), max_size=3).map(tuple),
    leased=st.sampled_from(["", "", "", "full", "flat", "expired"]),
    namespace=NAMESPACES,
)
HOLDERS = st.lists(st.tuples(NAMESPACES, st.integers(0, 12)), max_size=2, unique=True)
GRAPHS = st.builds(Graph, st.lists(THINGS, max_size=12), HOLDERS, HOLDERS)
LEASES = {"full": {}, "flat": {"containerd.io/gc.flat": "1"}, "expired": {"containerd.io/gc.expire": PAST}}


def build(stores: Stores, graph: Graph, suffix: str = "") -> None:
    """Make all things of a graph, in namespaces whose names end in ``suffix``."""
    for namespace in ("t", "other"):
        for id, labels in LEASES.items():
            stores.leases.create(CallContext(namespace + suffix), id, labels)
    for number, thing in enumerate(graph.things):
        ctx = CallContext(thing.namespace + suffix, thing.leased)
        if thing.snapshot:
            parent = graph.parent(number)
            work, key = f"work-{number}", graph.key(number)
            stores.snapshots.prepare(ctx, work, "" if parent is None else graph.key(parent))
            stores.snapshots.commit(ctx, key, work, graph.labels(thing))
        else:
            writer = stores.content.writer(ctx, f"ref-{number}")
            writer.write(f"blob {number}".encode())
            writer.commit(ctx, labels=graph.labels(thing))
    for place, (namespace, number) in enumerate(graph.images):
        image = Image(f"image-{place}", Descriptor("t", graph.digest(number), 1))
        stores.images.create(CallContext(namespace + suffix), image)
    for place, (namespace, number) in enumerate(graph.containers):
        container = Container(
            f"container-{place}",
            runtime=RuntimeInfo("r"),
            spec=TypedAny("s", b"{}"),
            snapshotter="native",
            snapshot_key=graph.key(number),
        )
        stores.containers.create(CallContext(namespace + suffix), container)


def survivors(stores: Stores, graph: Graph, suffix: str = "") -> set[int]:
    """Numbers of the things that are still there; what no thing accounts for fails."""
    found = set()
    for namespace in ("t", "other"):
        ctx = CallContext(namespace + suffix)
        names = {info.digest for info in stores.content.walk(ctx)} | {info.name for info in stores.snapshots.walk(ctx)}
        for number, thing in enumerate(graph.things):
            name = graph.key(number) if thing.snapshot else graph.digest(number)
            if thing.namespace == namespace and name in names:
                names.remove(name)
                found.add(number)
        assert not names
    return found
