"""How a mutant is written, and how it is put into the fakes.

A mutant replaces methods of one object that a plugin hands out, through the same ``refimpl_wrap`` hook that tracing and
fault injection use. Each replacement gets the original method first and then the call's own arguments::

    @mutant("IMG-004", "a second create replaces the record", at="metadata.images")
    def create(original, ctx, image):
        try:
            return original(ctx, image)
        except AlreadyExists:
            ...

or, where the mistake is a shape that many share (``conformance.mutants.shapes``), without a function of its own::

    mutants("metadata.images", {"IMG-007": ("an unknown name is ignored", {"delete": silent(NotFound)})})
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from conformance.areas import BUILT
from conformance.catalogue import load
from refimpl.kernel import Registration, hookimpl

Method = Callable[..., Any]
F = TypeVar("F", bound=Method)
H = TypeVar("H")

_PLACES: dict[str, tuple[str, str]] = {
    "service.content": ("io.containerd.service.v1.content-service", ""),
    "service.images": ("io.containerd.service.v1.images-service", ""),
    "service.containers": ("io.containerd.service.v1.containers-service", ""),
    "service.namespaces": ("io.containerd.service.v1.namespaces-service", ""),
    "service.leases": ("io.containerd.service.v1.leases-service", ""),
    "service.diff": ("io.containerd.service.v1.diff-service", ""),
    "service.introspection": ("io.containerd.service.v1.introspection-service", ""),
    "service.snapshots": ("io.containerd.service.v1.snapshots-service", "*"),
    "metadata": ("io.containerd.metadata.v1.bolt", ""),
    "metadata.content": ("io.containerd.metadata.v1.bolt", "content"),
    "metadata.images": ("io.containerd.metadata.v1.bolt", "images"),
    "metadata.containers": ("io.containerd.metadata.v1.bolt", "containers"),
    "metadata.namespaces": ("io.containerd.metadata.v1.bolt", "namespaces"),
    "metadata.leases": ("io.containerd.metadata.v1.bolt", "leases"),
    "metadata.snapshots": ("io.containerd.metadata.v1.bolt", "snapshotters.*"),
    "backend.content": ("io.containerd.content.v1.content", ""),
    "backend.snapshots": ("io.containerd.snapshotter.v1.*", ""),
    "backend.overlayfs": ("io.containerd.snapshotter.v1.overlayfs", ""),
    # Not a plugin: the client that the suite uses, which many clauses about images bind (conformance.suites._images).
    "client": ("client", ""),
    "differ": ("io.containerd.differ.v1.walking", ""),
    # The fake host performs the mounts of everybody; this is where one gets at it.
    "mounter": ("io.containerd.differ.v1.walking", "_mounter"),
    "mounts": ("io.containerd.differ.v1.walking", "_mounter._host.mounts"),
    "events": ("io.containerd.event.v1.exchange", ""),
    "scheduler": ("io.containerd.gc.v1.scheduler", ""),
    "tasks": ("io.containerd.service.v1.tasks-service", ""),
    "runtime.v1": ("io.containerd.runtime.v1.linux", ""),
    "runtime.v2": ("io.containerd.runtime.v2.task", ""),
    "monitor": ("io.containerd.monitor.v1.cgroups", ""),
    "restart": ("io.containerd.internal.v1.restart", ""),
    **{
        f"grpc.{id}": (f"io.containerd.grpc.v1.{id}", "")
        for id in (
            "content",
            "images",
            "containers",
            "namespaces",
            "leases",
            "snapshots",
            "events",
            "diff",
            "introspection",
            "version",
        )
    },
}
"""Where a mutant can be planted: plugin URI, and which part of its instance (``*``: every value of a mapping)."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken implementation.

    Attributes:
        clause: the clause that it breaks, and whose checks must kill it.
        name: unique among the clause's mutants.
        says: the mistake in words.
        at: place (a key of ``_PLACES``, or a plugin URI).
        methods: replacements by method name.
        hook: makes the whole hook object instead, for a mistake that lies between plugins.
    """

    clause: str
    name: str
    says: str
    at: str
    methods: Mapping[str, Method]
    hook: Callable[[], object] | None = None

    @property
    def id(self) -> str:
        """``CNT-001/accepts-an-empty-ref``."""
        return f"{self.clause}/{self.name}"

    @property
    def area(self) -> str:
        """The clause's area."""
        return load()[self.clause].area

    def plant(self) -> object:
        """The hook that puts the mutant in."""
        if self.hook is not None:
            return self.hook()
        uri, part = _PLACES.get(self.at, (self.at, ""))
        return Planted(uri, part, self.methods)


class Planted:
    """A hook implementation that breaks one plugin's instance."""

    def __init__(self, uri: str, part: str, methods: Mapping[str, Method]) -> None:
        self._uri, self._part, self._methods = uri, part, methods

    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: object) -> object | None:
        """Break the instance of the plugin that is meant, in place."""
        if registration.uri != self._uri and not (
            self._uri.endswith(".*") and registration.uri.startswith(self._uri[:-1])
        ):
            return None
        targets: list[object] = [instance]
        for step in filter(None, self._part.split(".")):
            targets = [t for target in targets for t in (target.values() if step == "*" else [getattr(target, step)])]  # type: ignore[attr-defined]  # a mapping, by the table of places
        for target in targets:
            change(target, self._methods)
        return None


def change(target: Any, methods: Mapping[str, Method] | None = None, **more: Method) -> Any:
    """Replace methods of one object, in place; answer with it.

    The object gets a class of its own, so the original methods are still there, and calls that the object makes on
    itself meet the replacement too, as they would if the mistake were in the source.

    Raises:
        AttributeError: there is no such method (the mutant would break nothing).
    """
    cls = type(target)
    body: dict[str, Any] = {"__slots__": ()}
    for name, replacement in {**(methods or {}), **more}.items():
        if not hasattr(cls, name):
            raise AttributeError(f"a mutant replaces {cls.__name__}.{name}, which does not exist")
        body[name] = _method(cls, name, replacement)
    object.__setattr__(target, "__class__", type(cls.__name__, (cls,), body))
    return target


def _method(cls: type, name: str, replacement: Method) -> Method:
    inherited = getattr(cls, name)

    @functools.wraps(inherited)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return replacement(functools.partial(inherited, self), *args, **kwargs)

    return method


_REGISTRY: dict[str, Mutant] = {}


def _add(
    clause: str, says: str, at: str, methods: Mapping[str, Method], hook: Callable[[], object] | None = None
) -> None:
    if clause not in load():
        raise LookupError(f"no clause {clause}")
    stem = "-".join(says.lower().replace("'", "").split())
    found = Mutant(clause, stem, says, at, methods, hook)
    if found.id in _REGISTRY:
        raise ValueError(f"{found.id} is planted twice")
    _REGISTRY[found.id] = found


def mutant(clause: str, says: str, *, at: str, method: str = "") -> Callable[[F], F]:
    """Register a mutant whose one replacement is the decorated function.

    Args:
        clause: the clause it breaks.
        says: the mistake in words.
        at: place.
        method: name of the replaced method; that of the function unless given.
    """

    def register(replacement: F) -> F:
        _add(clause, says, at, {method or replacement.__name__: replacement})
        return replacement

    return register


def hooked(clause: str, says: str) -> Callable[[type[H]], type[H]]:
    """Register a mutant that is a hook object of its own, for a mistake that lies between plugins.

    The decorated class has ``refimpl_wrap`` (an event told by who has no exchange), or ``conformance_kernel(kernel)``,
    which gets the fake's kernel before it boots (a setting that is read wrongly).
    """

    def register(hook: type[H]) -> type[H]:
        _add(clause, says, "", {}, hook)
        return hook

    return register


def mutants(at: str, table: Mapping[str, tuple[str, Mapping[str, Method]]]) -> None:
    """Register many mutants at one place: clause -> (the mistake in words, replacements by method name)."""
    for clause, (says, methods) in table.items():
        _add(clause, says, at, methods)


def mutants_of(areas: Iterable[str] = BUILT) -> dict[str, Mutant]:
    """The mutants of some areas, by id."""
    chosen = set(areas)
    for area in chosen:
        importlib.import_module(f"conformance.mutants.{area}")
    return {id: found for id, found in _REGISTRY.items() if found.area in chosen}


def find(id: str) -> Mutant:
    """One mutant.

    Raises:
        KeyError: there is none of that id.
    """
    clause = load().get(id.partition("/")[0])
    return mutants_of([clause.area] if clause is not None and clause.area in BUILT else [])[id]
