"""Mutants of the gc area: roots and references that are read wrongly, sweeps in the wrong order, a deaf scheduler.

Rules are bent where the collector keeps them (``rules`` and its shapes in ``_gc``), pacing where the scheduler does.
"""

# ruff: noqa: SLF001, ARG001, ARG005  # a mutant reaches into what it breaks, and ignores what it should not

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from conformance.mutants._gc import (
    CONTENT,
    EXPIRE,
    LEASES,
    REF_CONTENT,
    REF_SNAPSHOT,
    ROOT,
    SNAPSHOTS,
    adding,
    all_nodes,
    everywhere,
    following,
    held,
    ignoring,
    labels_of,
    limits,
    marking,
    owner,
    pacing,
    past,
    rules,
    sweeping,
    told,
    unmarked,
)
from conformance.mutants.engine import change, hooked, mutant, mutants
from conformance.mutants.shapes import each
from refimpl.contract import digest as digests
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.gc import CollectionStats
from refimpl.contract.introspection import PluginInfo
from refimpl.contract.times import parse_rfc3339
from refimpl.contract.types import TypedAny
from refimpl.kernel import ConfigError, Kernel, Registration, hookimpl

Method = Any

# ---- settings


def _exporting(**exports: Any) -> Mapping[str, Method]:
    """The scheduler tells something else; callable values get what it tells."""

    def edit(plugin: PluginInfo) -> PluginInfo:
        if plugin.type != "io.containerd.gc.v1":
            return plugin
        changed = {k: v(plugin.exports[k]) if callable(v) else v for k, v in exports.items()}
        return replace(plugin, exports={**plugin.exports, **changed})

    return {"plugins": each(edit)}


def _unbounded(text: str) -> str:
    return "0.9" if text == "0.5" else text


mutants(
    "service.introspection",
    {
        "GC-001": ("the startup delay is told too", _exporting(StartupDelay="100ms")),
        "GC-002": (
            "a pause threshold has no upper bound",
            _exporting(PauseThreshold=lambda text: {"0.5": "0.9"}.get(text, text)),
        ),
    },
)
mutants("service.introspection", {"GC-001": ("another default", _exporting(MutationThreshold="1000"))})


def _starts_all_the_same(original: Method, callback: Any) -> None:
    """Without a startup delay the default counts."""
    state = callback.__self__._pacing
    if state._limits.startup_delay <= 0:
        state._next = state._planned + 0.1
    original(callback)


mutants("metadata", {"GC-002": ("a negative startup delay is the default", {"on_mutation": _starts_all_the_same})})


class _Sections(ABC):
    """Breaks how a kernel reads the sections of its configuration."""

    def conformance_kernel(self, kernel: Kernel) -> None:
        """Put the mistake there."""
        change(kernel, _config=self._config)

    @abstractmethod
    def _config(self, original: Method, registration: Registration) -> Any:
        """The mistake."""


@hooked("GC-003", "a setting that cannot be read is the default")
class _Lenient(_Sections):
    def _config(self, original: Method, registration: Registration) -> Any:
        try:
            return original(registration)
        except ConfigError:
            return registration.config() if registration.config is not None else None


@hooked("GC-003", "the daemon ends and does not say of what")
class _Terse(_Sections):
    def _config(self, original: Method, registration: Registration) -> Any:
        try:
            return original(registration)
        except ConfigError:
            raise ConfigError("the configuration cannot be read") from None


# ---- roots and references


def _known_once(metadata: Any) -> Mapping[str, Method]:
    """Only what was reached once can become garbage."""
    known: set[Any] = set()

    def roots(original: Method, v1: Any, now: int) -> Iterator[Any]:
        for found in original(v1, now):
            known.add(found.node[:3])
            yield found
        yield from (held(node) for node in all_nodes(metadata, v1) if node.type == CONTENT and node[:3] not in known)

    def follow(original: Method, v1: Any, node: Any) -> Iterator[Any]:
        for found in original(v1, node):
            known.add(found.node[:3])
            yield found

    return {"roots": roots, "follow": follow}


def _chains_fail(metadata: Any, garbage: list[Any]) -> list[Any]:
    """A parent is tried first, cannot go because of its child, and ends the removal of its chain."""

    def parent(node: Any) -> str:
        ctx = CallContext(namespace=node.namespace)
        found: str = metadata.snapshotters[node.type.removeprefix(SNAPSHOTS)].stat(ctx, node.key).parent
        return found

    parents = {node: parent(node) for node in garbage if node.type.startswith(SNAPSHOTS)}
    with_children = {(node.type, key) for node, key in parents.items() if key}
    return [
        node for node in garbage if node not in parents or not (parents[node] or (node.type, node.key) in with_children)
    ]


def _one_level(metadata: Any) -> Mapping[str, Method]:
    top: set[Any] = set()

    def roots(original: Method, v1: Any, now: int) -> Iterator[Any]:
        for found in original(v1, now):
            top.add(found.node[:3])
            yield found

    def follow(original: Method, v1: Any, node: Any) -> Iterator[Any]:
        if node[:3] in top:
            yield from original(v1, node)

    return {"roots": roots, "follow": follow}


def _parents_are_silent(metadata: Any) -> Mapping[str, Method]:
    """Of an ancestor only its own parent counts."""
    above: set[Any] = set()

    def follow(original: Method, v1: Any, node: Any) -> Iterator[Any]:
        for found in original(v1, node):
            if found.reason == "parent of the snapshot":
                above.add(found.node[:3])
                yield found
            elif node[:3] not in above:
                yield found

    return {"follow": follow}


def _any_continuation(metadata: Any, node: Any) -> Iterator[Any]:
    for label, value in labels_of(metadata, node).items():
        if label.startswith(REF_CONTENT):
            yield node._replace(type=CONTENT, key=value)


def _any_case(metadata: Any, node: Any) -> Iterator[Any]:
    for label, value in labels_of(metadata, node).items():
        if label.lower() == REF_CONTENT or label.lower().startswith(f"{REF_CONTENT}."):
            yield node._replace(type=CONTENT, key=value)


def _dot_ends_name(metadata: Any, node: Any) -> Iterator[Any]:
    for label, value in labels_of(metadata, node).items():
        if label.startswith(f"{REF_SNAPSHOT}."):
            snapshotter = label.removeprefix(f"{REF_SNAPSHOT}.").partition(".")[0]
            yield node._replace(type=f"{SNAPSHOTS}{snapshotter}", key=value)


def _any_snapshotter(metadata: Any, node: Any) -> Iterator[Any]:
    for label, value in labels_of(metadata, node).items():
        if label == REF_SNAPSHOT:
            yield from (node._replace(type=f"{SNAPSHOTS}{name}", key=value) for name in metadata.snapshotters)


def _children(metadata: Any, node: Any) -> Iterator[Any]:
    if node.type.startswith(SNAPSHOTS):
        snapshotter = metadata.snapshotters[node.type.removeprefix(SNAPSHOTS)]
        for info in snapshotter.walk(CallContext(namespace=node.namespace)):
            if info.parent == node.key:
                yield node._replace(key=info.name)


def _is_false(metadata: Any, found: Any) -> bool:
    return bool(found.reason.endswith(ROOT) and labels_of(metadata, found.node).get(ROOT) in {"0", "false"})


def _root_expired(metadata: Any, found: Any) -> bool:
    now = metadata.database.clock.now()
    return bool(found.reason.endswith(ROOT) and past(labels_of(metadata, found.node).get(ROOT, ""), now))


def _in_all_namespaces(metadata: Any) -> Mapping[str, Method]:
    def follow(original: Method, v1: Any, node: Any) -> Iterator[Any]:
        for found in original(v1, node):
            yield found
            if found.node.type == CONTENT:
                yield from (held(found.node._replace(namespace=ctx.namespace)) for ctx in everywhere(metadata))

    return {"follow": follow}


def _counted(metadata: Any) -> Mapping[str, Method]:
    """Whatever is referred to stays, by whomever."""

    def roots(original: Method, v1: Any, now: int) -> Iterator[Any]:
        yield from original(v1, now)
        for node in all_nodes(metadata, v1):
            yield from metadata._collector.follow(v1, node)

    return {"roots": roots}


def _colourless(metadata: Any) -> Mapping[str, Method]:
    """A walk that does not remember where it was, and gives up after a while."""

    def roots(original: Method, v1: Any, now: int) -> Iterator[Any]:
        for found in original(v1, now):
            todo = [found.node]
            for steps, node in enumerate(todo):
                if steps > 1000:
                    raise RecursionError("the references have no end")
                todo += [reference.node for reference in metadata._collector.follow(v1, node)]
            yield found

    return {"roots": roots}


def _strict(metadata: Any) -> Mapping[str, Method]:
    def follow(original: Method, v1: Any, node: Any) -> Iterator[Any]:
        for found in original(v1, node):
            if found.node.type == CONTENT:
                digests.validate(found.node.key)
            yield found

    return {"follow": follow}


def _strict_snapshotters(metadata: Any) -> Mapping[str, Method]:
    def follow(original: Method, v1: Any, node: Any) -> Iterator[Any]:
        for found in original(v1, node):
            if found.node.type.startswith(SNAPSHOTS):
                metadata.snapshotters[found.node.type.removeprefix(SNAPSHOTS)]
            yield found

    return {"follow": follow}


def _not_yet_expired(metadata: Any, nodes: list[Any]) -> Iterator[Any]:
    now = metadata.database.clock.now()
    for node in nodes:
        text = labels_of(metadata, node).get(EXPIRE, "")
        with suppress(ValueError):
            if parse_rfc3339(text) > now:
                yield node


def _expired_roots(metadata: Any, found: Any) -> bool:
    now = metadata.database.clock.now()
    return bool(found.reason.endswith(ROOT) and past(labels_of(metadata, found.node).get(EXPIRE, ""), now))


def _images_of_containers(metadata: Any, nodes: list[Any]) -> list[Any]:
    named = {(ctx.namespace, c.image) for ctx in everywhere(metadata) for c in metadata.containers.list(ctx)}
    return [node for node in nodes if (node.namespace, node.key) in named]


def _labels_of_namespaces(metadata: Any, nodes: list[Any]) -> list[Any]:
    named = {
        (found.name, value)
        for found in metadata.namespaces.list(CallContext())
        for label, value in found.labels.items()
        if label.startswith(REF_CONTENT)
    }
    return [node for node in nodes if (node.namespace, node.key) in named]


def _rooted_leases(metadata: Any, nodes: list[Any]) -> list[Any]:
    rooted = {
        (ctx.namespace, lease.id)
        for ctx in everywhere(metadata)
        for lease in metadata.leases.list(ctx)
        if lease.labels.get(ROOT)
    }
    return [node for node in nodes if node.type == LEASES and (node.namespace, node.key) in rooted]


def _because(*beginnings: str) -> Any:
    return lambda metadata, found: found.reason.startswith(beginnings)


def _image_label(metadata: Any, found: Any) -> bool:
    return bool(found.reason.startswith("image ") and ", label " in found.reason)


def _entry_of_lease(metadata: Any, found: Any) -> bool:
    return bool(found.reason.startswith("lease ") and found.node.type != LEASES)


def _container_label(metadata: Any, found: Any) -> bool:
    return bool(found.reason.startswith("container ") and ", label " in found.reason)


def _not_exactly(metadata: Any, found: Any) -> bool:
    return "label " + REF_CONTENT in found.reason and not found.reason.endswith(REF_CONTENT)


def _second_reference(metadata: Any, found: Any) -> bool:
    return f"label {REF_SNAPSHOT}" in found.reason and found.reason.count("/") > 1


mutants(
    "metadata",
    {
        "GC-004": ("only what was referred to once is garbage", rules(_known_once)),
        "GC-005": ("chains of snapshots are tried from the root up", sweeping(_chains_fail)),
        "GC-006": ("references are followed one level deep", rules(_one_level)),
        "GC-007": ("any continuation of the label will do", following(_any_continuation)),
        "GC-008": ("a dot ends the name of the snapshotter", following(_dot_ends_name)),
        "GC-009": ("labels of ancestors are not followed", rules(_parents_are_silent)),
        "GC-010": ("a container holds nothing without a task", ignoring(_because("container "))),
        "GC-011": ("labels of images are not followed", ignoring(_image_label)),
        "GC-012": ("the root label is read as a boolean", ignoring(_is_false)),
        "GC-015": (
            "expired leases stay in the list",
            sweeping(lambda metadata, garbage: [node for node in garbage if node.type != LEASES]),
        ),
        "GC-016": ("what is referred to stays", rules(_counted)),
        "GC-017": ("a reference to no digest ends the collection", rules(_strict)),
        "GC-018": ("references hold in all namespaces", rules(_in_all_namespaces)),
        "GC-020": ("content stays until its expiry", adding(_not_yet_expired)),
        "GC-027": ("an ingest does not hold what it expects", ignoring(_because("expected by"))),
    },
)
mutants(
    "metadata",
    {
        "GC-005": (
            "active snapshots are never garbage",
            sweeping(lambda metadata, garbage: [node for node in garbage if not node.type.startswith(SNAPSHOTS)]),
        ),
        "GC-006": ("an image holds nothing but its target", ignoring(lambda metadata, found: "label " in found.reason)),
        "GC-007": ("the label is compared exactly", ignoring(_not_exactly)),
        "GC-008": ("one reference for each snapshotter", ignoring(_second_reference)),
        "GC-009": ("a snapshot holds its children", following(_children)),
        "GC-010": ("labels of containers are not followed", ignoring(_container_label)),
        "GC-012": ("the root label is a time of expiry", ignoring(_root_expired)),
        "GC-015": (
            "leases hold nothing",
            ignoring(_entry_of_lease),
        ),
        "GC-016": ("circles are walked for ever", rules(_colourless)),
        "GC-017": ("a reference to no snapshotter ends the collection", rules(_strict_snapshotters)),
        "GC-020": ("an expiry ends a root", ignoring(_expired_roots)),
        "GC-027": ("ingests are garbage without a lease", ignoring(_because("ingest that"))),
    },
)
mutants(
    "metadata",
    {
        "GC-007": ("capitals do not matter", following(_any_case)),
        "GC-008": ("without a name any snapshotter is meant", following(_any_snapshotter)),
        "GC-020": ("a container refers to its image", adding(_images_of_containers)),
    },
)
mutants("metadata", {"GC-020": ("labels of namespaces are references", adding(_labels_of_namespaces))})
mutants("metadata", {"GC-020": ("a root label keeps a lease", adding(_rooted_leases))})


@mutant("GC-013", "the root label counts though it is empty", at="metadata.content", method="writer")
def _empty_root(original: Method, ctx: CallContext, ref: str, **declared: Any) -> Any:
    def commit(
        original_commit: Method, ctx: CallContext, size: int = 0, expected: str = "", labels: Any = None
    ) -> None:
        original_commit(ctx, size, expected, {k: v or "(empty)" for k, v in (labels or {}).items()})

    return change(original(ctx, ref, **declared), commit=commit)


@mutant("GC-014", "any label that holds the root label is one", at="metadata", method="collect")
def _like_root(original: Method, ctx: CallContext) -> CollectionStats:
    def rooted(metadata: Any, nodes: list[Any]) -> list[Any]:
        return [node for node in nodes if any(ROOT.lower() in label.lower() for label in labels_of(metadata, node))]

    stats: CollectionStats = adding(rooted)["collect"](original, ctx)
    return stats


@mutant("GC-021", "images without content are pruned", at="metadata", method="collect")
def _prunes_images(original: Method, ctx: CallContext) -> CollectionStats:
    metadata = owner(original)
    stats: CollectionStats = original(ctx)
    for there in everywhere(metadata):
        known = {info.digest for info in metadata.content.walk(there)}
        for image in metadata.images.list(there):
            if image.target.digest not in known:
                metadata.images.delete(there, image.name)
    return stats


@mutant("GC-021", "empty namespaces are removed", at="metadata", method="collect")
def _prunes_namespaces(original: Method, ctx: CallContext) -> CollectionStats:
    metadata = owner(original)
    stats: CollectionStats = original(ctx)
    for there in everywhere(metadata):
        with suppress(ContainerdError):
            metadata.namespaces.delete(there, there.namespace)
    return stats


@mutant("GC-021", "leases without entries are removed", at="metadata", method="collect")
def _prunes_leases(original: Method, ctx: CallContext) -> CollectionStats:
    metadata = owner(original)
    stats: CollectionStats = original(ctx)
    for there in everywhere(metadata):
        for lease in metadata.leases.list(there):
            if not metadata.leases.list_resources(there, lease.id):
                metadata.leases.delete(there, lease.id)
    return stats


@mutant("GC-022", "images with an unreadable expiry go", at="metadata", method="collect")
def _expires_images(original: Method, ctx: CallContext) -> CollectionStats:
    metadata = owner(original)
    for there in everywhere(metadata):
        for image in metadata.images.list(there):
            try:
                gone = EXPIRE in image.labels and parse_rfc3339(image.labels[EXPIRE]) < metadata.database.clock.now()
            except ValueError:
                gone = True
            if gone:
                metadata.images.delete(there, image.name)
    stats: CollectionStats = original(ctx)
    return stats


# ---- back ends, and what others see


def _bytes_with_first_record(metadata: Any, garbage: list[Any]) -> list[Any]:
    for node in garbage:
        if node.type == CONTENT:
            metadata.content._backend.delete(CallContext(), node.key)
    return garbage


def _data_first(metadata: Any, garbage: list[Any]) -> list[Any]:
    _bytes_with_first_record(metadata, garbage)
    time.sleep(0.002)
    return garbage


def _one_by_one(metadata: Any) -> Mapping[str, Method]:
    def sweep(original: Method, garbage: list[Any]) -> dict[str, int]:
        for node in garbage:
            original([node])
            time.sleep(0.001)
        return {}

    return {"_sweep": sweep}


mutants(
    "metadata",
    {
        "GC-019": ("bytes go with the first record", sweeping(_bytes_with_first_record)),
        "GC-039": ("data go before their records", sweeping(_data_first)),
    },
)
mutants("metadata", {"GC-039": ("records go one by one", rules(_one_by_one))})


@mutant("GC-019", "an open upload does not keep the bytes", at="metadata", method="collect")
def _unexpected(original: Method, ctx: CallContext) -> CollectionStats:
    metadata = owner(original)
    stats: CollectionStats = original(ctx)
    if stats.removed.get(CONTENT):
        known = {info.digest for there in everywhere(metadata) for info in metadata.content.walk(there)}
        for info in list(metadata.content._backend.walk(ctx)):
            if info.digest not in known:
                metadata.content._backend.delete(ctx, info.digest)
    return stats


@mutant("GC-027", "every collection drops open ingests", at="metadata", method="collect")
def _aborts(original: Method, ctx: CallContext) -> CollectionStats:
    metadata = owner(original)
    for there in everywhere(metadata):
        for status in metadata.content.list_statuses(there):
            metadata.content.abort(there, status.ref)
    stats: CollectionStats = original(ctx)
    return stats


@hooked("GC-040", "removed content is told")
class _Tells:
    """A database that publishes what a collection removes; it takes the exchange where it finds it."""

    topic, kind = "/content/delete", CONTENT

    def __init__(self) -> None:
        self._exchange: Any = None

    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: object) -> object | None:
        """Remember the exchange, break the database."""
        if registration.type == "io.containerd.event.v1":
            self._exchange = instance
        if registration.uri == "io.containerd.metadata.v1.bolt":
            change(instance, sweeping(self._tell))
        return None

    def _tell(self, metadata: Any, garbage: list[Any]) -> list[Any]:
        for node in garbage:
            if node.type.startswith(self.kind):
                ctx = CallContext(namespace=node.namespace)
                self._exchange.publish(ctx, self.topic, TypedAny("containerd.events.Removed", b""))
        return garbage


@hooked("GC-040", "one of two removed snapshots is told")
class _TellsSnapshots(_Tells):
    """As above, but not even all of them."""

    topic, kind = "/snapshot/remove", SNAPSHOTS

    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: object) -> object | None:
        """As above."""
        return super().refimpl_wrap(registration, instance)

    def _tell(self, metadata: Any, garbage: list[Any]) -> list[Any]:
        super()._tell(metadata, [node for node in garbage if node.type.startswith(SNAPSHOTS)][:1])
        return garbage


@mutant("GC-041", "the lock is free between mark and sweep", at="metadata", method="collect")
def _unlocked(original: Method, ctx: CallContext) -> CollectionStats:
    collector = owner(original)._collector
    garbage = collector._garbage(owner(original).database.clock.now())
    # As long as it takes to mark a larger store.
    time.sleep(0.003)
    collector._sweep(garbage)
    stats: CollectionStats = original(ctx)
    return stats


@mutant("GC-049", "only the caller's namespace is collected", at="scheduler", method="schedule_and_wait")
def _own_namespace(original: Method, ctx: CallContext) -> CollectionStats:
    collector = owner(original)._source._collector
    collector.only = ctx.namespace
    change(
        collector,
        _garbage=lambda original_garbage, now: [n for n in original_garbage(now) if n.namespace == collector.only],
    )
    stats: CollectionStats = original(ctx)
    return stats


# ---- the scheduler


def _never_at_start(original: Method, callback: Any) -> None:
    callback.__self__._pacing._next = None
    original(callback)


def _at_once(original: Method, callback: Any) -> None:
    state = callback.__self__._pacing
    state._next = state._planned
    original(callback)


def _always_worth_it(original: Method, now: float, pause: float) -> None:
    original(now, pause)
    owner(original)._requested = True


def _every_deletion(original: Method, now: float, *, dirty: bool) -> None:
    original(now, dirty=dirty)
    if dirty:
        owner(original)._hurry(now)


def _one_interval(original: Method, now: float, pause: float) -> None:
    original(now, pause)
    state = owner(original)
    state._interval = 0.2
    state._next = now + 0.2


def _deletions_alone(original: Method, now: float, *, dirty: bool) -> None:
    if dirty:
        original(now, dirty=dirty)


def _twice(original: Method, now: float, *, dirty: bool) -> None:
    original(now, dirty=dirty)
    original(now, dirty=dirty)


def _after_the_interval(original: Method, now: float, *, dirty: bool) -> None:
    state = owner(original)
    before = state._next
    original(now, dirty=dirty)
    state._next = before if before is not None else state._next


def _after_the_startup_delay(original: Method, now: float) -> None:
    state = owner(original)
    before = state._next
    original(now)
    if state._last is None and before is not None:
        state._next = before


def _only_deletions(original: Method, callback: Any) -> None:
    """A change counts as a deletion only if it is one itself."""
    database = owner(original).database
    deleting = threading.local()

    def mark_dirty(original_mark: Method, resource: str) -> None:
        deleting.now = True
        original_mark(resource)

    def tell(dirty: bool) -> None:
        callback(dirty and getattr(deleting, "now", False))
        deleting.now = False

    change(database, mark_dirty=mark_dirty)
    original(tell)


mutants(
    "metadata",
    {
        "GC-030": ("nothing is collected at the start", {"on_mutation": _never_at_start}),
        "GC-031": ("no startup delay means the default", {"on_mutation": _starts_all_the_same}),
        "GC-032": ("deletions are not noticed", told(lambda dirty: False)),
        "GC-033": ("every interval ends with a collection", pacing(finished=_always_worth_it)),
        "GC-034": ("only deletions count as mutations", pacing(mutated=_deletions_alone)),
        "GC-036": ("only deletions count as dirty", {"on_mutation": _only_deletions}),
        "GC-037": ("a request does not wait for the delay", limits(schedule_delay=0.0)),
        "GC-038": ("a request waits for the startup delay", pacing(requested=_after_the_startup_delay)),
    },
)
mutants(
    "metadata",
    {
        "GC-030": ("the startup delay is not looked at", {"on_mutation": _at_once}),
        "GC-032": ("every interval ends with a collection", pacing(finished=_always_worth_it)),
        "GC-034": ("no mutation threshold means the default", limits(mutation_threshold=lambda n: n or 100)),
        "GC-036": ("the threshold waits for the interval", pacing(mutated=_after_the_interval)),
        "GC-038": ("a request counts as a deletion", pacing(requested=lambda original, now: None)),
    },
)
mutants(
    "metadata",
    {
        "GC-032": ("every deletion is collected at once", pacing(mutated=_every_deletion)),
        "GC-034": ("mutations count twice", pacing(mutated=_twice)),
        "GC-036": ("every deletion is collected at once", pacing(mutated=_every_deletion)),
    },
)
mutants("metadata", {"GC-032": ("the interval does not depend on the threshold", pacing(finished=_one_interval))})
mutants("metadata", {"GC-034": ("the default is lower", limits(mutation_threshold=lambda n: min(n, 50)))})
mutants("metadata", {"GC-036": ("the threshold is one too low", limits(deletion_threshold=lambda n: n - 1))})

mutants(
    "metadata.content",
    {
        "GC-035": ("an update counts as a deletion", {"update": marking}),
        "GC-045": ("an abort counts as a deletion", {"abort": marking}),
    },
)
mutants("metadata.leases", {"GC-045": ("the entry of a lease is no deletion", {"delete_resource": unmarked})})
mutants("metadata.containers", {"GC-045": ("a container is no deletion", {"delete": unmarked})})
mutants("metadata.snapshots", {"GC-045": ("a snapshot is no deletion", {"remove": unmarked})})
mutants("metadata.namespaces", {"GC-045": ("a namespace is a deletion", {"delete": marking})})


@mutant("GC-037", "requests wait in turn", at="scheduler", method="schedule_and_wait")
def _in_turn(original: Method, ctx: CallContext) -> CollectionStats:
    turn: threading.Lock = owner(original).__dict__.setdefault("turn", threading.Lock())
    with turn:
        stats: CollectionStats = original(ctx)
    return stats


@mutant("GC-038", "a request is answered when the mark is done", at="scheduler", method="schedule_and_wait")
def _answers_early(original: Method, ctx: CallContext) -> CollectionStats:
    asking = threading.Thread(target=original, args=(ctx,), daemon=True)
    asking.start()
    return CollectionStats(0.0, {})
