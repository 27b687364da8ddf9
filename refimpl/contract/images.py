"""Images: names for descriptors of manifests and indexes (IMG-001 to 030).

An image record is a root of garbage collection: what its target and its ``containerd.io/gc.ref`` labels refer to stays
(IMG-029, IMG-030). The content need not be there (IMG-006). Names are compared byte by byte (IMG-007).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from refimpl.contract.context import CallContext
from refimpl.contract.types import Descriptor


@dataclass(frozen=True, slots=True)
class Image:
    """An image record.

    Attributes:
        name: any text that is not empty; by custom a reference like ``docker.io/library/busybox:latest``.
        target: the manifest or index.
        created_at, updated_at: Unix nanoseconds.
    """

    name: str
    target: Descriptor = Descriptor()
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0


class ImageStore(Protocol):
    """Image records of the caller's namespace."""

    def get(self, ctx: CallContext, name: str) -> Image:
        """One record.

        Raises:
            NotFound: no such image (IMG-007).
        """
        ...

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Image]:
        """The records for which any filter holds, in byte order of the names (IMG-008).

        Fields: ``name``, ``target.digest``, ``target.mediatype``, ``labels.<key>``, ``annotations.<key>`` (IMG-009 to
        011).

        Raises:
            InvalidArgument: a filter that does not parse (IMG-011).
        """
        ...

    def create(self, ctx: CallContext, image: Image) -> Image:
        """Make a record; the answer has its timestamps, and neither empty labels nor empty annotations (IMG-001).

        Raises:
            AlreadyExists: the name is taken (IMG-002).
            InvalidArgument: no name, no valid target, labels too long (IMG-003 to 005).
            Unknown: a label or an annotation without key (IMG-005).
        """
        ...

    def update(self, ctx: CallContext, image: Image, fieldpaths: Sequence[str] = ()) -> Image:
        """Change what ``fieldpaths`` name, or labels and target without any (IMG-015).

        Paths: ``labels``, ``labels.<key>``, ``annotations``, ``annotations.<key>``, ``target`` (IMG-012 to 014).

        Raises:
            NotFound: no such image (IMG-017).
            InvalidArgument: no name, a path that names no mutable field (IMG-016), or a result that ``create`` would
                refuse (IMG-018); nothing changes then.
        """
        ...

    def delete(self, ctx: CallContext, name: str, *, sync: bool = False) -> None:
        """Remove a record; what it alone held may be collected afterwards (IMG-019).

        Args:
            sync: come back only after a garbage collection (IMG-020).

        Raises:
            NotFound: no such image.
        """
        ...
