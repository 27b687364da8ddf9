"""Garbage collection: what can be collected, who may ask for it (``io.containerd.gc.v1``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from refimpl.contract.context import CallContext


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """What one collection took.

    Attributes:
        elapsed: seconds that changes to the database were held up (mark and the removal of records).
        removed: number of records removed, by resource type (``content``, ``snapshots/overlayfs``, ``ingests``, ``leases``).
    """

    elapsed: float
    removed: dict[str, int]


class Collector(Protocol):
    """A database that can drop what no root refers to."""

    def collect(self, ctx: CallContext) -> CollectionStats:
        """Mark from the roots and sweep the rest; back when records and backend objects are gone."""
        ...


class GarbageScheduler(Protocol):
    """Decides when to collect."""

    def schedule_and_wait(self, ctx: CallContext) -> CollectionStats:
        """Have a collection done that starts after this call, and wait for its end."""
        ...

    def close(self) -> None:
        """Stop the loop; a running collection is waited for. Idempotent."""
        ...
