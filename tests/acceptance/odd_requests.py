"""Requests that are odd in one field or in several, for every method, made from the tables of ``odd_values``.

A method's fields, those of its sub-messages and the two headers are its *factors*. ``singles`` varies one factor at a
time and leaves the others good, ``pairs`` varies two or three that chance chooses. Requests may contain two marks:
``{base}`` stands for the daemon's own directory, ``{ns}`` for the namespace at hand.
"""

from __future__ import annotations

import importlib
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.acceptance.odd_values import ABSENT, FRESH, LEASES, NAMESPACES, Values, present, values

SERVICES = (
    "containers",
    "content",
    "diff",
    "events",
    "images",
    "introspection",
    "leases",
    "namespaces",
    "snapshots",
    "tasks",
    "version",
)

NAMESPACE, LEASE = "containerd-namespace", "containerd-lease"


@dataclass(frozen=True)
class Request:
    """One call.

    Attributes:
        method: ``Service/Method`` without the package.
        messages: what is sent, in order; bytes are sent as they are.
        headers: metadata.
        timeout: seconds until the client gives up.
        limit: cancel after so many answers; -1 for never.
    """

    method: str
    messages: Sequence[Message | bytes]
    headers: Sequence[tuple[str, str]] = ()
    timeout: float = 60.0
    limit: int = -1


@dataclass(frozen=True)
class Factor:
    """What a request may have one way or another: a field, by its path, or with ``@`` a whole sub-message."""

    path: str
    values: Values


@dataclass
class Names:
    """Where names that nobody has used come from, the same on each run."""

    counter: Iterator[int] = field(default_factory=itertools.count)

    def fresh(self) -> str:
        """One more."""
        return f"fresh-{next(self.counter)}"


@cache
def method(name: str) -> MethodDescriptor:
    """The descriptor of ``Service/Method``."""
    service, _, method_name = name.partition("/")
    module = importlib.import_module(f"refimpl.api.{service.lower()}_v1_pb2")
    found: MethodDescriptor = module.DESCRIPTOR.services_by_name[service].methods_by_name[method_name]
    return found


def methods(services: Iterable[str] = SERVICES) -> list[str]:
    """All methods of the services."""
    found = []
    for stem in services:
        module = importlib.import_module(f"refimpl.api.{stem}_v1_pb2")
        service = module.DESCRIPTOR.services_by_name[stem.title()]
        found += [f"{service.name}/{each.name}" for each in service.methods]
    return found


def call(name: str, *messages: Message, ns: str | None = "{ns}", lease: str | None = None, **more: Any) -> Request:
    """A request with the usual headers."""
    headers = [(NAMESPACE, ns)] if ns is not None else []
    return Request(name, messages, [*headers, *([(LEASE, lease)] if lease is not None else [])], **more)


@cache
def factors(name: str) -> Sequence[Factor]:
    """What can be varied in the requests of a method."""
    service, _, method_name = name.partition("/")
    found = list(_fields(service, method_name, _fields_of(method(name).input_type), ""))
    return [*found, Factor("#namespace", NAMESPACES), Factor("#lease", LEASES)]


def _fields(service: str, name: str, fields: Iterable[FieldDescriptor], prefix: str) -> Iterator[Factor]:
    for each in fields:
        path = prefix + each.name
        kind = each.message_type
        whole = kind is None or each.is_repeated or kind.full_name.startswith("google.protobuf.")
        if whole:
            yield Factor(path, values(service, name, path, each))
        else:
            yield Factor(f"@{path}", present(service, name, path))
            yield from _fields(service, name, _fields_of(kind), f"{path}.")


def _fields_of(message: Descriptor | None) -> Sequence[FieldDescriptor]:
    assert message is not None, "a message"
    return message.fields


def make(name: str, chosen: Mapping[str, Any], names: Names) -> Request:
    """The request with these values, good ones where nothing was chosen."""
    message = GetMessageClass(method(name).input_type)()
    headers: dict[str, str | None] = {}
    there = {factor.path: chosen.get(factor.path, factor.values[0]) for factor in factors(name)}
    absent = {path[1:] for path, value in there.items() if path.startswith("@") and not value}
    for factor in factors(name):
        value = there[factor.path]
        if factor.path.startswith("#"):
            headers[factor.path] = value
        elif factor.path.startswith("@"):
            if value:
                _target(message, factor.path[1:] + ".x")[0].SetInParent()
        elif not any(factor.path.startswith(f"{each}.") for each in absent):
            _set(message, factor.path, names.fresh() if value is FRESH else value)
    # A wait for what does not end has to be given up.
    timeout = 0.5 if name == "Tasks/Wait" else Request.timeout
    return call(name, message, ns=headers["#namespace"], lease=headers["#lease"], timeout=timeout)


def _target(message: Message, path: str) -> tuple[Message, str]:
    *way, last = path.split(".")
    for step in way:
        message = getattr(message, step)
    return message, last


def _set(message: Message, path: str, value: Any) -> None:
    target, last = _target(message, path)
    if value is ABSENT:
        return
    field = target.DESCRIPTOR.fields_by_name[last]
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        for key, each in value.items():
            if isinstance(each, Message):
                getattr(target, last)[key].CopyFrom(each)
            else:
                getattr(target, last)[key] = each
    elif field.is_repeated:
        getattr(target, last).extend(value)
    elif kind is not None and kind.full_name == "google.protobuf.FieldMask":
        getattr(target, last).SetInParent()
        getattr(target, last).paths.extend(value)
    elif kind is not None:
        getattr(target, last).CopyFrom(value)
    else:
        setattr(target, last, value)


def singles(name: str, names: Names) -> Iterator[Request]:
    """The good request, then one for every other value of every factor."""
    yield make(name, {}, names)
    for factor in factors(name):
        for value in factor.values[1:]:
            yield make(name, {factor.path: value}, names)


def pairs(name: str, names: Names, chance: random.Random, count: int) -> Iterator[Request]:
    """Requests that are odd in two factors or three."""
    able = [factor for factor in factors(name) if len(factor.values) > 1]
    for _ in range(count):
        chosen = chance.sample(able, min(len(able), chance.choice((2, 2, 3))))
        yield make(name, {factor.path: chance.choice(factor.values) for factor in chosen}, names)
