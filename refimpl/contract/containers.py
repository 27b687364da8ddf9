"""Containers: records that say what a task would run. Nothing runs here (CTR-001 to 045).

Neither image nor snapshot nor runtime has to exist (CTR-005, CTR-008, CTR-009), and deleting a record does not touch a
task (CTR-032). Records are never collected (CTR-040).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from refimpl.contract.context import CallContext
from refimpl.contract.types import TypedAny


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """Which runtime runs the container's task, with its options if given."""

    name: str = ""
    options: TypedAny | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """A container record.

    Attributes:
        id: identifier, unique in its namespace.
        image: name of the image it was made from; informative only.
        spec: OCI runtime spec as typed JSON; opaque to the store, like runtime options and extensions (CTR-007).
        snapshot_key: key of its root file system's snapshot in ``snapshotter``; keeps that snapshot alive (CTR-039).
        created_at, updated_at: Unix nanoseconds.
        sandbox_id: of the next release; 1.6 drops it (CTR-042).
    """

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    runtime: RuntimeInfo = RuntimeInfo()
    spec: TypedAny | None = None
    snapshotter: str = ""
    snapshot_key: str = ""
    created_at: int = 0
    updated_at: int = 0
    extensions: Mapping[str, TypedAny] = field(default_factory=dict)
    sandbox_id: str = ""


class ContainerStore(Protocol):
    """Container records of the caller's namespace."""

    def get(self, ctx: CallContext, id: str) -> Container:
        """One record.

        Raises:
            NotFound: no such container (CTR-012).
        """
        ...

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Container]:
        """The records for which any filter holds, in byte order of the ids (CTR-013).

        Fields: ``id``, ``image``, ``runtime.name``, ``labels.<key>`` (CTR-016).

        Raises:
            InvalidArgument: a filter that does not parse (CTR-017).
        """
        ...

    def create(self, ctx: CallContext, container: Container) -> Container:
        """Make a record; the answer has its timestamps, and no empty labels (CTR-001, CTR-002).

        Raises:
            AlreadyExists: the id is taken (CTR-003).
            InvalidArgument: bad id, no runtime name, no spec, snapshot key without snapshotter, labels too long, an
                extension without key (CTR-004 to 006, CTR-008, CTR-010, CTR-011).
            Unknown: a label without key (CTR-010).
        """
        ...

    def update(self, ctx: CallContext, container: Container, fieldpaths: Sequence[str] = ()) -> Container:
        """Change what ``fieldpaths`` name, or all mutable fields without any (CTR-018, CTR-022).

        Paths: ``labels``, ``labels.<key>``, ``spec``, ``extensions``, ``extensions.<key>``, ``image``, ``snapshotkey``
        (CTR-021). Without paths, the request has to repeat snapshotter and runtime name (CTR-019).

        Raises:
            NotFound: no such container (CTR-028).
            InvalidArgument: no id, a path or a change that is not allowed, or a result that ``create`` would refuse;
                nothing changes then (CTR-027).
        """
        ...

    def delete(self, ctx: CallContext, id: str) -> None:
        """Remove a record.

        Raises:
            NotFound: no such container (CTR-030, CTR-031).
        """
        ...
