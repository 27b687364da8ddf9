"""From TOML values to dataclasses: defaults stay where nothing is said, types are checked, unknown keys named.

Field types that are understood: ``str``, ``int``, ``float``, ``bool``, ``Duration``, other dataclasses, ``list[T]``,
``tuple[T, ...]``, ``dict[str, T]`` and ``Any``. A field's key is its name, or ``metadata={"key": ...}`` where TOML's
word is no Python name.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from refimpl.kernel.config.durations import Duration
from refimpl.kernel.config.errors import Position

T = TypeVar("T")
Unknown = Callable[[Position], None]
"""What to do about a key that nobody knows."""


def refuse_unknown(position: Position) -> None:
    """The decoder's own answer to an unknown key.

    Raises:
        ConfigError: always; it names the key.
    """
    raise position.error("unknown key")


def decode(cls: type[T], values: Mapping[str, Any], position: Position, unknown: Unknown = refuse_unknown) -> T:
    """An instance of the dataclass ``cls`` with ``values`` put over its defaults, at any depth (PLG-038).

    Args:
        values: a TOML table.
        position: where the table was written.
        unknown: called for each key that is no field; the default refuses it.

    Raises:
        ConfigError: a value of the wrong type (PLG-040), or an unknown key.
    """
    return overlay(cls(), values, position, unknown)


def overlay(base: T, values: Mapping[str, Any], position: Position, unknown: Unknown) -> T:
    """A copy of the dataclass instance ``base`` with ``values`` put over it; see ``decode``."""
    hints = typing.get_type_hints(type(base))
    fields = {key_of(field): field for field in dataclasses.fields(base)}  # type: ignore[arg-type]  # a dataclass instance
    changes: dict[str, Any] = {}
    for key, value in values.items():
        field = fields.get(key)
        if field is None:
            unknown(position.at(key))
            continue
        current = getattr(base, field.name)
        changes[field.name] = _value(hints[field.name], current, value, position.at(key), unknown)
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]


def key_of(field: dataclasses.Field[Any]) -> str:
    """The TOML key of a dataclass field."""
    return str(field.metadata.get("key", field.name))


def _value(hint: Any, current: Any, value: Any, position: Position, unknown: Unknown) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is object:
        return value
    if isinstance(hint, types.UnionType) or origin is typing.Union:
        return _value(next(a for a in arguments if a is not type(None)), current, value, position, unknown)
    if dataclasses.is_dataclass(hint) and hint is not Duration:
        _expect(dict, value, position, "a table")
        make: Any = hint
        base = current if dataclasses.is_dataclass(current) else make()
        return overlay(base, value, position, unknown)
    if origin in {list, tuple}:
        _expect(list, value, position, "a list")
        return origin(_value(arguments[0], None, item, position, unknown) for item in value)
    if origin is dict:
        _expect(dict, value, position, "a table")
        old = current or {}
        return {**old, **{k: _value(arguments[1], old.get(k), v, position.at(k), unknown) for k, v in value.items()}}
    return _scalar(hint, value, position)


def _scalar(hint: Any, value: Any, position: Position) -> Any:
    if hint is Duration:
        _expect(str, value, position, 'a duration such as "10s"')
        try:
            return Duration.parse(value)
        except ValueError as error:
            raise position.error(str(error)) from error
    # A whole number is none with a point: containerd refuses ``1`` where it wants ``1.0``.
    names = {str: "a text", int: "a whole number", float: "a number with a point, such as 1.0", bool: "true or false"}
    _expect(hint, value, position, names.get(hint, hint.__name__))
    return value


def _expect(cls: type, value: object, position: Position, name: str) -> None:
    # True is an int in Python, not in TOML.
    if not isinstance(value, cls) or (isinstance(value, bool) and cls is not bool):
        raise position.error(f"expected {name}, got {value!r}")
