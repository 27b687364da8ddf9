"""Words for the mutants of leases and of the collector: bent rules, records looked up, changes told wrongly."""

# ruff: noqa: SLF001, ARG001, ARG005  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from conformance.mutants.engine import change
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.gc import CollectionStats
from refimpl.contract.times import parse_rfc3339

Method = Callable[..., Any]

CONTENT, INGESTS, LEASES, SNAPSHOTS = "content", "ingests", "leases", "snapshots/"
EXPIRE = "containerd.io/gc.expire"
FLAT = "containerd.io/gc.flat"
ROOT = "containerd.io/gc.root"
REF_CONTENT = "containerd.io/gc.ref.content"
REF_SNAPSHOT = "containerd.io/gc.ref.snapshot"


def owner(original: Method) -> Any:
    """The object whose method was replaced."""
    return original.args[0]  # type: ignore[attr-defined]  # the engine gives a partial


def record(bucket: Any, *path: str) -> Any:
    """What is kept under a path of names; None if there is nothing."""
    for name in path:
        bucket = bucket.bucket(name.encode()) if bucket is not None else None
    return bucket


def everywhere(metadata: Any) -> Iterator[CallContext]:
    """A context in each namespace."""
    for namespace in metadata.namespaces.list(CallContext()):
        yield CallContext(namespace=namespace.name)


def labels_of(metadata: Any, node: Any) -> Mapping[str, str]:
    """The labels of a blob or a snapshot; none if it is not there."""
    ctx = CallContext(namespace=node.namespace)
    try:
        if node.type == CONTENT:
            found: Mapping[str, str] = metadata.content.info(ctx, node.key).labels
        elif node.type.startswith(SNAPSHOTS):
            found = metadata.snapshotters[node.type.removeprefix(SNAPSHOTS)].stat(ctx, node.key).labels
        else:
            found = {}
    except ContainerdError:
        return {}
    return found


def held(node: Any, reason: str = "by mistake") -> Any:
    """A further reference."""
    return SimpleNamespace(node=node, reason=reason)


def rules(make: Callable[[Any], Mapping[str, Method]]) -> Mapping[str, Method]:
    """Replacements for a collection by other rules.

    Args:
        make: called with the database once; answers with replacements for methods of its collector: ``roots(v1, now)``,
            ``follow(v1, node)``, ``_garbage(now)``, ``_sweep(garbage)``.
    """

    def collect(original: Method, ctx: CallContext) -> CollectionStats:
        metadata = owner(original)
        if not hasattr(metadata, "bent"):
            metadata.bent = True
            change(metadata._collector, make(metadata))
        stats: CollectionStats = original(ctx)
        return stats

    return {"collect": collect}


def ignoring(unwanted: Callable[[Any, Any], bool]) -> Mapping[str, Method]:
    """A collection that does not see some references: unwanted(database, reference)."""

    def make(metadata: Any) -> Mapping[str, Method]:
        def without(original: Method, *args: Any) -> Iterator[Any]:
            return (found for found in original(*args) if not unwanted(metadata, found))

        return {"roots": without, "follow": without}

    return rules(make)


def adding(more: Callable[[Any, Any], Iterable[Any]]) -> Mapping[str, Method]:
    """A collection that takes further nodes for roots: more(database, all nodes)."""

    def make(metadata: Any) -> Mapping[str, Method]:
        def roots(original: Method, v1: Any, now: int) -> Iterator[Any]:
            yield from original(v1, now)
            yield from map(held, more(metadata, all_nodes(metadata, v1)))

        return {"roots": roots}

    return rules(make)


def following(more: Callable[[Any, Any], Iterable[Any]]) -> Mapping[str, Method]:
    """A collection that finds further references: more(database, node) gives nodes."""

    def make(metadata: Any) -> Mapping[str, Method]:
        def follow(original: Method, v1: Any, node: Any) -> Iterator[Any]:
            yield from original(v1, node)
            yield from map(held, more(metadata, node))

        return {"follow": follow}

    return rules(make)


def all_nodes(metadata: Any, v1: Any) -> list[Any]:
    """Every node there is: what would be garbage if there were no roots."""
    nothing = change(_copy(metadata._collector), roots=lambda original, v1, now: iter(()))
    found: list[Any] = nothing._garbage(0)
    return found


def _copy(collector: Any) -> Any:
    return type(collector)(collector._database, collector._content, collector._snapshotters)


def sweeping(edit: Callable[[Any, list[Any]], list[Any]]) -> Mapping[str, Method]:
    """A collection that sweeps something else than what is garbage."""
    return rules(lambda metadata: {"_sweep": lambda original, garbage: original(edit(metadata, garbage))})


def expiring(expired: Callable[[str, int], bool]) -> Mapping[str, Method]:
    """A collection with another idea of when a lease has expired: expired(label, now in nanoseconds)."""

    def make(metadata: Any) -> Mapping[str, Method]:
        def roots(original: Method, v1: Any, now: int) -> Iterator[Any]:
            past = {
                (ctx.namespace, f'lease "{lease.id}"')
                for ctx in everywhere(metadata)
                for lease in metadata.leases.list(ctx)
                if EXPIRE in lease.labels and expired(lease.labels[EXPIRE], now)
            }
            # Far before every expiry: all leases are roots, and so are all ingests, which no check of leases minds.
            for found in original(v1, -(2**62)):
                if (found.node.namespace, found.reason) not in past:
                    yield found

        return {"roots": roots}

    return rules(make)


def past(text: str, now: int) -> bool:
    """The right answer."""
    try:
        return parse_rfc3339(text) < now
    except ValueError:
        return False


# ---- the scheduler


def pacing(**methods: Method) -> Mapping[str, Method]:
    """Replacements for the methods of the scheduler's pacing."""
    return {"on_mutation": lambda original, callback: _paced(original, callback, methods)}


def _paced(original: Method, callback: Any, methods: Mapping[str, Method]) -> None:
    # The scheduler announces itself here: a method of its own is the callback.
    change(callback.__self__._pacing, methods)
    original(callback)


def limits(**settings: Any) -> Mapping[str, Method]:
    """A scheduler with other settings than it was given; callable ones get the true value."""

    def on_mutation(original: Method, callback: Any) -> None:
        state = callback.__self__._pacing
        changed = {k: v(getattr(state._limits, k)) if callable(v) else v for k, v in settings.items()}
        state._limits = replace(state._limits, **changed)
        original(callback)

    return {"on_mutation": on_mutation}


def told(edit: Callable[[bool], bool]) -> Mapping[str, Method]:
    """A scheduler that is told something else of each change."""
    return {"on_mutation": lambda original, callback: original(lambda dirty: callback(edit(dirty)))}


def unmarked(original: Method, *args: Any, **kwargs: Any) -> Any:
    """Do the work and forget to mark the database as dirty."""
    database = owner(original)._database
    database.mark_dirty = lambda resource: None
    try:
        return original(*args, **kwargs)
    finally:
        del database.mark_dirty


def marking(original: Method, *args: Any, **kwargs: Any) -> Any:
    """Do the work and mark the database as dirty, though nothing was deleted."""
    database = owner(original)._database
    with database.update():
        answer = original(*args, **kwargs)
        database.mark_dirty("images")
    return answer
