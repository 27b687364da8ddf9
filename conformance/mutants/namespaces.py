"""Mutants of the namespaces area: records, labels, the header, and what is told, each wrong in one way."""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from conformance.mutants.containers import BesideTasks, kept, owner, told
from conformance.mutants.engine import hooked, mutant, mutants
from conformance.mutants.shapes import Method, answers, argument, silent
from refimpl.api import event_types_pb2
from refimpl.api import namespaces_v1_pb2 as pb
from refimpl.contract.containers import Container
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.namespaces import Namespace
from refimpl.contract.types import TypedAny

AT = "metadata.namespaces"

DEFAULT_SNAPSHOTTER = b"containerd.io/defaults/snapshotter"


def caller(edit: Callable[[str], str]) -> Method:
    """Take the caller's namespace for another one."""
    return argument(0, lambda ctx: ctx.with_namespace(edit(ctx.namespace)))


def named(edit: Callable[[str], str]) -> Method:
    """Work on a namespace of another name, and answer as if it were the one that was asked for."""

    def method(original: Method, ctx: CallContext, wanted: Namespace, *args: Any) -> Any:
        return replace(original(ctx, replace(wanted, name=edit(wanted.name)), *args), name=wanted.name)

    return method


def _cut(labels: Mapping[str, str]) -> dict[str, str]:
    return {k: v.encode()[: max(4096 - len(k.encode()), 0)].decode(errors="ignore") for k, v in labels.items()}


def _exists(original: Method, name: str) -> bool:
    with owner(original)._database.view() as v1:
        return bool(name) and v1.bucket(name.encode()) is not None


# ------------------------------------------------------------------------------------------------------- the header

_or_default = caller(lambda name: name or "default")
_trimmed = caller(str.strip)
_base_name = caller(posixpath.basename)

mutants(
    "metadata.containers",
    {
        "NSP-001": ("no namespace is the default one", dict.fromkeys(("get", "list", "create"), _or_default)),
        "NSP-002": ("blanks are trimmed", dict.fromkeys(("get", "list", "create", "delete"), _trimmed)),
    },
)
mutants("metadata.leases", {"NSP-001": ("leases are in the default namespace", {"create": _or_default})})
mutants("metadata.leases", {"NSP-002": ("a raw header is a path", {"create": _base_name, "list": _base_name})})
mutants("metadata.images", {"NSP-001": ("reads need no namespace", {"list": _or_default})})
mutants(
    "metadata.containers",
    {"NSP-002": ("namespaces have no case", dict.fromkeys(("create", "list"), caller(str.lower)))},
)


class _Reversed:
    """A call's context in which the last header of a name comes first."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return list(reversed(self._context.invocation_metadata()))


@mutant("NSP-024", "the last header counts", at="grpc.containers", method="Create")
def _last(original: Method, request: Any, context: Any) -> Any:
    return original(request, _Reversed(context))


@mutant("NSP-025", "a subscriber hears its own namespace", at="events", method="subscribe")
def _own_namespace(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    if filters or not ctx.namespace:
        return original(ctx, filters)
    return original(ctx, [f"namespace=={ctx.namespace}", 'topic~="^/conform/"'])


@mutant("NSP-025", "the filter looks at the topic only", at="events", method="subscribe")
def _no_namespace_filter(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    return original(ctx, [text for text in filters if not text.startswith("namespace==")] and [])


@mutant("NSP-026", "the default snapshotter is filled in", at="metadata.containers", method="create")
def _filled_in(original: Method, ctx: CallContext, wanted: Container) -> Any:
    with owner(original)._database.view() as v1:
        namespace = v1.bucket(ctx.namespace.encode()) if ctx.namespace else None
        labels = namespace.bucket(b"labels") if namespace is not None else None
        default = labels.get(DEFAULT_SNAPSHOTTER) if labels is not None else None
    return original(ctx, replace(wanted, snapshotter=wanted.snapshotter or (default or b"").decode()))


# -------------------------------------------------------------------------------------------------- create, get, list


def _with_empty(original: Method, ctx: CallContext, wanted: Namespace) -> Namespace:
    made: Namespace = original(ctx, wanted)
    kept(original, "empty")[wanted.name] = {k: v for k, v in wanted.labels.items() if not v}
    return made


def _plus_empty(original: Method, ctx: CallContext, name: str) -> Namespace:
    found: Namespace = original(ctx, name)
    return replace(found, labels={**found.labels, **kept(original, "empty").get(name, {})})


def _merges(original: Method, ctx: CallContext, wanted: Namespace) -> Any:
    try:
        return original(ctx, wanted)
    except AlreadyExists:
        return owner(original).update(ctx, wanted, [f"labels.{key}" for key in wanted.labels])


def _merges_and_refuses(original: Method, ctx: CallContext, wanted: Namespace) -> Any:
    try:
        return original(ctx, wanted)
    except AlreadyExists:
        owner(original).update(ctx, wanted, [f"labels.{key}" for key in wanted.labels])
        raise


def _declares(original: Method, ctx: CallContext, wanted: Namespace) -> Any:
    with owner(original)._database.view() as v1:
        found = v1.bucket(wanted.name.encode()) if wanted.name else None
        implicit = found is not None and found.bucket(b"labels") is None
    return owner(original).update(ctx, wanted) if implicit else original(ctx, wanted)


def _not_found(original: Method, ctx: CallContext, name: str) -> Any:
    if not _exists(original, name):
        raise NotFound(f"namespace {name}")
    return original(ctx, name)


def _creating(original: Method, ctx: CallContext, name: str) -> Any:
    with suppress(ContainerdError):
        owner(original).create(ctx, Namespace(name))
    return original(ctx, name)


def _needs_header(original: Method, ctx: CallContext, *args: Any, **kwargs: Any) -> Any:
    ctx.require_namespace()
    return original(ctx, *args, **kwargs)


mutants(
    AT,
    {
        "NSP-003": ("doubled separators are one", {"create": named(lambda n: re.sub(r"([._-])[._-]+", r"\1", n))}),
        "NSP-004": ("empty labels are stored", {"create": _with_empty, "get": _plus_empty}),
        "NSP-005": ("labels are merged into what is there", {"create": _merges}),
        "NSP-006": ("an unknown namespace is not found", {"get": _not_found}),
        "NSP-007": (
            "order ignores case",
            {"list": lambda original, ctx: sorted(original(ctx), key=lambda n: n.name.lower())},
        ),
        "NSP-008": ("a deletion needs the header", {"delete": _needs_header}),
    },
)
mutants(
    AT,
    {
        "NSP-003": ("a newline at the end passes", {"create": named(lambda n: n.rstrip("\n"))}),
        "NSP-004": (
            "the answer is what is stored",
            {"create": answers(lambda made: replace(made, labels={k: v for k, v in made.labels.items() if v}))},
        ),
        "NSP-005": ("a refused creation leaves its labels", {"create": _merges_and_refuses}),
        "NSP-006": ("a question creates the namespace", {"get": _creating}),
        "NSP-007": ("the list needs a header", {"list": _needs_header}),
        "NSP-008": ("get needs the header", {"get": _needs_header}),
    },
)
mutants(
    AT,
    {
        "NSP-003": ("77 bytes are cut to 76", {"create": named(lambda n: n[:76])}),
        "NSP-005": ("a namespace that was written to can be declared", {"create": _declares}),
        "NSP-007": ("the list has no labels", {"list": answers(lambda all_: [Namespace(n.name) for n in all_])}),
    },
)


@mutant("NSP-007", "the filter is applied", at="grpc.namespaces", method="List")
def _filtered(original: Method, request: pb.ListNamespacesRequest, context: Any) -> Any:
    answer = original(request, context)
    _, equals, name = request.filter.partition("name==")
    found = [n for n in answer.namespaces if not equals or n.name == name]
    return pb.ListNamespacesResponse(namespaces=found)


def _taken_back(original: Method, ctx: CallContext, wanted: Namespace, *args: Any) -> Any:
    try:
        ctx.require_namespace()
    except ContainerdError as error:
        raise Unknown(f"failed publishing event: {error}") from error
    return original(ctx, wanted, *args)


mutants(
    "service.namespaces",
    {"NSP-009": ("what cannot be told is taken back", {"create": _taken_back, "update": _taken_back})},
)


# ---------------------------------------------------------------------------------------------------------- updates


def paths(edit: Callable[[str], str | None]) -> Method:
    """An update that reads its mask in another way; paths that become None are left out."""

    def method(original: Method, ctx: CallContext, wanted: Namespace, fieldpaths: Sequence[str] = ()) -> Any:
        return original(ctx, wanted, [new for path in fieldpaths if (new := edit(path)) is not None])

    return method


def _merging(original: Method, ctx: CallContext, wanted: Namespace, given: Sequence[str] = ()) -> Any:
    return original(ctx, wanted, given or [f"labels.{key}" for key in wanted.labels])


def _others_too(original: Method, ctx: CallContext, wanted: Namespace, given: Sequence[str] = ()) -> Any:
    return original(ctx, wanted, [*given, *(f"labels.{key}" for key in wanted.labels)] if given else given)


def _step_by_step(original: Method, ctx: CallContext, wanted: Namespace, given: Sequence[str] = ()) -> Any:
    for path in given[:-1]:
        original(ctx, wanted, [path])
    return original(ctx, wanted, given[-1:])


def _has_to_exist(original: Method, ctx: CallContext, wanted: Namespace, given: Sequence[str] = ()) -> Any:
    if not _exists(original, wanted.name):
        raise NotFound(f"namespace {wanted.name}")
    return original(ctx, wanted, given)


def _comes_about(original: Method, ctx: CallContext, wanted: Namespace, given: Sequence[str] = ()) -> Any:
    return original(ctx, wanted, given or ([] if wanted.labels else ["labels.none"]))


def _repaired(original: Method, ctx: CallContext, wanted: Namespace, given: Sequence[str] = ()) -> Any:
    return original(ctx, replace(wanted, name=wanted.name.partition("/")[0]), given)


def _short(original: Method, ctx: CallContext, wanted: Namespace, *args: Any) -> Any:
    return original(ctx, replace(wanted, labels=_cut(wanted.labels)), *args)


mutants(
    AT,
    {
        "NSP-010": ("labels are merged without a mask", {"update": _merging}),
        "NSP-011": ("a key ends at the second dot", {"update": paths(lambda p: ".".join(p.split(".")[:2]))}),
        "NSP-012": ("labels replaces all", {"update": paths(lambda p: None if p == "labels" else p)}),
        "NSP-013": ("an unknown namespace cannot be updated", {"update": _has_to_exist}),
        "NSP-014": ("a bad name is repaired", {"update": _repaired}),
        "NSP-015": ("a label that is too long is cut", {"create": _short, "update": _short}),
    },
)
mutants(
    AT,
    {
        "NSP-011": ("all labels of the request are set", {"update": _others_too}),
        "NSP-012": ("a refused update keeps its first change", {"update": _step_by_step}),
        "NSP-013": ("an update of nothing creates", {"update": _comes_about}),
    },
)


@mutant("NSP-010", "the answer has the namespace", at="grpc.namespaces", method="Update")
def _told_back(original: Method, request: pb.UpdateNamespaceRequest, context: Any) -> Any:
    original(request, context)
    return pb.UpdateNamespaceResponse(namespace=request.namespace)


@mutant("NSP-015", "the value alone is limited", at=AT, method="create")
def _value_only(original: Method, ctx: CallContext, wanted: Namespace) -> Any:
    if any(len(value) > 4096 for value in wanted.labels.values()):
        raise InvalidArgument(f"labels of {wanted.name}")
    return replace(original(ctx, replace(wanted, labels=_cut(wanted.labels))), labels=wanted.labels)


# --------------------------------------------------------------------------------------------------------- deletion


def _drop(original: Method, name: str) -> None:
    with owner(original)._database.update() as v1:
        v1.delete_bucket(name.encode())


def _with_contents(when: Callable[[str], bool]) -> Method:
    """A deletion that takes what is in the namespace along, where the message of the refusal is like that."""

    def method(original: Method, ctx: CallContext, name: str, **more: Any) -> Any:
        try:
            return original(ctx, name, **more)
        except FailedPrecondition as error:
            if not when(error.message.partition("it still has ")[2]):
                raise
            return _drop(original, name)

    return method


def _disorder(original: Method, ctx: CallContext, name: str, **more: Any) -> Any:
    try:
        return original(ctx, name, **more)
    except FailedPrecondition as error:
        text, still, held = error.message.partition("it still has ")
        raise FailedPrecondition(f"{text}{still}{', '.join(sorted(held.split(', ')))}") from error


def _leases_count(original: Method, ctx: CallContext, name: str, **more: Any) -> Any:
    with owner(original)._database.view() as v1:
        found = v1.bucket(name.encode()) if name else None
        leases = found.bucket(b"leases") if found is not None else None
        if leases is not None and list(leases.items()):
            raise FailedPrecondition(f"namespace {name} must be empty, but it still has leases")
    return original(ctx, name, **more)


mutants(
    AT,
    {
        "NSP-016": ("a namespace goes with its contents", {"delete": _with_contents(lambda _: True)}),
        "NSP-017": ("a lease keeps its namespace", {"delete": _leases_count}),
        "NSP-020": ("an unknown namespace is deleted", {"delete": silent(NotFound)}),
    },
)
for _kind in ("images", "blobs", "containers"):
    mutants(
        AT,
        {"NSP-016": (f"{_kind} alone are not seen", {"delete": _with_contents(lambda held, kind=_kind: held == kind)})},  # type: ignore[misc]
    )
mutants(AT, {"NSP-016": ("what is left is listed in disorder", {"delete": _disorder})})


# ----------------------------------------------------------------------------------------------------------- events


@mutant("NSP-021", "the stored labels are told", at="events", method="publish")
def _stored(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    if topic == "/namespaces/create":
        message = event_types_pb2.NamespaceCreate.FromString(event.value)
        for key in [key for key, value in message.labels.items() if not value]:
            del message.labels[key]
        event = replace(event, value=message.SerializeToString())
    original(ctx, topic, event)


@mutant("NSP-021", "the labels after the update are told", at="service.namespaces", method="update")
def _resulting(original: Method, ctx: CallContext, wanted: Namespace, given: Sequence[str] = ()) -> Any:
    service = owner(original)
    new = service._store.update(ctx, wanted, given)
    told(service, ctx, "/namespaces/update", event_types_pb2.NamespaceUpdate(name=new.name, labels=new.labels))
    return new


@mutant("NSP-021", "a first write is told as a creation", at="service.containers", method="create")
def _implicit(original: Method, ctx: CallContext, wanted: Container) -> Any:
    made = original(ctx, wanted)
    told(owner(original), ctx, "/namespaces/create", event_types_pb2.NamespaceCreate(name=ctx.namespace))
    return made


@mutant("NSP-022", "a deletion is told where the caller is", at="service.namespaces", method="delete")
def _callers(original: Method, ctx: CallContext, name: str, **more: Any) -> None:
    service = owner(original)
    service._store.delete(ctx, name, **more)
    told(service, ctx, "/namespaces/delete", event_types_pb2.NamespaceDelete(name=name))


# ------------------------------------------------------------------------------------------- time, and raw messages


def _forgetful(original: Method, ctx: CallContext, wanted: Namespace) -> Namespace:
    original(ctx, replace(wanted, labels={}))
    kept(original, "labels")[wanted.name] = dict(wanted.labels)
    return wanted


def _remembered(original: Method, ctx: CallContext, *args: Any) -> Any:
    found = original(ctx, *args)

    def read(one: Namespace) -> Namespace:
        return replace(one, labels={**kept(original, "labels").get(one.name, {}), **one.labels})

    return [read(one) for one in found] if isinstance(found, list) else read(found)


mutants(
    AT,
    {
        "NSP-023": ("labels are in memory", {"create": _forgetful, "get": _remembered, "list": _remembered}),
    },
)


@mutant("NSP-028", "create looks into what is not there", at="grpc.namespaces", method="Create")
def _create_absent(original: Method, request: pb.CreateNamespaceRequest, context: Any) -> Any:
    sent = request.namespace if request.HasField("namespace") else None
    assert sent is not None
    return original(request, context)


@mutant("NSP-028", "update looks into what is not there", at="grpc.namespaces", method="Update")
def _update_absent(original: Method, request: pb.UpdateNamespaceRequest, context: Any) -> Any:
    sent = request.namespace if request.HasField("namespace") else None
    assert sent is not None
    return original(request, context)


@mutant("NSP-030", "only declared namespaces can be read", at=AT, method="get")
def _undeclared(original: Method, ctx: CallContext, name: str) -> Any:
    with owner(original)._database.view() as v1:
        found = v1.bucket(name.encode()) if name else None
        if found is not None and found.bucket(b"labels") is None:
            raise NotFound(f"namespace {name}")
    return original(ctx, name)


@hooked("NSP-019", "a running task keeps its namespace")
class _KeptByTasks(BesideTasks):
    STORE = "io.containerd.service.v1.namespaces-service"

    def _delete(self, original: Method, ctx: CallContext, id: str, **options: Any) -> Any:
        if self._tasks.list(ctx.with_namespace(id)):
            raise FailedPrecondition(f"namespace {id} has tasks")
        return original(ctx, id, **options)
