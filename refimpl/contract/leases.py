"""Leases: holds on resources while a client works. A lease is a root of garbage collection until it expires.

A call that carries a lease's id (``CallContext.lease``) puts what it makes on that lease: content and ingests, and
snapshots (LEA-019 to 027). Leases have no update, and no event tells of them (LEA-038). Clauses LEA-001 to 042.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from refimpl.contract.context import CallContext


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease.

    Attributes:
        created_at: Unix nanoseconds.
        labels: ``containerd.io/gc.expire`` (RFC 3339) ends it (LEA-028), ``containerd.io/gc.flat`` keeps it from
            following references (LEA-032).
    """

    id: str
    created_at: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resource:
    """What a lease can hold. It need not exist (LEA-014).

    Attributes:
        id: digest, ref or snapshot key.
        type: ``content``, ``ingests`` or ``snapshots/<snapshotter>``.
    """

    id: str
    type: str


class LeaseManager(Protocol):
    """Leases of the caller's namespace."""

    def create(self, ctx: CallContext, id: str = "", labels: Mapping[str, str] | None = None) -> Lease:
        """Make a lease; without ``id`` the service draws one (LEA-002).

        Raises:
            AlreadyExists: the id is taken (LEA-003).
            InvalidArgument: no id where one is needed.
            Unknown: a label without key (LEA-005).
        """
        ...

    def delete(self, ctx: CallContext, id: str, *, sync: bool = False) -> None:
        """End a lease; what it alone held may be collected afterwards (LEA-007).

        Args:
            sync: come back only after a garbage collection (LEA-008).

        Raises:
            NotFound: no such lease.
        """
        ...

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Lease]:
        """The leases for which any filter holds, in byte order of the ids (LEA-006).

        Fields: ``id``, ``labels.<key>``. A lease that expired is listed until it is collected.

        Raises:
            InvalidArgument: a filter that does not parse.
        """
        ...

    def add_resource(self, ctx: CallContext, lease: str, resource: Resource) -> None:
        """Hold one more object; one that is held already is no error (LEA-015).

        Raises:
            NotFound: no such lease (LEA-016).
            Unimplemented: a type that nobody knows (LEA-011).
            InvalidArgument: a type of the wrong form, an empty id, content by what is no digest (LEA-011 to 013).
        """
        ...

    def delete_resource(self, ctx: CallContext, lease: str, resource: Resource) -> None:
        """Let go of one object; letting go of what is not held is no error (LEA-015, LEA-018).

        Raises:
            NotFound, Unimplemented, InvalidArgument: as ``add_resource``.
        """
        ...

    def list_resources(self, ctx: CallContext, lease: str) -> builtins.list[Resource]:
        """All that the lease holds: content, ingests, snapshots by snapshotter, each in byte order (LEA-017).

        Raises:
            NotFound: no such lease (LEA-016).
        """
        ...
