"""Words for the mutants of snapshots: what they remember, and the shapes that several of them share."""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from refimpl.contract.context import CallContext
from refimpl.contract.snapshots import Info
from refimpl.contract.times import SECOND

Method = Callable[..., Any]
Labels = Mapping[str, str] | None

REF = "containerd.io/snapshot.ref"
ROOT = "containerd.io/gc.root"
INHERITED = "containerd.io/snapshot/"
METHODS = ("stat", "update", "usage", "mounts", "prepare", "view", "commit", "remove", "walk")


def owner(original: Method) -> Any:
    """The object whose method was replaced."""
    return original.args[0]  # type: ignore[attr-defined]  # the engine gives a partial


def memory(original: Method) -> dict[Any, Any]:
    """What a mutant keeps in the object that it breaks."""
    kept: dict[Any, Any] = vars(owner(original)).setdefault("kept_by_mutant", {})
    return kept


def mounter(snapshotter: Any) -> Any:
    """What performs the mounts of a fake back end."""
    return snapshotter._host.mounter


def everywhere(method: Method, *names: str) -> dict[str, Method]:
    """The same replacement for several methods (all of them unless named)."""
    return dict.fromkeys(names or METHODS, method)


def creations(method: Method) -> dict[str, Method]:
    """The same replacement for both ways to make a snapshot."""
    return everywhere(method, "prepare", "view")


def relabelled(edit: Callable[[Mapping[str, str]], Mapping[str, str]]) -> dict[str, Method]:
    """Creations that take other labels than those given."""

    def method(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
        return original(ctx, key, parent, edit(labels or {}))

    return creations(method)


def whole_seconds(nanoseconds: int) -> int:
    """A time that has lost its fraction."""
    return nanoseconds // SECOND * SECOND


def rounded(info: Info) -> Info:
    """A record whose time of creation has lost its fraction."""
    return replace(info, created_at=whole_seconds(info.created_at))


def reborn(info: Info) -> Info:
    """A record that was made when it was last changed."""
    return replace(info, created_at=info.updated_at)
