"""Mutants of the events area: a bus that edits, forgets, repeats or waits, and plugins that tell it the wrong thing."""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed

from conformance.mutants.engine import change, mutant, mutants
from conformance.mutants.shapes import argument, does_nothing, each
from refimpl.api import event_types_pb2, typeurl
from refimpl.contract import filters as filter_language
from refimpl.contract.containers import Container
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, InvalidArgument, Unknown
from refimpl.contract.events import Envelope
from refimpl.contract.times import SECOND
from refimpl.contract.types import TypedAny

Method = Callable[..., Any]
Adaptor = filter_language.Adaptor

QUEUE = 100
"""Events in a queue that has an end."""


def owner(original: Method) -> Any:
    """The object whose method was replaced."""
    return original.args[0]  # type: ignore[attr-defined]  # the engine gives a partial


def telling(edit: Callable[[str, TypedAny], tuple[str, TypedAny] | None]) -> Method:
    """A ``publish`` that tells something else, or nothing."""

    def publish(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
        if (changed := edit(topic, event)) is not None:
            original(ctx, *changed)

    return publish


def renaming(old: str, new: str) -> Method:
    """A ``publish`` that tells one topic under another name."""
    return telling(lambda topic, event: (new if topic == old else topic, event))


def asking(edit: Callable[[str], str]) -> Method:
    """A ``subscribe`` that changes each filter."""
    return lambda original, ctx, filters=(): original(ctx, [edit(text) for text in filters])


def offering(offer: Method) -> Method:
    """A ``subscribe`` whose subscriptions take in events like this: offer(original, envelope, adaptor)."""
    return lambda original, ctx, filters=(): change(original(ctx, filters), offer=offer)


def plain(envelope: Envelope) -> Adaptor:
    """What filters can ask of an envelope without looking into its event."""
    return lambda path: {"topic": envelope.topic, "namespace": envelope.namespace}.get(path[0])


def message_in(event: TypedAny) -> Any:
    """The message of a known type; None for others."""
    try:
        return typeurl.unpack(Packed(type_url=event.type_url, value=event.value))
    except (typeurl.UnknownType, typeurl.MalformedValue):
        return None


# ------------------------------------------------------------------------------------------------ publish and forward


def _repacked(topic: str, event: TypedAny) -> tuple[str, TypedAny]:
    message = message_in(event)
    return topic, event if message is None else TypedAny(event.type_url, message.SerializeToString())


@mutant("EVT-001", "the first whose filter matches takes the event", at="events", method="_deliver")
def _first_only(original: Method, envelope: Envelope) -> None:
    before = owner(original)._audience
    for subscription in before:
        length = len(subscription._queue)
        subscription.offer(envelope, plain(envelope))
        if len(subscription._queue) > length:
            return


def _default_namespace(ctx: CallContext) -> CallContext:
    return ctx if ctx.namespace else ctx.with_namespace("default")


@mutant("EVT-002", "names are not looked at", at="events", method="publish")
def _any_name(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    try:
        original(ctx, topic, event)
    except InvalidArgument:
        if not ctx.namespace.replace("/", "").isalnum():
            raise


@mutant("EVT-002", "the namespace must have been heard of", at="events", method="publish")
def _known_namespace(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    if ctx.namespace.startswith("never"):
        raise InvalidArgument(f"namespace {ctx.namespace} does not exist")
    original(ctx, topic, event)


def _trimmed(topic: str) -> str:
    return topic.rstrip("/") if topic.count("/") > 1 else topic


def _limited(topic: str, event: TypedAny) -> tuple[str, TypedAny]:
    if topic.count("/") > QUEUE:
        raise InvalidArgument(f"{topic} has too many components")
    return topic, event


def _patterned(topic: str, event: TypedAny) -> tuple[str, TypedAny]:
    # A pattern for the whole in the place of a look at each component: its first characters may be anything.
    if re.match(r"/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", topic):
        return "/" + "/".join(part.strip("-") or "x" for part in topic[1:].split("/")), event
    return topic, event


@mutant("EVT-004", "validates after sending", at="events", method="publish")
def _sent_first(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    try:
        original(ctx, topic, event)
    except InvalidArgument:
        owner(original)._deliver(Envelope(time.time_ns(), ctx.namespace, topic, event))
        raise


@mutant("EVT-004", "forwards before it looks", at="events", method="forward")
def _forwarded_first(original: Method, ctx: CallContext, envelope: Envelope) -> None:
    try:
        original(ctx, envelope)
    except InvalidArgument:
        owner(original)._deliver(envelope)
        raise


def _registered(topic: str, event: TypedAny) -> tuple[str, TypedAny]:
    if message_in(event) is None:
        raise InvalidArgument(f"type {event.type_url!r} is not registered")
    return topic, event


def _typed(topic: str, event: TypedAny) -> tuple[str, TypedAny]:
    if not event.type_url:
        raise InvalidArgument("the event has no type")
    return topic, event


@mutant("EVT-006", "looks into an event that is not there", at="grpc.events", method="Publish")
def _no_event(original: Method, request: Any, context: Any) -> Any:
    return original(request, context) if request.HasField("event") else len(None)  # type: ignore[arg-type]  # the mistake


@mutant("EVT-007", "the caller speaks for itself", at="events", method="forward")
def _own_namespace(original: Method, ctx: CallContext, envelope: Envelope) -> None:
    original(ctx, replace(envelope, namespace=ctx.namespace or envelope.namespace))


@mutant("EVT-008", "an empty namespace is that of everybody", at="events", method="forward")
def _everybodys(original: Method, ctx: CallContext, envelope: Envelope) -> None:
    original(ctx, envelope) if envelope.namespace else owner(original)._deliver(envelope)


@mutant("EVT-008", "the epoch is no time", at="events", method="forward")
def _no_epoch(original: Method, ctx: CallContext, envelope: Envelope) -> None:
    if envelope.timestamp <= 0:
        raise InvalidArgument("timestamp must be set on forwarded event")
    original(ctx, envelope)


@mutant("EVT-008", "no time is now", at="grpc.events", method="Forward")
def _now(original: Method, request: Any, context: Any) -> Any:
    if not request.envelope.HasField("timestamp"):
        request.envelope.timestamp.GetCurrentTime()
    return original(request, context)


@mutant("EVT-008", "a time that is none is the last that there is", at="grpc.events", method="Forward")
def _last_time(original: Method, request: Any, context: Any) -> Any:
    stamp = request.envelope.timestamp
    if not -62_135_596_800 <= stamp.seconds <= 253_402_300_799 or not 0 <= stamp.nanos < SECOND:
        stamp.seconds, stamp.nanos = 253_402_300_799, 0
    return original(request, context)


@mutant("EVT-009", "looks into an envelope that is not there", at="grpc.events", method="Forward")
def _no_envelope(original: Method, request: Any, context: Any) -> Any:
    return original(request, context) if request.HasField("envelope") else len(None)  # type: ignore[arg-type]  # the mistake


@mutant("EVT-023", "a limit of 4 MiB", at="grpc.events", method="Publish")
def _small(original: Method, request: Any, context: Any) -> Any:
    if request.ByteSize() > 4 << 20:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "message larger than max")
    return original(request, context)


mutants("events", {"EVT-001": ("unpacks and repacks the Any", {"publish": telling(_repacked)})})
mutants("events", {"EVT-002": ("no namespace is the default one", {"publish": argument(0, _default_namespace)})})
mutants("events", {"EVT-003": ("allows a trailing slash", {"publish": argument(1, _trimmed)})})
mutants("events", {"EVT-003": ("at most a hundred components", {"publish": telling(_limited)})})
mutants("events", {"EVT-003": ("a component may begin with a sign", {"publish": telling(_patterned)})})
mutants("events", {"EVT-005": ("rejects unregistered types", {"publish": telling(_registered)})})
mutants("events", {"EVT-005": ("rejects an event without a type", {"publish": telling(_typed)})})
mutants(
    "events",
    {
        "EVT-007": (
            "stamps the present time",
            {"forward": argument(1, lambda envelope: replace(envelope, timestamp=time.time_ns()))},
        )
    },
)


# -------------------------------------------------------------------------------------------------- who listens to what


def _replay(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    subscription = original(ctx, filters)
    for envelope in getattr(owner(original), "told", []):
        subscription.offer(envelope, plain(envelope))
    return subscription


def _remember(original: Method, envelope: Envelope) -> None:
    bus = owner(original)
    bus.told = [*getattr(bus, "told", []), envelope][-QUEUE:]
    original(envelope)


def _only_the_callers(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    if ctx.namespace:
        mine = f"namespace=={ctx.namespace}"
        filters = [f"{text},{mine}" if text else mine for text in filters or [""]]
    return original(ctx, filters)


def _needs_a_namespace(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    ctx.require_namespace()
    return original(ctx, filters)


def _all_filters(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    return original(ctx, [",".join(text for text in filters if text)])


def _any_condition(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    return original(ctx, [part for text in filters for part in text.split(",")])


def _no_empty_ones(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    return original(ctx, [text or "nosuch" for text in filters])


def _known_fields(text: str) -> str:
    if (field := re.match(r"\w*", text)) and field[0] not in ("", "topic", "namespace", "event"):
        raise InvalidArgument(f"unknown field {field[0]}")
    return text


def _numbers_too(original: Method, envelope: Envelope, adaptor: Adaptor) -> None:
    def ask(path: Sequence[str]) -> str | None:
        value = getattr(message_in(envelope.event), path[1], None) if path[0] == "event" and len(path) > 1 else None
        return str(value) if isinstance(value, int) else adaptor(path)

    original(envelope, ask)


def _json_names(original: Method, envelope: Envelope, adaptor: Adaptor) -> None:
    def ask(path: Sequence[str]) -> str | None:
        return adaptor([re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", part) for part in path])

    original(envelope, ask)


def _last_step(original: Method, envelope: Envelope, adaptor: Adaptor) -> None:
    # A map's key is its last step only: one with a dot in it is never found.
    original(envelope, lambda path: adaptor([*path[:2], path[-1]] if "labels" in path and len(path) > 2 else path))


def _compiles(text: str) -> str:
    for expression in re.findall(r'~="(.*)"', text):
        try:
            re.compile(expression)
        except re.error as error:
            raise InvalidArgument(f"{expression}: {error}") from error
    return text


def _without_the_broken(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    good = []
    for text in filters:
        try:
            filter_language.parse([text])
        except InvalidArgument:
            continue
        good.append(text)
    return original(ctx, good)


@mutant("EVT-018", "a code of its own", at="grpc.events", method="Subscribe")
def _its_own_code(original: Method, request: Any, context: Any) -> Iterator[Any]:
    try:
        filter_language.parse(list(request.filters))
    except InvalidArgument as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"failed parsing subscription filters: {error}")
    yield from original(request, context)


mutants(
    "events",
    {
        "EVT-012": ("replays the last events", {"_deliver": _remember, "subscribe": _replay}),
        "EVT-013": ("limits to the caller's namespace", {"subscribe": _only_the_callers}),
        "EVT-014": ("several filters with and", {"subscribe": _all_filters}),
        "EVT-015": ("unknown field is an error", {"subscribe": asking(_known_fields)}),
        "EVT-016": ("matches numbers as text", {"subscribe": offering(_numbers_too)}),
        "EVT-017": (
            "anchors the expression",
            {"subscribe": asking(lambda text: re.sub(r'~="?([^"]*)"?$', r'~="^(?:\1)$"', text))},
        ),
        "EVT-018": (
            "ignores the broken filter and sends everything",
            {"subscribe": _without_the_broken},
        ),
    },
)
mutants("events", {"EVT-013": ("needs a namespace", {"subscribe": _needs_a_namespace})})
mutants("events", {"EVT-014": ("of one filter any condition", {"subscribe": _any_condition})})
mutants("events", {"EVT-014": ("an empty filter matches nothing", {"subscribe": _no_empty_ones})})
mutants(
    "events",
    {
        "EVT-015": (
            "an inequality needs the field",
            {"subscribe": asking(lambda text: re.sub(r"^(\w+)!=", r"\1,\1!=", text))},
        )
    },
)
mutants("events", {"EVT-016": ("names as in JSON", {"subscribe": offering(_json_names)})})
mutants("events", {"EVT-016": ("the last step is the key", {"subscribe": offering(_last_step)})})
mutants("events", {"EVT-017": ("a bad expression is an error", {"subscribe": asking(_compiles)})})


# -------------------------------------------------------------------------------------------------- order and audience


@mutant("EVT-019", "a thread for each event", at="events", method="_deliver")
def _overtaking(original: Method, envelope: Envelope) -> None:
    threading.Timer(random.random() / 100, original, [envelope]).start()  # noqa: S311  # chance is all it takes


@mutant("EVT-019", "each event a second time", at="events", method="_deliver")
def _repeated(original: Method, envelope: Envelope) -> None:
    original(envelope)
    original(envelope)


@mutant("EVT-019", "the last first", at="events", method="subscribe")
def _stack(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    def offer(original_offer: Method, envelope: Envelope, adaptor: Adaptor) -> None:
        original_offer(envelope, adaptor)
        queue = owner(original_offer)._queue
        if len(queue) > 1:
            queue.rotate(1)

    return change(original(ctx, filters), offer=offer)


def _drop_when_full(original: Method, envelope: Envelope, adaptor: Adaptor) -> None:
    if len(owner(original)._queue) < QUEUE:
        original(envelope, adaptor)


def _wait_when_full(original: Method, envelope: Envelope, adaptor: Adaptor) -> None:
    while len(owner(original)._queue) >= QUEUE:
        time.sleep(0.01)
    original(envelope, adaptor)


def _wait_when_gone(original: Method, envelope: Envelope, adaptor: Adaptor) -> None:
    if owner(original)._closed:
        time.sleep(0.01)
    original(envelope, adaptor)


@mutant("EVT-021", "publishing waits for who is gone", at="events", method="subscribe")
def _never_removed(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    subscription = change(original(ctx, filters), offer=_wait_when_gone)
    subscription._leave = lambda _: None
    return subscription


mutants(
    "events",
    {
        "EVT-020": ("drops events of a full queue", {"subscribe": offering(_drop_when_full)}),
        "EVT-021": (
            "who left goes on waiting",
            {"subscribe": lambda original, ctx, filters=(): change(original(ctx, filters), close=does_nothing())},
        ),
    },
)
mutants("events", {"EVT-020": ("publishing waits for who is slow", {"subscribe": offering(_wait_when_full)})})


def _walk_by_number(original: Method, envelope: Envelope) -> None:
    bus = owner(original)
    for number in itertools.count():
        if number >= len(bus._audience):
            return
        bus._audience[number].offer(envelope, plain(envelope))
        if number == len(bus._audience) // 2:
            time.sleep(0.001)  # a walk takes its time, and another thread may run


def _remove_at_once(original: Method, subscription: object) -> None:
    bus = owner(original)
    bus._audience = tuple(other for other in bus._audience if other is not subscription)


mutants(
    "events",
    {
        "EVT-022": (
            "removes entries during delivery",
            {"_deliver": _walk_by_number, "_leave": _remove_at_once},
        )
    },
)


# ----------------------------------------------------------------------------------------------- what the plugins tell


def _created(container: Container) -> TypedAny:
    event = event_types_pb2.ContainerCreate(id=container.id, image=container.image)
    event.runtime.name = container.runtime.name
    return TypedAny(event.DESCRIPTOR.full_name, event.SerializeToString())


def _told_first(original: Method, ctx: CallContext, container: Container) -> Container:
    service = owner(original)
    service._exchange.publish(ctx, "/containers/create", _created(container))
    time.sleep(0.005)  # the time of a commit on a slow disk
    stored: Container = service._store.create(ctx, container)
    return stored


@mutant("EVT-024", "a bus of its own", at="service.containers", method="create")
def _own_bus(original: Method, ctx: CallContext, container: Container) -> Container:
    stored: Container = owner(original)._store.create(ctx, container)
    return stored


mutants(
    "service.introspection",
    {
        "EVT-024": (
            "the bus waits for the database",
            {
                "plugins": each(
                    lambda plugin: (
                        replace(plugin, requires=["io.containerd.metadata.v1"])
                        if plugin.type == "io.containerd.event.v1"
                        else plugin
                    )
                )
            },
        )
    },
)


@mutant("EVT-026", "the labels of before", at="service.containers", method="update")
def _old_labels(original: Method, ctx: CallContext, container: Container, fieldpaths: Sequence[str] = ()) -> Container:
    service = owner(original)
    before = service._store.get(ctx, container.id)
    stored: Container = service._store.update(ctx, container, fieldpaths)
    event = event_types_pb2.ContainerUpdate(
        id=stored.id, image=stored.image, labels=before.labels, snapshot_key=stored.snapshot_key
    )
    service._exchange.publish(
        ctx, "/containers/update", TypedAny(event.DESCRIPTOR.full_name, event.SerializeToString())
    )
    return stored


mutants(
    "service.containers",
    {
        "EVT-026": ("publishes before the transaction is committed", {"create": _told_first}),
        "EVT-041": ("publishes before the commit", {"create": _told_first}),
    },
)


def _prefixed(topic: str, event: TypedAny) -> tuple[str, TypedAny]:
    own = event.type_url.startswith("containerd.")
    return topic, replace(event, type_url=f"type.googleapis.com/{event.type_url}") if own else event


def _with_the_others(topic: str, event: TypedAny) -> tuple[str, TypedAny]:
    return topic, replace(
        event, type_url=event.type_url.replace("containerd.services.images.v1.", "containerd.events.")
    )


def _not_when_removed(topic: str, event: TypedAny) -> tuple[str, TypedAny] | None:
    return None if topic == "/namespaces/delete" else (topic, event)


mutants(
    "events",
    {
        "EVT-025": ("prefix type.googleapis.com", {"publish": telling(_prefixed)}),
        "EVT-027": ("the package of the other events", {"publish": telling(_with_the_others)}),
        "EVT-028": ("delete without event", {"publish": telling(_not_when_removed)}),
        "EVT-031": ("topics in the plural", {"publish": renaming("/snapshot/prepare", "/snapshots/prepare")}),
    },
)
mutants(
    "events", {"EVT-026": ("topics in the singular", {"publish": renaming("/containers/delete", "/container/delete")})}
)
mutants("events", {"EVT-027": ("a topic in the singular", {"publish": renaming("/images/update", "/image/update")})})


@mutant("EVT-028", "told in the namespace of who called", at="service.namespaces", method="delete")
def _told_at_home(original: Method, ctx: CallContext, name: str, **options: bool) -> None:
    service = owner(original)
    service._store.delete(ctx, name, **options)
    event = event_types_pb2.NamespaceDelete(name=name)
    service._exchange.publish(
        ctx, "/namespaces/delete", TypedAny(event.DESCRIPTOR.full_name, event.SerializeToString())
    )


@mutant("EVT-029", "rolls the creation back", at="service.namespaces", method="create")
def _rolled_back(original: Method, ctx: CallContext, namespace: Any) -> Any:
    if not ctx.namespace:
        raise Unknown("failed publishing event: namespace is required")
    return original(ctx, namespace)


def _removed(digest: str) -> TypedAny:
    event = event_types_pb2.ContentDelete(digest=digest)
    return TypedAny(event.DESCRIPTOR.full_name, event.SerializeToString())


@mutant("EVT-030", "an aborted ingest is told", at="service.content", method="abort")
def _told_of_nothing(original: Method, ctx: CallContext, ref: str) -> None:
    original(ctx, ref)
    owner(original)._exchange.publish(ctx, "/content/delete", _removed(ref))


@mutant("EVT-030", "a failed removal is told", at="service.content", method="delete")
def _told_anyhow(original: Method, ctx: CallContext, digest: str) -> None:
    try:
        original(ctx, digest)
    except ContainerdError:
        owner(original)._exchange.publish(ctx, "/content/delete", _removed(digest))
        raise


@mutant("EVT-031", "a view is told", at="service.snapshots", method="view")
def _told_of_views(original: Method, ctx: CallContext, key: str, parent: str = "", labels: Any = None) -> Any:
    mounts = original(ctx, key, parent, labels)
    event = event_types_pb2.SnapshotPrepare(key=key, parent=parent)
    owner(original)._exchange.publish(
        ctx, "/snapshot/prepare", TypedAny(event.DESCRIPTOR.full_name, event.SerializeToString())
    )
    return mounts


# ------------------------------------------------------------------------------------------------------------- restart

_LOG: list[tuple[int, Envelope]] = []
"""What some bus of this process told: a log that outlives it."""


def _log(original: Method, envelope: Envelope) -> None:
    _LOG.append((id(owner(original)), envelope))
    original(envelope)


def _from_the_log(original: Method, ctx: CallContext, filters: Sequence[str] = ()) -> Any:
    subscription = original(ctx, filters)
    for bus, envelope in _LOG:
        if bus != id(owner(original)):
            subscription.offer(envelope, plain(envelope))
    return subscription


mutants("events", {"EVT-043": ("a stored event log", {"_deliver": _log, "subscribe": _from_the_log})})


# --------------------------------------------------------------------------------------------------------------- tasks


def retelling(topic: str, **fields: Any) -> Method:
    """A ``publish`` that tells one topic's events with other values in some fields."""

    def edit(told: str, event: TypedAny) -> tuple[str, TypedAny]:
        if told != topic:
            return told, event
        message = typeurl.unpack(Packed(type_url=event.type_url, value=event.value))
        for name, value in fields.items():
            setattr(message, name, value)
        return told, replace(event, value=message.SerializeToString())

    return telling(edit)


def keeping_to_itself(*topics: str) -> Method:
    """A ``publish`` that does not tell of some topics."""
    return telling(lambda topic, event: None if topic in topics else (topic, event))


def _start_told_again(original: Method, ctx: CallContext, topic: str, event: TypedAny) -> None:
    original(ctx, topic, event)
    if topic == "/tasks/start":
        original(ctx, topic, event)


mutants(
    "events",
    {
        "EVT-033": ("a creation is told without its pid", {"publish": retelling("/tasks/create", pid=0)}),
        "EVT-034": ("a start is told twice", {"publish": _start_told_again}),
        "EVT-035": ("a process that is added is not told", {"publish": keeping_to_itself("/tasks/exec-added")}),
        "EVT-036": ("every end is a success", {"publish": retelling("/tasks/exit", exit_status=0)}),
        "EVT-037": ("a removal is told without the status", {"publish": retelling("/tasks/delete", exit_status=0)}),
        "EVT-038": ("a pause is not told", {"publish": keeping_to_itself("/tasks/paused")}),
    },
)
