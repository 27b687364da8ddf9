"""Mutants of the differ: how a layer is packed and stored, each with one mistake."""

# ruff: noqa: SLF001, ARG001  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from conformance.mutants._diff import GZIP, TAR, UNCOMPRESSED, Method, memory, owner, packing, seen_as, told
from conformance.mutants.engine import change, mutants
from conformance.mutants.shapes import answers_with, does_nothing
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.mount_options import parse_options
from refimpl.contract.mounts import FileStat, FileType, Mount
from refimpl.contract.times import SECOND
from refimpl.contract.types import Descriptor


def _labelled_with(edit: Any) -> dict[str, Method]:
    """A commit with other labels."""

    def commit(original: Method, ctx: Any, writer: Any, digest: str, labels: Mapping[str, str]) -> None:
        original(ctx, writer, digest, edit(dict(labels), digest))

    return {"_commit": commit}


def _told_that_it_is_there(original: Method, ctx: CallContext, writer: Any, digest: str, labels: Any) -> None:
    writer.commit(ctx, 0, digest, labels)


def _with_the_time(original: Method, ctx: Any, writer: Any, *rest: Any) -> None:
    original(ctx, writer, *rest)
    writer.write(os.urandom(8))


def _gzip_anyway(original: Method, *args: Any, media_type: str = "", **more: Any) -> Descriptor:
    answer: Descriptor = original(*args, media_type=media_type if media_type in {"", TAR, GZIP} else "", **more)
    return answer


def _behind_what_is_there(original: Method, ctx: Any, *rest: Any) -> Any:
    store = owner(original)._content
    if not memory(original):
        memory(original)["store"] = change(
            store, writer=lambda inner, *args, **kwargs: change(inner(*args, **kwargs), truncate=does_nothing())
        )
    return original(ctx, *rest)


def _in_default(original: Method, ctx: CallContext, *args: Any, **more: Any) -> Any:
    return original(ctx if ctx.namespace else ctx.with_namespace("default"), *args, **more)


mutants(
    "differ",
    {
        "DIF-049": ("the size is the archives", {"compare": answers_with(size=lambda size: size + 1)}),
        "DIF-050": (
            "the label holds the blobs own digest",
            _labelled_with(lambda labels, digest: {**labels, UNCOMPRESSED: digest}),
        ),
        "DIF-051": ("a layer that is there is an error", {"_commit": _told_that_it_is_there}),
        "DIF-052": ("the blob holds the time", {"_write": _with_the_time}),
        "DIF-053": ("an unknown type is gzip", {"compare": _gzip_anyway}),
        "DIF-054": ("a ref is not emptied", {"_store": _behind_what_is_there}),
        "DIF-055": ("no namespace is default", {"compare": _in_default}),
        "DIF-056": (
            "results are pinned",
            _labelled_with(lambda labels, _digest: {**labels, "containerd.io/gc.root": "differ"}),
        ),
    },
)


# ------------------------------------------------------------------------------------------------- what is in a layer


def _in_plain_order(original: Method, path: str = "/") -> Iterator[tuple[str, FileStat]]:
    return iter(sorted(original(path)))


def _only_changes(original: Method, ctx: Any, writer: Any, old: Any, new: Any, *rest: Any) -> None:
    there = {path for path, _ in new.walk()}
    kept = {"walk": lambda inner, path="/": (one for one in inner(path) if one[0] in there)}
    original(ctx, writer, change(old, kept), new, *rest)


def _links_of_the_new(original: Method, ctx: Any, writer: Any, old: Any, new: Any, *rest: Any) -> None:
    there = {path for path, _ in old.walk()}
    alone = {
        "walk": lambda inner, path="/": (
            (name, replace(stat, links=1) if name in there else stat) for name, stat in inner(path)
        )
    }
    original(ctx, writer, old, change(new, alone), *rest)


def _is_nothing(original: Method, ctx: Any, writer: Any, old: Any, new: Any, *rest: Any) -> None:
    original(ctx, writer, old, new, *rest)
    if writer.status().offset <= 1024:
        raise Unknown("there is no difference")


def _upper_directory_alone(
    original: Method, ctx: CallContext, lower: Sequence[Mount], upper: Sequence[Mount], **more: Any
) -> Descriptor:
    options = parse_options(upper[0].options) if upper else None
    if options is not None and (directory := options.value("upperdir")):
        upper = [Mount("bind", directory, options=("rbind", "ro"))]
    answer: Descriptor = original(ctx, lower, upper, **more)
    return answer


mutants(
    "differ",
    {
        "DIF-057": ("groups of hard links fall apart", packing(new=told(links=1))),
        "DIF-058": ("only the size is compared", packing(old=told(mtime=SECOND + 1), new=told(mtime=SECOND + 1))),
        "DIF-059": ("what is gone is not said", {"_write": _only_changes}),
        "DIF-060": ("entries come in plain order", packing(new={"walk": _in_plain_order})),
        "DIF-061": (
            "times are rounded up",
            packing(new=seen_as(lambda stat: replace(stat, mtime=-(-stat.mtime // SECOND) * SECOND))),
        ),
        "DIF-062": ("old names of a file are left out", {"_write": _links_of_the_new}),
        "DIF-063": (
            "a socket becomes a fifo",
            packing(
                new=seen_as(lambda stat: replace(stat, type=FileType.FIFO) if stat.type is FileType.SOCKET else stat)
            ),
        ),
        "DIF-065": ("no difference is an error", {"_write": _is_nothing}),
        "DIF-066": ("an active snapshot is its upper directory", {"compare": _upper_directory_alone}),
    },
)
