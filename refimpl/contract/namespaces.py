"""Namespaces: the first name of everything (NSP-001 to 030).

A namespace exists by its record or by anything ever written in it, until it is deleted (MET-029). Its labels are for
clients, such as ``containerd.io/defaults/snapshotter``; the daemon never applies them (NSP-026).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from refimpl.contract.context import CallContext


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and its labels."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


class NamespaceStore(Protocol):
    """All namespaces; these calls look at no namespace header."""

    def get(self, ctx: CallContext, name: str) -> Namespace:
        """A namespace with its labels; for a name that does not exist, the name without labels (NSP-006).

        Only ``list`` tells whether a namespace exists.
        """
        ...

    def list(self, ctx: CallContext) -> list[Namespace]:
        """All namespaces, in byte order of the names (NSP-007)."""
        ...

    def create(self, ctx: CallContext, namespace: Namespace) -> Namespace:
        """Make a namespace; the answer is what was asked for, labels with empty values included (NSP-004).

        Raises:
            AlreadyExists: the name is taken, by whatever way the namespace came about (NSP-005).
            InvalidArgument: not an identifier, labels too long (NSP-003, NSP-015).
            Unknown: the name ``version``, or a label without key (MET-054, NSP-015).
        """
        ...

    def update(self, ctx: CallContext, namespace: Namespace, fieldpaths: Sequence[str] = ()) -> Namespace:
        """Change labels: those named by ``fieldpaths`` (``labels.<key>``), or all of them (NSP-010, NSP-011).

        A namespace that does not exist comes about by this (NSP-013).

        Raises:
            InvalidArgument: a path that names no label (NSP-012), and possibly a name that is no identifier (NSP-014).
            Unknown: labels too long, or a label without key (NSP-015).
        """
        ...

    def delete(self, ctx: CallContext, name: str, *, delete_cgroup: bool = False) -> None:
        """Remove a namespace that holds no objects; leases and unfinished ingests go with it (NSP-017).

        Raises:
            NotFound: no such namespace (NSP-020).
            FailedPrecondition: it still holds objects; the message says which kinds (NSP-016).
        """
        ...
