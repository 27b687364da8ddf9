"""JSON as Go's ``encoding/json`` writes it, which is how ``ctr events`` of 1.6 shows an event.

What differs from protobuf's own JSON: fields have their proto names and stay in the order of their numbers, 64-bit
numbers and enums are numbers, an inner ``Any`` is its type URL and base64, and a time is never left out. What differs
from Python's: ``<``, ``>``, ``&`` and the two line separators of Unicode are escaped, and backspace and form feed have
no short form.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Final, cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from refimpl.contract.times import SECOND, format_rfc3339

_ESCAPES: Final = {
    # Python's encoder has short forms for these two, Go's had none when 1.6 was built.
    "\\b": "\\u0008",
    "\\f": "\\u000c",
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_PAIR: Final = re.compile(r"\\.|[<>&\u2028\u2029]")
_YEAR_1: Final = Timestamp(seconds=-62135596800)
"""Go's zero time, printed for a time that is absent."""
_YEAR_10000: Final = 253402300800


def dumps(value: object) -> str:
    """Write a JSON value on one line without blanks, escaping what Go escapes. Members keep the order of the mapping.

    Raises:
        ValueError: A number that JSON has no form for (NaN, an infinity).
        TypeError: An object that JSON has no form for.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A backslash only occurs inside a string, as the first of a pair: taking the text pair by pair cannot split one.
    return _PAIR.sub(lambda match: _ESCAPES.get(match[0], match[0]), text)


def fields(message: Message) -> dict[str, object]:
    """The fields of a message as a JSON object: set ones only, except that a time is always there.

    Raises:
        ValueError: A time outside the years 1 to 9999.
    """
    found: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        present = message.HasField(field.name) if field.has_presence else bool(value)
        if isinstance(value, Timestamp):
            found[field.name] = _time(value if present else _YEAR_1)
        elif present:
            found[field.name] = _value(value, repeated=field.is_repeated)
    return found


def _value(value: object, *, repeated: bool) -> object:
    if isinstance(value, Mapping):
        return {str(key): _value(value[key], repeated=False) for key in sorted(value)}
    if repeated:
        return [_value(item, repeated=False) for item in cast("list[object]", value)]
    if isinstance(value, Message):
        return fields(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, float) and value.is_integer():
        return int(value)  # Go writes 1 where Python would write 1.0.
    return value


def _time(moment: Timestamp) -> str:
    """RFC 3339 in UTC with as many digits of nanoseconds as there are."""
    if not _YEAR_1.seconds <= moment.seconds < _YEAR_10000:
        raise ValueError(f"{moment.seconds} s is outside the years 1 to 9999")
    if not 0 <= moment.nanos < SECOND:
        raise ValueError(f"{moment.nanos} ns is not a part of a second")
    return format_rfc3339(moment.seconds * SECOND + moment.nanos)
