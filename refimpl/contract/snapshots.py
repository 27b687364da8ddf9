"""Snapshots: file systems in layers.

Plugin type ``io.containerd.snapshotter.v1``; the same protocol again per namespace in ``io.containerd.metadata.v1``.

Words: an *active* snapshot is writable and known by its *key*; *commit* turns it into an immutable *committed* one
known by its *name*; a *view* is a read-only active one. Keys and names share one space. A *parent* is always
committed. Life cycle::

    prepare(key, parent) -> active -- commit(name, key) --> committed -> parent of others
    view(key, parent)    -> view                                      \\-> remove, once nothing stands on it

Keys and names are any text that is not empty, compared byte by byte (SNP-030 to 032). Clauses SNP-001 to 121; what the
mounted trees show (SNP-036 to 057) depends on the snapshotter and on who mounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

from refimpl.contract.context import CallContext
from refimpl.contract.mounts import Mount


class Kind(Enum):
    """What a snapshot is; the values are those on the wire and on disk."""

    UNKNOWN = 0
    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3

    @property
    def text(self) -> str:
        """The kind as ``ctr`` prints it (``Active``); filters compare it in lower case."""
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Info:
    """A snapshot's record.

    Attributes:
        name: key (active, view) or name (committed).
        parent: name of the parent; empty without one (SNP-028).
        created_at, updated_at: Unix nanoseconds; a committed snapshot starts with those of the commit (SNP-013).
        labels: at most 4096 bytes each, key and value together; never an empty value (SNP-058, SNP-059).
    """

    name: str
    parent: str = ""
    kind: Kind = Kind.UNKNOWN
    created_at: int = 0
    updated_at: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a snapshot takes by itself, without its parents (SNP-083, SNP-084).

    Attributes:
        size: bytes on disk.
        inodes: files, directories and so on.
    """

    size: int = 0
    inodes: int = 0


class Snapshotter(Protocol):
    """Keeps snapshots and answers with the mounts that make them visible.

    With namespaces (the metadata layer) every call needs a valid one (SNP-003, SNP-005), and each namespace has a key
    space of its own (SNP-006).
    """

    def stat(self, ctx: CallContext, key: str) -> Info:
        """The record of a snapshot of any kind.

        Raises:
            NotFound: no such key or name (SNP-029).
        """
        ...

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels, and the time of the update, of a snapshot of any kind (SNP-069, SNP-070).

        Args:
            fieldpaths: ``labels.<key>`` takes over or removes one label (SNP-065, SNP-066), ``labels`` or no path all
                of them (SNP-064, SNP-067).

        Raises:
            NotFound: no such snapshot (SNP-071).
            InvalidArgument: no name; a path that names anything else (SNP-068); labels too long (SNP-059).
        """
        ...

    def usage(self, ctx: CallContext, key: str) -> Usage:
        """What the snapshot takes (SNP-081 to 085): measured for an active one, fixed at commit for a committed one.

        Raises:
            NotFound: no such snapshot (SNP-029).
        """
        ...

    def mounts(self, ctx: CallContext, key: str) -> list[Mount]:
        """The mounts of an active snapshot or view, the same as when it was made (SNP-034).

        Raises:
            NotFound: no such key (SNP-029).
            FailedPrecondition: the snapshot is committed (SNP-035).
        """
        ...

    def prepare(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make an active snapshot above ``parent`` (SNP-010), or above nothing when that is empty (SNP-009).

        A remote snapshotter that has what the label ``containerd.io/snapshot.ref`` names says so with AlreadyExists
        (SNP-102). A failed call leaves nothing behind (SNP-033).

        Raises:
            AlreadyExists: the key is taken, by a snapshot of any kind (SNP-016).
            NotFound: no such parent (SNP-015), or the call's lease does not exist (SNP-090).
            InvalidArgument: the parent is not committed (SNP-014); labels too long (SNP-059).
        """
        ...

    def view(
        self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make a read-only snapshot of ``parent`` (SNP-011); errors as for ``prepare``."""
        ...

    def commit(self, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Turn the active snapshot ``key`` into the committed ``name`` (SNP-012); ``key`` is free afterwards (SNP-026).

        Args:
            labels: all labels of the committed snapshot; those of the active one are not carried over (SNP-061).

        Raises:
            AlreadyExists: the name is taken (SNP-017).
            NotFound: no such key (SNP-018), or the call's lease does not exist (SNP-090).
            FailedPrecondition: ``key`` is not active (SNP-020, SNP-021).
            InvalidArgument: labels too long (SNP-059).
        """
        ...

    def remove(self, ctx: CallContext, key: str) -> None:
        """Forget a snapshot and its files; in the metadata layer the files go later (SNP-096).

        Raises:
            NotFound: no such snapshot (SNP-022).
            FailedPrecondition: another snapshot stands on it (SNP-023).
        """
        ...

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The snapshots for which any filter holds, all without filters; by name in the metadata layer (SNP-073).

        Filters know ``name``, ``parent``, ``kind`` and ``labels.<key>`` (SNP-075 to 077). Snapshots may come and go
        meanwhile (SNP-079).

        Raises:
            InvalidArgument: a filter that does not parse, before anything is yielded (SNP-078).
        """
        ...

    def close(self) -> None:
        """Release what the snapshotter holds. Idempotent."""
        ...


@runtime_checkable
class Cleaner(Protocol):
    """A snapshotter that removes files later than records and can be told to do it now."""

    def cleanup(self, ctx: CallContext) -> None:
        """Remove what no record stands for any more; called once after each pruning (SNP-096, GC-048).

        Raises:
            Unimplemented: the snapshotter has nothing to clean.
        """
        ...
