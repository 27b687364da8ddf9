"""Clean-up: what a check made in its namespace goes, whatever state the check left it in.

Nothing here raises: a subject that is broken enough to fail a check may well fail to clean up, and the check's own
failure is the one to show. What could not be removed is told as a note of the check.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from conformance import patience, runc_state
from conformance.subjects.base import Subject
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound
from refimpl.contract.runtimes import Status

END_SECONDS = 2 * patience.SECONDS
"""How long a killed process may take to end."""


def purge(subject: Subject, ctx: CallContext) -> list[str]:
    """Remove all objects of the namespace and then the namespace itself; answer with what could not be removed."""
    # Without a lease: a list or a removal must not add anything to it.
    sweep = _Sweep(subject, ctx.with_lease(""))
    for name, step in (
        ("tasks", sweep.tasks),
        ("containers", sweep.containers),
        ("images", sweep.images),
        ("snapshots", sweep.snapshots),
        ("content", sweep.content),
        ("leases", sweep.leases),
        ("namespace", sweep.namespace),
    ):
        with sweep.trying(name):
            step()
    runc_state.forget(ctx.namespace)
    return sweep.left


class _Sweep:
    def __init__(self, subject: Subject, ctx: CallContext) -> None:
        self._subject, self._ctx = subject, ctx
        self.left: list[str] = []

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Go on after a failure, but remember it; what is gone already is no failure."""
        try:
            yield
        except NotFound:
            pass
        except Exception as error:  # noqa: BLE001  # whatever a subject throws, the next object gets its turn
            self.left.append(f"{what}: {error}")

    def tasks(self) -> None:
        if (service := self._subject.tasks) is None:
            return
        for task in service.list(self._ctx):
            with self.trying(f"task {task.container_id}"):
                # What ended by itself meanwhile is NotFound to kill, and still has to be waited for and deleted.
                with suppress(NotFound):
                    service.kill(self._ctx, task.container_id, signal=signal.SIGKILL, all=True)
                if task.status not in (Status.STOPPED, Status.CREATED):
                    service.wait(replace(self._ctx, deadline=time.monotonic() + END_SECONDS), task.container_id)
                service.delete(self._ctx, task.container_id)

    def containers(self) -> None:
        if (store := self._subject.containers) is None:
            return
        for container in store.list(self._ctx):
            self._subject.expect_shim(self._ctx.namespace, container.id)
            with self.trying(f"container {container.id}"):
                store.delete(self._ctx, container.id)

    def images(self) -> None:
        if (store := self._subject.images) is None:
            return
        for image in store.list(self._ctx):
            with self.trying(f"image {image.name}"):
                store.delete(self._ctx, image.name)

    def snapshots(self) -> None:
        for id in self._subject.snapshotters:
            with self.trying(f"snapshots of {id}"):
                self._snapshots_of(id)

    def _snapshots_of(self, id: str) -> None:
        """From the leaves down: a snapshot with children cannot be removed."""
        snapshotter = self._subject.snapshotter(id)
        infos = {info.name: info for info in snapshotter.walk(self._ctx)}
        while infos:
            parents = {info.parent for info in infos.values()}
            for name in [name for name in infos if name not in parents] or list(infos):
                del infos[name]
                with self.trying(f"snapshot {name} of {id}"):
                    snapshotter.remove(self._ctx, name)

    def content(self) -> None:
        if (store := self._subject.content) is None:
            return
        for status in store.list_statuses(self._ctx):
            with self.trying(f"ingest {status.ref}"):
                store.abort(self._ctx, status.ref)
        if self._subject.types is not None:
            # A store judged alone has one shelf of blobs for everybody: other checks' blobs would go too.
            return
        for info in list(store.walk(self._ctx)):
            with self.trying(f"blob {info.digest}"):
                store.delete(self._ctx, info.digest)

    def leases(self) -> None:
        if (manager := self._subject.leases) is None:
            return
        for lease in manager.list(self._ctx):
            with self.trying(f"lease {lease.id}"):
                manager.delete(self._ctx, lease.id)

    def namespace(self) -> None:
        if (store := self._subject.namespaces) is not None:
            store.delete(self._ctx, self._ctx.namespace)
