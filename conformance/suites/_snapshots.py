"""Words for the checks of snapshots: layers in a line, trees looked into, races, and events up to a full stop."""

from __future__ import annotations

import io
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from google.protobuf.message import Message

from conformance import patience
from conformance.fixtures import Mounted
from conformance.wire import Answer, Wire
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, NotFound
from refimpl.contract.events import Envelope, EventExchange
from refimpl.contract.leases import LeaseManager
from refimpl.contract.mounts import Mount, RootFS
from refimpl.contract.snapshots import Snapshotter
from refimpl.contract.types import TypedAny

SERVICE = "containerd.services.snapshots.v1.Snapshots"
ROOTED = {"containerd.io/gc.root": "1"}
"""Labels of a snapshot that no collection may take."""

REF = "containerd.io/snapshot.ref"
INHERITED = "containerd.io/snapshot/"
"""What labels begin with that a back end gets to see."""

PATIENCE = patience.SECONDS
"""Seconds that a check waits for what happens in its own time."""

SEVERAL = 16
"""Callers in a race."""

Fill = Callable[[RootFS], None]


def requests(snapshotter: str, key: str = "k") -> dict[str, Message]:
    """A request for each method of the service."""
    return {
        "Prepare": pb.PrepareSnapshotRequest(snapshotter=snapshotter, key=key),
        "View": pb.ViewSnapshotRequest(snapshotter=snapshotter, key=key),
        "Mounts": pb.MountsRequest(snapshotter=snapshotter, key=key),
        "Commit": pb.CommitSnapshotRequest(snapshotter=snapshotter, key=key, name=f"{key}-committed"),
        "Remove": pb.RemoveSnapshotRequest(snapshotter=snapshotter, key=key),
        "Stat": pb.StatSnapshotRequest(snapshotter=snapshotter, key=key),
        "Update": pb.UpdateSnapshotRequest(snapshotter=snapshotter, info=pb.Info(name=key)),
        "List": pb.ListSnapshotsRequest(snapshotter=snapshotter),
        "Usage": pb.UsageRequest(snapshotter=snapshotter, key=key),
        "Cleanup": pb.CleanupRequest(snapshotter=snapshotter),
    }


METHODS = tuple(requests(""))
NAMESPACED = tuple(method for method in METHODS if method not in {"List", "Cleanup"})
"""Unary methods that need a namespace."""


def send(wire: Wire, ctx: CallContext, method: str, request: Message) -> Answer:
    """A raw call of the service in a namespace."""
    return wire.call(f"{SERVICE}/{method}", request, namespace=ctx.namespace, lease=ctx.lease or None)


def committed(snapshotter: Snapshotter, ctx: CallContext, name: str, parent: str = "", **labels: str) -> str:
    """Make a committed snapshot without looking into it; answers with its name."""
    key = f"{name}-{uuid.uuid4().hex[:8]}"
    snapshotter.prepare(ctx, key, parent)
    snapshotter.commit(ctx, name, key, labels)
    return name


def names(snapshotter: Snapshotter, ctx: CallContext, *filters: str) -> list[str]:
    """What List shows, in its order."""
    return [info.name for info in snapshotter.walk(ctx, filters)]


def exists(snapshotter: Snapshotter, ctx: CallContext, key: str) -> bool:
    """Whether there is such a snapshot."""
    try:
        snapshotter.stat(ctx, key)
    except NotFound:
        return False
    return True


def outcome(call: Callable[[], object]) -> str:
    """What became of a call: ``ok``, or the name of the error's kind."""
    try:
        call()
    except ContainerdError as error:
        return type(error).__name__
    return "ok"


def at_once(calls: Sequence[Callable[[], object]]) -> list[str]:
    """Make calls at the same time; answers with the outcome of each."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> str:
        gate.wait(PATIENCE)
        return outcome(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def writable(mounts: Sequence[Mount]) -> tuple[str, ...]:
    """What names the storage that an active snapshot is written to."""
    last = mounts[-1]
    upper = tuple(o for o in last.options if o.startswith(("upperdir=", "subvolid=", "br:")))
    return (last.type, last.source, *upper)


def read_only(mounts: Sequence[Mount]) -> bool:
    """Whether the list itself says that nothing can be written: ``ro``, or an overlay that has no upper directory."""
    options = mounts[-1].options
    if "ro" in options:
        return True
    if any(option.startswith("br:") for option in options):
        return not any("=rw" in option for option in options)
    return mounts[-1].type == "overlay" and not any(o.startswith(("upperdir=", "workdir=")) for o in options)


def paths(root: RootFS) -> list[str]:
    """Everything in a tree but its root; a block based snapshotter's ``lost+found`` does not count."""
    return [path for path, _ in root.walk() if path != "/" and not path.startswith("/lost+found")]


def write_synced(root: RootFS, path: str, data: bytes) -> None:
    """Write a file so that it is on the disk, where there is one."""
    with root.open(path, "wb") as file:
        file.write(data)
        file.flush()
        with suppress(OSError, io.UnsupportedOperation, AttributeError):
            os.fsync(file.fileno())


class Layers:
    """Builds committed layers in the check's namespace and looks into them."""

    def __init__(self, snapshotter: Snapshotter, ctx: CallContext, mounted: Mounted) -> None:
        self._snapshotter, self._ctx, self._mounted = snapshotter, ctx, mounted

    def add(self, name: str, parent: str, fill: Fill) -> str:
        """Prepare on ``parent``, let ``fill`` write, commit as ``name``."""
        key = f"{name}-{uuid.uuid4().hex[:8]}"
        with self._mounted(self._snapshotter.prepare(self._ctx, key, parent)) as root:
            fill(root)
        self._snapshotter.commit(self._ctx, name, key)
        return name

    def files(self, name: str, files: dict[str, bytes], parent: str = "") -> str:
        """A layer that writes these files, with the directories above them."""

        def fill(root: RootFS) -> None:
            for path, data in files.items():
                folder = path.rpartition("/")[0]
                if folder:
                    root.makedirs(folder)
                root.write(path, data)

        return self.add(name, parent, fill)

    @contextmanager
    def look(self, name: str) -> Iterator[RootFS]:
        """The tree of a committed layer, through a view that is gone afterwards."""
        key = f"look-{uuid.uuid4().hex[:8]}"
        with self._mounted(self._snapshotter.view(self._ctx, key, name)) as root:
            yield root
        self._snapshotter.remove(self._ctx, key)


@pytest.fixture
def layers(snapshotter: Snapshotter, ctx: CallContext, mounted: Mounted) -> Layers:
    """Builds layers: ``layers.files("base", {"etc/hosts": b"..."})``, ``with layers.look("base") as root:``."""
    return Layers(snapshotter, ctx, mounted)


@contextmanager
def held(leases: LeaseManager, ctx: CallContext, **labels: str) -> Iterator[CallContext]:
    """The namespace under a further lease, which is deleted on leaving, with a collection."""
    name = f"held-{uuid.uuid4().hex[:8]}"
    leases.create(ctx, name, labels)
    try:
        yield ctx.with_lease(name)
    finally:
        with suppress(NotFound):
            leases.delete(ctx, name, sync=True)


class Heard:
    """Events of one namespace under ``/snapshot``, in order, up to a full stop that the check itself publishes."""

    def __init__(self, events: EventExchange, ctx: CallContext) -> None:
        self._events, self._ctx = events, ctx
        self._found: list[Envelope] = []
        self._done = threading.Event()
        self._stop = f"/conformance/stop{uuid.uuid4().hex[:8]}"
        self._subscription = events.subscribe(
            ctx, [f'namespace=={ctx.namespace},topic~="^/snapshot/"', f'topic=="{self._stop}"']
        )
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

    def all(self) -> list[Envelope]:
        """What was heard until now. Events come in the order of publishing: the last one is our own."""
        self._events.publish(self._ctx, self._stop, TypedAny("conformance.Stop", b""))
        assert self._done.wait(PATIENCE), "the subscription went silent: the check's own event did not come"
        return list(self._found)

    def close(self) -> None:
        """Leave."""
        self._subscription.close()
        self._thread.join(PATIENCE)


@contextmanager
def listening(events: EventExchange, ctx: CallContext) -> Iterator[Heard]:
    """Hears what happens in the block."""
    heard = Heard(events, ctx)
    try:
        yield heard
    finally:
        heard.close()


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether a condition comes to hold within ``PATIENCE``."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def decoded(envelope: Envelope, message: type[Any]) -> Any:
    """The event of an envelope."""
    return message.FromString(envelope.event.value)
