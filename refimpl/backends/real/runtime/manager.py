"""The second runtime: one shim for each task, or for a group of them, found by the runtime's name.

It keeps a list of tasks and nothing on disk but their bundles, from which the next daemon makes the list again
(``loading``). Clauses TSK-004 to TSK-015, SHM-001 to SHM-011, SHM-054 to SHM-057, SHM-082 to SHM-091.
"""

from __future__ import annotations

import builtins
import logging
import threading

from refimpl.backends.real.runtime.binaries import ShimBinaries
from refimpl.backends.real.runtime.bundle import Bundle, BundlePlaces
from refimpl.backends.real.runtime.commands import Commands, Daemon
from refimpl.backends.real.runtime.shim import Patience, Shim, remove_bundle, within
from refimpl.backends.real.runtime.stuck import end_stuck
from refimpl.backends.real.runtime.task import ShimTask
from refimpl.backends.real.runtime.task_list import TaskList
from refimpl.backends.real.runtime.telling import teller
from refimpl.backends.real.runtime.translation import as_seen
from refimpl.backends.real.runtime.watcher import Watcher
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Canceled, ContainerdError, DeadlineExceeded
from refimpl.contract.events import EventExchange
from refimpl.contract.identifiers import validate_identifier
from refimpl.contract.runtimes import CreateOptions, Exit, Task

log = logging.getLogger("refimpl.runtime")

URI = "io.containerd.runtime.v2.task"


class ShimRuntime:
    """A ``contract.runtimes.Runtime``.

    Args:
        exchange: where the ends of tasks are told whose shims have died.
        daemon: what shims are told of it.

    Attributes:
        places: where bundles are.
        binaries: where shims are found.
    """

    def __init__(self, exchange: EventExchange, places: BundlePlaces, daemon: Daemon, patience: Patience) -> None:
        self.places = places
        self.binaries = ShimBinaries()
        self._exchange = exchange
        self._daemon = daemon
        self._patience = patience
        self._watcher = Watcher()
        self._tasks: TaskList[ShimTask] = TaskList()

    @property
    def id(self) -> str:
        return URI

    def create(self, ctx: CallContext, id: str, options: CreateOptions) -> Task:
        namespace = ctx.require_namespace()
        # It becomes a path (SHM-028).
        validate_identifier(id)
        packed = options.task_options or options.runtime_options
        bundle = self.places.bundle(namespace, id)
        try:
            bundle.make(options.spec.value)
            shim = self._started(ctx, bundle, options)
        except ContainerdError as error:
            raise as_seen(error, "failed to start shim: ", before=True) from error
        task = ShimTask(shim, self._tasks.forget)
        self._tasks.add(task)
        try:
            task.create(ctx, options, packed)
        except BaseException as error:
            self._undo(task, given_up=isinstance(error, Canceled | DeadlineExceeded))
            if isinstance(error, ContainerdError):
                raise as_seen(error, "failed to create shim task: ") from error
            raise
        return task

    def _started(self, ctx: CallContext, bundle: Bundle, options: CreateOptions) -> Shim:
        try:
            binary = self._resolved(options.runtime_path or options.runtime)
            shim = self.shim(binary, bundle)
            try:
                shim.start(ctx, options.task_options or options.runtime_options)
            except ContainerdError as error:
                raise as_seen(error, "start failed: ", before=True) from error
        except BaseException:
            remove_bundle(bundle)
            raise
        return shim

    def _resolved(self, runtime: str) -> str:
        try:
            return self.binaries.resolve(runtime)
        except ContainerdError as error:
            raise as_seen(error, "failed to resolve runtime path: ", before=True) from error

    def _undo(self, task: ShimTask, *, given_up: bool) -> None:
        """After a Create that failed: nothing of it stays, and nobody is told (SHM-057).

        Args:
            given_up: whether the shim may still be at it, so that it does not end when it is asked to.
        """
        self._tasks.forget(task)
        shim, ctx = task.shim, within(self._patience.cleanup, task.namespace)
        pid = 0
        try:
            pid = shim.process(ctx) if given_up else 0
            task.take_back(ctx)
        except ContainerdError as error:
            log.debug("failed to delete task", extra={"fields": {"id": task.id, "error": error}})
        shim.shutdown()
        if pid and not self._serves_others(shim):
            # Beside the caller, who has waited long enough.
            arguments = (pid, shim.binary, task.id, self._patience.shutdown)
            threading.Thread(target=end_stuck, args=arguments, name="refimpl-shim-stuck", daemon=True).start()

    def _serves_others(self, shim: Shim) -> bool:
        return any(other.shim.address == shim.address for other in self._tasks.all())

    def shim(self, binary: str, bundle: Bundle) -> Shim:
        """A shim that is not started."""
        commands = Commands(self._daemon, binary, bundle)
        return Shim(commands, self._watcher, self._patience, lambda exit_: self._lost(bundle, exit_))

    def add(self, shim: Shim, pid: int) -> None:
        """List a task of an earlier daemon."""
        task = ShimTask(shim, self._tasks.forget)
        task.found(pid)
        self._tasks.add(task)
        if shim.cleaned.is_set():
            # It died between its answer and now, and was not on the list to be taken off.
            self._tasks.forget(task)

    def _lost(self, bundle: Bundle, exit_: Exit) -> None:
        """A shim has gone and was cleaned up: if its task was not deleted, its end has to be told (SHM-088)."""
        task = self._tasks.peek(bundle.namespace, bundle.id)
        if task is None or task.shim.bundle is not bundle:
            return
        telling = teller(self._exchange, bundle.namespace, bundle.id)
        telling.exited(bundle.id, exit_)
        telling.deleted(exit_)
        self._tasks.forget(task)

    def get(self, ctx: CallContext, id: str) -> Task:
        return self._tasks.find(ctx, id)

    def tasks(self, ctx: CallContext, *, everywhere: bool = False) -> builtins.list[Task]:
        return [*(self._tasks.all() if everywhere else self._tasks.of(ctx.require_namespace()))]

    def delete(self, ctx: CallContext, id: str) -> Exit:
        return self._tasks.find(ctx, id).delete(ctx)

    def close(self) -> None:
        """Let go of all shims, which go on by themselves (SHM-082). Idempotent."""
        for task in self._tasks.all():
            task.shim.leave()
        self._watcher.close()
