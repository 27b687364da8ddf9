"""What keeps an object: the chains of references from the roots of garbage collection to a blob or a snapshot.

Everything is asked over the API, so it works on any daemon. The rules are those by which containerd marks
(GC-006 to GC-012, LEA-028, LEA-032); the daemon's own mark reads its database, this reads what every client may see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from refimpl.client.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound
from refimpl.contract.times import SystemClock, parse_rfc3339

CONTENT = "content"
SNAPSHOTS = "snapshots/"
INGESTS = "ingests"

_ROOT, _EXPIRE, _FLAT = "containerd.io/gc.root", "containerd.io/gc.expire", "containerd.io/gc.flat"
_REF_CONTENT, _REF_SNAPSHOT = "containerd.io/gc.ref.content", "containerd.io/gc.ref.snapshot."
_SNAPSHOTTER_TYPE = "io.containerd.snapshotter.v1"


class Object(NamedTuple):
    """A blob, a snapshot or an ingest, or a root such as an image.

    Attributes:
        type: ``content``, ``ingests``, ``snapshots/<snapshotter>``; of a root ``image``, ``container``,
            ``lease`` or ``label``.
        key: digest, ref, snapshot key; of a root its name.
    """

    type: str
    key: str

    def __str__(self) -> str:
        return f"{self.type} {self.key}"


class Step(NamedTuple):
    """One link of a chain: what is held, and by what."""

    object: Object
    because: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A way from a root to the object that was asked for; the last step is that object."""

    root: Object
    steps: tuple[Step, ...]


@dataclass
class Holders:
    """The references of one namespace, as they stood when it was read.

    Attributes:
        objects: every blob, snapshot and ingest there is, with its labels.
        expired: leases that hold nothing any more.
        links: what an object leads to, and by which reference.
    """

    namespace: str
    objects: dict[Object, Mapping[str, str]] = field(default_factory=dict)
    expired: list[str] = field(default_factory=list)
    links: dict[Object, list[tuple[Object, str]]] = field(default_factory=dict)
    _roots: dict[Object, list[tuple[Object, str, bool]]] = field(default_factory=dict)

    def find(self, text: str) -> Object:
        """The object that a person means.

        Args:
            text: a digest or the beginning of one, ``<snapshotter>/<key>``, a snapshot key, or the ref of an ingest.

        Raises:
            NotFound: nothing fits.
            InvalidArgument: several things fit.
        """
        fitting = [found for found in self.objects if _fits(found, text)]
        exact = [found for found in fitting if text in (found.key, _spelt(found))]
        fitting = exact or fitting
        if not fitting:
            raise NotFound(f"nothing is called {text} in namespace {self.namespace}")
        if len(fitting) > 1:
            raise InvalidArgument(f"{text} may be any of: {', '.join(map(_spelt, fitting[:5]))}")
        return fitting[0]

    def chains(self, wanted: Object) -> list[Chain]:
        """One chain, the shortest, for each root that leads to the object; none if nothing keeps it."""
        found = (self._chain(root, starts, wanted) for root, starts in self._roots.items())
        return sorted((chain for chain in found if chain is not None), key=lambda chain: len(chain.steps))

    def _chain(self, root: Object, starts: Sequence[tuple[Object, str, bool]], wanted: Object) -> Chain | None:
        # A flat lease does not look at labels; an object may be reached both ways, so the flag is part of the place.
        came: dict[tuple[Object, bool], tuple[tuple[Object, bool] | None, str]] = {}
        queue: deque[tuple[Object, bool]] = deque()
        for held, because, flat in starts:
            if (held, flat) not in came:
                came[held, flat] = (None, because)
                queue.append((held, flat))
        while queue:
            place = queue.popleft()
            if place[0] == wanted:
                return Chain(root, tuple(_walked(came, place)))
            for held, because in self.links.get(place[0], []):
                following = (held, place[1])
                if (place[1] and because.startswith("label ")) or following in came:
                    continue
                came[following] = (place, because)
                queue.append(following)
        return None

    def hold(self, root: Object, held: Object, because: str, *, flat: bool = False) -> None:
        """Note that a root holds an object."""
        self._roots.setdefault(root, []).append((held, because, flat))

    def add(self, found: Object, labels: Mapping[str, str]) -> None:
        """Note an object and what its labels hold."""
        self.objects[found] = labels
        self.links.setdefault(found, []).extend(_named(labels))
        if _ROOT in labels:
            self.hold(Object("label", _ROOT), found, f"label {_ROOT}")


def _walked(
    came: Mapping[tuple[Object, bool], tuple[tuple[Object, bool] | None, str]], place: tuple[Object, bool]
) -> list[Step]:
    steps = []
    at: tuple[Object, bool] | None = place
    while at is not None:
        before, because = came[at]
        steps.append(Step(at[0], because))
        at = before
    return steps[::-1]


def read(client: Client, ctx: CallContext) -> Holders:
    """Ask a daemon for everything in the namespace of ``ctx`` that can hold or be held.

    Raises:
        FailedPrecondition, InvalidArgument: no namespace, or not a valid one.
        Unavailable: nobody answers.
    """
    found = Holders(ctx.require_namespace())
    for info in client.content.walk(ctx):
        found.add(Object(CONTENT, info.digest), info.labels)
    for status in client.content.list_statuses(ctx):
        ingest = Object(INGESTS, status.ref)
        found.add(ingest, {})
        if status.expected:
            found.links[ingest].append((Object(CONTENT, status.expected), "expected by the ingest"))
    for snapshotter in _snapshotters(client, ctx):
        for snapshot in client.snapshotter(snapshotter).walk(ctx):
            here = Object(SNAPSHOTS + snapshotter, snapshot.name)
            found.add(here, snapshot.labels)
            if snapshot.parent:
                found.links[here].append((Object(here.type, snapshot.parent), "parent of the snapshot"))
    for image in client.images.list(ctx):
        root = Object("image", image.name)
        found.hold(root, Object(CONTENT, image.target.digest), "target of the image")
        for held, because in _named(image.labels):
            found.hold(root, held, because)
    for container in client.containers.list(ctx):
        root = Object("container", container.id)
        if container.snapshotter and container.snapshot_key:
            held = Object(SNAPSHOTS + container.snapshotter, container.snapshot_key)
            found.hold(root, held, "root file system of the container")
        for held, because in _named(container.labels):
            found.hold(root, held, because)
    _read_leases(client, ctx, found)
    return found


def _read_leases(client: Client, ctx: CallContext, found: Holders) -> None:
    # Our own clock: there is no call that asks the daemon for its time.
    now = SystemClock().now()
    for lease in client.leases.list(ctx):
        if _is_past(lease.labels.get(_EXPIRE, ""), now):
            found.expired.append(lease.id)
            continue
        for resource in client.leases.list_resources(ctx, lease.id):
            held = Object(resource.type, resource.id)
            found.hold(Object("lease", lease.id), held, "listed by the lease", flat=_FLAT in lease.labels)


def _snapshotters(client: Client, ctx: CallContext) -> Iterator[str]:
    for plugin in client.introspection.plugins(ctx, [f"type=={_SNAPSHOTTER_TYPE}"]):
        if plugin.init_err is None:
            yield plugin.id


def _named(labels: Mapping[str, str]) -> Iterator[tuple[Object, str]]:
    for label, value in labels.items():
        if label.startswith(_REF_SNAPSHOT):
            snapshotter = label.removeprefix(_REF_SNAPSHOT).partition("/")[0]
            yield Object(SNAPSHOTS + snapshotter, value), f"label {label}"
        elif label == _REF_CONTENT or label.startswith((f"{_REF_CONTENT}.", f"{_REF_CONTENT}/")):
            yield Object(CONTENT, value), f"label {label}"


def _is_past(label: str, now: int) -> bool:
    if not label:
        return False
    try:
        return parse_rfc3339(label) < now
    except ValueError:
        # containerd ignores an expiry that it cannot read: the lease holds.
        return False


def _spelt(found: Object) -> str:
    if found.type.startswith(SNAPSHOTS):
        return f"{found.type.removeprefix(SNAPSHOTS)}/{found.key}"
    return found.key


def _fits(found: Object, text: str) -> bool:
    if text in (found.key, _spelt(found)):
        return True
    shortest = 4
    return (
        found.type == CONTENT
        and len(text) >= shortest
        and (found.key.startswith(text) or found.key.partition(":")[2].startswith(text))
    )
