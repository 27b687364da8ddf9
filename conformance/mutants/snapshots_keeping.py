"""Mutants of the snapshots area: collections, leases, back ends, events and restarts, each with one mistake."""

# ruff: noqa: SLF001, ARG001  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from conformance.mutants._snapshots import (
    REF,
    ROOT,
    Labels,
    Method,
    creations,
    everywhere,
    memory,
    owner,
    reborn,
    relabelled,
    rounded,
)
from conformance.mutants.engine import change, mutant, mutants
from conformance.mutants.shapes import answers, argument, each, other_kind
from refimpl.api import event_types_pb2
from refimpl.api import snapshots_v1_pb2 as pb
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    NotFound,
    Unavailable,
    Unimplemented,
    Unknown,
)
from refimpl.contract.gc import CollectionStats
from refimpl.contract.snapshots import Info, Kind
from refimpl.contract.types import TypedAny

# --------------------------------------------------------------------------------------- what keeps and takes snapshots


class Node(NamedTuple):
    """What a collection takes, in the collector's own terms."""

    namespace: str
    type: str
    key: str
    flat: bool = False


def garbage(edit: Callable[[Any, list[Any]], list[Any]]) -> dict[str, Method]:
    """A collection that takes other records: edit(the metadata, the garbage)."""

    def collect(original: Method, ctx: CallContext) -> Any:
        me = owner(original)
        if not memory(original):
            memory(original)["changed"] = True
            change(me._collector, _garbage=lambda found, now: edit(me, found(now)))
        return original(ctx)

    return {"collect": collect}


def _kind(metadata: Any, node: Any) -> Kind:
    category, _, name = node.type.partition("/")
    if category == "snapshots":
        with suppress(NotFound):
            info: Info = metadata.snapshotters[name].stat(CallContext(namespace=node.namespace), node.key)
            return info.kind
    return Kind.UNKNOWN


def _committed_only(metadata: Any, found: list[Any]) -> list[Any]:
    return [node for node in found if _kind(metadata, node) in {Kind.UNKNOWN, Kind.COMMITTED}]


def _parents_too(metadata: Any, found: list[Any]) -> list[Any]:
    contexts = [CallContext(namespace=each.name) for each in metadata.namespaces.list(CallContext())]
    unrooted = [
        Node(ctx.namespace, f"snapshots/{name}", info.name)
        for ctx in contexts
        for name, snapshotter in metadata.snapshotters.items()
        for info in snapshotter.walk(ctx, ["kind==committed"])
        if ROOT not in info.labels
    ]
    return [*found, *(node for node in unrooted if node not in found)]


def _only_times(labels: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in labels.items() if key != ROOT or re.match(r"\d{4}-", value)}


def _plain_references(labels: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in labels.items() if not re.match(r"containerd\.io/gc\.ref\.snapshot\.\w+/", key)}


def _lease_stays_behind(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
    original(ctx.with_lease(""), name, key, labels)


def _lease_may_be_missing(original: Method, ctx: CallContext, *args: Any) -> Any:
    try:
        return original(ctx, *args)
    except NotFound:
        if not ctx.lease:
            raise
        return original(ctx.with_lease(""), *args)


mutants(
    "metadata",
    {
        "SNP-086": ("only committed snapshots are collected", garbage(_committed_only)),
        "SNP-088": ("parents are collected under a living child", garbage(_parents_too)),
    },
)
mutants(
    "metadata.snapshots",
    {
        "SNP-087": ("the value of a root label is a time", relabelled(_only_times)),
        "SNP-089": ("a commit does not tell the lease", {"commit": _lease_stays_behind}),
        "SNP-090": ("an unknown lease is passed over", everywhere(_lease_may_be_missing, "prepare", "view", "commit")),
        "SNP-093": ("a reference ends at the slash", relabelled(_plain_references)),
    },
)
mutants(
    "metadata.containers",
    {
        "SNP-094": (
            "a container does not keep its snapshot",
            {"create": argument(1, lambda container: replace(container, snapshot_key=""))},
        )
    },
)


@mutant("SNP-095", "a flat lease is a lease like any other", at="metadata.leases", method="create")
def _never_flat(original: Method, ctx: CallContext, id: str = "", labels: Labels = None) -> Any:
    return original(ctx, id, {key: value for key, value in (labels or {}).items() if not key.endswith("gc.flat")})


@mutant("SNP-086", "nothing is ever collected", at="metadata", method="collect")
def _takes_nothing(original: Method, ctx: CallContext) -> CollectionStats:
    return CollectionStats(0, {})


def _without_target(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    try:
        return original(ctx, key, parent, labels)
    except AlreadyExists:
        return original(ctx, key, parent, {k: v for k, v in (labels or {}).items() if k != REF})


def _target_required(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    if target := (labels or {}).get(REF):
        owner(original).stat(ctx, target)
    return original(ctx, key, parent, labels)


mutants(
    "metadata.snapshots",
    {
        "SNP-100": ("a snapshot is made although its target is there", creations(_without_target)),
        "SNP-101": ("an unknown target is an error", creations(_target_required)),
    },
)


@mutant("SNP-121", "the parent is written down and not stacked", at="grpc.snapshots", method="Commit")
def _notes_the_parent(original: Method, request: pb.CommitSnapshotRequest, context: Any) -> Any:
    def stat(original: Method, ctx: CallContext, key: str) -> Info:
        info: Info = original(ctx, key)
        return replace(info, parent=info.parent or request.parent) if key == request.name else info

    answer = original(request, context)
    if request.parent:
        change(owner(original)._snapshotters[request.snapshotter], stat=stat)
    return answer


# --------------------------------------------------------------------------------------------------------- the back end


def _parent_unknown(info: Info) -> Info:
    return replace(info, parent="")


def _fits_everything(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
    found: Iterator[Info] = original(ctx, filters)
    wanted = re.search(r'=="?([^",]+)"?,parent=="?([^"]*)"?$', filters[0]) if filters else None
    if wanted is None:
        return found
    target, parent = wanted.groups()
    return iter([replace(i, kind=Kind.COMMITTED, parent=parent, labels={**i.labels, REF: target}) for i in found])


def _used_again(key: str) -> str:
    return re.sub(r"^([^/]+)/\d+/", r"\1/1/", key)


mutants(
    "backend.snapshots",
    {
        "SNP-096": ("a parent is removed before its child", {"walk": each(_parent_unknown)}),
        "SNP-097": ("one busy snapshot stops the pass", {"remove": other_kind(Unknown, FailedPrecondition)}),
        "SNP-103": ("the first result is taken unchecked", {"walk": _fits_everything}),
        "SNP-106": (
            "a key is used again",
            {**creations(argument(1, _used_again)), **everywhere(argument(1, _used_again), "stat", "mounts")},
        ),
        "SNP-107": (
            "the lease is told to the back end",
            creations(argument(0, lambda ctx: ctx.with_lease("client"))),
        ),
        "SNP-108": ("all errors are unknown", everywhere(other_kind(Unknown), "prepare", "commit")),
        "SNP-109": ("a back end that is away is an unknown error", {"stat": other_kind(Unknown, Unavailable)}),
    },
)


@mutant("SNP-096", "the storage goes while the client waits", at="metadata.snapshots", method="remove")
def _at_once(original: Method, ctx: CallContext, key: str) -> None:
    original(ctx, key)
    owner(original).clean()


@mutant("SNP-097", "a back end in trouble is asked on and on", at="backend.snapshots", method="remove")
def _goes_on(original: Method, ctx: CallContext, key: str) -> None:
    try:
        original(ctx, key)
    except (NotFound, Unimplemented):
        raise
    except ContainerdError as error:
        raise FailedPrecondition(str(error)) from error


def _remembers(original: Method, ctx: CallContext, key: str, *args: Any) -> Any:
    memory(original)[key] = True
    return original(ctx, key, *args)


def _only_its_own(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Iterator[Info]:
    return iter([info for info in original(ctx, filters) if info.name in memory(original)])


mutants(
    "backend.snapshots",
    {"SNP-098": ("orphans stay for ever", {**creations(_remembers), "walk": _only_its_own})},
)


@mutant("SNP-098", "every collection prunes", at="metadata", method="collect")
def _prunes_always(original: Method, ctx: CallContext) -> Any:
    for snapshotter in owner(original).snapshotters.values():
        snapshotter.clean()
    return original(ctx)


def _not_registered(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    try:
        return original(ctx, key, parent, labels)
    except AlreadyExists:
        if target := (labels or {}).get(REF):
            owner(original).remove(ctx, target)
        raise


def _passed_through(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    try:
        return original(ctx, key, parent, labels)
    except (Unknown, NotFound) as error:
        raise AlreadyExists(f"snapshot {key}") from error


def _first_come(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    target = (labels or {}).get(REF)
    if target and memory(original).setdefault(target, ctx.namespace) != ctx.namespace:
        raise NotFound(f"target snapshot {target} belongs to another namespace")
    return original(ctx, key, parent, labels)


def _lost_for_ever(original: Method, ctx: CallContext, key: str) -> None:
    owner(original).stat(ctx, key)
    original(ctx, key)


mutants(
    "metadata.snapshots",
    {
        "SNP-102": ("the layer is not registered", creations(_not_registered)),
        "SNP-104": ("the back end's AlreadyExists is passed through", creations(_passed_through)),
        "SNP-105": ("a layer belongs to the first namespace", creations(_first_come)),
        "SNP-115": ("a hidden key cannot be removed", {"remove": _lost_for_ever}),
    },
)


# ------------------------------------------------------------------------------------------- events, restarts and time

_EVENTS: dict[str, Any] = {
    "/snapshot/prepare": event_types_pb2.SnapshotPrepare,
    "/snapshot/commit": event_types_pb2.SnapshotCommit,
    "/snapshot/remove": event_types_pb2.SnapshotRemove,
}


@mutant("SNP-110", "events have the keys of the back end", at="events", method="publish")
def _tells_inner_keys(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    if kind := _EVENTS.get(topic):
        told = kind.FromString(event.value)
        told.key = f"{ctx.namespace}/1/{told.key}"
        event = replace(event, value=told.SerializeToString())
    original(ctx, topic, event)


@mutant("SNP-110", "a commit is not told", at="events", method="publish")
def _keeps_commits_quiet(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    if topic != "/snapshot/commit":
        original(ctx, topic, event)


def _told_as_prepare(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Labels = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    event = event_types_pb2.SnapshotPrepare(key=key, parent=parent)
    owner(original)._exchange.publish(
        ctx, "/snapshot/prepare", TypedAny(event.DESCRIPTOR.full_name, event.SerializeToString())
    )
    return mounts


mutants("service.snapshots", {"SNP-111": ("a view is told as a prepare", {"view": _told_as_prepare})})


def after_a_restart(method: Method) -> Method:
    """A replacement that counts only in the second life of a fake host."""

    def later(original: Method, *args: Any, **kwargs: Any) -> Any:
        me = owner(original)
        first = vars(me._backend._host).setdefault("kept_by_mutant", me._database)
        return method(original, *args, **kwargs) if first is not me._database else original(*args, **kwargs)

    return later


mutants(
    "metadata.snapshots",
    {
        "SNP-113": (
            "times are rounded at a start",
            {"stat": after_a_restart(answers(rounded)), "walk": after_a_restart(each(rounded))},
        ),
        "SNP-114": (
            "updates are written at the end",
            {"walk": after_a_restart(each(reborn))},
        ),
    },
)


@mutant("SNP-113", "views are dropped at a start", at="metadata.snapshots", method="walk")
def _no_views_any_more(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    keep = each(lambda info: info, keep=lambda info: info.kind is not Kind.VIEW)
    return after_a_restart(keep)(original, ctx, filters)


@mutant("SNP-114", "snapshots are written at the end", at="metadata.snapshots", method="walk")
def _no_active_any_more(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    keep = each(lambda info: info, keep=lambda info: info.kind is not Kind.ACTIVE)
    return after_a_restart(keep)(original, ctx, filters)


@mutant("SNP-117", "an active snapshot gets two names", at="metadata.snapshots", method="commit")
def _twice_named(original: Method, ctx: CallContext, name: str, key: str, labels: Labels = None) -> None:
    with suppress(NotFound):
        original(ctx, name, key, labels)


@mutant("SNP-120", "the clean-up takes what is in use", at="metadata.snapshots", method="clean")
def _takes_what_is_in_use(original: Method) -> None:
    me = owner(original)
    original()
    ctx = CallContext()
    for info in list(me._backend.walk(ctx)):
        if info.kind is Kind.ACTIVE:
            me._backend.remove(ctx, info.name)
