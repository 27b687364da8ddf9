"""Values of the wire and values of the contract, both ways; nothing else knows both.

Names are ``<thing>_from(message)`` and ``<thing>_to(value)``. A sub-message that is absent counts as empty; only an
``Any`` can be absent in the contract too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from refimpl.api import (
    containers_v1_pb2,
    content_v1_pb2,
    images_v1_pb2,
    introspection_v1_pb2,
    leases_v1_pb2,
    namespaces_v1_pb2,
    snapshots_v1_pb2,
    types_pb2,
)
from refimpl.contract import content, snapshots
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.events import Envelope
from refimpl.contract.images import Image
from refimpl.contract.introspection import PluginInfo
from refimpl.contract.leases import Lease, Resource
from refimpl.contract.mounts import Mount
from refimpl.contract.namespaces import Namespace
from refimpl.contract.times import SECOND, ZERO_TIME
from refimpl.contract.types import Descriptor, Platform, TypedAny

_KINDS = {
    snapshots.Kind.UNKNOWN: snapshots_v1_pb2.UNKNOWN,
    snapshots.Kind.VIEW: snapshots_v1_pb2.VIEW,
    snapshots.Kind.ACTIVE: snapshots_v1_pb2.ACTIVE,
    snapshots.Kind.COMMITTED: snapshots_v1_pb2.COMMITTED,
}


def time_to(nanoseconds: int) -> Timestamp:
    """Unix nanoseconds to a timestamp; the zero time is that of the year 1, as 1.6 sends it."""
    seconds, nanos = divmod(nanoseconds, SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def time_from(timestamp: Timestamp) -> int:
    """A timestamp to Unix nanoseconds, nothing rounded."""
    return timestamp.seconds * SECOND + timestamp.nanos


def any_to(value: TypedAny) -> Any:
    """A typed value to the wire, its bytes untouched."""
    return Any(type_url=value.type_url, value=value.value)


def any_from(message: Any) -> TypedAny:
    """A typed value from the wire, its bytes untouched."""
    return TypedAny(message.type_url, message.value)


def descriptor_to(value: Descriptor) -> types_pb2.Descriptor:
    """A descriptor to the wire."""
    return types_pb2.Descriptor(
        media_type=value.media_type, digest=value.digest, size=value.size, annotations=value.annotations
    )


def descriptor_from(message: types_pb2.Descriptor) -> Descriptor:
    """A descriptor from the wire."""
    return Descriptor(message.media_type, message.digest, message.size, dict(message.annotations))


def mounts_to(values: Iterable[Mount]) -> list[types_pb2.Mount]:
    """Mounts to the wire, in order."""
    return [types_pb2.Mount(type=m.type, source=m.source, target=m.target, options=m.options) for m in values]


def mounts_from(messages: Iterable[types_pb2.Mount]) -> list[Mount]:
    """Mounts from the wire, in order."""
    return [Mount(type=m.type, source=m.source, target=m.target, options=tuple(m.options)) for m in messages]


def platform_to(value: Platform) -> types_pb2.Platform:
    """A platform to the wire."""
    return types_pb2.Platform(os=value.os, architecture=value.architecture, variant=value.variant)


def container_to(value: Container) -> containers_v1_pb2.Container:
    """A container record to the wire."""
    options = value.runtime.options
    return containers_v1_pb2.Container(
        id=value.id,
        labels=value.labels,
        image=value.image,
        runtime=containers_v1_pb2.Container.Runtime(
            name=value.runtime.name, options=None if options is None else any_to(options)
        ),
        spec=None if value.spec is None else any_to(value.spec),
        snapshotter=value.snapshotter,
        snapshot_key=value.snapshot_key,
        created_at=time_to(value.created_at),
        updated_at=time_to(value.updated_at),
        extensions={name: any_to(extension) for name, extension in value.extensions.items()},
        sandbox=value.sandbox_id,
    )


def container_from(message: containers_v1_pb2.Container) -> Container:
    """A container record from the wire; not its times (CTR-002: the server's) nor its sandbox (CTR-042: 2.x)."""
    runtime = message.runtime
    return Container(
        id=message.id,
        labels=dict(message.labels),
        image=message.image,
        runtime=RuntimeInfo(runtime.name, any_from(runtime.options) if runtime.HasField("options") else None),
        spec=any_from(message.spec) if message.HasField("spec") else None,
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        extensions=anys_from(message.extensions),
    )


def anys_from(messages: Mapping[str, Any]) -> dict[str, TypedAny]:
    """Typed values by name from the wire."""
    return {name: any_from(message) for name, message in messages.items()}


def image_to(value: Image) -> images_v1_pb2.Image:
    """An image record to the wire."""
    return images_v1_pb2.Image(
        name=value.name,
        labels=value.labels,
        target=descriptor_to(value.target),
        created_at=time_to(value.created_at),
        updated_at=time_to(value.updated_at),
    )


def image_from(message: images_v1_pb2.Image) -> Image:
    """An image record from the wire; times are the server's (IMG-001)."""
    return Image(message.name, descriptor_from(message.target), dict(message.labels))


def blob_to(value: content.Info) -> content_v1_pb2.Info:
    """A blob's record to the wire."""
    return content_v1_pb2.Info(
        digest=value.digest,
        size=value.size,
        created_at=time_to(value.created_at),
        updated_at=time_to(value.updated_at),
        labels=value.labels,
    )


def blob_from(message: content_v1_pb2.Info) -> content.Info:
    """A blob's record from the wire; only the labels can be changed (CNT-058)."""
    return content.Info(message.digest, size=message.size, labels=dict(message.labels))


def ingest_to(value: content.Status) -> content_v1_pb2.Status:
    """An ingest's state to the wire."""
    return content_v1_pb2.Status(
        started_at=time_to(value.started_at),
        updated_at=time_to(value.updated_at),
        ref=value.ref,
        offset=value.offset,
        total=value.total,
        expected=value.expected,
    )


def snapshot_to(value: snapshots.Info) -> snapshots_v1_pb2.Info:
    """A snapshot's record to the wire."""
    return snapshots_v1_pb2.Info(
        name=value.name,
        parent=value.parent,
        kind=_KINDS[value.kind],
        created_at=time_to(value.created_at),
        updated_at=time_to(value.updated_at),
        labels=value.labels,
    )


def snapshot_from(message: snapshots_v1_pb2.Info) -> snapshots.Info:
    """A snapshot's record from the wire; only the labels can be changed (SNP-069)."""
    return snapshots.Info(message.name, parent=message.parent, labels=dict(message.labels))


def namespace_to(value: Namespace) -> namespaces_v1_pb2.Namespace:
    """A namespace to the wire."""
    return namespaces_v1_pb2.Namespace(name=value.name, labels=value.labels)


def namespace_from(message: namespaces_v1_pb2.Namespace) -> Namespace:
    """A namespace from the wire."""
    return Namespace(message.name, dict(message.labels))


def lease_to(value: Lease) -> leases_v1_pb2.Lease:
    """A lease to the wire."""
    return leases_v1_pb2.Lease(id=value.id, created_at=time_to(value.created_at), labels=value.labels)


def resource_to(value: Resource) -> leases_v1_pb2.Resource:
    """What a lease holds, to the wire."""
    return leases_v1_pb2.Resource(id=value.id, type=value.type)


def resource_from(message: leases_v1_pb2.Resource) -> Resource:
    """What a lease holds, from the wire."""
    return Resource(message.id, message.type)


def envelope_to(value: Envelope) -> types_pb2.Envelope:
    """An event on its way, to the wire."""
    return types_pb2.Envelope(
        timestamp=time_to(value.timestamp), namespace=value.namespace, topic=value.topic, event=any_to(value.event)
    )


def envelope_from(message: types_pb2.Envelope) -> Envelope:
    """An event on its way, from the wire; without a time it has the zero time."""
    timestamp = time_from(message.timestamp) if message.HasField("timestamp") else ZERO_TIME
    return Envelope(timestamp, message.namespace, message.topic, any_from(message.event))


def plugin_to(value: PluginInfo) -> introspection_v1_pb2.Plugin:
    """A plugin's description to the wire."""
    message = introspection_v1_pb2.Plugin(
        type=value.type,
        id=value.id,
        requires=value.requires,
        platforms=[platform_to(platform) for platform in value.platforms],
        exports=value.exports,
        capabilities=value.capabilities,
    )
    if value.init_err is not None:
        message.init_err.code, message.init_err.message = value.init_err.code, value.init_err.message
    return message
