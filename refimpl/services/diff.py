"""io.containerd.service.v1.diff-service: which differ does the work.

Differs are tried in the order of the setting ``default``; only Unimplemented passes a call on to the next one
(DIF-046). It keeps nothing. Clauses DIF-046, DIF-047.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from refimpl.contract.context import CallContext
from refimpl.contract.diff import Differ
from refimpl.contract.errors import InvalidArgument, NotFound, Unimplemented
from refimpl.contract.mounts import Mount
from refimpl.contract.types import Descriptor, TypedAny
from refimpl.kernel import InitContext, Registration, hookimpl
from refimpl.services.plugin_types import DIFFER, SERVICE

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Config:
    """The plugin's section.

    Attributes:
        default: ids of differs, tried in this order.
    """

    default: list[str] = field(default_factory=lambda: ["walking"])


class DiffService:
    """A ``contract.diff.Differ`` made of several, in order of preference.

    Args:
        differs: at least one.
    """

    def __init__(self, differs: Sequence[Differ]) -> None:
        assert differs, "nobody would answer"
        self._differs = differs

    def apply(
        self,
        ctx: CallContext,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        payloads: Mapping[str, TypedAny] | None = None,
    ) -> Descriptor:
        """The first answer of a differ that handles the layer."""
        return self._first(lambda differ: differ.apply(ctx, descriptor, mounts, payloads))

    def compare(
        self,
        ctx: CallContext,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str = "",
        ref: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """The first answer of a differ that makes layers of this type."""
        return self._first(
            lambda differ: differ.compare(ctx, lower, upper, media_type=media_type, ref=ref, labels=labels)
        )

    def _first(self, call: Callable[[Differ], T]) -> T:
        for differ in self._differs[:-1]:
            try:
                return call(differ)
            except Unimplemented:
                continue
        return call(self._differs[-1])


def init(ic: InitContext) -> DiffService:
    """Take the differs that the setting names.

    Raises:
        NotFound: one of them is not there (DIF-047).
        InvalidArgument: none is named: calls would succeed and do nothing, as they do in containerd.
        Exception: the error of one that did not load.
    """
    if not ic.config.default:
        raise InvalidArgument("no differ is named in the order")
    there = ic.get_by_type(DIFFER)
    missing = [id for id in ic.config.default if id not in there]
    if missing:
        raise NotFound(f"needed differ not loaded: {missing[0]}")
    # Made by strangers' code: the kernel can only promise an object.
    chosen: list[Differ] = [ic.get_by_id(DIFFER, id) for id in ic.config.default]
    return DiffService(chosen)


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service."""
    return [Registration(SERVICE, "diff-service", init=init, requires=(DIFFER,), config=Config)]
