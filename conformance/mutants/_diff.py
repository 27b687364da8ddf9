"""Words for the mutants of the differ: trees and stores that behave differently while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from conformance.mutants.engine import change
from refimpl.contract.mounts import FileStat

Method = Callable[..., Any]

TAR = "application/vnd.oci.image.layer.v1.tar"
GZIP = f"{TAR}+gzip"
UNCOMPRESSED = "containerd.io/uncompressed"


def owner(original: Method) -> Any:
    """The object whose method was replaced."""
    return original.args[0]  # type: ignore[attr-defined]  # the engine gives a partial


def memory(original: Method) -> dict[Any, Any]:
    """What a mutant keeps in the object that it breaks."""
    kept: dict[Any, Any] = vars(owner(original)).setdefault("kept_by_mutant", {})
    return kept


def unpacking_to(**methods: Method) -> dict[str, Method]:
    """A differ that unpacks to a tree with these methods."""

    def extract(original: Method, ctx: Any, fs: Any, *rest: Any) -> None:
        original(ctx, change(fs, methods), *rest)

    return {"_extract": extract}


def whiteouts_as(edit: Callable[[Any], Any]) -> dict[str, Method]:
    """A differ that treats whiteouts otherwise: ``edit`` makes the way out of the right one."""

    def extract(original: Method, ctx: Any, fs: Any, stream: Any, whiteouts: Any, parents: Any) -> None:
        original(ctx, fs, stream, edit(whiteouts), parents)

    return {"_extract": extract}


def packing(old: Mapping[str, Method] | None = None, new: Mapping[str, Method] | None = None) -> dict[str, Method]:
    """A differ that compares trees with these methods."""

    def write(original: Method, ctx: Any, writer: Any, lower: Any, upper: Any, *rest: Any) -> None:
        original(ctx, writer, change(lower, old or {}), change(upper, new or {}), *rest)

    return {"_write": write}


def seen_as(edit: Callable[[FileStat], FileStat]) -> dict[str, Method]:
    """Methods of a tree that tells other things of its entries."""

    def walk(original: Method, path: str = "/") -> Iterator[tuple[str, FileStat]]:
        return ((name, edit(stat)) for name, stat in original(path))

    return {"walk": walk, "lstat": lambda original, path: edit(original(path))}


def told(**fields: Any) -> dict[str, Method]:
    """Methods of a tree whose entries all have these values."""
    return seen_as(lambda stat: replace(stat, **fields))
