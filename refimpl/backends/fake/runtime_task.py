"""A task on the fake host: init, its execs, and the whole.

One lock for each task: a change of state and its event happen under it, so events come in the order of the states.
Clauses TSK-003 to TSK-078, RT1-010 to RT1-026.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refimpl.api import typeurl
from refimpl.backends.fake import runtime_json
from refimpl.backends.fake.processes_signals import LAST
from refimpl.backends.fake.runtime_process import FakeExec, Part, refuse
from refimpl.backends.fake.runtime_resources import apply, check_types
from refimpl.backends.fake.runtime_stats import stats
from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound
from refimpl.contract.identifiers import validate_identifier
from refimpl.contract.runtimes import IO, Exit, Process, ProcessInfo, ProcessState, Status
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import TypedAny

if TYPE_CHECKING:
    from refimpl.api.task_events import Teller
    from refimpl.backends.fake.host import FakeHost
    from refimpl.backends.fake.processes import FakeProcess
    from refimpl.backends.fake.runtime_bundle import Bundle
    from refimpl.backends.fake.runtime_dialect import Dialect
    from refimpl.backends.fake.runtime_oci import OCIContainer
    from refimpl.contract.context import CallContext

_KILL = 9


class FakeTask:
    """A ``contract.runtimes.Task``.

    Args:
        part: init, with its streams.
        restoring: made from a checkpoint, so there is no process until it is started (TSK-083).

    Attributes:
        lock: held while the state changes and the event of it is told.
        teller: tells the events.
        container: what runc keeps of it.
        bundle: its directory.
    """

    def __init__(
        self,
        host: FakeHost,
        namespace: str,
        part: Part,
        container: OCIContainer,
        bundle: Bundle,
        dialect: Dialect,
        teller: Teller,
        *,
        restoring: bool = False,
    ) -> None:
        self._host = host
        self._namespace = namespace
        self.part = part
        self.container = container
        self.bundle = bundle
        self.dialect = dialect
        self.teller = teller
        self.lock = threading.RLock()
        self.paused = False
        self._restoring = restoring
        self._gone = False
        self._deleting = False
        self._execs: dict[str, FakeExec] = {}
        self._forget_oom: Callable[[], None] | None = None
        if not dialect.first and not restoring:
            self._forget_oom = host.cgroups.on_oom(container.group, self.teller.out_of_memory)
        if part.process is not None:
            part.process.on_exit.append(self._ended)

    @property
    def id(self) -> str:
        return self.part.id

    @property
    def namespace(self) -> str:
        return self._namespace

    @property
    def pid(self) -> int:
        return self.part.process.pid if self.part.process is not None else 0

    @property
    def status(self) -> Status:
        """Where init is in its life."""
        status = self.part.status
        return Status.PAUSED if status is Status.RUNNING and self.paused else status

    # --- init

    def state(self, ctx: CallContext) -> ProcessState:
        self._require(ctx)
        exit_ = self.part.exit
        return ProcessState(
            id=self.id,
            container_id=self.id,
            pid=self.pid,
            status=self.status,
            io=self.part.io,
            exit_status=exit_.status if exit_ is not None else 0,
            exited_at=exit_.exited_at if exit_ is not None else ZERO_TIME,
        )

    def start(self, ctx: CallContext) -> int:
        with self.lock:
            self._require(ctx)
            if self.status is not Status.CREATED:
                raise refuse(f"cannot start a {self.status.name.lower()} process")
            process = self.part.process
            if process is None:
                raise refuse("OCI runtime restore failed: a fake host has no criu: cannot restore")
            self.part.running = True
            if self.part.stdio.terminal is not None:
                self.part.stdio.terminal.foreground = [process]
            self.teller.started(process.pid)
            process.start()
            return process.pid

    def _ended(self, process: FakeProcess) -> None:
        if not self.container.private:
            # Without a pid namespace of its own nobody else would end them (TSK-063).
            for other in self.container.group.members():
                other.signal(_KILL)
        with self.lock:
            exit_ = self.part.finish(process)
            self.paused = False
            if self._deleting and not self.part.running:
                return
            self.teller.exited(self.id, exit_)
        self.part.ending.set()

    def kill(self, ctx: CallContext, signal: int, *, all: bool = False) -> None:
        with self.lock:
            self._require(ctx)
            if self.part.exit is not None:
                if all:
                    return
                raise NotFound("process already finished")
            if self.part.process is None:
                raise NotFound("process already finished")
            if signal > LAST:
                if not all:  # with all of them nobody looks at the errors
                    reason = "exit status 1: unable to signal init: invalid argument"
                    raise refuse(f"unknown error after kill: runc did not terminate successfully: {reason}\n")
                return
            targets = self.container.group.members() if all else [self.part.process]
            thaw = signal == _KILL and self.paused
        # Without the lock: an init that never ran ends here and now, and waits for the ends of its execs to be told.
        for process in targets:
            process.signal(signal)
        if thaw:
            # runc lets a frozen container go on, so that it can die (TSK-071).
            self._host.cgroups.thaw(self.container.group)

    def resize(self, ctx: CallContext, width: int, height: int) -> None:
        self._require(ctx)
        self.part.resize(width, height)

    def close_io(self, ctx: CallContext) -> None:
        self._require(ctx)
        self.part.close_input()

    def wait(self, ctx: CallContext) -> Exit:
        self._require(ctx)
        self.part.ending.wait(ctx)
        assert self.part.exit is not None, "an ending without an error has an exit"
        return self.part.exit

    def delete(self, ctx: CallContext) -> Exit:
        with self.lock:
            self._require(ctx)
            status = self.status
            if status in {Status.RUNNING, Status.PAUSED}:
                raise refuse(f"{self.dialect.delete_failed}cannot delete a {status.name.lower()} process")
            if self._deleting:
                raise NotFound(f"task {self.id} not found", bare=True)
            self._deleting = True
            parts = [self.part, *(exec_.part for exec_ in self._execs.values())]
        # First: an init that waits to be started holds its streams open.
        exit_ = self._end_created() if status is Status.CREATED else self.part.exit
        for part in parts:
            part.stdio.drain()
        assert exit_ is not None, "a stopped task has an exit"
        self._clean()
        with self.lock:
            self._gone = True
            if self.dialect.first and status is Status.CREATED:
                self.teller.deleted(exit_)
                self._tell_killed(exit_.pid)
            else:
                if status is Status.CREATED and exit_.pid:
                    self._tell_killed(exit_.pid)
                self.teller.deleted(exit_)
        self.part.ending.set(refuse("ttrpc: closed"))
        return exit_

    def _tell_killed(self, pid: int) -> None:
        """The exit of an init that never ran: with the zero time (TSK-048, RT1-011)."""
        self.teller.exited(self.id, Exit(pid, 128 + _KILL, ZERO_TIME))

    def _end_created(self) -> Exit:
        process = self.part.process
        if process is None:
            return Exit(0, 0, ZERO_TIME)
        process.signal(_KILL)
        return Exit(process.pid, 0, ZERO_TIME)

    def _clean(self) -> None:
        for exec_ in list(self._execs.values()):
            exec_.part.stdio.close()
            exec_.part.ending.set(refuse("ttrpc: closed"))
        for process in self.container.group.members() if not self._restoring else ():
            # Children that init's end left behind, where there is no pid namespace.
            process.signal(_KILL)
            process.ended.wait(2.0)
        self._execs.clear()
        if self._forget_oom is not None:
            self._forget_oom()
        self.part.stdio.close()
        self.container.destroy()
        self.bundle.remove()

    def _require(self, ctx: CallContext) -> None:
        ctx.check()
        if self._gone:
            raise NotFound(f"task {self.id} not found", bare=True)

    # --- execs

    def exec(self, ctx: CallContext, id: str, spec: TypedAny, io: IO) -> Process:
        try:
            validate_identifier(id)
        except InvalidArgument as error:
            shown = "" if self.dialect.first else f" {id}"
            raise InvalidArgument(f"invalid exec id{shown}: {error.message}") from error
        if not (spec.value or spec.type_url):
            # containerd's own shim dies of it (TSK-056).
            raise InvalidArgument("an exec needs a spec")
        with self.lock:
            self._require(ctx)
            if id in self._execs or (self.dialect.first and id == self.id):
                raise AlreadyExists(f"id {id}")
            if self.status not in {Status.CREATED, Status.RUNNING} or self.part.process is None:
                state = "created" if self._restoring else self.status.name.lower()
                raise refuse(f"cannot exec in a {state} state")
            try:
                process = runtime_json.loads_object(spec.value, "specs.Process")
            except ValueError as error:
                raise refuse(str(error)) from error
            added = self._execs[id] = FakeExec(self, id, process, io)
            if not self.dialect.first:
                self.teller.exec_added(id)
            return added

    def process(self, ctx: CallContext, id: str) -> Process:
        with self.lock:
            self._require(ctx)
            if self.dialect.first and id == self.id:
                return _Init(self)
            if id not in self._execs:
                raise NotFound(self.dialect.no_process(id))
            return self._execs[id]

    def has(self, exec_: FakeExec) -> bool:
        """Whether an exec has not been forgotten."""
        return not self._gone and self._execs.get(exec_.id) is exec_

    def forget(self, id: str) -> None:
        """Drop an exec."""
        self._execs.pop(id, None)

    # --- the whole

    def pause(self, ctx: CallContext) -> None:
        with self.lock:
            self._require_state(ctx, Status.RUNNING, "pause")
            self._host.cgroups.freeze(self.container.group)
            self.paused = True
            self.teller.paused()

    def resume(self, ctx: CallContext) -> None:
        with self.lock:
            self._require_state(ctx, Status.PAUSED, "resume")
            self.paused = False
            self._host.cgroups.thaw(self.container.group)
            self.teller.resumed()

    def _require_state(self, ctx: CallContext, wanted: Status, verb: str) -> None:
        self._require(ctx)
        status = self.status
        if status is wanted:
            return
        if status is Status.CREATED:
            raise refuse(f"cannot {verb} task in created state")
        noun = "process" if status is Status.RUNNING else "container"
        raise refuse(f"cannot {verb} a {status.name.lower()} {noun}")

    def pids(self, ctx: CallContext) -> Sequence[ProcessInfo]:
        with self.lock:
            self._require(ctx)
            if self._restoring:
                raise refuse("runc did not terminate successfully: exit status 1: container does not exist\n")
            known = {e.part.process.pid: e.id for e in self._execs.values() if e.part.process is not None}
            if self.dialect.first:
                known[self.pid] = self.id
            return [ProcessInfo(p.pid, self._details(known.get(p.pid))) for p in self.container.group.members()]

    def _details(self, id: str | None) -> TypedAny | None:
        if id is None:
            return None
        packed = typeurl.pack(self.dialect.details(exec_id=id))
        return TypedAny(packed.type_url, packed.value)

    def checkpoint(self, ctx: CallContext, path: str, options: TypedAny | None) -> None:
        with self.lock:
            self._require(ctx)
            status = self.status
            if status is Status.CREATED:
                raise refuse("cannot checkpoint a task in created state")
            if status is Status.STOPPED:
                raise refuse("cannot checkpoint a stopped container")
            # As runc says it where criu cannot dump: a fake process has no memory to write down.
            log = f"{self.bundle.path}/criu-dump.log"
            reason = "criu failed: type DUMP errno 0"
            raise refuse(f"runc did not terminate successfully: exit status 1: {reason} path= {log}")

    def update(self, ctx: CallContext, resources: TypedAny | None, annotations: Mapping[str, str]) -> None:
        with self.lock:
            self._require(ctx)
            if resources is None or not (resources.value or resources.type_url):
                # containerd's own shim dies of it (TSK-074).
                raise InvalidArgument("an update needs resources")
            if self.status is Status.STOPPED:
                raise refuse("cannot update a stopped container")
            try:
                limits: dict[str, Any] = runtime_json.loads_object(resources.value, "specs.LinuxResources")
                check_types(limits)
            except ValueError as error:
                raise refuse(str(error)) from error
            try:
                apply(self._host.cgroups, self.container.group, limits)
            except ValueError as error:
                raise refuse(f"runc did not terminate successfully: exit status 1: {error}\n") from error

    def stats(self, ctx: CallContext) -> TypedAny:
        self._require(ctx)
        if self._restoring:
            raise NotFound("cgroup does not exist")
        return stats(self._host.cgroups, self.container.group)


class FirstTask(FakeTask):
    """A task of the first runtime: the monitor tells of its kills (``contract.runtimes.OOMSource``)."""

    def on_oom(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called when a process of the task is killed for want of memory."""
        return self._host.cgroups.on_oom(self.container.group, callback)


class _Init:
    """Init under its own id in the first runtime's table of execs (RT1-014)."""

    def __init__(self, task: FakeTask) -> None:
        self._task = task

    @property
    def id(self) -> str:
        return self._task.id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def delete(self, ctx: CallContext) -> Exit:
        raise InvalidArgument("cannot delete init process with DeleteProcess")
