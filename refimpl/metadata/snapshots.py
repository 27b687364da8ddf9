"""Snapshots by namespace, over one snapshotter that knows no namespaces.

A record maps the client's key to the back end's, ``<namespace>/<n>/<key>`` (SNP-106, MET-038), and keeps the parent,
the children, all labels and the times. Kind, usage, mounts and files are the back end's; of the labels it sees only
those that it can act on (SNP-063), and those that it adds are shown too (SNP-072). The layout is drawn in
``refimpl.metadata.buckets``.

Removing a snapshot is to forget its record; a collection takes the files (SNP-096, ``refimpl.metadata.pruning``).

A *remote* snapshotter may have a layer ready before anybody prepared it. The client asks with the label
``containerd.io/snapshot.ref``; the answer AlreadyExists means that the snapshot of that name is there (SNP-100 to 105).

Clauses SNP-001 to 121, MET-038 to 040, LEA-023 to 025.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from refimpl.contract import snapshots
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from refimpl.contract.filters import Adaptor, Filter, map_value
from refimpl.contract.filters import parse as parse_filters
from refimpl.contract.mounts import Mount
from refimpl.contract.quoting import quoted
from refimpl.contract.snapshots import Info, Kind, Snapshotter, Usage
from refimpl.metadata import buckets
from refimpl.metadata.database import Database
from refimpl.metadata.labels import SNAPSHOT_REF, inherited, updated, validated
from refimpl.metadata.locks import SharedLock
from refimpl.metadata.pruning import prune
from refimpl.metadata.snapshot_records import Creation, SnapshotRecords, read_info

_log = logging.getLogger(__name__)


class NamespacedSnapshotter:
    """A ``contract.snapshots.Snapshotter`` that shows each namespace its own keys.

    The back end is never told the lease: it is ours to keep (SNP-107).

    Args:
        database: where the records are.
        name: the snapshotter's plugin id.
        backend: where the files are.
    """

    def __init__(self, database: Database, name: str, backend: Snapshotter) -> None:
        self._database = database
        self._name = name
        self._backend = backend
        self._records = SnapshotRecords(name)
        # Shared by every change, exclusive to the clean-up: a snapshot that the back end has already and the database
        # not yet is work in progress, and looks like garbage.
        self._lock = SharedLock()

    def stat(self, ctx: CallContext, key: str) -> Info:
        """The record, with the back end's kind and labels (SNP-028, SNP-029, SNP-072)."""
        namespace = ctx.require_namespace()
        with self._database.view() as v1:
            record = self._records.get(v1, namespace, key)
            local, backend_key = read_info(key, record), buckets.text(record, buckets.NAME)
        return _merge(self._backend.stat(ctx.with_lease(""), backend_key), local)

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels; those that are the back end's business are changed there too (SNP-064 to 071)."""
        namespace = ctx.require_namespace()
        if not info.name:
            raise InvalidArgument
        with self._lock.shared(), self._database.update() as v1:
            record = self._records.get(v1, namespace, info.name)
            before = read_info(info.name, record)
            wanted = updated(before.labels, info.labels, fieldpaths, f"snapshot {quoted(info.name)}")
            kept = validated(wanted, "info")
            local = replace(before, labels=kept, updated_at=self._database.clock.now())
            buckets.write_times(record, local.created_at, local.updated_at)
            try:
                buckets.write_labels(record, kept)
            except Unknown as err:
                raise Unknown(f"failed to read labels: {err}") from err
            # Last, and inside: a back end that refuses rolls the record back.
            inner = Info(buckets.text(record, buckets.NAME), labels=inherited(kept))
            return _merge(self._backend.update(ctx.with_lease(""), inner, fieldpaths), local)

    def usage(self, ctx: CallContext, key: str) -> Usage:
        """What the back end says that the snapshot takes (SNP-081 to 085)."""
        return self._backend.usage(ctx.with_lease(""), self._backend_key(ctx, key))

    def mounts(self, ctx: CallContext, key: str) -> list[Mount]:
        """The mounts of an active snapshot or view (SNP-034, SNP-035)."""
        return self._backend.mounts(ctx.with_lease(""), self._backend_key(ctx, key))

    def prepare(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make an active snapshot (SNP-009 to 018), and add it to the caller's lease (SNP-089).

        Raises:
            AlreadyExists: the key is taken; or what the label ``containerd.io/snapshot.ref`` names is there.
            NotFound: no such parent or lease; or no such remote snapshot, though the back end said so (SNP-104).
            Unknown: the back end says that a key exists which nobody has used (SNP-104).
        """
        return self._create(ctx, key, parent, labels, kind=Kind.ACTIVE)

    def view(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make a read-only snapshot (SNP-011); errors as for ``prepare``."""
        return self._create(ctx, key, parent, labels, kind=Kind.VIEW)

    def commit(self, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Give the active snapshot ``key`` its final name (SNP-012, SNP-017 to 021), and this call's labels (SNP-061).

        In the caller's lease the name takes the place of the key (SNP-089).
        """
        ctx.require_namespace()
        kept = validated(labels, "info")
        committed = False
        try:
            with self._lock.shared(), self._database.update() as v1:
                now = self._database.clock.now()
                backend_name, backend_key = self._records.commit(ctx, v1, name, key, kept, now)
                # Last, and inside: if the back end refuses, the active snapshot is as it was (SNP-108).
                self._backend.commit(ctx.with_lease(""), backend_name, backend_key, inherited(kept))
                committed = True
        except BaseException:
            if committed:
                # The two databases disagree now: the key's record names what the back end has no more (SNP-115).
                fields = {"snapshotter": self._name, "key": key, "name": name}
                _log.error("uncommittable snapshot: record not changed after commit", extra={"fields": fields})
            raise

    def remove(self, ctx: CallContext, key: str) -> None:
        """Forget the record; the files go with the next collection (SNP-022 to 027, SNP-096).

        Raises:
            FailedPrecondition: a snapshot stands on it (SNP-023, MET-039).
            NotFound: no such snapshot.
        """
        ctx.require_namespace()
        with self._lock.shared(), self._database.update() as v1:
            self._records.remove(ctx, v1, key)
            self._database.mark_dirty(f"snapshots/{self._name}")

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The namespace's snapshots in byte order of their keys (SNP-073 to 080).

        A record whose snapshot is gone from the back end is left out; what changes meanwhile may or may not be seen.
        """
        namespace = ctx.require_namespace()
        wanted = parse_filters(filters)
        with self._database.view() as v1:
            records = self._records.list(v1, namespace)
            found = [(buckets.text(record, buckets.NAME), read_info(key, record)) for key, record in records]
        return self._walk(ctx, found, wanted)

    def close(self) -> None:
        """Close the back end."""
        self._backend.close()

    def clean(self) -> None:
        """Remove from the back end what no namespace has a record of (SNP-096 to 098, GC-048).

        Raises:
            ContainerdError: the back end failed; the rest waits for the next time.
        """
        ctx = CallContext()
        with self._lock.exclusive():
            with self._database.view() as v1:
                recorded = self._records.backend_keys(v1)
            prune(ctx, self._name, self._backend, recorded)
        if isinstance(self._backend, snapshots.Cleaner):
            try:
                self._backend.cleanup(ctx)
            except Unimplemented:
                _log.debug("nothing to clean up", extra={"fields": {"snapshotter": self._name}})

    def _create(
        self, ctx: CallContext, key: str, parent: str, given: Mapping[str, str] | None, *, kind: Kind
    ) -> list[Mount]:
        namespace = ctx.require_namespace()
        kept = validated(given, "info")
        # Two transactions with the back end between them: it may take its time to make files, and nobody else should
        # wait for that. The key is free again if it fails, the number is used up (MET-038).
        with self._lock.shared():
            with self._database.update() as v1:
                target = kept.get(SNAPSHOT_REF, "")
                backend_key, backend_parent = self._records.reserve(ctx, v1, key, parent, target)
            make = self._backend.view if kind is Kind.VIEW else self._backend.prepare
            try:
                mounts = make(ctx.with_lease(""), backend_key, backend_parent, inherited(kept))
            except AlreadyExists as err:
                self._adopt(ctx, self._find_target(ctx, target, backend_parent, err), target, parent, kept)
                raise AlreadyExists(f"target snapshot {quoted(target)} from snapshotter") from err
            now = self._database.clock.now()
            try:
                creation = Creation(key, parent, backend_key, backend_parent, kept, now, now)
                with self._database.update() as v1:
                    self._records.create(ctx, v1, namespace, creation)
            except BaseException:
                self._abandon(ctx, backend_key)
                raise
        return mounts

    def _find_target(self, ctx: CallContext, target: str, parent: str, refusal: AlreadyExists) -> Info:
        """The snapshot that a remote snapshotter has ready (SNP-102 to 104)."""
        if not target:
            raise Unknown(f"unexpected error from snapshotter: {refusal}: unknown") from refusal
        wanted = f'labels."{SNAPSHOT_REF}"=={quoted(target)},parent=={quoted(parent)}'
        for info in self._backend.walk(ctx.with_lease(""), [wanted]):
            # A back end may ignore the filter (SNP-103).
            ready = info.kind is Kind.COMMITTED and info.parent == parent
            if ready and info.labels.get(SNAPSHOT_REF) == target:
                return info
        raise NotFound(f"target snapshot {quoted(target)} in backend") from refusal

    def _adopt(self, ctx: CallContext, ready: Info, name: str, parent: str, kept: Mapping[str, str]) -> None:
        """Give a remote snapshotter's snapshot a record, with labels of both sides (SNP-102)."""
        labels = {**ready.labels, **kept}
        times = (ready.created_at, ready.updated_at)
        with self._database.update() as v1:
            creation = Creation(name, parent, ready.name, ready.parent, labels, *times)
            self._records.create(ctx, v1, ctx.namespace, creation)

    def _abandon(self, ctx: CallContext, backend_key: str) -> None:
        """Take back what the back end made and the database refused."""
        try:
            self._backend.remove(ctx.with_lease(""), backend_key)
        except ContainerdError as err:
            # The caller has to hear of the refusal, not of this; the next clean-up finds it.
            fields = {"snapshotter": self._name, "key": backend_key, "error": err}
            _log.error("failed to clean up unreferenced snapshot", extra={"fields": fields})

    def _walk(self, ctx: CallContext, found: list[tuple[str, Info]], wanted: Filter) -> Iterator[Info]:
        for backend_key, local in found:
            try:
                info = _merge(self._backend.stat(ctx.with_lease(""), backend_key), local)
            except NotFound:
                continue
            if wanted(_adaptor(info)):
                yield info

    def _backend_key(self, ctx: CallContext, key: str) -> str:
        namespace = ctx.require_namespace()
        with self._database.view() as v1:
            return buckets.text(self._records.get(v1, namespace, key), buckets.NAME)


def _merge(theirs: Info, ours: Info) -> Info:
    """Our record, with the back end's kind and the labels that only it has (SNP-072)."""
    return replace(ours, kind=theirs.kind, labels={**theirs.labels, **ours.labels})


def _adaptor(info: Info) -> Adaptor:
    """The fields that a filter can ask for (SNP-075)."""

    def value(path: Sequence[str]) -> str | None:
        if path[0] == "labels":
            return map_value(path, info.labels)
        return {"name": info.name, "parent": info.parent, "kind": info.kind.name.lower()}.get(path[0])

    return value
