"""Snapshots: file systems in layers.

Plugin type ``io.containerd.snapshotter.v1``; the same protocol again per namespace in ``io.containerd.metadata.v1``.

Words: an *active* snapshot is writable and known by its *key*; *commit* turns it into an immutable *committed* one
known by its *name*; a *view* is a read-only active one. Keys and names share one space. A *parent* is always
committed. Life cycle::

    prepare(key, parent) -> active -- commit(name, key) --> committed -> parent of others
    view(key, parent)    -> view                                      \\-> remove, once nothing stands on it
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
        """The kind as filters and ``ctr`` write it (``Active``)."""
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Info:
    """A snapshot's record.

    Attributes:
        name: key (active, view) or name (committed).
        parent: name of the parent; empty without one.
        created_at, updated_at: Unix nanoseconds.
    """

    name: str
    parent: str = ""
    kind: Kind = Kind.UNKNOWN
    created_at: int = 0
    updated_at: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a snapshot takes by itself, without its parents.

    Attributes:
        size: bytes on disk.
        inodes: files, directories and so on.
    """

    size: int = 0
    inodes: int = 0


class Snapshotter(Protocol):
    """Keeps snapshots and answers with the mounts that make them visible."""

    def stat(self, ctx: CallContext, key: str) -> Info:
        """The record of a snapshot of any kind.

        Raises:
            NotFound: no such key or name.
        """
        ...

    def update(self, ctx: CallContext, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels (all of them without ``fieldpaths``).

        Raises:
            NotFound: no such snapshot.
            InvalidArgument: a path that names an immutable field.
        """
        ...

    def usage(self, ctx: CallContext, key: str) -> Usage:
        """What the snapshot takes: measured for an active one, as recorded at commit for a committed one.

        Raises:
            NotFound: no such snapshot.
        """
        ...

    def mounts(self, ctx: CallContext, key: str) -> list[Mount]:
        """The mounts of an active snapshot or view, the same as when it was made.

        Raises:
            NotFound: no such key.
            FailedPrecondition: the snapshot is committed.
        """
        ...

    def prepare(self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None) -> list[Mount]:
        """Make an active snapshot above ``parent`` (above nothing when empty).

        Raises:
            AlreadyExists: the key is taken, by a snapshot of any kind.
            NotFound: no such parent.
            InvalidArgument: the parent is not committed.
        """
        ...

    def view(self, ctx: CallContext, key: str, parent: str = "", labels: Mapping[str, str] | None = None) -> list[Mount]:
        """Make a read-only snapshot of ``parent``; errors as for ``prepare``."""
        ...

    def commit(self, ctx: CallContext, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Turn the active snapshot ``key`` into the committed ``name``; ``key`` is free afterwards.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: no such key.
            FailedPrecondition: ``key`` is not active.
        """
        ...

    def remove(self, ctx: CallContext, key: str) -> None:
        """Forget a snapshot and its files.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: another snapshot stands on it.
        """
        ...

    def walk(self, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
        """The snapshots for which any filter holds (all without filters), ordered by name.

        Raises:
            InvalidArgument: a filter that does not parse, before anything is yielded.
        """
        ...

    def close(self) -> None:
        """Release what the snapshotter holds. Idempotent."""
        ...


@runtime_checkable
class Cleaner(Protocol):
    """A snapshotter that removes files later than records and can be told to do it now."""

    def cleanup(self, ctx: CallContext) -> None:
        """Remove what no record stands for any more.

        Raises:
            Unimplemented: the snapshotter has nothing to clean.
        """
        ...
