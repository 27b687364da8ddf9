"""Type URLs: how containerd names what is inside a ``google.protobuf.Any``.

A protobuf message goes by its bare full name (``containerd.events.TaskStart``), without the ``type.googleapis.com/``
that ``Any.Pack`` would put in front (EVT-025). What is not protobuf is JSON, under a path that says so by convention
only (``types.containerd.io/opencontainers/runtime-spec/1/Spec``).

``MESSAGES`` lists the messages that refimpl can open by name. The name is matched exactly, as 1.6 does: with a host in
front it is an unknown type (EVT-016).
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message

from refimpl.api import (
    cgroups_v1_pb2,
    cgroups_v2_pb2,
    event_types_pb2,
    gojson,
    images_v1_pb2,
    linux_runc_pb2,
    runc_v1_pb2,
    runtimeoptions_v1_pb2,
)

OCI_SPEC: Final = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
"""The type URL of a container's runtime spec; its value is JSON."""

OCI_PROCESS: Final = "types.containerd.io/opencontainers/runtime-spec/1/Process"
"""The type URL of the process of an exec; its value is JSON."""

OCI_LINUX_RESOURCES: Final = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
"""The type URL of the resources of an update; its value is JSON."""

JSON_TYPES: Final = frozenset({OCI_SPEC, OCI_PROCESS, OCI_LINUX_RESOURCES})
"""The type URLs whose value is JSON."""


class UnknownType(LookupError):
    """A type URL that is not in the registry.

    Attributes:
        type_url: The URL, as it came.
    """

    def __init__(self, type_url: str) -> None:
        super().__init__(f"type with url {type_url}: not found")
        self.type_url = type_url


class MalformedValue(ValueError):
    """A value that is not what its type URL says.

    Attributes:
        type_url: The URL, as it came.
    """

    def __init__(self, type_url: str, reason: str) -> None:
        super().__init__(f"value of type {type_url} is malformed: {reason}")
        self.type_url = type_url


def _by_name(*messages: type[Message]) -> Mapping[str, type[Message]]:
    return MappingProxyType({message.DESCRIPTOR.full_name: message for message in messages})


EVENTS: Final = _by_name(
    event_types_pb2.ContainerCreate,
    event_types_pb2.ContainerDelete,
    event_types_pb2.ContainerUpdate,
    event_types_pb2.ContentCreate,
    event_types_pb2.ContentDelete,
    event_types_pb2.NamespaceCreate,
    event_types_pb2.NamespaceDelete,
    event_types_pb2.NamespaceUpdate,
    event_types_pb2.SandboxCreate,
    event_types_pb2.SandboxExit,
    event_types_pb2.SandboxStart,
    event_types_pb2.SnapshotCommit,
    event_types_pb2.SnapshotPrepare,
    event_types_pb2.SnapshotRemove,
    event_types_pb2.TaskCheckpointed,
    event_types_pb2.TaskCreate,
    event_types_pb2.TaskDelete,
    event_types_pb2.TaskExecAdded,
    event_types_pb2.TaskExecStarted,
    event_types_pb2.TaskExit,
    event_types_pb2.TaskOOM,
    event_types_pb2.TaskPaused,
    event_types_pb2.TaskResumed,
    event_types_pb2.TaskStart,
    # In the package of their service, unlike all the others (EVT-027).
    images_v1_pb2.ImageCreate,
    images_v1_pb2.ImageDelete,
    images_v1_pb2.ImageUpdate,
)
"""The events of the daemon and the shims, by type URL (EVT-026 to 040)."""

MESSAGES: Final = MappingProxyType(
    {
        **EVENTS,
        **_by_name(
            cgroups_v1_pb2.Metrics,
            cgroups_v2_pb2.Metrics,
            linux_runc_pb2.CheckpointOptions,
            linux_runc_pb2.CreateOptions,
            linux_runc_pb2.ProcessDetails,
            linux_runc_pb2.RuncOptions,
            runc_v1_pb2.CheckpointOptions,
            runc_v1_pb2.Options,
            runc_v1_pb2.ProcessDetails,
            runtimeoptions_v1_pb2.Options,
        ),
    }
)
"""Every message that travels as ``Any`` and that refimpl can open, by type URL: events, options, metrics, details."""


def type_url(message: Message | type[Message]) -> str:
    """The type URL of a message: its full name (EVT-025)."""
    return message.DESCRIPTOR.full_name


def pack(message: Message) -> Any:
    """Put a message into an ``Any``; equal messages give equal bytes, whatever the order of their maps."""
    return Any(type_url=type_url(message), value=message.SerializeToString(deterministic=True))


def pack_json(url: str, value: object) -> Any:
    """Put a JSON value into an ``Any`` under the given type URL, written as Go writes it.

    Raises:
        ValueError: ``value`` holds a number that JSON has no form for (NaN, an infinity).
        TypeError: ``value`` holds an object that JSON has no form for.
    """
    return Any(type_url=url, value=gojson.dumps(value).encode())


def unpack(packed: Any) -> Message:
    """Open an ``Any`` that holds one of ``MESSAGES``.

    Raises:
        UnknownType: The type URL is not that of one of ``MESSAGES``.
        MalformedValue: The value does not parse as that message.
    """
    message = MESSAGES.get(packed.type_url)
    if message is None:
        raise UnknownType(packed.type_url)
    try:
        return message.FromString(packed.value)
    except DecodeError as error:
        raise MalformedValue(packed.type_url, str(error)) from error


def unpack_json(packed: Any) -> object:
    """Open an ``Any`` whose value is JSON. The type URL is not looked at: callers differ in what they accept.

    Raises:
        MalformedValue: The value is not JSON in UTF-8.
    """
    try:
        return cast("object", json.loads(packed.value.decode()))
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are both of this kind
        raise MalformedValue(packed.type_url, str(error)) from error


def to_json(packed: Any) -> str:
    """One line of JSON for what is in an ``Any``, as ``ctr events`` prints an event.

    A value of ``JSON_TYPES`` is printed with all its members; ``ctr`` drops those that it does not know.

    Raises:
        UnknownType: The type URL is neither in ``MESSAGES`` nor in ``JSON_TYPES``.
        MalformedValue: The value is not of its type, or holds something that JSON has no form for.
    """
    if packed.type_url in JSON_TYPES:
        return gojson.dumps(unpack_json(packed))
    message = unpack(packed)
    try:
        return gojson.dumps(gojson.fields(message))
    except ValueError as error:
        raise MalformedValue(packed.type_url, str(error)) from error
