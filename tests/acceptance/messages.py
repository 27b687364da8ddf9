"""Messages of the wire as text for readers and for comparison, and their marks replaced by what they stand for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

_DAY = 86400  # seconds


def placed(message: Message, base: str, ns: str) -> bytes:
    """The message with the daemon's own directory and the namespace instead of their marks, as bytes."""
    made = type(message)()
    made.CopyFrom(message)
    _replace(made, {"{base}": base, "{ns}": ns})
    return made.SerializeToString(deterministic=True)


def _marked(value: Any, marks: dict[str, str]) -> Any:
    """A value with the marks replaced, if it is text or bytes."""
    for mark, place in marks.items():
        if isinstance(value, str):
            value = value.replace(mark, place)
        elif isinstance(value, bytes):
            value = value.replace(mark.encode(), place.encode())
    return value


def _replace(message: Message, marks: dict[str, str]) -> None:
    for each, value in message.ListFields():
        if _is_map(each):
            for key in list(value):
                if isinstance(value[key], Message):
                    _replace(value[key], marks)
                else:
                    value[key] = _marked(value[key], marks)
        elif each.message_type is not None:
            for one in value if each.is_repeated else [value]:
                _replace(one, marks)
        elif each.is_repeated:
            value[:] = [_marked(one, marks) for one in value]
        else:
            setattr(message, each.name, _marked(value, marks))


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


class Times:
    """Times that a clock gave, numbered in their order; others are what somebody wrote."""

    def __init__(self) -> None:
        self._now = time.time()
        self._seen: set[tuple[int, int]] = set()

    def see(self, message: Message) -> None:
        """Take note of a message's times."""
        for stamp in _stamps(message):
            if self._fresh(stamp):
                self._seen.add((stamp.seconds, stamp.nanos))

    def _fresh(self, stamp: Timestamp) -> bool:
        return abs(stamp.seconds - self._now) < _DAY

    def shown(self, message: Message) -> str:
        """All that is set in a message, on one line."""
        if isinstance(message, Timestamp):
            if self._fresh(message):
                return f"<time {sorted(self._seen).index((message.seconds, message.nanos)) + 1}>"
            return f"{message.seconds}.{message.nanos:09}"
        parts = [f"{each.name}: {self._field(each, value)}" for each, value in message.ListFields()]
        unknown: Any = UnknownFieldSet(message)  # iterable, whatever its stubs say
        parts += [f"field {each.field_number}: {each.data!r}" for each in unknown]
        return "{" + ", ".join(parts) + "}"

    def _field(self, each: FieldDescriptor, value: Any) -> str:
        if _is_map(each):
            return "{" + ", ".join(f"{key!r}: {self._value(value[key])}" for key in sorted(value)) + "}"
        if each.is_repeated:
            return "[" + ", ".join(map(self._value, value)) + "]"
        return self._value(value)

    def _value(self, value: Any) -> str:
        return self.shown(value) if isinstance(value, Message) else repr(value)


def _stamps(message: Message) -> Iterator[Timestamp]:
    if isinstance(message, Timestamp):
        yield message
    for each, value in message.ListFields():
        if each.message_type is None:
            continue
        if _is_map(each):
            inner = [one for one in value.values() if isinstance(one, Message)]
        else:
            inner = list(value) if each.is_repeated else [value]
        for one in inner:
            yield from _stamps(one)
