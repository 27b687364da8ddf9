"""The part that all fake snapshotters share: a record, a layer, and both in one transaction.

What differs between them is a ``Layers``: where a snapshot's files are and which mounts show them. The rhythm of every
change is the same: record, layer, answer; the error texts are those of containerd's plugins, ``prefixes`` tells them
apart. Clauses SNP-009 to SNP-085.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.snapshotters.records import NO_USAGE, Record, Records, Snapshot
from refimpl.contract import filters as filter_language
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What a plugin writes before the common store's error texts; empty for the text alone."""

    create: str = "failed to create snapshot"
    commit: str = "failed to commit snapshot"
    remove: str = "failed to remove"
    mounts: str = "failed to get active mount"


class Layers(Protocol):
    """The storage of one snapshotter."""

    root: str
    prefixes: Prefixes

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """Make the storage of a new snapshot; on failure nothing is left of it."""
        ...

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """The mounts that show an active snapshot or a view."""
        ...

    def usage(self, snapshot: Snapshot) -> Usage:
        """What an active snapshot takes now."""
        ...

    def commit(self, snapshot: Snapshot) -> None:
        """Make the storage of an active snapshot that of a committed one."""
        ...

    def remove(self, record: Record) -> None:
        """Take the storage away, or leave it for ``cleanup``."""
        ...

    def cleanup(self, live: frozenset[int]) -> None:
        """Take away the storage of all but the ``live`` snapshots.

        Raises:
            Unimplemented: this snapshotter removes at once.
        """
        ...

    def labels(self, before: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
        """The labels to store, given the caller's and those of the record that this one comes from.

        That is the parent's record for a new snapshot, the active one's for a committed one.
        """
        ...

    def shown(self, record: Record) -> Info:
        """A record as it is answered, with what is computed and not stored."""
        ...


class LayeredSnapshotter:
    """A ``contract.snapshots.Snapshotter`` and ``Cleaner`` on a fake host."""

    def __init__(self, host: FakeHost, layers: Layers) -> None:
        self._host = host
        self._layers = layers
        self._path = f"{layers.root}/metadata.db"

    @property
    def _records(self) -> Records:
        """The store; made at the first use and found again by the next kernel on this host (SNX-005, SNP-113)."""
        with self._host.lock:
            records = self._host.databases.get(self._path)
            if records is None:
                records = self._host.databases[self._path] = Records(self._host.lock, self._host.clock)
                self._host.fs.write(self._path, b"", mode=0o600)
            assert isinstance(records, Records), "nobody else writes a database of that name"
            return records

    def stat(self, ctx: CallContext, key: str) -> Info:
        """The record of a snapshot (SNP-028, SNP-029)."""
        ctx.check()
        return self._layers.shown(self._records.get(key))

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels (SNP-064 to SNP-071)."""
        ctx.check()
        records = self._records
        with records.transaction():
            records.update(info, fieldpaths)
            return self._layers.shown(records.get(info.name))

    def usage(self, ctx: CallContext, key: str) -> Usage:
        """Measured for an active snapshot, nothing for a view, as recorded for a committed one (SNP-081 to SNP-085)."""
        ctx.check()
        records = self._records
        with self._host.lock:
            record = records.get(key)
            return self._layers.usage(records.snapshot(key)) if record.kind is Kind.ACTIVE else record.usage

    def mounts(self, ctx: CallContext, key: str) -> list[Mount]:
        """The same mounts as at first (SNP-034)."""
        ctx.check()
        with self._host.lock, prefixed(self._layers.prefixes.mounts):
            return self._layers.mounts(self._records.mountable(key))

    def prepare(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make an active snapshot (SNP-009, SNP-010)."""
        return self._create(ctx, Kind.ACTIVE, key, parent, labels)

    def view(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make a read-only snapshot (SNP-011)."""
        return self._create(ctx, Kind.VIEW, key, parent, labels)

    def _create(
        self, ctx: CallContext, kind: Kind, key: str, parent: str, labels: Mapping[str, str] | None
    ) -> list[Mount]:
        ctx.check()
        records = self._records
        with records.transaction():
            below = records.get(parent).info.labels if records.has(parent) else {}
            with prefixed(self._layers.prefixes.create):
                snapshot = records.create(kind, key, parent, self._layers.labels(below, labels or {}))
            self._layers.create(ctx, snapshot)
            return self._layers.mounts(snapshot)

    def commit(self, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Turn an active snapshot into a committed one (SNP-012, SNP-061)."""
        ctx.check()
        records = self._records
        with records.transaction():
            record, snapshot = records.get(key), records.snapshot(key)
            usage = self._layers.usage(snapshot) if record.kind is Kind.ACTIVE else NO_USAGE
            with prefixed(self._layers.prefixes.commit):
                records.commit(name, key, usage, self._layers.labels(record.info.labels, labels or {}))
            self._layers.commit(snapshot)

    def remove(self, ctx: CallContext, key: str) -> None:
        """Forget a snapshot (SNP-022 to SNP-027)."""
        ctx.check()
        records = self._records
        with records.transaction():
            with prefixed(self._layers.prefixes.remove):
                record = records.remove(key)
            self._layers.remove(record)

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The snapshots for which any filter holds, ordered by name (SNP-073 to SNP-079)."""
        wanted = filter_language.parse(filters)
        ctx.check()
        infos = [self._layers.shown(record) for record in self._records.all()]
        return (info for info in infos if wanted(_adaptor(info)))

    def cleanup(self, ctx: CallContext) -> None:
        """Take away storage that no record stands for (SNP-096, SNX-021)."""
        ctx.check()
        with self._host.lock:
            self._layers.cleanup(frozenset(record.id for record in self._records.all()))

    def close(self) -> None:
        """Nothing is held: the host keeps it all."""


@contextmanager
def prefixed(prefix: str) -> Iterator[None]:
    """Say in front of an error what was being done; its kind stays."""
    try:
        yield
    except ContainerdError as error:
        if not prefix:
            raise
        raise type(error)(f"{prefix}: {error.message}", bare=error.bare) from error


def _adaptor(info: Info) -> filter_language.Adaptor:
    def value(fieldpath: Sequence[str]) -> str | None:
        match fieldpath[0]:
            case "name":
                return info.name
            case "parent":
                return info.parent
            case "kind":
                return info.kind.name.lower()
            case "labels":
                return filter_language.map_value(fieldpath, info.labels)
        return None

    return value


def with_label(info: Info, key: str, value: str) -> Info:
    """A record with a label that is computed, not stored."""
    return replace(info, labels={**info.labels, key: value})
