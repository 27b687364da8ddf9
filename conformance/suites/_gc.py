"""Words for the checks of leases and of the collector: what holds, what was dropped, and how to notice a collection."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from conformance import patience
from conformance.subjects.base import OwnInstance, Subject
from conformance.suites._content import ROOTED, digest_of, fresh, has, store
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.api import snapshots_v1_pb2_grpc, types_pb2
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.content import ContentStore, Info
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, NotFound
from refimpl.contract.events import Envelope, EventExchange
from refimpl.contract.images import Image, ImageStore
from refimpl.contract.leases import Lease, LeaseManager
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.types import Descriptor, TypedAny

ROOT = "containerd.io/gc.root"
EXPIRE = "containerd.io/gc.expire"
FLAT = "containerd.io/gc.flat"
REF_CONTENT = "containerd.io/gc.ref.content"
REF_SNAPSHOT = "containerd.io/gc.ref.snapshot"

MANIFEST = "application/vnd.oci.image.manifest.v1+json"

PLAIN = CallContext(namespace="conform")
"""Who calls an instance that belongs to one check."""

NEVER = 0.000001
"""A pause threshold that puts minutes between collections."""

QUIET = 0.25
"""Seconds in which nothing is to happen; where intervals are left as they are, several pass in this time."""

SOON = patience.SECONDS
"""Seconds that a collection which is due may take to come about."""

Drop = Callable[[], None]


def hours(number: float) -> str:
    """A time that many hours from now (before, if negative), as labels spell it."""
    return f"{datetime.now(UTC) + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}"


def image(name: str, digest: str = "", labels: Mapping[str, str] | None = None) -> Image:
    """A record; without a digest its target is nowhere."""
    return Image(name, Descriptor(MANIFEST, digest or digest_of(fresh()), 24), labels or {})


def container(id: str, **fields: Any) -> Container:
    """A record with what every container needs."""
    spec = TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b"{}")
    return Container(id, runtime=RuntimeInfo("io.containerd.runc.v2"), spec=spec, **fields)


def exists(snapshotter: Snapshotter, ctx: CallContext, key: str) -> bool:
    """Whether there is such a snapshot."""
    try:
        snapshotter.stat(ctx, key)
    except NotFound:
        return False
    return True


def committed(
    snapshotter: Snapshotter, ctx: CallContext, name: str, parent: str = "", labels: Mapping[str, str] | None = None
) -> str:
    """Make a committed snapshot without looking into it; answers with its name."""
    key = f"{name}-{uuid.uuid4().hex[:8]}"
    snapshotter.prepare(ctx, key, parent)
    snapshotter.commit(ctx, name, key, labels)
    return name


def surviving(content: ContentStore, ctx: CallContext, digests: Mapping[str, str]) -> set[str]:
    """The names of those blobs that are still there."""
    return {name for name, digest in digests.items() if has(content, ctx, digest)}


def by_id(leases: LeaseManager, ctx: CallContext) -> dict[str, Lease]:
    """All leases of the namespace."""
    return {lease.id: lease for lease in leases.list(ctx)}


def eventually(holds: Callable[[], bool], seconds: float = SOON) -> bool:
    """Whether a condition comes to hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def stays(holds: Callable[[], bool], seconds: float = QUIET) -> bool:
    """Whether a condition holds all the time."""
    return not eventually(lambda: not holds(), seconds)


@pytest.fixture
def drop(leases: LeaseManager, ctx: CallContext) -> Drop:
    """``drop()`` ends the check's own lease with a collection: what it made is held by itself from then on."""
    return lambda: leases.delete(ctx.with_lease(""), ctx.lease, sync=True)


@pytest.fixture
def under(leases: LeaseManager, ctx: CallContext) -> Callable[..., CallContext]:
    """``under("name", {labels})`` makes a further lease and answers with the context of calls under it."""

    def make(id: str, labels: Mapping[str, str] | None = None, ctx: CallContext = ctx) -> CallContext:
        leases.create(ctx.with_lease(""), id, labels)
        return ctx.with_lease(id)

    return make


# ---- instances that belong to one check


def scheduler(**settings: float | str) -> str:
    """A configuration of the scheduler."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(['version = 2\n[plugins."io.containerd.gc.v1.scheduler"]', *lines, ""])


class Canary:
    """A blob that nothing holds once it is exposed: when it is gone, a collection ran.

    Exposing it is one mutation and no deletion. It is the one sign of a collection that needs no log.
    """

    def __init__(self, instance: Subject) -> None:
        assert instance.content is not None, "checks that count collections need a content store"
        self._content: ContentStore = instance.content
        self.digest = store(self._content, PLAIN, fresh(), ROOTED)

    def expose(self) -> Canary:
        """Take its root label away."""
        self._content.update(PLAIN, Info(self.digest), [f"labels.{ROOT}"])
        return self

    @property
    def alive(self) -> bool:
        """Whether no collection ran since it was exposed."""
        return has(self._content, PLAIN, self.digest)

    def stays(self, seconds: float = QUIET) -> bool:
        """Whether no collection runs in this time."""
        return stays(lambda: self.alive, seconds)

    def goes(self, seconds: float = SOON) -> bool:
        """Whether a collection runs in this time."""
        return eventually(lambda: not self.alive, seconds)


def exposed(instance: Subject) -> Canary:
    """A canary that the next collection takes."""
    return Canary(instance).expose()


def settle(instance: OwnInstance) -> None:
    """Have a collection done: nothing that happened so far counts for the next one."""
    instance.collect(PLAIN)


def records(images: ImageStore, count: int) -> list[str]:
    """Make image records, one mutation each; answers with their names."""
    names = [f"conformance.invalid/mutation/{uuid.uuid4().hex}" for _ in range(count)]
    for name in names:
        images.create(PLAIN, image(name))
    return names


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call took."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def together(calls: Iterable[Callable[[], object]]) -> None:
    """Make calls at the same time; the first error is raised when all are done."""
    todo = list(calls)
    with ThreadPoolExecutor(len(todo)) as pool:
        for result in [pool.submit(call) for call in todo]:
            result.result()


# ---- events


class Heard:
    """Events of one namespace in order, up to a full stop that the check itself publishes."""

    def __init__(self, events: EventExchange, ctx: CallContext) -> None:
        self._events, self._ctx = events, ctx
        self._found: list[Envelope] = []
        self._done = threading.Event()
        self._stop = f"/conformance/stop{uuid.uuid4().hex[:8]}"
        self._subscription = events.subscribe(ctx, [f"namespace=={ctx.namespace}"])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        # The end of the stream, of whatever kind, is seen by the check as a full stop that does not come.
        with suppress(ContainerdError):
            for envelope in self._subscription:
                if envelope.topic == self._stop:
                    self._done.set()
                    return
                self._found.append(envelope)

    def topics(self) -> Counter[str]:
        """How often each topic was heard until now. Events come in the order of publishing: the last one is our own."""
        self._events.publish(self._ctx, self._stop, TypedAny("conformance.Stop", b""))
        assert self._done.wait(SOON), "the subscription went silent: the check's own event did not come"
        return Counter(envelope.topic for envelope in self._found)

    def close(self) -> None:
        """Leave."""
        self._subscription.close()
        self._thread.join(SOON)


@contextmanager
def listening(events: EventExchange, ctx: CallContext) -> Iterator[Heard]:
    """Hears what happens in the block."""
    heard = Heard(events, ctx)
    try:
        yield heard
    finally:
        heard.close()


# ---- a snapshotter of the check's own


class Watched(snapshots_v1_pb2_grpc.SnapshotsServicer):
    """A snapshotter that keeps names alone and writes down what it is asked to remove.

    Attributes:
        calls: ``List``, ``Remove <key>`` and ``Cleanup``, in the order in which they came.
        refuses: end of a key -> status of its removal.
        slow: while cleared, a removal waits (``SLOW_SECONDS`` at most).
        removing: set when a removal came.
    """

    SLOW_SECONDS = 2 * SOON

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuses: dict[str, grpc.StatusCode] = {}
        self.slow, self.removing = threading.Event(), threading.Event()
        self.slow.set()
        self._infos: dict[str, pb.Info] = {}

    @property
    def keys(self) -> list[str]:
        """The last parts of the names of all snapshots that are there."""
        return sorted(name.rpartition("/")[2] for name in self._infos)

    def Prepare(self, request: pb.PrepareSnapshotRequest, context: Any) -> pb.PrepareSnapshotResponse:  # noqa: N802  # as in the service
        """Keep the name of an active snapshot."""
        self._infos[request.key] = pb.Info(name=request.key, parent=request.parent, kind=pb.ACTIVE)
        return pb.PrepareSnapshotResponse(mounts=[types_pb2.Mount(type="bind", source="/nowhere")])

    def Commit(self, request: pb.CommitSnapshotRequest, context: Any) -> Empty:  # noqa: N802
        """Keep it under another name."""
        parent = self._infos.pop(request.key).parent
        self._infos[request.name] = pb.Info(name=request.name, parent=parent, kind=pb.COMMITTED)
        return Empty()

    def Stat(self, request: pb.StatSnapshotRequest, context: Any) -> pb.StatSnapshotResponse:  # noqa: N802
        """Tell what is kept."""
        if request.key not in self._infos:
            context.abort(grpc.StatusCode.NOT_FOUND, f"{request.key}: not found")
        return pb.StatSnapshotResponse(info=self._infos[request.key])

    def List(self, request: pb.ListSnapshotsRequest, context: Any) -> Iterator[pb.ListSnapshotsResponse]:  # noqa: N802
        """Tell of all."""
        self.calls.append("List")
        yield pb.ListSnapshotsResponse(info=list(self._infos.values()))

    def Remove(self, request: pb.RemoveSnapshotRequest, context: Any) -> Empty:  # noqa: N802
        """Forget a name, unless told to refuse."""
        self.calls.append(f"Remove {request.key}")
        self.removing.set()
        self.slow.wait(self.SLOW_SECONDS)
        for end, status in self.refuses.items():
            if request.key.endswith(end):
                context.abort(status, f"{request.key} stays")
        if any(info.parent == request.key for info in self._infos.values()):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{request.key} has children")
        del self._infos[request.key]
        return Empty()

    def Cleanup(self, request: pb.CleanupRequest, context: Any) -> Empty:  # noqa: N802
        """Write down that it was asked for."""
        self.calls.append("Cleanup")
        return Empty()


WATCHED = "watched"
"""What the snapshotter of the check's own is called."""


@pytest.fixture
def watched() -> Iterator[tuple[Watched, str]]:
    """A snapshotter that is served on a socket, and the configuration that makes it a proxy plugin."""
    snapshotter = Watched()
    with tempfile.TemporaryDirectory(prefix="cfm-") as folder:
        server = grpc.server(ThreadPoolExecutor(8))
        snapshots_v1_pb2_grpc.add_SnapshotsServicer_to_server(snapshotter, server)
        server.add_insecure_port(f"unix:{folder}/s.sock")
        server.start()
        config = f'version = 2\n[proxy_plugins.{WATCHED}]\ntype = "snapshot"\naddress = "{folder}/s.sock"\n'
        try:
            yield snapshotter, config
        finally:
            snapshotter.slow.set()
            server.stop(0).wait(SOON)


def directories(subject: Subject, mounts: Iterable[Mount]) -> set[str]:
    """What the mounts of one active snapshot name below the subject's root: its data."""
    root = str(subject.root)
    named = [text for mount in mounts for text in (mount.source, *(o.partition("=")[2] for o in mount.options))]
    return {text for text in named if text.startswith(root) and ":" not in text}
