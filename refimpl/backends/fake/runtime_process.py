"""A process of a fake task as a client sees it: its state, its streams, its end and who waits for it.

The fake process below (``processes``) exists from create or start to its end; this object from create or exec to
delete. Clauses TSK-027, TSK-036 to TSK-045, TSK-052 to TSK-060.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from refimpl.backends.fake.processes_signals import LAST
from refimpl.backends.fake.runtime_oci import OCIFailure, check_process
from refimpl.backends.fake.stdio import Stdio, open_stdio
from refimpl.contract.errors import AlreadyExists, FailedPrecondition, NotFound, Unknown
from refimpl.contract.runtimes import IO, Exit, ProcessState, Status
from refimpl.contract.times import ZERO_TIME

if TYPE_CHECKING:
    from refimpl.backends.fake.processes import FakeProcess
    from refimpl.backends.fake.runtime_task import FakeTask
    from refimpl.contract.context import CallContext


_KILL = 9


def refuse(message: str) -> Unknown:
    """A refusal as a shim sends it: of no kind, and saying so."""
    return Unknown(message, bare=False)


class Ending:
    """An end that any number of callers wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = False
        self._error: Unknown | None = None
        self._waiters: set[threading.Event] = set()

    def set(self, error: Unknown | None = None) -> None:
        """It has come; with an ``error`` it never will. Only the first call counts."""
        with self._lock:
            if not self._over:
                self._over, self._error = True, error
            waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.set()

    def wait(self, ctx: CallContext) -> None:
        """Wait for it.

        Raises:
            Canceled, DeadlineExceeded: the caller gave up first (TSK-044).
            Unknown: it will never come (TSK-045).
        """
        waiter = threading.Event()
        with self._lock:
            if not self._over:
                self._waiters.add(waiter)
            else:
                waiter.set()
        if ctx.cancel is not None:
            ctx.cancel.on_cancel(waiter.set)
        try:
            waiter.wait(None if ctx.deadline is None else max(0.0, ctx.deadline - time.monotonic()))
        finally:
            if ctx.cancel is not None:
                ctx.cancel.forget(waiter.set)
            with self._lock:
                self._waiters.discard(waiter)
        if not self._over:
            ctx.check()
        if self._error is not None:
            raise self._error


class Part:
    """What init and an exec have in common.

    Attributes:
        process: the fake process; None before an exec's start.
        exit: how it ended; None while it has not.
        ending: set with ``exit``, after the event was told.
    """

    def __init__(self, id: str, io: IO) -> None:
        self.id = id
        self.io = io
        self.process: FakeProcess | None = None
        self.stdio = Stdio()
        self.running = False
        self.exit: Exit | None = None
        self.ending = Ending()

    @property
    def status(self) -> Status:
        """Where it is in its life; a task's pause is not seen from here."""
        if self.exit is not None:
            return Status.STOPPED
        return Status.RUNNING if self.running else Status.CREATED

    def finish(self, process: FakeProcess) -> Exit:
        """Note the end of the fake process; nobody is told yet."""
        self.exit = Exit(process.pid, process.exit_status, process.exited_at)
        self.stdio.stop_input()
        return self.exit

    def close_input(self) -> None:
        """Let the standard input end (TSK-018)."""
        self.stdio.end_input()

    def resize(self, width: int, height: int) -> None:
        """Set the size of the terminal, if there is one (TSK-027)."""
        if self.stdio.terminal is not None and self.exit is None:
            self.stdio.terminal.resize(width, height)


class FakeExec:
    """A ``contract.runtimes.Process`` that is an exec.

    Args:
        spec: the decoded OCI process.
    """

    def __init__(self, task: FakeTask, id: str, spec: dict[str, Any], io: IO) -> None:
        self._task = task
        self._spec = {**spec, "terminal": io.terminal}
        self.part = Part(id, io)
        self._failed = self._starting = False

    @property
    def id(self) -> str:
        return self.part.id

    def state(self, ctx: CallContext) -> ProcessState:
        self._require(ctx)
        part, exit_ = self.part, self.part.exit
        status = part.status
        if status is not Status.STOPPED and self._task.paused:
            # Also of an exec that was not started yet.
            status = Status.PAUSED
        times = not self._task.dialect.first  # RT1-015
        return ProcessState(
            id=part.id,
            container_id=self._task.id,
            pid=part.process.pid if part.process is not None else 0,
            status=status,
            io=part.io,
            exit_status=exit_.status if exit_ is not None else 0,
            exited_at=exit_.exited_at if exit_ is not None and times else ZERO_TIME,
        )

    def start(self, ctx: CallContext) -> int:
        part, task = self.part, self._task
        with task.lock:
            self._require(ctx)
            if part.status is not Status.CREATED:
                raise refuse(f"cannot start a {part.status.name.lower()} process")
            if self._failed:
                raise refuse("cannot start a process that failed to start")
            if self._starting:
                # Another call is at it: opening the streams takes as long as their reader does.
                raise AlreadyExists(f"exec {part.id} is being started")
            self._starting = True
        try:
            return self._start(ctx)
        finally:
            self._starting = False

    def _start(self, ctx: CallContext) -> int:
        part, task = self.part, self._task
        stdio = open_stdio(ctx, part.io, task.id, task.namespace)
        try:
            process = self._spawn(stdio)
        except OCIFailure as failure:
            stdio.close()
            self._failed = True
            self.part.ending.set()
            raise refuse(f"OCI runtime exec failed: exec failed: {failure}") from failure
        with task.lock:
            part.process, part.stdio, part.running = process, stdio, True
            process.on_exit.append(self._ended)
            task.teller.exec_started(part.id, process.pid)
            process.start()
            if part.stdio.terminal is not None:
                part.stdio.terminal.foreground = [process]
        init = task.part.process
        if init is not None and not init.alive:
            # It ended while this one was made, and did not find it.
            process.signal(_KILL)
        return process.pid

    def _spawn(self, stdio: Stdio) -> FakeProcess:
        if self._task.paused:
            raise OCIFailure("cannot exec in a paused container (use --ignore-paused to override)")
        if self._task.part.exit is not None:
            raise OCIFailure("cannot exec in a stopped container")
        check_process(self._spec)
        process = self._task.container.spawn(self._spec, {})
        process.streams = stdio.streams()
        return process

    def _ended(self, process: FakeProcess) -> None:
        with self._task.lock:
            exit_ = self.part.finish(process)
            self._task.teller.exited(self.part.id, exit_)
        self.part.ending.set()

    def kill(self, ctx: CallContext, signal: int, *, all: bool = False) -> None:
        with self._task.lock:
            self._require(ctx)
            if self.part.exit is not None:
                raise NotFound("process already finished")
            if self.part.process is None:
                raise FailedPrecondition("process not created")
            if signal > LAST:
                raise refuse("exec kill error: unknown error after kill: invalid argument")
            self.part.process.signal(signal)

    def resize(self, ctx: CallContext, width: int, height: int) -> None:
        with self._task.lock:
            self._require(ctx)
            if self.part.exit is not None:
                raise refuse("cannot resize a stopped container")
            self.part.resize(width, height)

    def close_io(self, ctx: CallContext) -> None:
        self._require(ctx)
        self.part.close_input()

    def wait(self, ctx: CallContext) -> Exit:
        self._require(ctx)
        self.part.ending.wait(ctx)
        # One that failed to start has no end to tell of (TSK-057).
        return self.part.exit or Exit(0, 0, ZERO_TIME)

    def delete(self, ctx: CallContext) -> Exit:
        part, task = self.part, self._task
        with task.lock:
            self._require(ctx)
            if part.status is Status.RUNNING:
                raise refuse("cannot delete a running process")
        part.stdio.drain()
        with task.lock:
            self._require(ctx)
            task.forget(part.id)
        part.stdio.close()
        part.ending.set(refuse("process was deleted before it was started"))
        return part.exit or Exit(0, 0, ZERO_TIME)

    def _require(self, ctx: CallContext) -> None:
        ctx.check()
        if not self._task.has(self):
            raise NotFound(self._task.dialect.no_process(self.part.id))
