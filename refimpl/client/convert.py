"""Values of the contract to messages of the wire and back: exact, and nothing else.

A timestamp keeps its nanoseconds; one that is absent becomes ``ZERO_TIME``, Go's zero time, because that is what a Go
client sees. A record that is missing from an answer is the server's mistake and becomes ``Internal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from refimpl.api import types_pb2
from refimpl.contract.errors import Internal
from refimpl.contract.mounts import Mount
from refimpl.contract.times import SECOND, ZERO_TIME
from refimpl.contract.types import Descriptor, Platform, TypedAny

Record = TypeVar("Record", bound=Message)


def present(answer: Message, field: str, record: Record) -> Record:
    """The record ``answer.<field>``, which an answer has to have.

    Raises:
        Internal: the server left it out.
    """
    if not answer.HasField(field):
        raise Internal(f"answer {answer.DESCRIPTOR.full_name} has no {field}")
    return record


def time_to_wire(nanoseconds: int) -> Timestamp:
    """A timestamp; floor division keeps the nanoseconds positive before 1970 too, as protobuf demands."""
    return Timestamp(seconds=nanoseconds // SECOND, nanos=nanoseconds % SECOND)


def time_from_wire(message: Message, field: str) -> int:
    """The timestamp ``message.<field>`` in nanoseconds; ``ZERO_TIME`` when it is absent."""
    if not message.HasField(field):
        return ZERO_TIME
    stamp: Timestamp = getattr(message, field)
    return stamp.seconds * SECOND + stamp.nanos


def mask_to_wire(fieldpaths: Sequence[str]) -> FieldMask | None:
    """The mask of an update; none at all for "everything", which the services treat like an empty one (SVC-055)."""
    return FieldMask(paths=fieldpaths) if fieldpaths else None


def any_to_wire(value: TypedAny | None) -> Any | None:
    """A typed message, or its absence."""
    return None if value is None else Any(type_url=value.type_url, value=value.value)


def any_from_wire(value: Any) -> TypedAny:
    """A typed message that is there, empty or not."""
    return TypedAny(value.type_url, value.value)


def anys_to_wire(values: Mapping[str, TypedAny]) -> dict[str, Any]:
    """Typed messages by name."""
    return {key: Any(type_url=value.type_url, value=value.value) for key, value in values.items()}


def descriptor_to_wire(descriptor: Descriptor) -> types_pb2.Descriptor:
    """A descriptor."""
    return types_pb2.Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations=descriptor.annotations,
    )


def descriptor_from_wire(message: types_pb2.Descriptor) -> Descriptor:
    """A descriptor."""
    return Descriptor(message.media_type, message.digest, message.size, dict(message.annotations))


def mounts_to_wire(mounts: Iterable[Mount]) -> list[types_pb2.Mount]:
    """Mounts, in order."""
    return [
        types_pb2.Mount(type=mount.type, source=mount.source, target=mount.target, options=mount.options)
        for mount in mounts
    ]


def mounts_from_wire(messages: Iterable[types_pb2.Mount]) -> list[Mount]:
    """Mounts, in order."""
    return [Mount(message.type, message.source, message.target, tuple(message.options)) for message in messages]


def platform_from_wire(message: types_pb2.Platform) -> Platform:
    """A platform."""
    return Platform(message.os, message.architecture, message.variant)
