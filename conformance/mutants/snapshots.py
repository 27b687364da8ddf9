"""Mutants of the snapshots area: names, kinds, labels and lists, each with one mistake.

Where they are planted says how deep the mistake sits: ``grpc.snapshots`` for what is wrong on the wire only,
``metadata.snapshots`` for what a namespace sees, ``backend.snapshots`` for mounts and for what a back end is asked.
What is wrong in the layers is in ``snapshots_layers``, with collections, back ends and time in ``snapshots_keeping``.
"""

# ruff: noqa: SLF001, ARG001  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.empty_pb2 import Empty

from conformance.mutants import snapshots_keeping, snapshots_layers  # they register theirs
from conformance.mutants._snapshots import (
    INHERITED,
    METHODS,
    REF,
    Labels,
    Method,
    creations,
    everywhere,
    memory,
    mounter,
    owner,
    reborn,
    relabelled,
    rounded,
)
from conformance.mutants.engine import mutant, mutants
from conformance.mutants.shapes import answers, argument, does_nothing, each, other_kind, silent
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.contract import filters as filter_language
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unknown,
)
from refimpl.contract.mounts import Mount
from refimpl.contract.snapshots import Info, Kind, Usage

# ------------------------------------------------------------------------------------------------- who is called what


def _in_default(ctx: CallContext) -> CallContext:
    return ctx if ctx.namespace else ctx.with_namespace("default")


def _tidied(ctx: CallContext) -> CallContext:
    return ctx.with_namespace(re.sub(r"[^A-Za-z0-9]+", "-", ctx.namespace).strip("-"))


def _global(ctx: CallContext) -> CallContext:
    return CallContext(namespace="all")


mutants(
    "grpc.snapshots",
    {
        "SNP-001": (
            "an empty name falls back to overlayfs",
            {"_snapshotter": argument(0, lambda name: name or "overlayfs")},
        ),
        "SNP-002": ("an unknown snapshotter is NotFound", {"_snapshotter": other_kind(NotFound, InvalidArgument)}),
        "SNP-099": ("cleanup is open to clients", {"Cleanup": does_nothing(Empty())}),
    },
)
mutants(
    "service.snapshots",
    {
        "SNP-003": ("a missing namespace is taken as default", everywhere(argument(0, _in_default))),
        "SNP-004": ("a list swallows its error", {"walk": silent(ContainerdError, answer=())}),
        "SNP-005": ("a malformed namespace is tidied up", everywhere(argument(0, _tidied))),
        "SNP-006": ("keys are global", everywhere(argument(0, _global))),
    },
)


def _of_the_first(name: str) -> Method:
    def method(original: Method, *args: Any, **kwargs: Any) -> Any:
        me = owner(original)
        first = vars(me._database).setdefault("kept_by_mutant", me)
        return original(*args, **kwargs) if first is me else getattr(first, name)(*args, **kwargs)

    return method


mutants(
    "metadata.snapshots",
    {"SNP-007": ("records are kept by namespace and key only", {name: _of_the_first(name) for name in METHODS})},
)
mutants(
    "metadata.namespaces",
    {"SNP-008": ("a deletion leaves snapshots behind", {"delete": silent(FailedPrecondition)})},
)


@mutant("SNP-030", "an empty key gets a name of its own", at="metadata.snapshots", method="prepare")
def _names_it(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    return original(ctx, key or "unnamed", parent, labels)


def _joined(original: Method, ctx: CallContext, key: str, *args: Any) -> list[Mount]:
    mounts: list[Mount] = original(ctx, key, *args)
    return [replace(mount, source=f"{posixpath.dirname(mount.source)}/{key}") for mount in mounts]


def _short_names_only(original: Method, ctx: CallContext, key: str, *args: Any) -> Any:
    if len(key.encode()) > 255:
        raise Unknown("mkdir: file name too long")
    return original(ctx, key, *args)


mutants("backend.snapshots", {"SNP-031": ("the key is joined to the root", {"prepare": _joined})})
mutants("metadata.snapshots", {"SNP-032": ("a key may have 255 bytes", creations(_short_names_only))})


# ------------------------------------------------------------------------------------------------------- the life cycle


def without_parent(*kinds: type[ContainerdError]) -> Method:
    """When the parent does not do, take none."""

    def method(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
        try:
            return original(ctx, key, parent, labels)
        except kinds:
            if not parent:
                raise
            return original(ctx, key, "", labels)

    return method


def _mounts_of_the_other(original: Method, ctx: CallContext, key: str, *args: Any) -> Any:
    try:
        return original(ctx, key, *args)
    except AlreadyExists:
        return owner(original).mounts(ctx, key)


def _dirty_record(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    try:
        return original(ctx, key, parent, labels)
    except (NotFound, InvalidArgument):
        original(ctx, key, "", labels)
        raise


mutants(
    "metadata.snapshots",
    {
        "SNP-009": ("times are cut to the second", {"stat": answers(rounded)}),
        "SNP-014": ("an active parent is taken for none", creations(without_parent(InvalidArgument))),
        "SNP-015": ("a missing parent is taken for none", creations(without_parent(NotFound))),
        "SNP-016": ("a taken key answers with its mounts", creations(_mounts_of_the_other)),
        "SNP-019": ("a commit of nothing to a taken name succeeds", {"commit": silent(AlreadyExists, NotFound)}),
        "SNP-020": ("a view is committed as an empty layer", {"commit": silent(FailedPrecondition)}),
        "SNP-022": ("the second removal succeeds", {"remove": silent(NotFound)}),
        "SNP-033": ("the record is written first and stays", creations(_dirty_record)),
        "SNP-116": ("two callers get the same mounts", creations(_mounts_of_the_other)),
        "SNP-119": ("a removal looks at the children too early", {"remove": silent(FailedPrecondition)}),
    },
)


@mutant("SNP-011", "a view is not recorded", at="metadata.snapshots", method="view")
def _forgets_it(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    owner(original).remove(ctx, key)
    return mounts


@mutant("SNP-012", "commit copies and leaves the active key behind", at="metadata.snapshots", method="commit")
def _copies(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
    me = owner(original)
    parent = me.stat(ctx, key).parent
    original(ctx, name, key, labels)
    me.prepare(ctx, key, parent)


def _remembers_birth(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
    born = owner(original).stat(ctx, key).created_at
    original(ctx, name, key, labels)
    memory(original)[ctx.namespace, name] = born


def _born_at_prepare(original: Method, ctx: CallContext, key: str) -> Info:
    info: Info = original(ctx, key)
    return replace(info, created_at=memory(original).get((ctx.namespace, key), info.created_at))


def _overwrites(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
    try:
        original(ctx, name, key, labels)
    except AlreadyExists:
        # What others stand on cannot be overwritten, even so.
        if name == key or _children(owner(original), ctx, name):
            raise
        owner(original).remove(ctx, name)
        original(ctx, name, key, labels)


def _reserves(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
    try:
        original(ctx, name, key, labels)
    except NotFound:
        owner(original).prepare(ctx, name)
        raise


def _renames(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
    me = owner(original)
    try:
        original(ctx, name, key, labels)
    except FailedPrecondition:
        info = me.stat(ctx, key)
        if info.kind is not Kind.COMMITTED:
            raise
        me.prepare(ctx, f"{key}-renamed", info.parent, info.labels)
        original(ctx, name, f"{key}-renamed", labels)
        me.remove(ctx, key)


mutants(
    "metadata.snapshots",
    {
        "SNP-013": (
            "commit keeps the creation time of the active snapshot",
            {"commit": _remembers_birth, "stat": _born_at_prepare},
        ),
        "SNP-017": ("the old committed snapshot is overwritten", {"commit": _overwrites}),
        "SNP-018": ("the name stays reserved after a failed commit", {"commit": _reserves}),
        "SNP-021": ("commit renames any snapshot", {"commit": _renames}),
        "SNP-117": ("two commits get one name", {"commit": silent(AlreadyExists)}),
    },
)


def _children(me: Any, ctx: CallContext, key: str) -> list[Info]:
    return [info for info in me.walk(ctx) if info.parent == key]


def _takes_along(kind: Kind) -> Method:
    """A removal that does not count children of one kind: they go with their parent."""

    def remove(original: Method, ctx: CallContext, key: str) -> None:
        children = _children(owner(original), ctx, key)
        if all(child.kind is kind for child in children):
            for child in children:
                original(ctx, child.name)
        original(ctx, key)

    return remove


def _never_decremented(original: Method, ctx: CallContext, key: str) -> None:
    had_children = memory(original).setdefault("parents", set())
    parent = owner(original).stat(ctx, key).parent
    if (ctx.namespace, key) in had_children:
        raise FailedPrecondition("cannot remove snapshot with child")
    original(ctx, key)
    if parent:
        had_children.add((ctx.namespace, parent))


def _tombstone(original: Method, ctx: CallContext, key: str) -> None:
    original(ctx, key)
    memory(original).setdefault("removed", set()).add((ctx.namespace, key))


def _not_before_the_collection(original: Method, ctx: CallContext, key: str, *args: Any) -> Any:
    if (ctx.namespace, key) in memory(original).get("removed", ()):
        raise AlreadyExists(f"snapshot {key}")
    return original(ctx, key, *args)


def _base_of_the_chain(original: Method, ctx: CallContext, key: str) -> Info:
    info: Info = original(ctx, key)
    parent = info.parent
    while parent and (above := original(ctx, parent).parent):
        parent = above
    return replace(info, parent=parent)


def _unknown_when_empty(original: Method, ctx: CallContext, *args: Any) -> Any:
    try:
        return original(ctx, *args)
    except NotFound as error:
        if list(owner(original).walk(ctx)):
            raise
        raise Unknown(f"no bucket for namespace {ctx.namespace}") from error


mutants(
    "metadata.snapshots",
    {
        "SNP-023": ("views are not counted as children", {"remove": _takes_along(Kind.VIEW)}),
        "SNP-024": ("the count of children is never taken back", {"remove": _never_decremented}),
        "SNP-025": ("the link of a committed child is lost", {"remove": _takes_along(Kind.COMMITTED)}),
        "SNP-026": (
            "the key stays taken until the collector has run",
            {"remove": _tombstone, **creations(_not_before_the_collection)},
        ),
        "SNP-028": ("the parent is the base of the chain", {"stat": _base_of_the_chain}),
        "SNP-029": (
            "an unknown namespace is an internal error",
            everywhere(_unknown_when_empty, "stat", "mounts", "usage"),
        ),
    },
)
mutants(
    "backend.snapshots",
    {
        "SNP-034": (
            "the options come in another order",
            {"mounts": answers(lambda mounts: [replace(m, options=m.options[::-1]) for m in mounts])},
        ),
        "SNP-035": (
            "a committed layer is handed out writable",
            {"mounts": silent(FailedPrecondition, answer=[Mount("bind", "/layer", options=("rbind", "rw"))])},
        ),
    },
)


# ------------------------------------------------------------------------------------------------------------- records


def told_labels(edit: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Method:
    """An answer with other labels than those kept."""
    return answers(lambda info: replace(info, labels=edit(info.labels)))


def _value_alone(original: Method, ctx: CallContext, *args: Any) -> Any:
    """Refuse only where the value by itself is too long."""
    try:
        return original(ctx, *args)
    except InvalidArgument:
        labels = next((arg for arg in args if isinstance(arg, dict)), {})
        if any(len(value) > 4096 for value in labels.values()):
            raise
        return original(ctx, *(({} if isinstance(arg, dict) else arg) for arg in args))


def _half_done(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    try:
        return original(ctx, key, parent, labels)
    except Unknown:
        original(ctx, key, parent, {k: v for k, v in (labels or {}).items() if k})
        raise


def _merged(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
    original(ctx, name, key, {**owner(original).stat(ctx, key).labels, **(labels or {})})


def _inherited(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    above = owner(original).stat(ctx, parent).labels if parent else {}
    passed = {k: v for k, v in above.items() if k.startswith(INHERITED)}
    return original(ctx, key, parent, {**passed, **(labels or {})})


Paths = Sequence[str]


def updates(edit: Callable[[Any, CallContext, Info, Paths], tuple[Info, Paths]]) -> dict[str, Method]:
    """An update that does something else than what is asked: edit(store, ctx, info, paths)."""

    def update(original: Method, ctx: CallContext, info: Info, fieldpaths: Paths = ()) -> Info:
        result: Info = original(ctx, *edit(owner(original), ctx, info, fieldpaths))
        return result

    return {"update": update}


def _no_mask_merges(me: Any, ctx: CallContext, info: Info, paths: Paths) -> tuple[Info, Paths]:
    return info, paths or [f"labels.{key}" for key in info.labels]


def _cut_at_dots(me: Any, ctx: CallContext, info: Info, paths: Paths) -> tuple[Info, Paths]:
    return info, [".".join(path.split(".")[:2]) for path in paths]


def _missing_is_kept(me: Any, ctx: CallContext, info: Info, paths: Paths) -> tuple[Info, Paths]:
    found = [path for path in paths if path.removeprefix("labels.") in info.labels]
    return (info, found) if found or not paths else (replace(info, labels=me.stat(ctx, info.name).labels), [])


def _labels_only_adds(me: Any, ctx: CallContext, info: Info, paths: Paths) -> tuple[Info, Paths]:
    if "labels" in paths:
        return info, [f"labels.{key}" for key in info.labels]
    return info, paths


def _one_after_the_other(original: Method, ctx: CallContext, info: Info, fieldpaths: Paths = ()) -> Info:
    result: Info
    for path in fieldpaths:
        result = original(ctx, info, [path])
    return result if fieldpaths else original(ctx, info)


def _takes_the_parent(original: Method, ctx: CallContext, info: Info, fieldpaths: Paths = ()) -> Info:
    result: Info = original(ctx, info, fieldpaths)
    if info.parent and not fieldpaths:
        memory(original)[ctx.namespace, info.name] = info.parent
    return result


def _parent_of_the_update(original: Method, ctx: CallContext, key: str) -> Info:
    info: Info = original(ctx, key)
    return replace(info, parent=memory(original).get((ctx.namespace, key), info.parent))


def _without_upperdir(labels: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in labels.items() if not (key.endswith("upperdir") and value.endswith("/fs"))}


mutants(
    "metadata.snapshots",
    {
        "SNP-058": ("empty labels come back", {"stat": told_labels(lambda labels: {**labels, "empty": ""})}),
        "SNP-059": (
            "the limit is for the value alone",
            everywhere(_value_alone, "prepare", "view", "commit"),
        ),
        "SNP-060": ("the snapshot stays without its label", creations(_half_done)),
        "SNP-061": ("labels of the active snapshot are merged in", {"commit": _merged}),
        "SNP-062": ("labels go down the chain", creations(_inherited)),
        "SNP-064": ("no mask means merge", updates(_no_mask_merges)),
        "SNP-065": ("a path is cut at its dots", updates(_cut_at_dots)),
        "SNP-066": ("a label missing in the request is kept", updates(_missing_is_kept)),
        "SNP-067": ("labels in a mask only adds", updates(_labels_only_adds)),
        "SNP-068": ("paths before the bad one are applied", {"update": _one_after_the_other}),
        "SNP-069": ("the parent is overwritten", {"update": _takes_the_parent, "stat": _parent_of_the_update}),
        "SNP-070": ("the creation time is reset", {"stat": answers(reborn)}),
        "SNP-072": ("labels of the back end are lost", {"stat": told_labels(_without_upperdir)}),
    },
)
mutants(
    "backend.snapshots",
    {
        "SNP-063": (
            "the target is kept from the back end",
            relabelled(lambda labels: {key: value for key, value in labels.items() if key != REF}),
        )
    },
)


@mutant("SNP-058", "a view has no labels", at="metadata.snapshots", method="view")
def _unlabelled(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    return original(ctx, key, parent)


@mutant("SNP-071", "an absent record breaks the server", at="grpc.snapshots", method="Update")
def _crashes(original: Method, request: pb.UpdateSnapshotRequest, context: Any) -> Any:
    if not request.HasField("info"):
        raise AttributeError("nothing has no name")
    return original(request, context)


# --------------------------------------------------------------------------------------------------- lists and usage


def filtered(edit: Callable[[Sequence[str]], Sequence[str]]) -> dict[str, Method]:
    """A list that asks for something else."""

    def walk(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
        return original(ctx, edit(filters))

    return {"walk": walk}


def _parses(text: str) -> bool:
    try:
        filter_language.parse([text])
    except InvalidArgument:
        return False
    return True


def _has_to_be_there(filters: Sequence[str]) -> list[str]:
    return [re.sub(r"(^|,)([^,]*?)!=", r"\1\2,\2!=", text) for text in filters]


def _pages(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
    """By offset into a list that changes meanwhile."""
    offset = 0
    while page := list(original(ctx, filters))[offset : offset + 100]:
        yield from page
        offset += len(page)


def _locked(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
    memory(original)["walking"] = True
    try:
        yield from original(ctx, filters)
    finally:
        memory(original)["walking"] = False


def _not_while_walking(original: Method, *args: Any, **kwargs: Any) -> Any:
    if memory(original).get("walking"):
        raise Unavailable("the list is being read")
    return original(*args, **kwargs)


def _in_order_of_creation(infos: Iterator[Info]) -> Iterator[Info]:
    return iter(sorted(infos, key=lambda info: info.created_at))


mutants(
    "metadata.snapshots",
    {
        "SNP-073": (
            "views are left out of lists",
            {"walk": each(lambda info: info, keep=lambda info: info.kind is not Kind.VIEW)},
        ),
        "SNP-075": (
            "several filters must all hold",
            filtered(lambda filters: [",".join(filters)] if len(filters) > 1 else filters),
        ),
        "SNP-076": ("an inequality wants the label to be there", filtered(_has_to_be_there)),
        "SNP-077": (
            "quotes become part of the key",
            filtered(lambda filters: [re.sub(r'"([^"]*)"', r'"\\"\1\\""', text) for text in filters]),
        ),
        "SNP-078": (
            "malformed filters are skipped",
            filtered(lambda filters: [text for text in filters if _parses(text)]),
        ),
        "SNP-079": ("pages are counted while the list changes", {"walk": _pages}),
    },
)
mutants("backend.snapshots", {"SNP-080": ("a lost snapshot is no NotFound", {"stat": other_kind(Unknown, NotFound)})})


@mutant("SNP-073", "lists are in the order of creation", at="metadata.snapshots", method="walk")
def _by_age(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
    return _in_order_of_creation(original(ctx, filters))


@mutant("SNP-074", "everything comes in one message", at="grpc.snapshots", method="List")
def _one_message(original: Method, request: pb.ListSnapshotsRequest, context: Any) -> Iterator[Any]:
    whole = pb.ListSnapshotsResponse()
    for message in original(request, context):
        whole.info.extend(message.info)
    yield whole


def _zero_while_active(original: Method, ctx: CallContext, key: str) -> Usage:
    usage: Usage = original(ctx, key)
    return Usage() if owner(original).stat(ctx, key).kind is Kind.ACTIVE else usage


def _whole_chain(original: Method, ctx: CallContext, key: str) -> Usage:
    size, inodes = 0, 0
    while key:
        usage = original(ctx, key)
        size, inodes = size + usage.size, inodes + usage.inodes
        key = owner(original).stat(ctx, key).parent
    return Usage(size, inodes)


def _of_the_parent(original: Method, ctx: CallContext, key: str) -> Usage:
    info = owner(original).stat(ctx, key)
    usage: Usage = original(ctx, info.parent if info.kind is Kind.VIEW and info.parent else key)
    return usage


mutants(
    "metadata.snapshots",
    {
        "SNP-081": ("usage of an active snapshot is always nothing", {"usage": _zero_while_active}),
        "SNP-083": ("usage sums up the whole chain", {"usage": _whole_chain}),
        "SNP-085": ("a view reports the usage of its parent", {"usage": _of_the_parent}),
    },
)


@mutant("SNP-082", "a committed layer is measured at each call", at="backend.overlayfs", method="usage")
def _measured_again(original: Method, ctx: CallContext, key: str) -> Usage:
    me = owner(original)
    fixed: Usage = original(ctx, key)
    if me.stat(ctx, key).kind is not Kind.COMMITTED:
        return fixed
    with me._store.view() as records:
        snapshot = records.snapshot(key)
    measured: Usage = me._layers.usage(ctx, snapshot)
    return measured


@mutant("SNP-084", "apparent sizes are summed up", at="backend.snapshots", method="usage")
def _apparent(original: Method, ctx: CallContext, key: str) -> Usage:
    me = owner(original)
    measured: Usage = original(ctx, key)
    if me.stat(ctx, key).kind is not Kind.ACTIVE:
        return measured
    with mounter(me).mounted(ctx, me.mounts(ctx, key)) as root:
        return Usage(sum(found.size for _, found in root.walk()), measured.inodes)


__all__ = ["snapshots_keeping", "snapshots_layers"]
