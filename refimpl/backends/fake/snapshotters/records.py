"""The snapshotters' common store: what each key is and stands on (containerd keeps it in ROOT/metadata.db).

Pure bookkeeping under one lock; directories and volumes belong to the layers of each snapshotter. A change and what it
does to the layers are one transaction: if the block fails, no record is changed.
Clauses SNP-009 to SNP-032, SNP-058 to SNP-073, SNX-008. Twin: the real snapshotters' database file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unknown
from refimpl.contract.snapshots import Info, Kind, Usage
from refimpl.contract.times import Clock

NO_USAGE = Usage()
"""Of a view, and of an active snapshot until it is measured."""


@dataclass(frozen=True, slots=True)
class Record:
    """A snapshot as the store keeps it.

    Attributes:
        id: number of the snapshot, never used twice.
        info: what ``stat`` answers.
        usage: as it was at commit.
    """

    id: int
    info: Info
    usage: Usage = NO_USAGE

    @property
    def kind(self) -> Kind:
        """View, active or committed."""
        return self.info.kind


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot with what it stands on.

    Attributes:
        parents: numbers of the ancestors, nearest first.
    """

    id: int
    kind: Kind
    parents: tuple[int, ...] = ()


def _quoted(text: str) -> str:
    """As Go's %q prints the keys that are met."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _stored(labels: Mapping[str, str] | None) -> dict[str, str]:
    """The labels that are kept: an empty value is no label (SNP-058)."""
    kept = {key: value for key, value in (labels or {}).items() if value}
    if "" in kept:
        raise Unknown(f'failed to set label "":{_quoted(kept[""])}: key required')
    return kept


class Records:
    """The records of one snapshotter.

    Args:
        lock: held during every transaction; the host's, so that records and files change together.
    """

    def __init__(self, lock: threading.RLock, clock: Clock) -> None:
        self._lock = lock
        self._clock = clock
        self._records: dict[str, Record] = {}
        self._last_id = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: what the block changed is taken back if it raises."""
        with self._lock:
            before = dict(self._records), self._last_id
            try:
                yield
            except BaseException:
                self._records, self._last_id = before
                raise

    def get(self, key: str) -> Record:
        """The record of any kind.

        Raises:
            NotFound: no such snapshot (SNP-029).
        """
        with self._lock:
            if key not in self._records:
                raise NotFound("snapshot does not exist")
            return self._records[key]

    def mountable(self, key: str) -> Snapshot:
        """An active snapshot or a view.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it is committed (SNP-035).
        """
        with self._lock:
            record = self.get(key)
            if record.kind is Kind.COMMITTED:
                raise FailedPrecondition(f"requested snapshot {key} not active or view")
            return self.snapshot(key)

    def snapshot(self, key: str) -> Snapshot:
        """A snapshot with its ancestors."""
        with self._lock:
            record = self.get(key)
            parents: list[int] = []
            parent = record.info.parent
            while parent:
                ancestor = self._records[parent]
                parents.append(ancestor.id)
                parent = ancestor.info.parent
            return Snapshot(record.id, record.kind, tuple(parents))

    def create(self, kind: Kind, key: str, parent: str, labels: Mapping[str, str] | None) -> Snapshot:
        """Add an active snapshot or a view.

        Raises:
            NotFound: no such parent (SNP-015).
            InvalidArgument: the parent is not committed (SNP-014).
            AlreadyExists: the key is taken (SNP-016).
            Unknown: an empty key (SNP-030) or label key (SNP-060).
        """
        with self._lock:
            if parent and parent not in self._records:
                raise NotFound(f"missing parent {_quoted(parent)} bucket")
            if parent and self._records[parent].kind is not Kind.COMMITTED:
                raise InvalidArgument(f"parent {_quoted(parent)} is not committed snapshot")
            if not key:
                raise Unknown("bucket name required")
            if key in self._records:
                raise AlreadyExists(f"snapshot {key}")
            now = self._clock.now()
            info = Info(key, parent, kind, now, now, _stored(labels))
            self._last_id += 1
            self._records[key] = Record(self._last_id, info)
            return self.snapshot(key)

    def commit(self, name: str, key: str, usage: Usage, labels: Mapping[str, str] | None) -> None:
        """Turn an active snapshot into a committed one.

        Raises:
            AlreadyExists: the name is taken (SNP-017).
            NotFound: no such key (SNP-018).
            FailedPrecondition: the key is not active (SNP-020, SNP-021).
            Unknown: an empty name (SNP-030).
        """
        with self._lock:
            if not name:
                raise Unknown("bucket name required")
            if name in self._records:
                raise AlreadyExists(f"committed snapshot {name}")
            if key not in self._records:
                raise NotFound(f"failed to get active snapshot {_quoted(key)}")
            record = self._records[key]
            if record.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"snapshot {_quoted(key)} is not active")
            now = self._clock.now()
            info = Info(name, record.info.parent, Kind.COMMITTED, now, now, _stored(labels))
            del self._records[key]
            self._records[name] = Record(record.id, info, usage)

    def remove(self, key: str) -> Record:
        """Forget a snapshot.

        Raises:
            NotFound: no such snapshot (SNP-022).
            FailedPrecondition: another one stands on it (SNP-023).
        """
        with self._lock:
            if key not in self._records:
                raise NotFound(f"snapshot {key}")
            if any(record.info.parent == key for record in self._records.values()):
                raise FailedPrecondition("cannot remove snapshot with child")
            return self._records.pop(key)

    def update(self, info: Info, fieldpaths: Sequence[str]) -> Info:
        """Change labels: all of them, or those that the paths name (SNP-064 to SNP-070).

        Raises:
            NotFound: no such snapshot.
            InvalidArgument: a path that names anything else.
        """
        with self._lock:
            record = self.get(info.name)
            labels = dict(record.info.labels)
            if not fieldpaths:
                labels = dict(info.labels)
            for path in fieldpaths:
                if path == "labels":
                    labels = dict(info.labels)
                elif path.startswith("labels."):
                    key = path.removeprefix("labels.")
                    labels[key] = info.labels.get(key, "")
                else:
                    raise InvalidArgument(f"cannot update {_quoted(path)} field on snapshot {_quoted(info.name)}")
            changed = replace(record.info, labels=_stored(labels), updated_at=self._clock.now())
            self._records[info.name] = replace(record, info=changed)
            return changed

    def all(self) -> list[Record]:
        """Every record, ordered by name."""
        with self._lock:
            return [self._records[name] for name in sorted(self._records, key=os.fsencode)]

    def has(self, key: str) -> bool:
        """Whether there is such a snapshot, of any kind."""
        with self._lock:
            return key in self._records
