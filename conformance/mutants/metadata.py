"""Mutants of the metadata area: a database that leaves traces, mixes namespaces up, or gives content away."""

# ruff: noqa: SLF001  # a mutant reaches into what it breaks

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from conformance.mutants._gc import Method, everywhere, owner, told
from conformance.mutants.engine import change, hooked, mutant, mutants
from conformance.mutants.shapes import argument, drops, each, silent
from refimpl.contract.containers import Container
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unknown,
)
from refimpl.contract.introspection import PluginInfo
from refimpl.contract.namespaces import Namespace
from refimpl.contract.snapshots import Kind
from refimpl.kernel import Kernel, Registration, hookimpl

TYPE = "io.containerd.metadata.v1"
MOMENT = 0.01
"""Seconds between a look and the change that is based on it."""


def database(clause: str, says: str) -> Callable[[Callable[[Any], object]], None]:
    """Register a mutant that needs several parts of the database at once: the function gets the whole of it."""

    def register(spoil: Callable[[Any], object]) -> None:
        class Hook:
            @hookimpl
            def refimpl_wrap(self, registration: Registration, instance: object) -> object | None:
                if registration.type == TYPE:
                    spoil(instance)
                return None

        hooked(clause, says)(Hook)

    return register


def _make_namespace(metadata: Any, ctx: CallContext) -> None:
    with suppress(ContainerdError):
        metadata.namespaces.create(ctx, Namespace(ctx.namespace))


# ---------------------------------------------------------------------------------------------------------- the plugin


def _always_shared(plugin: PluginInfo) -> PluginInfo:
    return replace(plugin, exports={**plugin.exports, "policy": "shared"}) if plugin.type == TYPE else plugin


def _no_path(plugin: PluginInfo) -> PluginInfo:
    exports = {name: value for name, value in plugin.exports.items() if name != "path" or plugin.type != TYPE}
    return replace(plugin, exports=exports)


mutants("service.introspection", {"MET-002": ("the path is not told", {"plugins": each(_no_path)})})
mutants("service.introspection", {"MET-002": ("the policy is always shared", {"plugins": each(_always_shared)})})


@hooked("MET-047", "an unknown policy is shared")
class _Lenient:
    """A kernel that reads the policy too kindly."""

    def conformance_kernel(self, kernel: Kernel) -> None:
        """Break how sections are read."""
        change(kernel, _config=self._config)

    @staticmethod
    def _config(original: Method, registration: Registration) -> Any:
        config = original(registration)
        if registration.type == TYPE and config.content_sharing_policy not in {"shared", "isolated", ""}:
            config = replace(config, content_sharing_policy="shared")
        return config


# -------------------------------------------------------------------------------------------------------- transactions


@database("MET-025", "the namespace is made first and stays")
def _namespace_first(metadata: Any) -> None:
    def create(original: Method, ctx: CallContext, container: Container) -> Container:
        _make_namespace(metadata, ctx)
        made: Container = original(ctx, container)
        return made

    change(metadata.containers, create=create)


@mutant("MET-025", "fields before the refused one are changed", at="metadata.containers", method="update")
def _field_by_field(original: Method, ctx: CallContext, container: Container, paths: Sequence[str] = ()) -> Container:
    for path in paths[:-1]:
        original(ctx, container, [path])
    made: Container = original(ctx, container, paths)
    return made


@mutant("MET-027", "labels are written in commits of their own", at="metadata.containers", method="update")
def _label_by_label(original: Method, ctx: CallContext, container: Container, paths: Sequence[str] = ()) -> Container:
    if list(paths) == ["labels"]:
        for key in container.labels:
            original(ctx, container, [f"labels.{key}"])
            time.sleep(MOMENT)
    made: Container = original(ctx, container, paths)
    return made


@mutant("MET-028", "a look and then an insertion", at="metadata.containers", method="create")
def _look_and_insert(original: Method, ctx: CallContext, container: Container) -> Container:
    store = owner(original)
    with suppress(NotFound):
        store.get(ctx, container.id)
        raise AlreadyExists(f'container "{container.id}"')
    time.sleep(MOMENT)
    with suppress(NotFound):
        store.delete(ctx, container.id)
    made: Container = original(ctx, container)
    return made


@mutant("MET-028", "a record is read, changed and written back", at="metadata.containers", method="update")
def _read_and_write(original: Method, ctx: CallContext, container: Container, paths: Sequence[str] = ()) -> Container:
    if all(path.startswith("labels.") for path in paths):
        before = owner(original).get(ctx, container.id).labels
        time.sleep(MOMENT)
        container, paths = replace(container, labels={**before, **container.labels}), ["labels"]
    made: Container = original(ctx, container, paths)
    return made


@mutant("MET-055", "events are told inside the transaction", at="service.containers", method="create")
def _told_before(original: Method, ctx: CallContext, container: Container) -> Container:
    service = owner(original)

    def early(store_create: Method, ctx: CallContext, container: Container) -> Container:
        with service._store._database.update():
            made: Container = store_create(ctx, container)
            published = Early(service._store, made)
            type(service).create(published, ctx, container)
            time.sleep(MOMENT)
        return made

    class Early:
        """The service with a store in which all is done."""

        def __init__(self, store: Any, made: Container) -> None:
            self._store, self._exchange = self, service._exchange
            self._made = made

        def create(self, _ctx: CallContext, _container: Container) -> Container:
            return self._made

    if not hasattr(service._store, "broken"):
        change(service._store, create=early)
        service._store.broken = True
    made: Container = original(ctx, container)
    return made


def _only_the_change_itself() -> Callable[[bool], bool]:
    last = [False]

    def edit(dirty: bool) -> bool:
        fresh, last[0] = dirty and not last[0], dirty
        return fresh

    return edit


mutants("metadata", {"MET-059": ("dirty is the deleting change alone", told(_only_the_change_itself()))})


# ---------------------------------------------------------------------------------------------------------- namespaces


@database("MET-029", "reads make a namespace")
def _made_by_reads(metadata: Any) -> None:
    def get(original: Method, ctx: CallContext, id: str) -> Container:
        _make_namespace(metadata, ctx)
        found: Container = original(ctx, id)
        return found

    change(metadata.containers, get=get)


@database("MET-029", "an empty namespace goes")
def _pruned(metadata: Any) -> None:
    def delete(original: Method, ctx: CallContext, id: str) -> None:
        original(ctx, id)
        with suppress(ContainerdError):
            metadata.namespaces.delete(ctx, ctx.namespace)

    change(metadata.containers, delete=delete)


@database("MET-029", "a namespace has to be made by hand")
def _declared(metadata: Any) -> None:
    def create(original: Method, ctx: CallContext, container: Container) -> Container:
        if ctx.namespace not in {known.name for known in metadata.namespaces.list(ctx)}:
            raise NotFound(f'namespace "{ctx.namespace}"')
        made: Container = original(ctx, container)
        return made

    change(metadata.containers, create=create)


_one_for_all = argument(0, lambda ctx: ctx.with_namespace("everybody"))

mutants(
    "metadata.containers",
    {
        "MET-030": (
            "containers are kept by id alone",
            dict.fromkeys(("get", "list", "create", "update", "delete"), _one_for_all),
        )
    },
)
mutants(
    "metadata.namespaces",
    {"MET-054": ("the number of the schema becomes a namespace", {"create": silent(Unknown, InvalidArgument)})},
)


# ----------------------------------------------------------------------------------------------------- labels, children


@mutant("MET-034", "new labels are put beside the old ones", at="metadata.containers", method="update")
def _merged(original: Method, ctx: CallContext, container: Container, paths: Sequence[str] = ()) -> Container:
    if list(paths) == ["labels"]:
        before = owner(original).get(ctx, container.id).labels
        container = replace(container, labels={**before, **container.labels})
    made: Container = original(ctx, container, paths)
    return made


@mutant("MET-034", "empty labels are answered", at="metadata.containers", method="create")
def _answered(original: Method, ctx: CallContext, container: Container) -> Container:
    made: Container = original(ctx, container)
    return replace(made, labels=container.labels)


def _was_a_parent(original: Method, ctx: CallContext, key: str) -> None:
    if owner(original).stat(ctx, key).kind is Kind.COMMITTED:
        raise Unavailable(f"snapshot {key} has had children")
    original(ctx, key)


mutants(
    "metadata.snapshots",
    {
        "MET-039": ("the question of children is left to the back end", {"remove": silent(FailedPrecondition)}),
        "MET-040": ("a snapshot that was a parent once stays", {"remove": _was_a_parent}),
    },
)


# ------------------------------------------------------------------------------------------------------------- sharing


mutants(
    "metadata.content",
    {
        "MET-043": ("the bytes are asked for again", {"writer": drops("expected")}),
        "MET-044": ("a blob is shared whatever size is declared", {"writer": drops("total")}),
    },
)


@mutant("MET-045", "the back end is asked for what the namespace does not have", at="metadata.content", method="reader")
def _from_the_back_end(original: Method, ctx: CallContext, digest: str) -> Any:
    try:
        return original(ctx, digest)
    except NotFound:
        return owner(original)._backend.reader(ctx.with_lease(""), digest)


@database("MET-046", "isolated is as good as shared")
def _never_isolated(metadata: Any) -> None:
    metadata.content._policy = "shared"


@database("MET-048", "any value of the label opens a namespace")
def _any_value(metadata: Any) -> None:
    def writer(original: Method, ctx: CallContext, ref: str, **kwargs: Any) -> Any:
        store = metadata.content
        labelled = any(namespace.labels for namespace in metadata.namespaces.list(ctx))
        policy, store._policy = store._policy, "shared" if labelled else store._policy
        try:
            return original(ctx, ref, **kwargs)
        finally:
            store._policy = policy

    change(metadata.content, writer=writer)


@database("MET-049", "labels are kept with the bytes")
def _with_the_bytes(metadata: Any) -> None:
    def update(original: Method, ctx: CallContext, info: Any, paths: Sequence[str] = ()) -> Any:
        for other in everywhere(metadata):
            if other.namespace != ctx.namespace:
                with suppress(ContainerdError):
                    original(other, info, paths)
        return original(ctx, info, paths)

    change(metadata.content, update=update)
