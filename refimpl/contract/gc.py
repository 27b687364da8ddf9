"""Garbage collection: what can be collected, who may ask for it (``io.containerd.gc.v1``).

Blobs, snapshots, ingests and leases go when nothing holds them; images, containers and namespaces never (GC-021). What
holds is written down in ``refimpl.metadata.references``. Clauses GC-001 to 050.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from refimpl.contract.context import CallContext


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """What one collection took.

    Attributes:
        elapsed: seconds that changes to the database were held up (mark and the removal of records).
        removed: number of records removed, by resource type: ``content``, ``snapshots/overlayfs``, ``ingests``,
            ``leases``.
    """

    elapsed: float
    removed: dict[str, int]


class Collector(Protocol):
    """A database that can drop what no root refers to."""

    def collect(self, ctx: CallContext) -> CollectionStats:
        """Mark from the roots and sweep the rest, in all namespaces; back when records and backend objects are gone.

        Records go in one step, data after them (GC-039). A backend that fails does not fail the collection (GC-043).
        """
        ...


class GarbageScheduler(Protocol):
    """Decides when to collect (GC-030 to 038)."""

    def schedule_and_wait(self, ctx: CallContext) -> CollectionStats:
        """Have a collection done that starts after this call, and wait for its end (GC-038).

        Raises:
            Canceled, DeadlineExceeded: the caller gave up; the collection happens all the same (LEA-010).
            Unknown: the collection failed (GC-044).
        """
        ...

    def close(self) -> None:
        """Stop the loop; a running collection is waited for. Idempotent."""
        ...
