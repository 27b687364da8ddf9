"""The client against whole daemons: what comes back is what the contract says, kind by kind and value by value."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import replace

import pytest

from refimpl.client import Client
from refimpl.client.ingest import CHUNK
from refimpl.contract.containers import Container, ContainerStore, RuntimeInfo
from refimpl.contract.content import EMPTY_DIGEST, ContentStore, Info
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.diff import Differ
from refimpl.contract.errors import (
    AlreadyExists,
    Canceled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
    Unknown,
)
from refimpl.contract.events import Envelope, EventExchange
from refimpl.contract.images import Image, ImageStore
from refimpl.contract.introspection import Introspection
from refimpl.contract.leases import LeaseManager, Resource
from refimpl.contract.namespaces import Namespace, NamespaceStore
from refimpl.contract.snapshots import Kind, Snapshotter
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import Descriptor, TypedAny
from refimpl.contract.version import VersionService

SPEC = TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b'{"ociVersion":"1.0.2"}')


SECONDS = 60.0
"""How long something that is waited for may take."""


def bounded(ctx: CallContext) -> CallContext:
    """The context for a subscription: what never comes is a failure, not a wait without end."""
    return replace(ctx, deadline=time.monotonic() + SECONDS)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def put(client: Client, ctx: CallContext, data: bytes, **labels: str) -> str:
    """Store a blob and return its digest."""
    digest = digest_of(data)
    writer = client.content.writer(ctx, f"put-{digest}", total=len(data), expected=digest)
    writer.write(data)
    writer.commit(ctx, len(data), digest, labels)
    return digest


def test_every_part_is_what_the_contract_calls_it(client: Client) -> None:
    content: ContentStore = client.content
    images: ImageStore = client.images
    containers: ContainerStore = client.containers
    namespaces: NamespaceStore = client.namespaces
    leases: LeaseManager = client.leases
    events: EventExchange = client.events
    differ: Differ = client.diff
    introspection: Introspection = client.introspection
    version: VersionService = client.version
    snapshotter: Snapshotter = client.snapshotter("native")
    assert all((content, images, containers, namespaces, leases, events, differ, introspection, version, snapshotter))


def test_a_daemon_tells_health_version_and_plugins(client: Client) -> None:
    ctx = CallContext()

    assert client.health()
    assert client.version.version(ctx).version
    assert client.introspection.server(ctx).uuid == client.introspection.server(ctx).uuid
    content = client.introspection.plugins(ctx, ["type==io.containerd.content.v1"])
    assert [plugin.uri for plugin in content] == ["io.containerd.content.v1.content"]
    assert content[0].exports["root"]
    assert content[0].init_err is None
    assert len(client.introspection.plugins(ctx)) > 20


def test_a_blob_larger_than_one_message_comes_back_byte_for_byte(client: Client, held: CallContext) -> None:
    data = os.urandom(2 * CHUNK + 17)
    digest = digest_of(data)
    with_total = client.content.writer(held, "large", total=len(data))

    assert with_total.digest() == EMPTY_DIGEST
    assert with_total.write(data[:10]) == 10
    assert with_total.write(data[10:]) == len(data) - 10
    status = with_total.status()
    assert (status.ref, status.offset, status.total) == ("large", len(data), len(data))
    assert status.updated_at >= status.started_at > 0
    assert with_total.digest() == digest
    assert [found.ref for found in client.content.list_statuses(held)] == ["large"]
    with_total.commit(held, len(data), digest, {"a": "1"})

    info = client.content.info(held, digest)
    assert (info.size, info.labels, info.created_at) == (len(data), {"a": "1"}, info.updated_at)
    assert abs(info.created_at - time.time_ns()) < 60_000_000_000
    (listed,) = client.content.walk(held)
    # containerd 1.6 leaves the time of the last change out of lists.
    assert replace(listed, updated_at=info.updated_at) == info
    assert listed.updated_at in {info.updated_at, ZERO_TIME}
    reader = client.content.reader(held, digest)
    assert reader.size == len(data)
    assert reader.read_at(0, len(data)) == data
    assert reader.read_at(CHUNK - 5, 10) == data[CHUNK - 5 : CHUNK + 5]
    assert reader.read_at(len(data) - 3, 100) == data[-3:]
    assert reader.read_at(len(data), 1) == reader.read_at(len(data) + 5, 1) == reader.read_at(0, 0) == b""
    reader.close()
    assert client.content.list_statuses(held) == []
    with pytest.raises(NotFound):
        client.content.status(held, "large")


def test_an_ingest_goes_on_where_the_last_writer_left_it(client: Client, held: CallContext) -> None:
    first = client.content.writer(held, "resumed")
    first.write(b"hello ")
    with pytest.raises(Unavailable):
        client.content.writer(held, "resumed")
    first.close()
    first.close()

    second = client.content.writer(held, "resumed")

    assert second.status().offset == 6
    assert second.digest() == digest_of(b"hello ")
    second.write(b"world")
    second.commit(held, 11, digest_of(b"hello world"))
    assert client.content.info(held, digest_of(b"hello world")).size == 11


def test_truncating_starts_over_and_only_at_the_beginning(client: Client, held: CallContext) -> None:
    writer = client.content.writer(held, "over")
    writer.truncate(0)
    writer.write(b"wrong")
    with pytest.raises(Unimplemented):
        writer.truncate(2)
    writer.truncate(5)
    assert writer.status().offset == 5

    writer.truncate(0)

    assert writer.digest() == EMPTY_DIGEST
    writer.write(b"right")
    writer.commit(held)
    assert client.content.info(held, digest_of(b"right")).size == 5


def test_a_refused_commit_keeps_the_ingest_and_closes_the_writer(client: Client, held: CallContext) -> None:
    writer = client.content.writer(held, "refused")
    writer.write(b"12345")
    with pytest.raises(FailedPrecondition):
        writer.commit(held, 6)

    assert client.content.status(held, "refused").offset == 5
    with pytest.raises(FailedPrecondition):
        writer.write(b"6")
    client.content.abort(held, "refused")
    with pytest.raises(NotFound):
        client.content.abort(held, "refused")


def test_errors_keep_the_text_of_the_server(client: Client, held: CallContext) -> None:
    with pytest.raises(NotFound) as gone:
        client.images.get(held, "nope")
    assert str(gone.value) == 'image "nope": not found'
    with pytest.raises(InvalidArgument) as refless:
        client.content.writer(held, "")
    assert str(refless.value) == "first message must have a reference"
    with pytest.raises(FailedPrecondition, match=r"namespace is required: failed precondition\Z"):
        client.images.list(CallContext())
    with pytest.raises(InvalidArgument, match="snapshotter not loaded: nope"):
        client.snapshotter("nope").stat(held, "a")
    with pytest.raises(InvalidArgument, match=r"filters: parse error"):
        client.content.walk(held, ["="])
    with pytest.raises((Unknown, InvalidArgument), match="parse error"):
        client.snapshotter("native").walk(held, ["="])
    with pytest.raises((Unknown, InvalidArgument), match="parse error"):
        # Nobody acknowledges a subscription: a refusal that is late meets whoever waits for the first event.
        next(client.events.subscribe(bounded(held), ["="]))
    put(client, held, b"once")
    with pytest.raises(AlreadyExists):
        put(client, held, b"once")
    with pytest.raises(InvalidArgument):
        client.content.info(held, "sha256:short")


def test_labels_of_a_blob_change_by_mask_or_altogether(client: Client, held: CallContext) -> None:
    digest = put(client, held, b"labelled", a="1", b="2")

    masked = client.content.update(held, Info(digest, labels={"a": "3", "b": "no"}), ["labels.a"])
    replaced = client.content.update(held, Info(digest, labels={"c": "4"}))

    assert masked.labels == {"a": "3", "b": "2"}
    assert replaced.labels == {"c": "4"}
    assert client.content.info(held, digest) == replaced
    client.content.delete(held, digest)
    with pytest.raises(NotFound):
        client.content.reader(held, digest)


def test_reading_a_deleted_blob_is_not_found(client: Client, held: CallContext) -> None:
    reader = client.content.reader(held, put(client, held, b"short-lived"))
    client.content.delete(held, digest_of(b"short-lived"))

    with pytest.raises(NotFound):
        reader.read_at(0, 3)


def test_reading_outside_the_blob_is_the_callers_mistake(client: Client, held: CallContext) -> None:
    reader = client.content.reader(held, put(client, held, b"inside"))

    with pytest.raises(InvalidArgument):
        reader.read_at(-1, 3)


def test_an_image_record_survives_the_way_there_and_back(client: Client, ctx: CallContext) -> None:
    target = Descriptor("application/vnd.oci.image.manifest.v1+json", "sha256:" + "a" * 64, 7, {"k": "v"})
    made = client.images.create(ctx, Image("docker.io/library/x:1", target, {"l": "1"}))

    assert (made.target, made.labels) == (target, {"l": "1"})
    assert made.created_at == made.updated_at > 0
    assert client.images.get(ctx, made.name) == made
    assert client.images.list(ctx, [f"name=={made.name}"]) == [made]
    assert client.images.list(ctx, ["name==other"]) == []
    changed = client.images.update(ctx, replace(made, labels={"l": "2"}), ["labels"])
    assert (changed.labels, changed.created_at) == ({"l": "2"}, made.created_at)
    assert changed.updated_at > made.updated_at
    with pytest.raises(AlreadyExists):
        client.images.create(ctx, made)
    client.images.delete(ctx, made.name, sync=True)
    with pytest.raises(NotFound):
        client.images.delete(ctx, made.name)


def test_a_container_record_survives_the_way_there_and_back(client: Client, ctx: CallContext) -> None:
    asked = Container(
        id="c1",
        labels={"l": "1"},
        image="x",
        runtime=RuntimeInfo("io.containerd.runc.v2", TypedAny("containerd.runc.v1.Options", b"\x10\x01")),
        spec=SPEC,
        extensions={"e": TypedAny("type.example/E", b"\x00\xff")},
    )

    made = client.containers.create(ctx, asked)

    assert replace(made, created_at=0, updated_at=0) == asked
    assert made.created_at == made.updated_at > 0
    assert client.containers.get(ctx, "c1") == made
    assert client.containers.list(ctx, ["labels.l==1"]) == [made]
    changed = client.containers.update(ctx, replace(made, labels={"m": "2"}), ["labels"])
    assert (changed.labels, changed.spec) == ({"m": "2"}, SPEC)
    plain = client.containers.create(ctx, Container("c2", runtime=RuntimeInfo("r"), spec=SPEC))
    assert (plain.runtime, plain.extensions) == (RuntimeInfo("r"), {})
    client.containers.delete(ctx, "c1")
    with pytest.raises(NotFound):
        client.containers.get(ctx, "c1")


def test_namespaces_are_made_labelled_listed_and_removed(client: Client, ctx: CallContext) -> None:
    name = ctx.namespace

    assert client.namespaces.create(ctx, Namespace(name, {"a": "1"})) == Namespace(name, {"a": "1"})
    assert client.namespaces.update(ctx, Namespace(name, {"b": "2"}), ["labels.b"]).labels["b"] == "2"
    assert client.namespaces.get(ctx, name).labels == {"a": "1", "b": "2"}
    assert name in [namespace.name for namespace in client.namespaces.list(ctx)]
    with pytest.raises(Unimplemented):
        client.namespaces.delete(ctx, name, delete_cgroup=True)
    client.namespaces.delete(ctx, name)
    assert name not in [namespace.name for namespace in client.namespaces.list(ctx)]
    with pytest.raises(NotFound):
        client.namespaces.delete(ctx, name)


def test_a_lease_holds_what_is_made_under_it(client: Client, ctx: CallContext) -> None:
    lease = client.leases.create(ctx, labels={"l": "1"})
    assert lease.id
    assert client.leases.list(ctx, [f"id=={lease.id}"]) == [lease]

    digest = put(client, ctx.with_lease(lease.id), b"leased")

    assert client.leases.list_resources(ctx, lease.id) == [Resource(digest, "content")]
    client.leases.delete_resource(ctx, lease.id, Resource(digest, "content"))
    assert client.leases.list_resources(ctx, lease.id) == []
    client.leases.add_resource(ctx, lease.id, Resource(digest, "content"))
    client.leases.delete(ctx, lease.id, sync=True)
    with pytest.raises(NotFound):
        client.content.info(ctx, digest)
    with pytest.raises(NotFound, match="lease does not exist: not found"):
        client.content.writer(ctx.with_lease(lease.id), "late")


def test_snapshots_live_through_prepare_commit_and_view(client: Client, held: CallContext) -> None:
    sn = client.snapshotter("native")
    mounts = sn.prepare(held, "work", labels={"l": "1"})
    assert [mount.type for mount in mounts] == ["bind"]
    assert sn.mounts(held, "work") == mounts
    info = sn.stat(held, "work")
    assert (info.kind, info.parent, info.labels) == (Kind.ACTIVE, "", {"l": "1"})
    assert info.created_at == info.updated_at > 0

    sn.commit(held, "base", "work", {"m": "2"})
    view = sn.view(held, "look", "base")

    assert "ro" in view[0].options
    assert sn.usage(held, "base").inodes >= 0
    assert [(found.name, found.kind, found.parent) for found in sn.walk(held)] == [
        ("base", Kind.COMMITTED, ""),
        ("look", Kind.VIEW, "base"),
    ]
    assert [found.name for found in sn.walk(held, ["kind==view"])] == ["look"]
    assert sn.update(held, replace(sn.stat(held, "base"), labels={"n": "3"}), ["labels.n"]).labels["n"] == "3"
    with pytest.raises(FailedPrecondition):
        sn.remove(held, "base")
    sn.remove(held, "look")
    sn.remove(held, "base")
    with pytest.raises(NotFound):
        sn.stat(held, "base")
    with pytest.raises(Unimplemented):
        sn.cleanup(held)
    sn.close()


def test_a_published_event_reaches_a_subscriber_that_was_there_before(client: Client, ctx: CallContext) -> None:
    event = TypedAny("example.Event", b"\x0a\x01x")
    for number in range(10):
        topic = f"/here/{ctx.namespace}/n{number}"
        subscription = client.events.subscribe(bounded(ctx), [f'topic=="{topic}"'])
        client.events.publish(ctx, topic, event)
        envelope = next(subscription)
        subscription.close()
        assert (envelope.namespace, envelope.topic, envelope.event) == (ctx.namespace, topic, event)
        assert abs(envelope.timestamp - time.time_ns()) < 60_000_000_000


def test_a_forwarded_envelope_keeps_every_nanosecond(client: Client, ctx: CallContext) -> None:
    envelope = Envelope(-1, ctx.namespace, f"/forward/{ctx.namespace}", TypedAny("example.Event", b""))
    subscription = client.events.subscribe(bounded(ctx), [f"namespace=={ctx.namespace}"])

    client.events.forward(CallContext(), envelope)
    client.events.forward(CallContext(), replace(envelope, timestamp=1_700_000_000_123_456_789))

    assert next(subscription) == envelope
    assert next(subscription).timestamp == 1_700_000_000_123_456_789
    subscription.close()
    with pytest.raises(InvalidArgument, match="timestamp must be set"):
        client.events.forward(CallContext(), replace(envelope, timestamp=ZERO_TIME))


def test_closing_a_subscription_ends_a_waiting_reader(client: Client, ctx: CallContext) -> None:
    subscription = client.events.subscribe(ctx, ["topic==never"])
    seen: list[Envelope] = []
    reader = threading.Thread(target=lambda: seen.extend(subscription))
    reader.start()

    subscription.close()
    subscription.close()

    reader.join(SECONDS)
    assert not reader.is_alive()
    assert seen == []
    with pytest.raises(StopIteration):
        next(subscription)


def test_cancelling_the_context_ends_a_subscription_and_an_ingest(client: Client, held: CallContext) -> None:
    token = CancelToken()
    cancellable = replace(held, cancel=token)
    subscription = client.events.subscribe(cancellable, ["topic==never"])
    writer = client.content.writer(cancellable, "cancelled")
    client.images.list(cancellable)
    threading.Timer(0.05, token.cancel).start()

    with pytest.raises(Canceled):
        next(subscription)
    with pytest.raises(Canceled):
        writer.write(b"x")
    with pytest.raises(Canceled):
        client.images.list(cancellable)


def test_a_deadline_ends_a_silent_subscription(client: Client, ctx: CallContext) -> None:
    deadline = time.monotonic() + 2.0

    with pytest.raises((DeadlineExceeded, Unknown)):
        # On a machine that stood still the time is over before the subscription is there.
        next(client.events.subscribe(replace(ctx, deadline=deadline), ["topic==never"]))
    assert time.monotonic() >= deadline - 0.1


def test_closing_the_client_ends_its_streams_and_refuses_calls(client: Client, held: CallContext) -> None:
    other = Client(client.address)
    subscription = other.events.subscribe(held, ["topic==never"])
    writer = other.content.writer(held, "left-open")
    writer.write(b"kept")

    other.close()
    other.close()

    with pytest.raises((Canceled, StopIteration)):
        next(subscription)
    with pytest.raises((Canceled, Unavailable)):
        writer.write(b"x")
    with pytest.raises(Unavailable, match="is closed"):
        other.images.list(held)
    assert not other.health()
    assert client.content.status(held, "left-open").offset == 4


def test_many_threads_share_one_client(client: Client, held: CallContext) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda n=number: found.append(put(client, held, f"blob {n}".encode())))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    assert sorted(found) == sorted(info.digest for info in client.content.walk(held))
