"""Garbage collection: mark from the roots, sweep the records, then clean the back ends.

Three steps, in this order (GC-039, GC-041, GC-042):

1. *mark*: one read transaction colours everything that a root leads to. Black is done, grey waits for its references to
   be followed, white is what remains, and what remains is garbage (cycles included, GC-016).
2. *sweep*: one write transaction drops the records of all white nodes, so a reader sees all of them or none. From the
   mark to here no other change runs: nothing can get its first reference in between.
3. *clean*: every back end that lost a record since the last time is compared with the records, each on its own thread.
   Changes go on meanwhile, except in the store that is being cleaned. Records go before data, never the other way.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from refimpl.contract import kv
from refimpl.contract.context import CallContext
from refimpl.contract.gc import CollectionStats
from refimpl.contract.times import SECOND
from refimpl.kernel import Duration
from refimpl.metadata import references
from refimpl.metadata.database import Database
from refimpl.metadata.references import Node, Reference

_log = logging.getLogger(__name__)


class Cleanable(Protocol):
    """A namespaced store above a back end."""

    def clean(self) -> None:
        """Remove from the back end what no record stands for."""
        ...


class Collector:
    """A ``contract.gc.Collector`` over the metadata database.

    Args:
        content: the store of blobs and ingests.
        snapshotters: by name.
    """

    def __init__(self, database: Database, content: Cleanable, snapshotters: Mapping[str, Cleanable]) -> None:
        self._database = database
        self._content = content
        self._snapshotters = snapshotters

    def collect(self, ctx: CallContext) -> CollectionStats:
        """Drop what nothing holds, in all namespaces (GC-049).

        Once begun it runs to its end, whatever becomes of the caller. A back end that fails is logged and does not fail
        the collection (GC-043); it is cleaned again after the next removal from it.

        Raises:
            DecodeError: a record that cannot be read; nothing was removed (GC-044).
        """
        clock = self._database.clock
        with self._database.gc_lock.exclusive():
            began = clock.monotonic()
            removed = self._sweep(self._garbage(clock.now()))
            dirty = self._database.take_dirty()
            elapsed = clock.monotonic() - began
        jobs = [partial(self._clean, "content", self._content, {})] if dirty.content else []
        jobs += [
            partial(self._clean, "snapshot", self._snapshotters[name], {"snapshotter": name})
            for name in sorted(dirty.snapshotters & self._snapshotters.keys())
        ]
        _run(jobs)
        return CollectionStats(elapsed, removed)

    def _clean(self, kind: str, store: Cleanable, fields: dict[str, object]) -> None:
        began = self._database.clock.monotonic()
        try:
            store.clean()
        except Exception as err:  # noqa: BLE001  # a back end may be anybody's code, and must not stop the others
            _log.warning("%s garbage collection failed", kind, extra={"fields": {**fields, "error": err}})
        else:
            taken = Duration(round((self._database.clock.monotonic() - began) * SECOND))
            _log.debug("%s garbage collected", kind, extra={"fields": {**fields, "d": taken}})

    def roots(self, v1: kv.Bucket, now: int) -> Iterator[Reference]:
        """What is held by itself at a time in Unix nanoseconds; the rules are in ``refimpl.metadata.references``."""
        return references.roots(v1, now)

    def follow(self, v1: kv.Bucket, node: Node) -> Iterator[Reference]:
        """What a node that stays leads to."""
        return references.references(v1, node)

    def _garbage(self, now: int) -> list[Node]:
        with self._database.view() as v1:
            kept = mark(self.roots(v1, now), partial(self.follow, v1))
            return [node for node in references.everything(v1) if node not in kept]

    def _sweep(self, garbage: list[Node]) -> dict[str, int]:
        if garbage:
            with self._database.update() as v1:
                for node in garbage:
                    references.remove(v1, node)
                    if node.type != references.LEASES:
                        self._database.mark_dirty(node.type)
        return dict(Counter(node.type for node in garbage))


def mark(roots: Iterable[Reference], follow: Callable[[Node], Iterable[Reference]]) -> set[Node]:
    """All nodes that the roots lead to, none of them marked as flat.

    A node reached both flat and in full is followed twice: what its labels name must not depend on which came first.
    """
    seen: set[Node] = set()
    grey: deque[Node] = deque()
    for reference in roots:
        _colour(reference.node, seen, grey)
    while grey:
        for reference in follow(grey.popleft()):
            _colour(reference.node, seen, grey)
    return {node._replace(flat=False) if node.flat else node for node in seen}


def _colour(node: Node, seen: set[Node], grey: deque[Node]) -> None:
    if node not in seen:
        seen.add(node)
        grey.append(node)


def _run(jobs: Sequence[Callable[[], None]]) -> None:
    """Clean the back ends side by side: a slow one must not hold up the others."""
    if len(jobs) <= 1:
        for job in jobs:
            job()
        return
    with ThreadPoolExecutor(max_workers=len(jobs), thread_name_prefix="refimpl-gc") as pool:
        for job in jobs:
            pool.submit(job)
