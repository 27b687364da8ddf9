"""Differences that the contract allows: each names its clause; anything else is a difference between two houses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # ``pair`` needs the table that is written in its words.
    from conformance.machines.pair import Outcome


@dataclass(frozen=True, slots=True)
class Freedom:
    """One allowed difference.

    Attributes:
        clause: the clause that allows it.
        operation: as ``Pair.both`` names operations; a trailing ``*`` stands for any ending.
        holds: whether these two outcomes, in either order, are such a difference.
        why: in a few words.
    """

    clause: str
    operation: str
    holds: Callable[[Outcome, Outcome], bool]
    why: str


def _kinds(*allowed: str) -> Callable[[Outcome, Outcome], bool]:
    """Both fail, each with one of these kinds."""
    return lambda left, right: {left.kind, right.kind} <= set(allowed)


def _either(one: str, *others: str) -> Callable[[Outcome, Outcome], bool]:
    """Both fail, one with the first kind and the other with one of the others."""
    return lambda left, right: one in {left.kind, right.kind} and ({left.kind, right.kind} - {one}) <= set(others)


FREEDOMS = (
    Freedom(
        "SNP-004",
        "snapshotter.walk",
        _kinds("Unknown", "InvalidArgument", "FailedPrecondition"),
        "errors of List need no canonical code",
    ),
    Freedom(
        "SNP-020",
        "snapshotter.commit",
        _kinds("Unknown", "FailedPrecondition"),
        "native of 1.6 measures a view before it refuses it",
    ),
    Freedom("SNP-019", "snapshotter.commit", _kinds("AlreadyExists", "NotFound"), "key or name may be looked at first"),
    Freedom(
        "CNT-047",
        "w.commit",
        _either("Unknown", "NotFound", "FailedPrecondition", "AlreadyExists"),
        "an aborted upload only has to fail",
    ),
    Freedom("LEA-013", "leases.*", _kinds("Unknown", "InvalidArgument"), "the kind for an empty id is free"),
)


def explained(operation: str, left: Outcome, right: Outcome) -> Freedom | None:
    """The freedom that explains two different outcomes of an operation; None if there is none."""
    for freedom in FREEDOMS:
        same = operation == freedom.operation or (
            freedom.operation.endswith("*") and operation.startswith(freedom.operation[:-1])
        )
        if same and freedom.holds(left, right):
            return freedom
    return None
