"""Mutants of the leases area: records, lists of entries, the lease in the header, and what a lease holds.

Where they are planted says how deep the mistake sits: ``grpc.leases`` for the wire, ``service.leases`` for ids and
waiting, ``metadata.*`` for records and entries, ``metadata`` for the rules of collection.
"""

# ruff: noqa: SLF001, ARG001, ARG005  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conformance.mutants._gc import (
    CONTENT,
    EXPIRE,
    FLAT,
    INGESTS,
    LEASES,
    REF_CONTENT,
    adding,
    everywhere,
    expiring,
    ignoring,
    owner,
    past,
    record,
    rules,
    told,
    unmarked,
)
from conformance.mutants.engine import change, hooked, mutant, mutants
from conformance.mutants.shapes import answers, answers_with, argument, drops, each, silent
from refimpl.api import leases_v1_pb2 as pb
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    InvalidArgument,
    NotFound,
    Unimplemented,
)
from refimpl.contract.gc import CollectionStats
from refimpl.contract.leases import Lease, Resource
from refimpl.contract.times import parse_rfc3339
from refimpl.contract.types import TypedAny
from refimpl.kernel import Registration, hookimpl

Method = Any
Labels = Mapping[str, str] | None

CALLS = ("create", "delete", "list", "add_resource", "delete_resource", "list_resources")


# ---- records


def _keeps_empty(original: Method, ctx: CallContext, id: str = "", labels: Labels = None) -> Lease:
    made: Lease = original(ctx, id, labels)
    return replace(made, labels=dict(labels or {}))


def _counts(original: Method, ctx: CallContext, id: str = "", labels: Labels = None) -> Lease:
    service = owner(original)
    service.count = getattr(service, "count", 0) + 1
    made: Lease = original(ctx, id or f"{service.count}-AAAA", labels)
    return made


def _one_id_a_second(original: Method, ctx: CallContext, id: str = "", labels: Labels = None) -> Lease:
    made: Lease = original(ctx, id or "771153285-mlD_", labels)
    return made


def _replaces(original: Method, ctx: CallContext, id: str = "", labels: Labels = None) -> Lease:
    try:
        made: Lease = original(ctx, id, labels)
    except AlreadyExists:
        owner(original).delete(ctx, id)
        made = original(ctx, id, labels)
    return made


def _looks_first(original: Method, ctx: CallContext, id: str = "", labels: Labels = None) -> Lease:
    manager = owner(original)
    entries = manager.list_resources(ctx, id) if id in {lease.id for lease in manager.list(ctx)} else ()
    try:
        made: Lease = original(ctx, id, labels)
    except AlreadyExists:
        for entry in entries:
            manager.delete_resource(ctx, id, entry)
        raise
    return made


def _hides_expired(original: Method, ctx: CallContext, filters: Any = ()) -> list[Lease]:
    now = owner(original)._database.clock.now()
    return [lease for lease in original(ctx, filters) if not past(lease.labels.get(EXPIRE, ""), now)]


def _by_age(found: list[Lease]) -> list[Lease]:
    return sorted(found, key=lambda lease: lease.created_at)


def _all_filters(filters: Any) -> list[str]:
    return [",".join(filters)] if filters else []


def _daily(original: Method, ctx: CallContext, id: str = "", labels: Labels = None) -> Lease:
    made: Lease = original(ctx, id, {EXPIRE: "2999-01-01T00:00:00Z", **(labels or {})})
    return made


def _nobody_is_default(ctx: CallContext) -> CallContext:
    return ctx if ctx.namespace else ctx.with_namespace("default")


def _everybody_is_one(ctx: CallContext) -> CallContext:
    return ctx.with_namespace("all") if "/" not in ctx.namespace and ctx.namespace else ctx


mutants(
    "metadata.leases",
    {
        "LEA-001": ("an empty label is told", {"create": _keeps_empty}),
        "LEA-003": ("a second creation replaces the first", {"create": _replaces}),
        "LEA-006": ("all filters have to hold", {"list": argument(1, _all_filters)}),
        "LEA-007": ("deleting nothing is success", {"delete": silent(NotFound)}),
        "LEA-031": ("every lease has an expiry", {"create": _daily}),
        "LEA-037": ("one table for all namespaces", {name: argument(0, _everybody_is_one) for name in CALLS}),
    },
)
mutants(
    "metadata.leases",
    {
        "LEA-001": ("the time is not set", {"create": answers_with(created_at=0)}),
        "LEA-003": ("a refused creation empties the list", {"create": _looks_first}),
        "LEA-006": ("the oldest lease comes first", {"list": answers(_by_age)}),
        "LEA-037": ("no namespace is the default one", {name: argument(0, _nobody_is_default) for name in CALLS}),
    },
)
mutants("metadata.leases", {"LEA-006": ("expired leases are hidden", {"list": _hides_expired})})
mutants("service.leases", {"LEA-002": ("ids are counted from the start", {"create": _counts})})
mutants("service.leases", {"LEA-002": ("ids repeat", {"create": _one_id_a_second})})


@mutant("LEA-007", "a list outlives its lease", at="metadata.leases", method="delete")
def _list_stays(original: Method, ctx: CallContext, id: str, **how: Any) -> None:
    manager = owner(original)
    left = manager.list_resources(ctx, id) if id in {lease.id for lease in manager.list(ctx)} else []
    original(ctx, id, **how)

    def create(original_create: Method, ctx: CallContext, again: str = "", labels: Labels = None) -> Lease:
        made: Lease = original_create(ctx, again, labels)
        for entry in left if again == id else ():
            manager.add_resource(ctx, again, entry)
        return made

    change(manager, create=create)


mutants("service.leases", {"LEA-008": ("a synchronous delete only asks for a collection", {"delete": drops("sync")})})
mutants("metadata", {"LEA-009": ("deletions wait for somebody to ask", told(lambda dirty: False))})


@mutant("LEA-009", "every delete is synchronous", at="service.leases", method="delete")
def _always_sync(original: Method, ctx: CallContext, id: str, *, sync: bool = False) -> None:
    original(ctx, id, sync=True)


@mutant("LEA-010", "a deletion is rolled back with the deadline", at="service.leases", method="delete")
def _rolls_back(original: Method, ctx: CallContext, id: str, *, sync: bool = False) -> None:
    try:
        original(ctx, id, sync=sync)
    except ContainerdError:
        owner(original).create(replace(ctx, deadline=None), id)
        raise


@hooked("LEA-038", "creations and deletions are told")
class _Tells:
    """A leases service that publishes; it takes the exchange where it finds it."""

    def __init__(self) -> None:
        self._exchange: Any = None

    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: object) -> object | None:
        """Remember the exchange, break the service."""
        if registration.type == "io.containerd.event.v1":
            self._exchange = instance
        if registration.uri == "io.containerd.service.v1.leases-service":
            change(instance, create=self._telling("/leases/create"), delete=self._telling("/leases/delete"))
        return None

    def _telling(self, topic: str) -> Method:
        def method(original: Method, ctx: CallContext, *args: Any, **kwargs: Any) -> Any:
            answer = original(ctx, *args, **kwargs)
            self._exchange.publish(ctx, topic, TypedAny("containerd.events.Lease", b""))
            return answer

        return method


def _volatile_create(original: Method, ctx: CallContext, id: str = "", labels: Labels = None) -> Lease:
    manager = owner(original)
    made = original(ctx, id, {key: value for key, value in (labels or {}).items() if key.startswith("containerd.io/")})
    manager.__dict__.setdefault("volatile", {})[ctx.namespace, id] = labels or {}
    return _whole(manager, ctx, made)


def _whole(manager: Any, ctx: CallContext, lease: Lease) -> Lease:
    memory = manager.__dict__.get("volatile", {})
    return replace(lease, labels={**memory.get((ctx.namespace, lease.id), {}), **lease.labels})


def _volatile_list(original: Method, ctx: CallContext, filters: Any = ()) -> list[Lease]:
    return [_whole(owner(original), ctx, lease) for lease in original(ctx, filters)]


mutants(
    "metadata.leases",
    {"LEA-039": ("labels live in memory", {"create": _volatile_create, "list": _volatile_list})},
)


@mutant("LEA-040", "a missing resource is looked into", at="grpc.leases", method="AddResource")
def _no_resource(original: Method, request: pb.AddResourceRequest, context: Any) -> Any:
    resource = request.resource if request.HasField("resource") else None
    assert resource is not None
    return original(request, context)


@mutant("LEA-040", "a missing resource is removed with success", at="grpc.leases", method="DeleteResource")
def _nothing_removed(original: Method, request: pb.DeleteResourceRequest, context: Any) -> Any:
    if not request.HasField("resource"):
        request = pb.DeleteResourceRequest(id=request.id, resource=pb.Resource(id="none", type="ingests"))
    return original(request, context)


# ---- entries


def _cut(resource: Resource) -> Resource:
    parts = resource.type.split("/")
    return replace(resource, type="/".join(parts[: 2 if parts[0] == "snapshots" else 1]))


def _any_digest(original: Method, ctx: CallContext, lease: str, resource: Resource) -> None:
    if resource.type == CONTENT:
        silent(InvalidArgument)(original, ctx, lease, resource)
    else:
        original(ctx, lease, resource)


def _lower(resource: Resource) -> Resource:
    return replace(resource, id=resource.id.lower()) if resource.type == CONTENT else resource


def _wants_content(original: Method, ctx: CallContext, lease: str, resource: Resource) -> None:
    with owner(original)._database.view() as v1:
        there = record(v1, ctx.namespace, "content", "blob", resource.id)
    if resource.type == CONTENT and there is None:
        raise NotFound(f"content {resource.id}")
    original(ctx, lease, resource)


def _wants_snapshotter(original: Method, ctx: CallContext, lease: str, resource: Resource) -> None:
    kind, _, snapshotter = resource.type.partition("/")
    if kind == "snapshots" and snapshotter not in {"overlayfs", "native", "btrfs", "aufs", "devmapper", "zfs"}:
        raise NotFound(f"snapshotter {snapshotter}")
    original(ctx, lease, resource)


def _once(original: Method, ctx: CallContext, lease: str, resource: Resource) -> None:
    if resource in owner(original).list_resources(ctx, lease):
        raise AlreadyExists(f"resource {resource.id}")
    original(ctx, lease, resource)


def _only_there(original: Method, ctx: CallContext, lease: str, resource: Resource) -> None:
    manager = owner(original)
    known = resource in manager.list_resources(ctx, lease)
    original(ctx, lease, resource)
    if not known:
        raise NotFound(f"resource {resource.id}")


def _on_the_fly(original: Method, ctx: CallContext, lease: str, resource: Resource) -> None:
    manager = owner(original)
    if lease not in {found.id for found in manager.list(ctx)}:
        manager.create(ctx, lease)
    original(ctx, lease, resource)


def _resource_first(original: Method, ctx: CallContext, lease: str, resource: Resource) -> None:
    if resource.type.partition("/")[0] not in {"content", "ingests", "snapshots"}:
        raise Unimplemented(f"resource type {resource.type} not supported yet")
    original(ctx, lease, resource)


def _by_name(found: list[Resource]) -> list[Resource]:
    return sorted(found, key=lambda resource: resource.id)


def _bare_type(resource: Resource) -> Resource:
    return replace(resource, type=resource.type.partition("/")[0])


mutants(
    "metadata.leases",
    {
        "LEA-011": (
            "an unknown type is passed over",
            {"add_resource": silent(Unimplemented), "delete_resource": silent(Unimplemented)},
        ),
        "LEA-012": ("content can have any name", {"add_resource": _any_digest}),
        "LEA-014": ("leased content has to exist", {"add_resource": _wants_content}),
        "LEA-015": ("an entry can be added once", {"add_resource": _once}),
        "LEA-016": ("an unknown lease comes about", {"add_resource": _on_the_fly}),
        "LEA-017": ("snapshots are listed without snapshotter", {"list_resources": each(_bare_type)}),
        "LEA-018": ("taking off is no deletion", {"delete_resource": unmarked}),
    },
)
mutants(
    "metadata.leases",
    {
        "LEA-011": ("what follows a type is cut off", {"add_resource": argument(2, _cut)}),
        "LEA-012": ("digests are read in lower case", {"add_resource": argument(2, _lower)}),
        "LEA-014": ("a snapshotter has to exist", {"add_resource": _wants_snapshotter}),
        "LEA-015": ("only what is there can be taken off", {"delete_resource": _only_there}),
        "LEA-016": ("the resource is looked at first", {"add_resource": _resource_first}),
        "LEA-017": ("entries are listed by name alone", {"list_resources": answers(_by_name)}),
    },
)


@mutant("LEA-014", "entries of nothing go with a collection", at="metadata", method="collect")
def _tidies(original: Method, ctx: CallContext) -> CollectionStats:
    metadata = owner(original)
    stats: CollectionStats = original(ctx)
    for there in everywhere(metadata):
        known = {info.digest for info in metadata.content.walk(there)}
        for lease in metadata.leases.list(there):
            for entry in metadata.leases.list_resources(there, lease.id):
                if entry.type == CONTENT and entry.id not in known:
                    metadata.leases.delete_resource(there, lease.id, entry)
    return stats


# ---- the lease in the header


def _under_none(original: Method, ctx: CallContext, *args: Any, **kwargs: Any) -> Any:
    return original(ctx.with_lease(""), *args, **kwargs)


def _or_none(original: Method, ctx: CallContext, *args: Any, **kwargs: Any) -> Any:
    """An unknown lease is ignored."""
    with owner(original)._database.view() as v1:
        known = record(v1, ctx.namespace, "leases", ctx.lease) is not None
    return original(ctx if known else ctx.with_lease(""), *args, **kwargs)


def _has_to_exist(original: Method, ctx: CallContext, *args: Any, **kwargs: Any) -> Any:
    with owner(original)._database.view() as v1:
        if ctx.lease and record(v1, ctx.namespace, "leases", ctx.lease) is None:
            raise NotFound("lease does not exist")
    return original(ctx, *args, **kwargs)


def _not_for_existing(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    store, expected = owner(original), declared.get("expected", "")
    if expected and any(info.digest == expected for info in store.walk(ctx)):
        raise AlreadyExists(f"content {expected}")
    return original(ctx, ref, **declared)


def _leased_afterwards(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    """The ingest is left on the list by the commit."""
    store = owner(original)
    writer = original(ctx, ref, **declared)
    if not ctx.lease:
        return writer

    def commit(original_commit: Method, *args: Any, **kwargs: Any) -> None:
        original_commit(*args, **kwargs)
        with store._database.update() as v1:
            leases = record(v1, ctx.namespace, "leases", ctx.lease)
            leases.create_bucket_if_not_exists(b"ingests").put(ref.encode(), b"")

    return change(writer, commit=commit)


mutants(
    "metadata.content",
    {
        "LEA-019": ("an upload is not on the lease", {"writer": _under_none}),
        "LEA-020": ("existing content is refused before the lease", {"writer": _not_for_existing}),
        "LEA-021": ("an unknown lease is ignored by uploads", {"writer": _or_none}),
        "LEA-025": (
            "a deletion needs the lease of its header",
            {"delete": _has_to_exist, "abort": lambda original, ctx, ref: original(ctx.with_lease(""), ref)},
        ),
    },
)
mutants("metadata.snapshots", {
    "LEA-021": ("an unknown lease is ignored by snapshots", dict.fromkeys(("prepare", "view", "commit"), _or_none)),
    "LEA-023": ("the key stays on the lease after the commit", {"commit": _under_none}),
})  # fmt: skip
mutants("metadata.snapshots", {"LEA-023": ("a view is on no lease", {"view": _under_none})})
mutants("metadata.snapshots", {"LEA-023": ("a removed snapshot stays on the lease", {"remove": _under_none})})
mutants("metadata.containers", {"LEA-022": ("a container needs the lease of its header", {"create": _has_to_exist})})
mutants("metadata.images", {"LEA-022": ("an image needs the lease of its header", {"create": _has_to_exist})})
mutants(
    "metadata.content",
    {
        "LEA-021": (
            "an empty header is none",
            {"writer": argument(0, lambda ctx: ctx.with_lease(ctx.lease.strip("\0")))},
        )
    },
)


# ---- holding


def _as_text(text: str, now: int) -> bool:
    from_now = now // 1_000_000_000
    return parse_rfc3339(f"{text[:19]}Z") < from_now * 1_000_000_000 if len(text) >= 20 else False


def _unreadable_is_past(text: str, now: int) -> bool:
    try:
        return parse_rfc3339(text) < now
    except ValueError:
        return True


def _unreadable_is_epoch(text: str, now: int) -> bool:
    return "T" not in text or past(text, now)


def _all_ingests(metadata: Any, nodes: list[Any]) -> list[Any]:
    return [node for node in nodes if node.type == INGESTS]


def _whole_seconds(text: str, now: int) -> bool:
    return len(text) == len("2001-01-01T00:00:00Z") and past(text, now)


def _labels_of_leases(metadata: Any, nodes: list[Any]) -> list[Any]:
    named = {
        (ctx.namespace, value)
        for ctx in everywhere(metadata)
        for lease in metadata.leases.list(ctx)
        for key, value in lease.labels.items()
        if key.startswith(REF_CONTENT)
    }
    return [node for node in nodes if (node.namespace, node.key) in named]


def _leased_ingest(metadata: Any, found: Any) -> bool:
    return bool(found.node.type == INGESTS and found.reason.startswith("lease "))


mutants(
    "metadata",
    {
        "LEA-028": ("an expiry is read without its zone", expiring(_as_text)),
        "LEA-029": ("an unreadable expiry has passed", expiring(_unreadable_is_past)),
        "LEA-034": (
            "a snapshot does not hold its parents",
            ignoring(lambda metadata, found: found.reason == "parent of the snapshot"),
        ),
        "LEA-032": (
            "a flat lease does not hold parents",
            ignoring(lambda metadata, found: found.reason == "parent of the snapshot" and found.node.flat),
        ),
        "LEA-035": ("a lease does not hold ingests", ignoring(_leased_ingest)),
        "LEA-042": ("labels of leases are references", adding(_labels_of_leases)),
    },
)
mutants(
    "metadata",
    {
        "LEA-028": ("a fraction of a second cannot be read", expiring(_whole_seconds)),
        "LEA-029": (
            "an unreadable expiry means the epoch",
            expiring(_unreadable_is_epoch),
        ),
        "LEA-035": (
            "ingests are never garbage",
            adding(_all_ingests),
        ),
    },
)
mutants("metadata", {"LEA-028": ("no lease expires", expiring(lambda text, now: False))})


def _flat_by_value(original: Method, ctx: CallContext, id: str = "", labels: Labels = None) -> Lease:
    flat = (labels or {}).get(FLAT, "false").lower()
    made: Lease = original(
        ctx, id, {k: v for k, v in (labels or {}).items() if k != FLAT or flat not in {"0", "false"}}
    )
    return made


mutants("metadata.leases", {"LEA-032": ("flat is read as a boolean", {"create": _flat_by_value})})


def _first_colour(metadata: Any) -> Mapping[str, Method]:
    """A node reached both ways is followed as it was reached first."""

    def roots(original: Method, v1: Any, now: int) -> Any:
        seen = set()
        for found in original(v1, now):
            place = found.node[:3]
            if place not in seen or found.node.type == LEASES:
                yield found
            seen.add(place)

    return {"roots": roots}


mutants("metadata", {"LEA-032": ("a node is followed as it was reached first", rules(_first_colour))})


@mutant("LEA-033", "a resource goes with the first lease", at="metadata.leases", method="delete")
def _off_all(original: Method, ctx: CallContext, id: str, **how: Any) -> None:
    manager = owner(original)
    entries = manager.list_resources(ctx, id) if id in {lease.id for lease in manager.list(ctx)} else ()
    original(ctx, id, **how)
    for lease in manager.list(ctx):
        for entry in entries:
            manager.delete_resource(ctx, lease.id, entry)


@mutant("LEA-030", "an expired lease is refused", at="metadata.leases", method="add_resource")
def _refuses_expired(original: Method, ctx: CallContext, lease: str, resource: Resource) -> None:
    manager = owner(original)
    now = manager._database.clock.now()
    if any(found.id == lease and past(found.labels.get(EXPIRE, ""), now) for found in manager.list(ctx)):
        raise NotFound(f'lease "{lease}"')
    original(ctx, lease, resource)
