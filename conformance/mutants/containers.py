"""Mutants of the containers area: records that are kept, changed, found, told and held in some wrong way.

Most are planted in ``metadata.containers``, where a record is made; those about events sit in the service, those about
messages in ``grpc.containers``.
"""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks

from __future__ import annotations

import json
import posixpath
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from conformance.mutants.engine import change, hooked, mutant, mutants
from conformance.mutants.shapes import Method, answers, argument, does_nothing, each, silent
from refimpl.api import containers_v1_pb2 as pb
from refimpl.api import event_types_pb2
from refimpl.contract import filters as filter_language
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.times import SECOND
from refimpl.contract.types import TypedAny
from refimpl.kernel import Registration, hookimpl

AT = "metadata.containers"

_EXPIRE = "containerd.io/gc.expire"


def owner(original: Method) -> Any:
    """The object whose method was replaced."""
    return original.args[0]  # type: ignore[attr-defined]  # the engine gives a partial


def kept(original: Method, name: str) -> dict[Any, Any]:
    """A dictionary that the broken object keeps in memory, for as long as it lives."""
    found: dict[Any, Any] = owner(original).__dict__.setdefault(f"mutant_{name}", {})
    return found


def told(service: Any, ctx: CallContext, topic: str, event: Message) -> None:
    """Publish an event as a service does."""
    service._exchange.publish(ctx, topic, TypedAny(event.DESCRIPTOR.full_name, event.SerializeToString()))


def changed(**fields: Callable[[Any], Any]) -> Method:
    """Work on a record of which some fields are others: each function gets the true value."""
    return argument(1, lambda c: replace(c, **{name: edit(getattr(c, name)) for name, edit in fields.items()}))


def refuses(when: Callable[[Container], bool], kind: type[ContainerdError] = InvalidArgument) -> Method:
    """Refuse records for which ``when`` holds."""

    def method(original: Method, ctx: CallContext, container: Container, *args: Any) -> Any:
        if when(container):
            raise kind(f"container {container.id}")
        return original(ctx, container, *args)

    return method


def paths(edit: Callable[[str], str | None]) -> Method:
    """An update that reads its mask in another way; paths that become None are left out."""

    def method(original: Method, ctx: CallContext, container: Container, fieldpaths: Sequence[str] = ()) -> Any:
        return original(ctx, container, [new for path in fieldpaths if (new := edit(path)) is not None])

    return method


def full(edit: Callable[[Container, Container], Container]) -> Method:
    """An update without mask that applies ``edit(current, wanted)``."""

    def method(original: Method, ctx: CallContext, wanted: Container, fieldpaths: Sequence[str] = ()) -> Any:
        if not fieldpaths:
            wanted = edit(owner(original).get(ctx, wanted.id), wanted)
        return original(ctx, wanted, fieldpaths)

    return method


def masked(edit: Callable[[Container, Container, Sequence[str]], tuple[Container, Sequence[str]]]) -> Method:
    """An update with a mask that applies something else: ``edit(current, wanted, paths)``."""

    def method(original: Method, ctx: CallContext, wanted: Container, fieldpaths: Sequence[str] = ()) -> Any:
        if fieldpaths:
            wanted, fieldpaths = edit(owner(original).get(ctx, wanted.id), wanted, fieldpaths)
        return original(ctx, wanted, fieldpaths)

    return method


def _recoded(spec: TypedAny | None) -> TypedAny | None:
    try:
        return None if spec is None else replace(spec, value=json.dumps(json.loads(spec.value)).encode())
    except ValueError:
        return spec


def _cut(labels: Mapping[str, str]) -> dict[str, str]:
    return {k: v.encode()[: max(4096 - len(k.encode()), 0)].decode(errors="ignore") for k, v in labels.items()}


def _empty_is_absent(container: Container) -> Container:
    return replace(container, spec=None if container.spec == TypedAny() else container.spec)


# ------------------------------------------------------------------------------------------------- creation, and get


def _echo(original: Method, ctx: CallContext, wanted: Container, *args: Any) -> Container:
    made = original(ctx, wanted, *args)
    return replace(wanted, created_at=made.created_at, updated_at=made.updated_at)


def _trusting(original: Method, ctx: CallContext, wanted: Container) -> Container:
    made: Container = original(ctx, wanted)
    created, updated = wanted.created_at or made.created_at, wanted.updated_at or made.updated_at
    return replace(made, created_at=created, updated_at=updated)


def _overwrites(original: Method, ctx: CallContext, wanted: Container) -> Any:
    try:
        return original(ctx, wanted)
    except AlreadyExists:
        owner(original).delete(ctx, wanted.id)
        return original(ctx, wanted)


mutants(
    AT,
    {
        "CTR-001": ("create echoes the request", {"create": _echo}),
        "CTR-002": ("the client's times are trusted", {"create": _trusting}),
        "CTR-003": ("a second create overwrites", {"create": _overwrites}),
        "CTR-004": ("an id is the last part of a path", {"create": changed(id=posixpath.basename)}),
        "CTR-005": (
            "unknown runtimes are refused",
            {"create": refuses(lambda c: not re.fullmatch(r"io(\.[a-z0-9]+)+", c.runtime.name or "io.none"))},
        ),
        "CTR-006": (
            "a missing spec is invented",
            {"create": changed(spec=lambda spec: TypedAny("default", b"{}") if spec is None else spec)},
        ),
        "CTR-007": ("the spec is parsed and written anew", {"create": changed(spec=_recoded)}),
        "CTR-008": (
            "the snapshotter has to be known",
            {"create": refuses(lambda c: bool(c.snapshot_key) and c.snapshotter not in ("", "overlayfs", "native"))},
        ),
        "CTR-009": (
            "an image gets its full name",
            {"create": changed(image=lambda i: f"docker.io/library/{i}" if i and "/" not in i else i)},
        ),
        "CTR-010": ("a label that is too long is cut", {"create": changed(labels=_cut)}),
        "CTR-011": (
            "an extension without key is dropped",
            {"create": changed(extensions=lambda all_: {k: v for k, v in all_.items() if k})},
        ),
        "CTR-012": ("an unknown container is an empty one", {"get": silent(NotFound, answer=Container(""))}),
    },
)
mutants(
    AT,
    {
        "CTR-004": ("a newline at the end passes", {"create": changed(id=lambda id: id.rstrip("\n"))}),
        "CTR-005": (
            "a missing runtime is the default one",
            {"create": changed(runtime=lambda r: replace(r, name=r.name or "io.containerd.runc.v2"))},
        ),
        "CTR-007": ("an empty spec is absent", {"get": answers(_empty_is_absent)}),
        "CTR-008": (
            "a key alone is for overlayfs",
            {
                "create": argument(
                    1, lambda c: replace(c, snapshotter=c.snapshotter or ("overlayfs" if c.snapshot_key else ""))
                )
            },
        ),
    },
)
mutants(
    AT,
    {
        "CTR-004": (
            "words of the database are taken",
            {"create": refuses(lambda c: c.id in ("version", "labels", "v1"))},
        )
    },
)


@mutant("CTR-002", "an update makes the record young", at=AT, method="update")
def _young(original: Method, ctx: CallContext, wanted: Container, fieldpaths: Sequence[str] = ()) -> Any:
    new = original(ctx, wanted, fieldpaths)
    owner(original).delete(ctx, new.id)
    return owner(original).create(ctx, new)


@mutant("CTR-010", "a half written container stays", at=AT, method="create")
def _half(original: Method, ctx: CallContext, wanted: Container) -> Any:
    try:
        return original(ctx, wanted)
    except Unknown:
        original(ctx, replace(wanted, labels={}))
        raise


# ------------------------------------------------------------------------------------------------- list and filters


def _intersection(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    found = [original(ctx, [text]) for text in filters] or [original(ctx)]
    return [c for c in found[0] if all(c in others for others in found)]


def _bad_expression(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    for text in filters:
        _, operator, pattern = text.partition("~=")
        try:
            re.compile(pattern.strip("/") if operator else "")
        except re.error as error:
            raise InvalidArgument(str(error)) from error
    return original(ctx, filters)


def _bad_skipped(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    good = []
    for text in filters:
        try:
            filter_language.parse([text])
            good.append(text)
        except InvalidArgument:
            continue
    if filters and not good:
        raise InvalidArgument("no filter is left")
    return original(ctx, good)


def _filtering(field: Callable[[Container, Sequence[str]], str | None]) -> Method:
    """A list whose filters see other fields."""

    def method(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
        wanted = filter_language.parse(filters)
        return [c for c in original(ctx) if wanted(lambda path, c=c: field(c, path))]  # type: ignore[misc]

    return method


def _true_field(container: Container, path: Sequence[str]) -> str | None:
    match path:
        case ["id"]:
            return container.id
        case ["image"]:
            return container.image or None
        case ["runtime", "name"]:
            return container.runtime.name
        case ["labels", *_]:
            return filter_language.map_value(path, container.labels)
    return None


mutants(
    AT,
    {
        "CTR-013": (
            "listed as they were made",
            {"list": lambda original, *args: sorted(original(*args), key=lambda c: c.created_at)},
        ),
        "CTR-016": ("an absent field is empty", {"list": _filtering(lambda c, path: _true_field(c, path) or "")}),
        "CTR-017": ("all filters have to hold", {"list": _intersection}),
    },
)
mutants(
    AT,
    {
        "CTR-013": (
            "order ignores case",
            {"list": lambda original, *args: sorted(original(*args), key=lambda c: c.id.lower())},
        ),
        "CTR-016": (
            "filters know ids only",
            {"list": _filtering(lambda c, path: c.id if list(path) == ["id"] else None)},
        ),
        "CTR-017": ("a bad expression is an error", {"list": _bad_expression}),
    },
)
mutants(
    AT,
    {
        "CTR-013": ("the list leaves the specs out", {"list": each(lambda c: replace(c, spec=TypedAny()))}),
        "CTR-016": (
            "the snapshotter is a field",
            {
                "list": _filtering(
                    lambda c, p: c.snapshotter or None if list(p) == ["snapshotter"] else _true_field(c, p)
                )
            },
        ),
        "CTR-017": ("a filter that does not parse is skipped", {"list": _bad_skipped}),
    },
)


@mutant("CTR-014", "the stream ignores filters", at="grpc.containers", method="ListStream")
def _unfiltered(original: Method, _request: pb.ListContainersRequest, context: Any) -> Iterator[Any]:
    yield from original(pb.ListContainersRequest(), context)


@mutant("CTR-014", "nothing is an empty message", at="grpc.containers", method="ListStream")
def _something(original: Method, request: pb.ListContainersRequest, context: Any) -> Iterator[Any]:
    empty = True
    for answer in original(request, context):
        empty = False
        yield answer
    if empty:
        yield pb.ListContainerMessage()


@mutant("CTR-015", "large specs are cut", at="grpc.containers", method="Create")
def _large(original: Method, request: pb.CreateContainerRequest, context: Any) -> Any:
    request.container.spec.value = request.container.spec.value[: 4 << 20]
    return original(request, context)


@mutant("CTR-015", "the stream is one list inside", at="grpc.containers", method="ListStream")
def _limited(original: Method, request: pb.ListContainersRequest, context: Any) -> Iterator[Any]:
    size = 0
    for answer in original(request, context):
        size += answer.ByteSize()
        if size <= 16 << 20:
            yield answer


# ---------------------------------------------------------------------------------------------------------- updates


def _merging(current: Container, wanted: Container) -> Container:
    return replace(wanted, labels={**current.labels, **wanted.labels})


def _whole(current: Container, wanted: Container, _paths: Sequence[str]) -> tuple[Container, Sequence[str]]:
    spec = wanted.spec or current.spec
    return replace(wanted, runtime=current.runtime, snapshotter=current.snapshotter, spec=spec), ()


def _spec_erased(_current: Container, wanted: Container, given: Sequence[str]) -> tuple[Container, Sequence[str]]:
    return replace(wanted, spec=wanted.spec or TypedAny()), given


def _image_stays(current: Container, wanted: Container, given: Sequence[str]) -> tuple[Container, Sequence[str]]:
    return replace(wanted, image=wanted.image or current.image), given


def _all_extensions(_current: Container, wanted: Container, given: Sequence[str]) -> tuple[Container, Sequence[str]]:
    if any(path.startswith("extensions.") for path in given):
        return wanted, [*given, *(f"extensions.{key}" for key in wanted.extensions)]
    return wanted, given


def _no_empty_extension(current: Container, wanted: Container, given: Sequence[str]) -> tuple[Container, Sequence[str]]:
    gone = {path.partition(".")[2] for path in given if path.startswith("extensions.")} - set(wanted.extensions)
    if not gone:
        return wanted, given
    return replace(current, extensions={k: v for k, v in current.extensions.items() if k not in gone}), ["extensions"]


def _labels_merge(current: Container, wanted: Container, given: Sequence[str]) -> tuple[Container, Sequence[str]]:
    return (_merging(current, wanted) if "labels" in given else wanted), given


def _two_steps(path: str) -> str:
    return ".".join(path.split(".")[:2])


def _wire_name(path: str) -> str:
    return {"snapshot_key": "snapshotkey", "snapshotkey": "unknown"}.get(path, path)


def _new_extensions_lost(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    current = owner(original).get(ctx, wanted.id)
    answer: Container = original(ctx, replace(wanted, extensions={**wanted.extensions, **current.extensions}), given)
    if not given or "extensions" in given:
        original(ctx, replace(wanted, extensions=current.extensions), ["extensions"])
        return replace(answer, extensions=wanted.extensions)
    return answer


def _step_by_step(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    for path in given[:-1]:
        original(ctx, wanted, [path])
    return original(ctx, wanted, given[-1:])


def _time_first(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    try:
        return original(ctx, wanted, given)
    except InvalidArgument:
        current = owner(original).get(ctx, wanted.id)
        original(ctx, current, ["image"])
        raise


def _upserts(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    try:
        return original(ctx, wanted, given)
    except NotFound:
        return owner(original).create(ctx, wanted)


def _compared_always(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    current = owner(original).get(ctx, wanted.id)
    if (wanted.runtime.name, wanted.snapshotter) != (current.runtime.name, current.snapshotter):
        raise InvalidArgument("field is immutable")
    return original(ctx, wanted, given)


def _new_options(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    new = original(ctx, wanted, given)
    if given or wanted.runtime.options in (None, new.runtime.options):
        return new
    owner(original).delete(ctx, new.id)
    return owner(original).create(ctx, replace(new, runtime=wanted.runtime))


def _before(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    current = owner(original).get(ctx, wanted.id) if wanted.id else None
    original(ctx, wanted, given)
    return current


def _versioned(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    if wanted.updated_at and wanted.updated_at != owner(original).get(ctx, wanted.id).updated_at:
        raise FailedPrecondition(f"container {wanted.id} has changed")
    return original(ctx, wanted, given)


mutants(
    AT,
    {
        "CTR-018": ("a full update merges labels", {"update": full(_merging)}),
        "CTR-019": (
            "a difference in runtime or snapshotter is ignored",
            {"update": full(lambda now, c: replace(c, runtime=now.runtime, snapshotter=now.snapshotter))},
        ),
        "CTR-020": ("options are replaced", {"update": _new_options}),
        "CTR-021": ("the mask has the names of the wire", {"update": paths(_wire_name)}),
        "CTR-022": ("a mask lets the whole request in", {"update": masked(_whole)}),
        "CTR-023": ("a key ends at the second dot", {"update": paths(_two_steps)}),
        "CTR-024": ("a mask without spec erases it", {"update": masked(_spec_erased)}),
        "CTR-025": ("every extension of the request is added", {"update": masked(_all_extensions)}),
        "CTR-026": ("a new extension is lost", {"update": _new_extensions_lost}),
        "CTR-027": ("paths are applied as they are read", {"update": _step_by_step}),
        "CTR-028": ("an update upserts", {"update": _upserts}),
        "CTR-029": ("an update echoes the request", {"update": _echo}),
        "CTR-045": ("a stale update is refused", {"update": _versioned}),
    },
)
mutants(
    AT,
    {
        "CTR-018": (
            "an empty field changes nothing",
            {"update": full(lambda now, c: replace(c, image=c.image or now.image, labels=c.labels or now.labels))},
        ),
        "CTR-020": (
            "other options are refused",
            {
                "update": lambda original, ctx, c, given=(): (
                    refuses(lambda _: c.runtime.options != owner(original).get(ctx, c.id).runtime.options)
                    if not given
                    else refuses(lambda _: False)
                )(original, ctx, c, given)
            },
        ),
        "CTR-021": ("capitals do not matter", {"update": paths(str.lower)}),
        "CTR-022": ("runtime and snapshotter have to be repeated", {"update": _compared_always}),
        "CTR-023": ("a mask of all labels merges them", {"update": masked(_labels_merge)}),
        "CTR-024": ("an image cannot be emptied", {"update": masked(_image_stays)}),
        "CTR-025": ("an extension that is not sent goes away", {"update": masked(_no_empty_extension)}),
        "CTR-027": ("a refused update moves the time", {"update": _time_first}),
        "CTR-029": ("an update answers with what was there", {"update": _before}),
    },
)
mutants(AT, {"CTR-021": ("unknown paths are ignored", {"update": paths(lambda p: p if p.rstrip(".") else None)})})


# ------------------------------------------------------------------------------------------------ removal and events


@mutant("CTR-031", "no id is the first one", at=AT, method="delete")
def _first(original: Method, ctx: CallContext, id: str) -> Any:
    found = owner(original).list(ctx)
    return original(ctx, found[0].id if not id and found else id)


mutants(AT, {"CTR-030": ("an unknown container is deleted", {"delete": silent(NotFound)})})


def _without_runtime(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    if topic == "/containers/create":
        message = event_types_pb2.ContainerCreate.FromString(event.value)
        message.ClearField("runtime")
        event = replace(event, value=message.SerializeToString())
    original(ctx, topic, event)


def _elsewhere(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    original(ctx.with_namespace("default") if topic == "/containers/create" else ctx, topic, event)


mutants("events", {"CTR-033": ("the runtime is not told", {"publish": _without_runtime})})
mutants("events", {"CTR-033": ("told in another namespace", {"publish": _elsewhere})})


@mutant("CTR-034", "the labels of the request are told", at="service.containers", method="update")
def _asked_for(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Container:
    service = owner(original)
    new: Container = service._store.update(ctx, wanted, given)
    event = event_types_pb2.ContainerUpdate(
        id=new.id, image=new.image, labels=wanted.labels, snapshot_key=new.snapshot_key
    )
    told(service, ctx, "/containers/update", event)
    return new


@mutant("CTR-034", "a refused update is told", at="service.containers", method="update")
def _attempted(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    try:
        return original(ctx, wanted, given)
    except ContainerdError:
        told(owner(original), ctx, "/containers/update", event_types_pb2.ContainerUpdate(id=wanted.id))
        raise


@mutant("CTR-035", "told before anybody looks", at="service.containers", method="delete")
def _hasty(original: Method, ctx: CallContext, id: str) -> None:
    service = owner(original)
    told(service, ctx, "/containers/delete", event_types_pb2.ContainerDelete(id=id))
    service._store.delete(ctx, id)


# ----------------------------------------------------------------------------- namespaces, time, threads, collections


@mutant("CTR-036", "ids are unique everywhere", at=AT, method="create")
def _global(original: Method, ctx: CallContext, wanted: Container) -> Any:
    first = kept(original, "homes").setdefault(wanted.id, ctx.namespace)
    if first != ctx.namespace:
        raise AlreadyExists(f"container {wanted.id}")
    return original(ctx, wanted)


@mutant("CTR-036", "what is not here is looked for elsewhere", at=AT, method="delete")
def _everywhere(original: Method, ctx: CallContext, id: str) -> Any:
    try:
        return original(ctx, id)
    except NotFound:
        with owner(original)._database.view() as v1:
            names = [key.decode() for key, value in v1.items() if value is None]
        for name in names:
            try:
                return original(ctx.with_namespace(name), id)
            except NotFound:
                continue
        raise


def _remembering(original: Method, ctx: CallContext, wanted: Container, *args: Any) -> Container:
    made: Container = original(ctx, wanted, *args)
    kept(original, "times")[ctx.namespace, made.id] = (made.created_at, made.updated_at)
    return made


def _rounded(original: Method, ctx: CallContext, *args: Any) -> Any:
    found = original(ctx, *args)

    def read(c: Container) -> Container:
        exact = kept(original, "times").get((ctx.namespace, c.id))
        times = exact or (c.created_at // SECOND * SECOND, c.updated_at // SECOND * SECOND)
        return replace(c, created_at=times[0], updated_at=times[1])

    return [read(c) for c in found] if isinstance(found, list) else read(found)


mutants(
    AT,
    {
        "CTR-037": (
            "times are stored in seconds",
            {"create": _remembering, "update": _remembering, "get": _rounded, "list": _rounded},
        )
    },
)


@mutant("CTR-038", "a creation looks first and writes later", at=AT, method="create")
def _races(original: Method, ctx: CallContext, wanted: Container) -> Any:
    try:
        owner(original).get(ctx, wanted.id)
    except NotFound:
        # The gap in which the others look, wide enough to be met.
        time.sleep(0.05)
        return _overwrites(original, ctx, wanted)
    raise AlreadyExists(f"container {wanted.id}")


@mutant("CTR-038", "an update writes back what it read", at=AT, method="update")
def _lost(original: Method, ctx: CallContext, wanted: Container, given: Sequence[str] = ()) -> Any:
    keys = [path.partition(".")[2] for path in given if path.startswith("labels.")]
    if not keys:
        return original(ctx, wanted, given)
    labels = dict(owner(original).get(ctx, wanted.id).labels)
    time.sleep(0.05)
    labels |= {key: wanted.labels.get(key, "") for key in keys}
    return original(ctx, replace(wanted, labels=labels), ["labels"])


def _keyless(original: Method, ctx: CallContext, wanted: Container) -> Container:
    made: Container = original(ctx, replace(wanted, snapshot_key=""))
    return replace(made, snapshot_key=wanted.snapshot_key)


mutants(AT, {"CTR-039": ("a container holds no snapshot", {"create": _keyless})})
mutants("metadata", {"CTR-039": ("a deletion is no reason to collect", {"on_mutation": does_nothing()})})


@mutant("CTR-040", "containers expire", at="metadata", method="collect")
def _expires(original: Method, ctx: CallContext) -> Any:
    metadata = owner(original)
    for namespace in metadata.namespaces.list(ctx):
        where = CallContext(namespace=namespace.name)
        for container in metadata.containers.list(where):
            if container.labels.get(_EXPIRE, "9") < "2010":
                metadata.containers.delete(where, container.id)
    return original(ctx)


@mutant("CTR-041", "a lease has to exist", at=AT, method="create")
def _leased(original: Method, ctx: CallContext, wanted: Container) -> Any:
    if ctx.lease:
        with owner(original)._database.view() as v1:
            namespace = v1.bucket(ctx.namespace.encode())
            leases = namespace.bucket(b"leases") if namespace is not None else None
            if leases is None or leases.bucket(ctx.lease.encode()) is None:
                raise NotFound(f"lease {ctx.lease}")
    return original(ctx, wanted)


def _sandbox_kept(original: Method, ctx: CallContext, wanted: Container, *args: Any) -> Container:
    made: Container = original(ctx, wanted, *args)
    if not args or not args[0]:
        kept(original, "sandboxes")[ctx.namespace, made.id] = wanted.sandbox_id
    return _with_sandbox(original, ctx, made)


def _with_sandbox(original: Method, ctx: CallContext, container: Container) -> Container:
    return replace(container, sandbox_id=kept(original, "sandboxes").get((ctx.namespace, container.id), ""))


def _sandbox_read(original: Method, ctx: CallContext, *args: Any) -> Any:
    found = original(ctx, *args)
    if isinstance(found, list):
        return [_with_sandbox(original, ctx, c) for c in found]
    return _with_sandbox(original, ctx, found)


mutants(
    AT,
    {
        "CTR-042": (
            "an update changes the sandbox",
            {"create": _sandbox_kept, "update": _sandbox_kept, "get": _sandbox_read, "list": _sandbox_read},
        )
    },
)


@mutant("CTR-043", "create looks into what is not there", at="grpc.containers", method="Create")
def _create_absent(original: Method, request: pb.CreateContainerRequest, context: Any) -> Any:
    sent = request.container if request.HasField("container") else None
    assert sent is not None
    return original(request, context)


@mutant("CTR-043", "update looks into what is not there", at="grpc.containers", method="Update")
def _update_absent(original: Method, request: pb.UpdateContainerRequest, context: Any) -> Any:
    sent = request.container if request.HasField("container") else None
    assert sent is not None
    return original(request, context)


@mutant("CTR-044", "a namespace has to be declared", at=AT, method="create")
def _declared(original: Method, ctx: CallContext, wanted: Container) -> Any:
    with owner(original)._database.view() as v1:
        if ctx.namespace and v1.bucket(ctx.namespace.encode()) is None:
            raise FailedPrecondition(f"namespace {ctx.namespace} does not exist")
    return original(ctx, wanted)


@mutant("CTR-044", "a refused creation leaves the namespace", at=AT, method="create")
def _left(original: Method, ctx: CallContext, wanted: Container) -> Any:
    try:
        return original(ctx, wanted)
    except (InvalidArgument, Unknown):
        placeholder = Container("placeholder", runtime=RuntimeInfo("r"), spec=TypedAny())
        original(ctx, placeholder)
        owner(original).delete(ctx, placeholder.id)
        raise


class BesideTasks(ABC):
    """Breaks the deletion in a store that is to know nothing of tasks; it takes the tasks service where it finds it.

    Attributes:
        STORE: the store's URI.
    """

    STORE = "io.containerd.service.v1.containers-service"

    def __init__(self) -> None:
        self._tasks: Any = None

    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: object) -> object | None:
        """Remember the tasks, break the store."""
        if registration.uri == "io.containerd.service.v1.tasks-service":
            self._tasks = instance
        if registration.uri == self.STORE:
            change(instance, delete=self._delete)
        return None

    @abstractmethod
    def _delete(self, original: Method, ctx: CallContext, id: str, **options: Any) -> Any:
        """The mistake."""


@hooked("CTR-032", "a task holds its containers record")
class _Holds(BesideTasks):
    def _delete(self, original: Method, ctx: CallContext, id: str, **options: Any) -> Any:
        if any(task.container_id == id for task in self._tasks.list(ctx)):
            raise FailedPrecondition(f"container {id} has a task")
        return original(ctx, id, **options)


@hooked("CTR-032", "the task ends with the record")
class _Ends(BesideTasks):
    def _delete(self, original: Method, ctx: CallContext, id: str, **options: Any) -> Any:
        with suppress(ContainerdError):
            self._tasks.kill(ctx, id, signal=9, all=True)
            self._tasks.wait(ctx, id)
        return original(ctx, id, **options)


@mutant("CTR-032", "a task without a record is not listed", at="tasks", method="list")
def _recorded(original: Method, ctx: CallContext, *args: Any, **kwargs: Any) -> Any:
    here = {record.id for record in owner(original)._containers.list(ctx)}
    return [task for task in original(ctx, *args, **kwargs) if task.container_id in here]
