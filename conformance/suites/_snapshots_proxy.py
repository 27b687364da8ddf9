"""A snapshotter of another process, for the checks: it keeps records and no files, and remembers what it was asked.

It is served over a socket and given to an instance of the check's own as a proxy plugin, so that a check sees both
sides of the daemon: what clients get, and what a back end gets.
"""

# ruff: noqa: N802  # methods have the names of the wire

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from conformance.fixtures import Own
from conformance.subjects.base import OwnInstance
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.api import types_pb2
from refimpl.api.snapshots_v1_pb2_grpc import SnapshotsServicer, add_SnapshotsServicer_to_server
from refimpl.contract.context import CallContext
from refimpl.contract.snapshots import Snapshotter

ID = "conform"
"""Of the proxy plugin."""

PROXIED = {"spawn|proxy", "config"}
"""What a check needs that is about a back end: a daemon, or whatever else can be given a proxy plugin."""

CONFIG = """version = 2
[proxy_plugins.{id}]
type = "snapshot"
address = "{address}"

# A collection of its own accord would add calls that the check did not cause.
[plugins."io.containerd.gc.v1.scheduler"]
startup_delay = "1h"
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that the back end got.

    Attributes:
        headers: the call's metadata.
    """

    method: str
    request: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class Backend(SnapshotsServicer):
    """Records by name, as a proxy plugin would keep them.

    Attributes:
        calls: all that was asked, in order.
        fails: methods that fail, with which code.
        breaks: methods that do their work and then fail as if the connection had dropped.
        has_layers: answer AlreadyExists to Prepare and View: a remote snapshotter that has every layer.
    """

    def __init__(self) -> None:
        self.calls: list[Asked] = []
        self.fails: dict[str, grpc.StatusCode] = {}
        self.breaks: set[str] = set()
        self.has_layers = False
        self._records: dict[str, pb.Info] = {}
        self._lock = threading.RLock()
        self._folder = Path(tempfile.mkdtemp(prefix="cfm-"))
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        """Path of the socket."""
        return str(self._folder / "back.sock")

    def start(self) -> None:
        """Serve."""
        self._server = grpc.server(ThreadPoolExecutor(8))
        add_SnapshotsServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.address}")
        self._server.start()

    def stop(self) -> None:
        """Stop serving, as if the process had ended. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(0).wait(5)
        with suppress(FileNotFoundError):
            Path(self.address).unlink()

    def close(self) -> None:
        """Stop and leave nothing behind."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def names(self) -> list[str]:
        """The records there are."""
        with self._lock:
            return sorted(self._records)

    def add(
        self,
        name: str,
        parent: str = "",
        kind: pb.Kind.ValueType = pb.COMMITTED,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Put a record there that no client asked for."""
        with self._lock:
            info = pb.Info(name=name, parent=parent, kind=kind, labels=labels)
            info.created_at.GetCurrentTime()
            info.updated_at.CopyFrom(info.created_at)
            self._records[name] = info

    def forget(self, name: str) -> None:
        """Lose a record."""
        with self._lock:
            del self._records[name]

    def asked(self, *methods: str) -> list[Asked]:
        """The calls of some methods."""
        return [call for call in list(self.calls) if call.method in methods]

    def clear(self) -> None:
        """Forget the calls."""
        self.calls.clear()

    # The service.

    def _note(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        headers = {str(key): str(value) for key, value in context.invocation_metadata()}
        self.calls.append(Asked(method, request, headers))
        if code := self.fails.get(method):
            context.abort(code, f"{method} fails, as it was told")

    def _drop(self, method: str, context: grpc.ServicerContext) -> None:
        if method in self.breaks:
            context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost, as it was told")

    def _get(self, name: str, context: grpc.ServicerContext) -> pb.Info:
        info = self._records.get(name)
        if info is None:
            _abort(context, grpc.StatusCode.NOT_FOUND, f"snapshot {name} does not exist: not found")
        return info

    def _make(self, request: Any, kind: pb.Kind.ValueType, context: grpc.ServicerContext) -> list[types_pb2.Mount]:
        with self._lock:
            if self.has_layers or request.key in self._records:
                _abort(context, grpc.StatusCode.ALREADY_EXISTS, f"snapshot {request.key}: already exists")
            if request.parent:
                self._get(request.parent, context)
            self.add(request.key, request.parent, kind, request.labels)
        return _mounts(request.key, kind)

    def Prepare(self, request: pb.PrepareSnapshotRequest, context: grpc.ServicerContext) -> pb.PrepareSnapshotResponse:
        """Make an active record."""
        self._note("Prepare", request, context)
        mounts = self._make(request, pb.ACTIVE, context)
        self._drop("Prepare", context)
        return pb.PrepareSnapshotResponse(mounts=mounts)

    def View(self, request: pb.ViewSnapshotRequest, context: grpc.ServicerContext) -> pb.ViewSnapshotResponse:
        """Make a record of a view."""
        self._note("View", request, context)
        return pb.ViewSnapshotResponse(mounts=self._make(request, pb.VIEW, context))

    def Mounts(self, request: pb.MountsRequest, context: grpc.ServicerContext) -> pb.MountsResponse:
        """The mounts of a record."""
        self._note("Mounts", request, context)
        info = self._get(request.key, context)
        return pb.MountsResponse(mounts=_mounts(info.name, info.kind))

    def Commit(self, request: pb.CommitSnapshotRequest, context: grpc.ServicerContext) -> Empty:
        """Turn an active record into a committed one."""
        self._note("Commit", request, context)
        with self._lock:
            info = self._get(request.key, context)
            self.add(request.name, info.parent, pb.COMMITTED, request.labels)
            del self._records[request.key]
        self._drop("Commit", context)
        return Empty()

    def Remove(self, request: pb.RemoveSnapshotRequest, context: grpc.ServicerContext) -> Empty:
        """Forget a record that nothing stands on."""
        self._note("Remove", request, context)
        with self._lock:
            self._get(request.key, context)
            if any(info.parent == request.key for info in self._records.values()):
                _abort(context, grpc.StatusCode.FAILED_PRECONDITION, "cannot remove snapshot with child")
            del self._records[request.key]
        return Empty()

    def Stat(self, request: pb.StatSnapshotRequest, context: grpc.ServicerContext) -> pb.StatSnapshotResponse:
        """A record."""
        self._note("Stat", request, context)
        return pb.StatSnapshotResponse(info=self._get(request.key, context))

    def Update(self, request: pb.UpdateSnapshotRequest, context: grpc.ServicerContext) -> pb.UpdateSnapshotResponse:
        """Change labels."""
        self._note("Update", request, context)
        with self._lock:
            info = self._get(request.info.name, context)
            wanted = dict(request.info.labels)
            keys = [path.removeprefix("labels.") for path in request.update_mask.paths if path != "labels"]
            labels = {**info.labels, **{key: wanted.get(key, "") for key in keys}} if keys else wanted
            info.labels.clear()
            info.labels.update({key: value for key, value in labels.items() if value})
            now = Timestamp()
            now.GetCurrentTime()
            info.updated_at.CopyFrom(now)
        return pb.UpdateSnapshotResponse(info=info)

    def List(
        self, request: pb.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListSnapshotsResponse]:
        """Every record, whatever the filter: a back end may leave the choice to its caller."""
        self._note("List", request, context)
        with self._lock:
            found = list(self._records.values())
        if found:
            yield pb.ListSnapshotsResponse(info=found)

    def Usage(self, request: pb.UsageRequest, context: grpc.ServicerContext) -> pb.UsageResponse:
        """A number."""
        self._note("Usage", request, context)
        self._get(request.key, context)
        return pb.UsageResponse(size=4096, inodes=1)

    def Cleanup(self, request: pb.CleanupRequest, context: grpc.ServicerContext) -> Empty:
        """Nothing to do."""
        self._note("Cleanup", request, context)
        return Empty()


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort raises")


def _mounts(key: str, kind: int) -> list[types_pb2.Mount]:
    mode = "ro" if kind == pb.VIEW else "rw"
    return [types_pb2.Mount(type="bind", source=f"/conformance/{key}", options=["rbind", mode])]


@dataclass
class Behind:
    """A daemon of the check's own with the back end behind it."""

    instance: OwnInstance
    backend: Backend
    ctx: CallContext

    @property
    def snapshotter(self) -> Snapshotter:
        """The back end through the daemon."""
        return self.instance.snapshotter(ID)

    def collect(self) -> None:
        """Run a collection to its end."""
        self.instance.collect(self.ctx)

    def namespace(self, name: str) -> CallContext:
        """Another namespace, under a lease."""
        ctx = CallContext(namespace=name)
        assert self.instance.leases is not None, "a daemon has leases"
        return ctx.with_lease(self.instance.leases.create(ctx, "l").id)

    def keys(self, method: str, attribute: Callable[[Any], str] = lambda request: request.key) -> Sequence[str]:
        """The keys that the back end was asked about with a method."""
        return [attribute(call.request) for call in self.backend.asked(method)]


@pytest.fixture
def behind(own: Own) -> Iterator[Behind]:
    """A fresh daemon with a recording back end; ``ctx`` is the namespace ``rem`` under a lease."""
    backend = Backend()
    try:
        backend.start()
        instance = own(config=CONFIG.format(id=ID, address=backend.address))
        made = Behind(instance, backend, CallContext())
        made.ctx = made.namespace("rem")
        yield made
    finally:
        backend.close()
