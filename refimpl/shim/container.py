"""A container: its init from create to delete, and what is done to the container as a whole.

::

    create --> created --start--> running --exit--> stopped --delete--> gone
                  \\--kill, delete--------------------/
                             running <--pause, resume--> paused

One lock for all that changes it; nobody who looks waits for it. Execs are in ``execs``.
Clauses SHM-060 to SHM-081, TSK-008 to TSK-085.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence

from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound, Unknown
from refimpl.shim.cgroups import Cgroup, cgroup_of
from refimpl.shim.events import Teller
from refimpl.shim.execs import Execs
from refimpl.shim.oci import OCIError, OCIRuntime
from refimpl.shim.oom import OOMWatch
from refimpl.shim.process import CREATED, RUNNING, STOPPED, Process, refuse
from refimpl.shim.rootfs import unmount_rootfs
from refimpl.shim.stdio import Host

PAUSED = "paused"

DRAIN_SECONDS = 2.0
"""How long a delete waits for output that somebody else may go on with (TSK-050)."""

_REAP_SECONDS = 5.0
_KILL = "9"


class Container:
    """A container that exists; made by ``creating.Maker``.

    Args:
        private: whether it has a pid namespace of its own, with whose init all others in it end.

    Attributes:
        id, bundle: of the task.
        init: its first process.
        execs: the others that a client asked for.
    """

    def __init__(
        self, host: Host, runtime: OCIRuntime, init: Process, bundle: str, teller: Teller, *, private: bool
    ) -> None:
        self._host, self.runtime, self._teller = host, runtime, teller
        self.id, self.init, self.bundle = init.id, init, bundle
        self._rootfs = os.path.join(bundle, "rootfs")
        self._lock = threading.RLock()
        self._paused = self._quiet = self._deleted = False
        self._private = private
        self._cgroup: Cgroup | None = None
        self._oom: OOMWatch | None = None
        self._restore: Callable[[CallContext], None] | None = None
        self.execs = Execs(self, host, teller)

    @property
    def status(self) -> str:
        """Where it is in its life."""
        return PAUSED if self.init.status == RUNNING and self._paused else self.init.status

    # --- its beginning

    def attach(self, pid: int) -> None:
        """Init exists. Its end, should it have come already, is kept back until ``init.release``."""
        self.init.pid = pid
        self._cgroup = cgroup_of(pid)
        self._host.children.watch(pid, self._init_ended)

    def restore_with(self, restore: Callable[[CallContext], None]) -> None:
        """Have ``start`` call ``restore``, which calls ``attach``: there is no process before (TSK-083)."""
        self._restore = restore

    def start(self, ctx: CallContext) -> int:
        """Run the user's program; answers with init's pid.

        Raises:
            Unknown: the state does not allow it, or the OCI runtime fails.
            Canceled, DeadlineExceeded: the caller gave up.
        """
        with self._lock:
            if self.status != CREATED:
                raise refuse(f"cannot start a {self.status} process")
            self.init.hold()
            try:
                restore, self._restore = self._restore, None
                if restore is not None:
                    restore(ctx)
                # Before the program can use any memory.
                if self._cgroup is not None:
                    self._oom = OOMWatch(self._host.loop, self._cgroup, self._teller.out_of_memory)
                if restore is None:
                    self.runtime.run("start", self.id, ctx=ctx)
                self.init.status = RUNNING
                self._teller.started(self.init.pid)
            except OCIError as error:
                raise error.as_unknown("start") from error
            finally:
                self.init.release()
            return self.init.pid

    # --- its end

    def _init_ended(self, status: int, at: int) -> None:
        """Init was reaped: in the loop, or in whatever thread it was attached."""
        self.init.when_free(lambda: self._end_execs(status, at))

    def _end_execs(self, status: int, at: int) -> None:
        for each in self.execs.all():
            if each.held:
                # An exec that is being started has ended with init. It comes first, as soon as it is known.
                each.when_free(lambda: self._end_execs(status, at))
                return
        if self._private:
            self._finish(status, at)
        else:
            # Nobody else ends what runs beside init (TSK-063). In a thread: whoever reaps must not wait for a command.
            threading.Thread(target=self._kill_rest, args=(status, at), name="kill", daemon=True).start()

    def _kill_rest(self, status: int, at: int) -> None:
        self._try("kill", "--all", self.id, _KILL)
        self._finish(status, at)

    def _finish(self, status: int, at: int) -> None:
        if self._oom is not None:
            self._oom.look()
        if self._quiet:
            self.init.status = STOPPED
            self.init.tell(refuse(f"task {self.id} was deleted before it was started"))
            return
        exit_ = self.init.end(status, at)
        self._paused = False
        self._teller.ended(self.init, exit_)
        self.init.tell(exit_)

    def kill(self, signal: int, *, all: bool) -> None:
        """Send a signal to init, or to everything in the container.

        Raises:
            NotFound: it has ended.
            Unknown: the signal cannot be sent.
        """
        if self.init.exit is not None:
            if not all:
                raise NotFound("process already finished")
            self._try("kill", "--all", self.id, str(signal))
            return
        if not self.init.pid:
            raise NotFound("process already finished")
        try:
            self.runtime.run("kill", *(["--all"] if all else []), self.id, str(signal))
        except OCIError as error:
            if error.gone:
                raise NotFound("process already finished") from error
            raise Unknown(f"unknown error after kill: {error}", bare=False) from error
        if str(signal) == _KILL and self._paused:
            # runc lets a frozen container go on, so that it can die; crun leaves it to die of old age (TSK-071).
            self._try("resume", self.id)

    def delete(self) -> Process:
        """End what is left and forget it; answers with init, whose exit is None if it never ran.

        Raises:
            Unknown: it runs, or its root file system is in use.
            NotFound: somebody else deleted it first.
        """
        with self._lock:
            if self._deleted:
                raise NotFound("container not created")
            if self.status in {RUNNING, PAUSED}:
                raise refuse(f"cannot delete a {self.status} process")
            waiting = self.status == CREATED
            self._quiet = waiting
            if waiting:
                self._end_waiting()
            self.execs.close(DRAIN_SECONDS)
            self.init.close_io(DRAIN_SECONDS)
            try:
                self.runtime.run("delete", *(["--force"] if waiting else []), self.id)
            except OCIError as error:
                if not error.gone:
                    raise error.as_unknown("delete") from error
            unmount_rootfs(self._host.children, self._rootfs)
            if self._oom is not None:
                self._oom.close()
            self._deleted = True
            self.init.tell(refuse(f"task {self.id} was deleted"))
            self._teller.deleted(self.init)
            return self.init

    def _end_waiting(self) -> None:
        """End an init that was never started, and have it reaped: nobody asks for it later."""
        if self.init.pid and self._restore is None:
            self._try("kill", self.id, _KILL)
            self.init.over_within(_REAP_SECONDS)

    def _try(self, *arguments: str) -> None:
        """Run a command of which nothing depends: what it is for may have come about without it."""
        try:
            self.runtime.run(*arguments)
        except OCIError:
            return

    # --- the whole

    def pause(self) -> None:
        """Freeze it.

        Raises:
            Unknown: the state does not allow it, or the OCI runtime fails.
        """
        with self._lock:
            self._require(RUNNING, "pause")
            self._run("pause", "pause", self.id)
            self._paused = True
            self._teller.paused()

    def resume(self) -> None:
        """Let it go on.

        Raises:
            Unknown: as for ``pause``.
        """
        with self._lock:
            self._require(PAUSED, "resume")
            self._run("resume", "resume", self.id)
            self._paused = False
            self._teller.resumed()

    def _require(self, wanted: str, verb: str) -> None:
        status = self.status
        if status == wanted:
            return
        if status == CREATED:
            raise refuse(f"cannot {verb} task in created state")
        raise refuse(f"cannot {verb} a {status} {'process' if status == RUNNING else 'container'}")

    def _run(self, doing: str, *arguments: str, stdin: bytes = b"") -> None:
        try:
            self.runtime.run(*arguments, stdin=stdin)
        except OCIError as error:
            raise error.as_unknown(doing) from error

    def update(self, resources: bytes) -> None:
        """Change its limits.

        Args:
            resources: JSON of the OCI specification's LinuxResources.

        Raises:
            InvalidArgument: there are none.
            Unknown: they cannot be read or set, or it has ended.
        """
        if not resources:
            raise InvalidArgument("an update needs resources")
        try:
            if not isinstance(json.loads(resources), dict):
                raise refuse("resources are no JSON object")
        except ValueError as error:
            raise refuse(f"resources are no JSON: {error}") from error
        with self._lock:
            if self.status == STOPPED:
                raise refuse("cannot update a stopped container")
            self._run("update", "update", "--resources", "-", self.id, stdin=resources)

    def pids(self) -> list[int]:
        """All its processes, as the host numbers them.

        Raises:
            Unknown: it is to be restored, and has none yet.
        """
        if self._cgroup is None:
            raise refuse(f"container {self.id} has no process yet")
        return self._cgroup.pids()

    @property
    def cgroup(self) -> Cgroup:
        """Where it is limited and measured.

        Raises:
            NotFound: it has none.
        """
        if self._cgroup is None:
            raise NotFound("cgroup does not exist")
        return self._cgroup

    def checkpoint(self, arguments: Sequence[str]) -> None:
        """Write down its processes (TSK-078).

        Args:
            arguments: for the OCI runtime's command, without the id.

        Raises:
            Unknown: the state does not allow it.
            OCIError: the OCI runtime fails.
        """
        with self._lock:
            status = self.status
            if status in {CREATED, STOPPED}:
                what = "task in created state" if status == CREATED else "stopped container"
                raise refuse(f"cannot checkpoint a {what}")
            self.runtime.run("checkpoint", *arguments, self.id)
