"""Execs: further processes that a client asks for in a container (TSK-051 to TSK-066)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from refimpl.contract.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from refimpl.contract.identifiers import validate_identifier
from refimpl.shim.oci import OCIError
from refimpl.shim.process import CREATED, RUNNING, STOPPED, Exit, Process, refuse
from refimpl.shim.stdio import Host, ProcessIO, Stdio

if TYPE_CHECKING:
    from refimpl.contract.context import CallContext
    from refimpl.shim.container import Container
    from refimpl.shim.events import Teller


class Exec(Process):
    """An exec.

    Attributes:
        spec: the OCI process.
        failed: whether a start of it has failed.
    """

    def __init__(self, id: str, stdio: Stdio, spec: dict[str, Any]) -> None:
        super().__init__(id, stdio)
        self.spec = {**spec, "terminal": stdio.terminal}
        self.failed = False


class Execs:
    """The execs of one container."""

    def __init__(self, container: Container, host: Host, teller: Teller) -> None:
        self._container, self._host, self._teller = container, host, teller
        self._lock = threading.Lock()
        self._execs: dict[str, Exec] = {}

    def all(self) -> list[Exec]:
        """All of them, in the order in which they were added."""
        with self._lock:
            return list(self._execs.values())

    def get(self, id: str) -> Exec:
        """One of them.

        Raises:
            NotFound: there is none of that id.
        """
        with self._lock:
            if id not in self._execs:
                raise NotFound(f"process does not exist {id}")
            return self._execs[id]

    def add(self, id: str, stdio: Stdio, process: bytes) -> None:
        """Add an exec; it does not run yet.

        Args:
            process: JSON of the OCI specification's Process.

        Raises:
            InvalidArgument: no process, or an id that is none.
            AlreadyExists: the id is taken.
            Unknown: the process is no JSON, or the container's state does not allow it.
        """
        validate_identifier(id)
        if not process:
            raise InvalidArgument("an exec needs a spec")
        try:
            spec = json.loads(process)
        except ValueError as error:
            raise refuse(f"spec of exec {id} is no JSON: {error}") from error
        if not isinstance(spec, dict):
            raise refuse(f"spec of exec {id} is no JSON object")
        with self._lock:
            if id in self._execs:
                raise AlreadyExists(f"id {id}")
            status = self._container.status
            if status not in {CREATED, RUNNING} or not self._container.init.pid:
                raise refuse(f"cannot exec in a {status} state")
            self._execs[id] = Exec(id, stdio, spec)
            self._teller.exec_added(id)

    def start(self, ctx: CallContext, exec_: Exec) -> int:
        """Run it; answers with its pid.

        Raises:
            Unknown: the state does not allow it, a stream cannot be opened, or the OCI runtime fails.
            Canceled, DeadlineExceeded: the caller gave up, or nobody came to read its output.
        """
        with exec_.lock:
            if exec_.status != CREATED:
                raise refuse(f"cannot start a {exec_.status} process")
            if exec_.failed:
                raise refuse("cannot start a process whose first start failed")
            status = self._container.status
            if status not in {CREATED, RUNNING}:
                raise refuse(f"cannot exec in a {status} state")
            exec_.hold()
            try:
                exec_.io = self._run(ctx, exec_)
                self._teller.exec_started(exec_.id, exec_.pid)
            except OCIError as error:
                raise error.as_unknown("exec") from error
            finally:
                if not exec_.pid:
                    # It stays as it is, but whoever waits for its end learns that there is nothing to wait for.
                    exec_.failed = True
                    exec_.tell(Exit(0, None))
                exec_.release()
            return exec_.pid

    def _run(self, ctx: CallContext, exec_: Exec) -> ProcessIO:
        io = ProcessIO(ctx, self._host, exec_.stdio, self._container.id)
        pid_file = self._pid_file(exec_)
        spec = os.memfd_create("process")
        try:
            os.write(spec, json.dumps(exec_.spec).encode())
            with self._host.children.expecting():
                # The command has the file as this process has it: by its number here.
                arguments = ["--process", f"/proc/{os.getpid()}/fd/{spec}", "--detach", "--pid-file", pid_file]
                if io.console is not None:
                    arguments += ["--console-socket", io.console.path]
                self._container.runtime.run_with(ctx, io.given, "exec", *arguments, self._container.id)
                with open(pid_file, encoding="ascii") as file:
                    pid = int(file.read())
                exec_.pid, exec_.status = pid, RUNNING
                self._host.children.watch(
                    pid, lambda status, at: exec_.when_free(lambda: self._ended(exec_, status, at))
                )
            io.begin()
        except BaseException:
            # Should it run already, it has nobody to speak to.
            with contextlib.suppress(OSError):
                self._host.children.kill(exec_.pid, signal.SIGKILL)
            io.abandon()
            raise
        finally:
            os.close(spec)
        return io

    def _ended(self, exec_: Exec, status: int, at: int) -> None:
        exit_ = exec_.end(status, at)
        self._teller.ended(exec_, exit_)
        exec_.tell(exit_)

    def kill(self, exec_: Exec, number: int) -> None:
        """Send it a signal.

        Raises:
            FailedPrecondition: it does not run yet.
            NotFound: it has ended.
            Unknown: there is no such signal.
        """
        if exec_.status == CREATED:
            raise FailedPrecondition("process not created")
        try:
            if not self._host.children.kill(exec_.pid, number):
                raise NotFound("process already finished")
        except OSError as error:
            raise refuse(f"signal {number}: {str(error.strerror).lower()}") from error

    def resize(self, exec_: Exec, width: int, height: int) -> None:
        """Set the size of its terminal.

        Raises:
            Unknown: it has ended.
        """
        if exec_.status == STOPPED:
            raise refuse("cannot resize a stopped container")
        exec_.resize(width, height)

    def delete(self, exec_: Exec, seconds: float) -> None:
        """Forget it, when its output is copied or the seconds are over.

        Raises:
            Unknown: it runs.
            NotFound: somebody else deleted it first.
        """
        with exec_.lock:
            if exec_.status == RUNNING:
                raise refuse("cannot delete a running process")
            self.get(exec_.id)
            exec_.close_io(seconds)
            self._forget(exec_)

    def close(self, seconds: float) -> None:
        """Forget all of them, when their output is copied or the seconds are over for all: the container goes."""
        end = time.monotonic() + seconds
        for exec_ in self.all():
            exec_.close_io(max(0.0, end - time.monotonic()))
            self._forget(exec_)

    def _forget(self, exec_: Exec) -> None:
        with self._lock:
            self._execs.pop(exec_.id, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._pid_file(exec_))
        exec_.tell(refuse(f"process {exec_.id} was deleted before it was started"))

    def _pid_file(self, exec_: Exec) -> str:
        # An exec may have any name, also one that would make its file that of init.
        name = "init.exec" if exec_.id == "init" else exec_.id
        return os.path.join(self._container.bundle, f"{name}.pid")
