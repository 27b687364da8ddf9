"""Events, what a daemon tells of itself: its containers, images, namespaces, content and snapshots.

EVT-024 to 032, EVT-040, EVT-041.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import threading
import uuid
from dataclasses import replace

import pytest

from conformance import clause
from conformance.suites._events import PATIENCE, listen, opened
from refimpl.api import event_types_pb2 as types
from refimpl.api import images_v1_pb2
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists, ContainerdError, NotFound, Unknown
from refimpl.contract.images import Image
from refimpl.contract.namespaces import Namespace
from refimpl.contract.snapshots import Info
from refimpl.contract.types import Descriptor, TypedAny

NO_CHECK: dict[str, str] = {
    "EVT-040": "it takes a sandbox controller that starts sandboxes, which is a runtime; checks join with the runtimes "
    "that they judge",
}
"""Clauses of the whole area that no check decides, and why."""

OPTIONS = TypedAny("containerd.runc.v1.Options", b"\x08\x01")
RUNTIME = RuntimeInfo("io.containerd.runc.v2", OPTIONS)
SPEC = TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b'{"ociVersion":"1.0.2"}')


def _container(id, **fields):
    return Container(**{"id": id, "runtime": RUNTIME, "spec": SPEC, **fields})


def _image(name, **fields):
    digest = f"sha256:{os.urandom(32).hex()}"
    return Image(name, Descriptor("application/vnd.oci.image.manifest.v1+json", digest, 1), **fields)


def _told(envelopes):
    """Topic and message of each."""
    return [(envelope.topic, opened(envelope)) for envelope in envelopes]


@clause("EVT-024")
def test_a_daemon_has_one_exchange(ctx, introspection):
    """Rejects: an exchange for each service, or one that waits for other plugins."""
    found = introspection.plugins(ctx, ["type==io.containerd.event.v1"])

    assert [(plugin.id, list(plugin.requires), plugin.init_err) for plugin in found] == [("exchange", [], None)]


@clause("EVT-024")
def test_all_plugins_tell_on_one_bus(ctx, containers, images, content, snapshotter, blob, listen):
    """Rejects: a plugin with an exchange of its own, to which nobody can subscribe."""
    told = listen()

    containers.create(ctx, _container("c"))
    images.create(ctx, _image("i"))
    content.delete(ctx, blob(os.urandom(16)))
    snapshotter.prepare(ctx, "k")

    # Whether the writing of content is told as well is another matter (EVT-030).
    assert {"/containers/create", "/images/create", "/content/delete", "/snapshot/prepare"} <= set(told.topics())


@clause("EVT-025")
def test_a_daemons_events_go_by_bare_names(
    ctx, containers, images, content, snapshotter, namespaces, new_namespace, blob, listen
):
    """Rejects: the type.googleapis.com/ that protobuf libraries put in front."""
    other = new_namespace(lease=False)
    told = listen(also=[other.namespace])

    containers.create(ctx, _container("c"))
    containers.update(ctx, _container("c", labels={"l": "n"}), ["labels"])
    containers.delete(ctx, "c")
    image = images.create(ctx, _image("i"))
    images.update(ctx, image)
    images.delete(ctx, "i")
    namespaces.create(ctx, Namespace(other.namespace))
    namespaces.update(ctx, Namespace(other.namespace, {"l": "n"}))
    namespaces.delete(ctx, other.namespace)
    content.delete(ctx, blob(os.urandom(16)))
    snapshotter.prepare(ctx, "k")
    snapshotter.commit(ctx, "n", "k")
    snapshotter.remove(ctx, "n")

    names = [envelope.event.type_url for envelope in told()]
    assert [name for name in names if name != "containerd.events.ContentCreate"] == [
        "containerd.events.ContainerCreate", "containerd.events.ContainerUpdate", "containerd.events.ContainerDelete",
        "containerd.services.images.v1.ImageCreate", "containerd.services.images.v1.ImageUpdate",
        "containerd.services.images.v1.ImageDelete", "containerd.events.NamespaceCreate",
        "containerd.events.NamespaceUpdate", "containerd.events.NamespaceDelete", "containerd.events.ContentDelete",
        "containerd.events.SnapshotPrepare", "containerd.events.SnapshotCommit", "containerd.events.SnapshotRemove",
    ]  # fmt: skip


@clause("EVT-026")
def test_containers_are_told(ctx, containers, listen):
    """Rejects: another topic or type, a field that is left out, or values from before the change."""
    told = listen()

    made = containers.create(ctx, _container("c1", image="img", snapshotter="native", snapshot_key="k"))
    containers.update(ctx, replace(made, labels={"l": "n"}), ["labels"])
    containers.delete(ctx, "c1")

    heard = told()
    runtime = types.ContainerCreate.Runtime(name=RUNTIME.name)
    runtime.options.type_url, runtime.options.value = OPTIONS.type_url, OPTIONS.value
    assert _told(heard) == [
        ("/containers/create", types.ContainerCreate(id="c1", image="img", runtime=runtime)),
        ("/containers/update", types.ContainerUpdate(id="c1", image="img", labels={"l": "n"}, snapshot_key="k")),
        ("/containers/delete", types.ContainerDelete(id="c1")),
    ]
    assert {envelope.namespace for envelope in heard} == {ctx.namespace}


@clause("EVT-026")
def test_a_call_for_a_container_that_fails_is_not_told(ctx, containers, listen):
    """Rejects: an event that is told before it is known whether the change is made."""
    containers.create(ctx, _container("c1"))
    told = listen()

    with pytest.raises(AlreadyExists):
        containers.create(ctx, _container("c1"))
    with pytest.raises(ContainerdError):
        containers.create(ctx, _container("no id"))
    with pytest.raises(NotFound):
        containers.update(ctx, _container("c2", labels={"l": "n"}), ["labels"])
    with pytest.raises(NotFound):
        containers.delete(ctx, "c2")

    assert told() == []


@clause("EVT-027")
def test_images_are_told(ctx, images, listen):
    """Rejects: the package of the other events, other topics, or labels that are left out."""
    told = listen()

    image = images.create(ctx, _image("docker.io/library/a:1", labels={"a": "1"}))
    images.update(ctx, Image(image.name, image.target, {"b": "2"}))
    images.delete(ctx, image.name)
    with pytest.raises(NotFound):
        images.delete(ctx, image.name)

    heard = told()
    assert _told(heard) == [
        ("/images/create", images_v1_pb2.ImageCreate(name=image.name, labels={"a": "1"})),
        ("/images/update", images_v1_pb2.ImageUpdate(name=image.name, labels={"b": "2"})),
        ("/images/delete", images_v1_pb2.ImageDelete(name=image.name)),
    ]
    assert {envelope.namespace for envelope in heard} == {ctx.namespace}


@clause("EVT-028")
def test_namespaces_are_told(ctx, namespaces, new_namespace, listen):
    """Rejects: a removal that nobody hears of, or that is told in the namespace of who called."""
    name = new_namespace(lease=False).namespace
    told = listen(also=[name])

    namespaces.create(ctx, Namespace(name, {"a": "1"}))
    namespaces.update(ctx, Namespace(name, {"b": "2"}))
    namespaces.delete(ctx, name)
    with pytest.raises(NotFound):
        namespaces.delete(ctx, name)

    heard = told()
    assert _told(heard) == [
        ("/namespaces/create", types.NamespaceCreate(name=name, labels={"a": "1"})),
        ("/namespaces/update", types.NamespaceUpdate(name=name, labels={"b": "2"})),
        ("/namespaces/delete", types.NamespaceDelete(name=name)),
    ]
    places = [envelope.namespace for envelope in heard]
    assert places in ([ctx.namespace, ctx.namespace, name], [name, name, name]), (
        "1.6: the caller's, 2.x: the one itself"
    )


@clause("EVT-029")
def test_a_namespace_made_without_a_namespace_is_made(ctx, namespaces, new_namespace, listen):
    """Rejects: a failure to tell that takes the creation back."""
    name = new_namespace(lease=False).namespace
    told = listen(also=[name])

    try:
        namespaces.create(CallContext(), Namespace(name))
    except Unknown:
        heard_of = []  # 1.6
    else:
        heard_of = [("/namespaces/create", name)]  # 2.x

    assert [(envelope.topic, envelope.namespace) for envelope in told()] == heard_of
    with pytest.raises(AlreadyExists):
        namespaces.create(CallContext(), Namespace(name))


@clause("EVT-030")
def test_a_removal_of_content_is_told(ctx, content, blob, listen):
    """Rejects: an event for an upload that was given up, or for a removal that failed."""
    told = listen()

    digest = blob(os.urandom(24))
    ref = f"given-up-{uuid.uuid4().hex}"
    writer = content.writer(ctx, ref)
    writer.write(b"some")
    writer.close()
    content.abort(ctx, ref)
    content.delete(ctx, digest)
    with pytest.raises(NotFound):
        content.delete(ctx, digest)

    heard = _told(told())
    if len(heard) > 1:  # 2.x
        assert heard.pop(0) == ("/content/create", types.ContentCreate(digest=digest, size=24))
    assert heard == [("/content/delete", types.ContentDelete(digest=digest))]


@clause("EVT-031")
def test_snapshots_are_told(ctx, snapshotter, listen):
    """Rejects: topics in the plural, the storage's own names for keys, or events for what changes no snapshot."""
    told = listen()

    snapshotter.prepare(ctx, "p")
    snapshotter.commit(ctx, "base", "p")
    snapshotter.prepare(ctx, "a", "base")
    snapshotter.view(ctx, "v", "base")
    snapshotter.mounts(ctx, "v")
    snapshotter.stat(ctx, "v")
    snapshotter.usage(ctx, "v")
    snapshotter.update(ctx, Info("base", labels={"containerd.io/snapshot/l": "1"}), ["labels"])
    snapshotter.remove(ctx, "v")
    with pytest.raises(NotFound):
        snapshotter.remove(ctx, "v")
    with pytest.raises(ContainerdError):
        snapshotter.prepare(ctx, "a", "base")

    heard = _told(told())
    by = {message.snapshotter for _, message in heard}
    assert len(by) == 1, f"one snapshotter is told as {by}"
    (name,) = by  # empty in 1.6
    assert heard == [
        ("/snapshot/prepare", types.SnapshotPrepare(key="p", snapshotter=name)),
        ("/snapshot/commit", types.SnapshotCommit(key="p", name="base", snapshotter=name)),
        ("/snapshot/prepare", types.SnapshotPrepare(key="a", parent="base", snapshotter=name)),
        ("/snapshot/remove", types.SnapshotRemove(key="v", snapshotter=name)),
    ]


@clause("EVT-031")
def test_a_collected_snapshot_is_told_by_2x_only(unleased, snapshotter, collect, listen):
    """Rejects: events of the collector in 1.6, or none in 2.x."""
    told = listen()

    snapshotter.prepare(unleased, "unwanted")
    collect(unleased)

    heard = [(topic, message) for topic, message in _told(told()) if topic.startswith("/snapshot/")]
    name = heard[0][1].snapshotter  # empty in 1.6
    assert heard[0] == ("/snapshot/prepare", types.SnapshotPrepare(key="unwanted", snapshotter=name))
    assert heard[1:] == ([("/snapshot/remove", types.SnapshotRemove(key="unwanted", snapshotter=name))] if name else [])


@clause("EVT-032")
def test_leases_are_not_told(ctx, leases, unleased, blob, listen):
    """Rejects: events of leases, which nobody would know the type of."""
    told = listen()

    for _ in range(2):
        lease = leases.create(unleased, f"lease-{uuid.uuid4().hex[:8]}", {"l": "1"})
        for resource in leases.list_resources(ctx, ctx.lease):
            leases.add_resource(unleased, lease.id, resource)
            leases.delete_resource(unleased, lease.id, resource)
        leases.delete(unleased, lease.id)

    assert told() == []


@clause("EVT-041", needs=())
def test_who_hears_of_a_container_finds_it(ctx, containers, images, events):
    """Rejects: an event that is told before the change is stored."""
    wanted = [f'namespace=={ctx.namespace},topic~="^/(containers|images)/create$"']
    subscription = events.subscribe(CallContext(), wanted)
    outcomes, done = [], threading.Event()

    def react():
        # What a subscriber sees, in its own thread, the moment it hears of something.
        for envelope in subscription:
            message = opened(envelope)
            try:
                if envelope.topic == "/containers/create":
                    outcomes.append(containers.get(ctx, message.id).id)
                else:
                    outcomes.append(images.get(ctx, message.name).name)
            except ContainerdError as error:
                outcomes.append(f"{envelope.topic}: {error}")
            if len(outcomes) == 30:
                done.set()

    threading.Thread(target=react, daemon=True).start()
    try:
        for n in range(15):
            containers.create(ctx, _container(f"c{n}"))
            images.create(ctx, _image(f"i{n}"))
        assert done.wait(PATIENCE), f"only {len(outcomes)} of 30 creations were told"
    finally:
        subscription.close()
    assert outcomes == [name for n in range(15) for name in (f"c{n}", f"i{n}")]
