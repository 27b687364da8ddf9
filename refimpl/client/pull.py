"""Pull: an image from a registry into a daemon: documents, layers, snapshots, and last of all its record.

All of it happens under one lease, so that the collector takes nothing half made; labels and record are those that
containerd's own pull leaves (IMG-032, 033, 059, CNT-108). Who fails or is interrupted has made no record: what was
fetched is the collector's prey, and until then the next pull goes on with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue

from refimpl.client.fetch import Held, Progress, Report, Source, fetch, label_source
from refimpl.client.images import record
from refimpl.client.leases import working_lease
from refimpl.client.manifests import INDEXES, MANIFESTS, Entry, children, label_children
from refimpl.client.platforms import Choice
from refimpl.client.registry import Registry
from refimpl.client.unpack import Machine, unpack
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import NotFound
from refimpl.contract.images import Image
from refimpl.contract.types import Descriptor

AT_A_TIME = 3
"""Blobs that are fetched side by side."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull has made.

    Attributes:
        chain_id: the top snapshot; empty if nothing was unpacked.
    """

    image: Image
    chain_id: str = ""


def pull(
    ctx: CallContext,
    machine: Machine,
    registry: Registry,
    *,
    choice: Choice | None = None,
    every: bool = False,
    snapshotter: str = "overlayfs",
    report: Report | None = None,
) -> Pulled:
    """Pull the image that the registry's reference names.

    Args:
        choice: the platform that is wanted of an index, best first; by default this machine's.
        every: fetch all platforms; ``choice`` still says which one is unpacked.
        snapshotter: where the layers are unpacked; empty for nowhere.
        report: told how far each blob is, from several threads.

    Raises:
        NotFound: no such image, a part of it is missing, or it is not for a wanted platform.
        InvalidArgument: it is no image that we know.
        FailedPrecondition: what came is not what its digest says.
        PermissionDenied, Unavailable: as the registry says.
    """
    choice = choice or Choice.default()
    cancel = CancelToken()
    with _following(ctx.cancel, cancel), working_lease(replace(ctx, cancel=cancel), machine.leases) as leased:
        try:
            work = _Pull(leased, machine, registry, choice, every=every, report=report or _ignore)
            root = registry.resolve(leased)
            work.run(root.descriptor, root.data)
            target = root.descriptor
            top = unpack(leased, machine, target, snapshotter, choice=choice, announce=True) if snapshotter else ""
            return Pulled(record(leased, machine.images, Image(registry.reference.name, target), ["target"]), top)
        except BaseException:
            # Before the lease goes: what others of our threads do from now on would be held by nothing.
            cancel.cancel()
            raise


@contextmanager
def _following(theirs: CancelToken | None, ours: CancelToken) -> Iterator[None]:
    """Cancel ours when the caller cancels theirs, and never the other way round."""
    if theirs is None:
        yield
        return
    theirs.on_cancel(ours.cancel)
    try:
        yield
    finally:
        theirs.forget(ours.cancel)


def _ignore(progress: Progress) -> None:
    """Tell nobody."""


class _Pull:
    """Everything below one document."""

    def __init__(
        self, ctx: CallContext, machine: Machine, registry: Registry, choice: Choice, *, every: bool, report: Report
    ) -> None:
        self._ctx, self._content, self._registry = ctx, machine.content, registry
        self._choice, self._every, self._report = choice, every, report

    def run(self, root: Descriptor, data: bytes) -> None:
        """Fetch the document whose bytes are here, and whatever it stands for."""
        seen = {root.digest}
        self._fetch(root, Held(data))
        todo = [root]
        leaves: list[Descriptor] = []
        while todo:
            parent = todo.pop(0)
            entries = children(self._ctx, self._content, parent)
            # Of all of them, those of other platforms too: who fetches these later need not label anew.
            label_children(self._ctx, self._content, parent, entries)
            fresh = [one for one in self._wanted(parent, entries) if one.digest not in seen]
            seen.update(one.digest for one in fresh)
            documents = [one for one in fresh if one.media_type in INDEXES | MANIFESTS]
            leaves += [one for one in fresh if one not in documents]
            _side_by_side(self._fetch_from_registry, documents)
            todo += documents
        _side_by_side(self._fetch_from_registry, leaves)

    def _wanted(self, parent: Descriptor, entries: Sequence[Entry]) -> list[Descriptor]:
        if parent.media_type not in INDEXES or self._every:
            return [entry.descriptor for entry in entries]
        accepted = sorted(
            (entry for entry in entries if self._choice.accepts(entry.platform)),
            key=lambda entry: self._choice.rank(entry.platform),
        )
        if not accepted:
            offered = sorted({str(entry.platform) for entry in entries if entry.platform})
            name = self._registry.reference.name
            raise NotFound(f"{name} has no platform {self._choice}, only {', '.join(offered) or 'none'}")
        return [accepted[0].descriptor]

    def _fetch_from_registry(self, descriptor: Descriptor) -> None:
        self._fetch(descriptor, self._registry)

    def _fetch(self, descriptor: Descriptor, source: Source) -> None:
        fetch(self._ctx, self._content, source, descriptor, self._report)
        label_source(self._ctx, self._content, descriptor, self._registry.reference)


def _side_by_side(work: Callable[[Descriptor], None], todo: Iterable[Descriptor]) -> None:
    """Do it for each, ``AT_A_TIME`` in parallel; the first failure is raised at once.

    The threads are daemons and are not waited for then: one may sit in a read until the registry's time is up, and an
    interrupt has to end us before that.
    """
    waiting: SimpleQueue[Descriptor | None] = SimpleQueue()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    items = list(todo)

    def worker() -> None:
        while (item := waiting.get()) is not None:
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001  # raised again below, by the one who waits
                ended.put(error)
                return
            ended.put(None)

    number = min(AT_A_TIME, len(items))
    for item in (*items, *[None] * number):
        waiting.put(item)
    for _ in range(number):
        threading.Thread(target=worker, name="pull", daemon=True).start()
    for _ in items:
        failure = ended.get()
        if failure is not None:
            raise failure
