"""A metadata database with stores below it, all in memory, under a clock that tests move by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.content import MemoryContent
from refimpl.backends.fake.kv import MemoryStore
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from refimpl.contract.filters import parse
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Snapshotter, Usage
from refimpl.metadata.content import SHARED
from refimpl.metadata.database import Database
from refimpl.metadata.plugin import Metadata

CTX = CallContext(namespace="t")
OTHER = CallContext(namespace="other")


class ScriptedSnapshotter:
    """A snapshotter without files: it keeps records, writes down its calls, and fails where a test says so.

    Attributes:
        calls: the changes it was asked for, as ``(method, key)`` or ``(method, name, key)``.
        failures: what to raise instead of answering, by method or by ``(method, key)``.
        extra_labels: labels that it adds to what it makes.
    """

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.infos: dict[str, Info] = {}
        self.calls: list[tuple[str, ...]] = []
        self.contexts: list[CallContext] = []
        self.failures: dict[str | tuple[str, str], Exception] = {}
        self.extra_labels: dict[str, str] = {}
        self.closed = False

    def _called(self, ctx: CallContext, method: str, *names: str) -> None:
        self.calls.append((method, *names))
        self.contexts.append(ctx)
        failure = self.failures.get((method, names[-1])) if names else None
        failure = failure or self.failures.get(method)
        if failure is not None:
            raise failure

    def _find(self, key: str) -> Info:
        if key not in self.infos:
            raise NotFound(f"snapshot {key} does not exist")
        return self.infos[key]

    def stat(self, ctx: CallContext, key: str) -> Info:
        return self._find(key)

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        self._called(ctx, "update", info.name)
        self.infos[info.name] = replace(self._find(info.name), labels={**self.extra_labels, **info.labels})
        return self.infos[info.name]

    def usage(self, ctx: CallContext, key: str) -> Usage:
        self._find(key)
        return Usage(4096, 1)

    def mounts(self, ctx: CallContext, key: str) -> list[Mount]:
        if self._find(key).kind is Kind.COMMITTED:
            raise FailedPrecondition("committed")
        return [Mount("bind", f"/{key}")]

    def prepare(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        return self._make(ctx, "prepare", Kind.ACTIVE, key, parent, labels)

    def view(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        return self._make(ctx, "view", Kind.VIEW, key, parent, labels)

    def _make(
        self, ctx: CallContext, method: str, kind: Kind, key: str, parent: str, labels: Mapping[str, str] | None
    ) -> list[Mount]:
        self._called(ctx, method, key)
        if key in self.infos:
            raise AlreadyExists(key)
        if parent and self._find(parent).kind is not Kind.COMMITTED:
            raise InvalidArgument(f"parent {parent} is not committed snapshot")
        now = self._clock.now()
        self.infos[key] = Info(key, parent, kind, now, now, {**self.extra_labels, **(labels or {})})
        return [Mount("bind", f"/{key}")]

    def commit(self, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        self._called(ctx, "commit", name, key)
        active = self._find(key)
        if active.kind is not Kind.ACTIVE:
            raise FailedPrecondition(f"snapshot {key} is not active")
        del self.infos[key]
        self.infos[name] = replace(
            active, name=name, kind=Kind.COMMITTED, labels={**self.extra_labels, **(labels or {})}
        )

    def remove(self, ctx: CallContext, key: str) -> None:
        self._called(ctx, "remove", key)
        self._find(key)
        if any(info.parent == key for info in self.infos.values()):
            raise FailedPrecondition("cannot remove snapshot with child")
        del self.infos[key]

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        parse(filters)
        self._called(ctx, "walk", *filters)
        return iter(list(self.infos.values()))

    def close(self) -> None:
        self.closed = True


class CleaningSnapshotter(ScriptedSnapshotter):
    """One that also removes files later, when told."""

    def cleanup(self, ctx: CallContext) -> None:
        self._called(ctx, "cleanup")


@dataclass
class World:
    """All of it."""

    clock: FakeClock
    store: MemoryStore
    backend: ContentStore
    snapshotter: CleaningSnapshotter
    plain: ScriptedSnapshotter
    metadata: Metadata
    policy: str = SHARED
    _refs: list[str] = field(default_factory=list)

    @property
    def snapshots(self) -> Snapshotter:
        """The namespaced view of ``snapshotter``."""
        return self.metadata.snapshotters["native"]

    def blob(self, data: bytes, ctx: CallContext = CTX, labels: Mapping[str, str] | None = None) -> str:
        """Store a blob; its digest."""
        ref = f"blob-{len(self._refs)}"
        self._refs.append(ref)
        writer = self.metadata.content.writer(ctx, ref)
        writer.write(data)
        writer.commit(ctx, labels=labels)
        return digest_of(data)

    def backend_digests(self) -> list[str]:
        """What the store below holds."""
        return sorted(info.digest for info in self.backend.walk(CallContext()))

    def collect(self) -> dict[str, int]:
        """Collect; what was removed."""
        return self.metadata.collect(CallContext()).removed


def make_world(policy: str = SHARED, backend: ContentStore | None = None) -> World:
    """A fresh one."""
    clock = FakeClock()
    store = MemoryStore()
    backend = backend or MemoryContent(clock)
    snapshotter, plain = CleaningSnapshotter(clock), ScriptedSnapshotter(clock)
    snapshotters: dict[str, Snapshotter] = {"native": snapshotter, "plain": plain}
    metadata = Metadata(Database(store, clock), backend, snapshotters, policy)
    return World(clock, store, backend, snapshotter, plain, metadata, policy)


def digest_of(data: bytes) -> str:
    """The digest that a store gives these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
