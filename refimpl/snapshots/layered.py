"""The snapshotter around records and storage: a record, a layer, and both in one transaction.

What differs between snapshotters is a ``Layers``: where a snapshot's files are and which mounts show them. The rhythm
of every change is the same: record, layer, answer; the error texts are those of containerd's plugins, ``prefixes``
tells them apart. A crash at any point leaves litter at most, never a record without its files: storage is made before
its record is committed, and taken away after its record is gone. Clauses SNP-009 to SNP-085.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from refimpl.contract import filters as filter_language
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.snapshots.record import NO_USAGE, Record, Snapshot
from refimpl.snapshots.records import Records
from refimpl.snapshots.store import RecordStore


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What a plugin writes before the common store's error texts; empty for the text alone."""

    create: str = "failed to create snapshot"
    commit: str = "failed to commit snapshot"
    remove: str = "failed to remove"
    mounts: str = "failed to get active mount"


class Layers(Protocol):
    """The storage of one snapshotter. Entries of it are known by names that only the layers understand."""

    root: str
    prefixes: Prefixes

    def create(self, ctx: CallContext, snapshot: Snapshot) -> None:
        """Make the storage of a new snapshot; on failure nothing is left of it.

        The number is new: what is in its place is litter of a call that died before its record was committed.
        """
        ...

    def undo(self, snapshot: Snapshot) -> None:
        """Take away what ``create`` made: the record could not be committed."""
        ...

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """The mounts that show an active snapshot or a view."""
        ...

    def usage(self, ctx: CallContext, snapshot: Snapshot) -> Usage:
        """What an active snapshot takes now."""
        ...

    def commit(self, snapshot: Snapshot) -> None:
        """Make the storage of an active snapshot that of a committed one."""
        ...

    def remove(self, record: Record) -> Sequence[str]:
        """Agree to the removal of a snapshot, inside the transaction; answers with what to ``discard`` after it."""
        ...

    def strays(self, live: frozenset[int]) -> Sequence[str]:
        """Entries that belong to none of the ``live`` snapshots, for ``discard``; asked inside a write transaction.

        They are put aside first where a later snapshot could come to their place.

        Raises:
            Unimplemented: this snapshotter removes at once.
        """
        ...

    def discard(self, names: Sequence[str]) -> None:
        """Delete entries. What cannot be deleted stays, with a word in the log: its snapshot is gone already."""
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
    """A ``contract.snapshots.Snapshotter`` and ``Cleaner``."""

    def __init__(self, store: RecordStore, layers: Layers) -> None:
        self._store = store
        self._layers = layers

    def stat(self, ctx: CallContext, key: str) -> Info:
        """The record of a snapshot (SNP-028, SNP-029)."""
        ctx.check()
        with self._store.view() as records:
            return self._layers.shown(records.get(key))

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels (SNP-064 to SNP-071)."""
        ctx.check()
        with self._store.update() as records:
            return self._layers.shown(records.update(info, fieldpaths))

    def usage(self, ctx: CallContext, key: str) -> Usage:
        """Measured for an active snapshot, nothing for a view, as recorded for a committed one (SNP-081 to SNP-085)."""
        ctx.check()
        with self._store.view() as records:
            record, snapshot = records.get(key), records.snapshot(key)
        # Without the transaction: a large tree takes its time, and an open reader keeps old pages of the database.
        return self._layers.usage(ctx, snapshot) if record.kind is Kind.ACTIVE else record.usage

    def mounts(self, ctx: CallContext, key: str) -> list[Mount]:
        """The same mounts as at first (SNP-034)."""
        ctx.check()
        with self._store.view() as records, prefixed(self._layers.prefixes.mounts):
            return self._layers.mounts(records.mountable(key))

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
        made: Snapshot | None = None
        try:
            with self._store.update() as records:
                snapshot = self._record(records, kind, key, parent, labels or {})
                self._layers.create(ctx, snapshot)
                made = snapshot
                mounts = self._layers.mounts(snapshot)
        except BaseException:
            if made is not None:
                self._layers.undo(made)
            raise
        return mounts

    def _record(self, records: Records, kind: Kind, key: str, parent: str, labels: Mapping[str, str]) -> Snapshot:
        below = records.get(parent).info.labels if records.has(parent) else {}
        with prefixed(self._layers.prefixes.create):
            return records.create(kind, key, parent, self._layers.labels(below, labels))

    def commit(self, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Turn an active snapshot into a committed one (SNP-012, SNP-061)."""
        ctx.check()
        with self._store.update() as records:
            record, snapshot = records.get(key), records.snapshot(key)
            usage = self._layers.usage(ctx, snapshot) if record.kind is Kind.ACTIVE else NO_USAGE
            with prefixed(self._layers.prefixes.commit):
                records.commit(name, key, usage, self._layers.labels(record.info.labels, labels or {}))
            self._layers.commit(snapshot)

    def remove(self, ctx: CallContext, key: str) -> None:
        """Forget a snapshot (SNP-022 to SNP-027)."""
        ctx.check()
        with self._store.update() as records:
            with prefixed(self._layers.prefixes.remove):
                record = records.remove(key)
            left = self._layers.remove(record)
        self._layers.discard(left)

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The snapshots for which any filter holds, ordered by name (SNP-073 to SNP-079)."""
        wanted = filter_language.parse(filters)
        ctx.check()
        with self._store.view() as records:
            infos = [self._layers.shown(record) for record in records.all()]
        return (info for info in infos if wanted(_adaptor(info)))

    def cleanup(self, ctx: CallContext) -> None:
        """Take away storage that no record stands for (SNP-096, SNX-021)."""
        ctx.check()
        # A write transaction, though nothing is written: no snapshot may be in the making.
        with self._store.update() as records:
            strays = self._layers.strays(frozenset(record.id for record in records.all()))
        self._layers.discard(strays)

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()


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
