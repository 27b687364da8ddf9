"""A shim of the second runtime as the daemon holds it: its bundle, its log, the connection to it, and its end.

::

    start command -> connected -> (task created, deleted) -> connection ends -> delete command -> bundle removed

The end of the connection is the one thing that counts: whether a task was deleted, the shim died or was ended, the
clean-up is always the same (SHM-041, SHM-088). One process may serve several bundles; each has a connection of its own
(SHM-020). Clauses SHM-005 to SHM-011, SHM-032, SHM-040 to SHM-045, SHM-084 to SHM-091.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from refimpl.api import status
from refimpl.api import task_v2_pb2 as pb
from refimpl.backends.real.runtime.bundle import Bundle
from refimpl.backends.real.runtime.commands import Commands
from refimpl.backends.real.runtime.translation import shim_context
from refimpl.backends.real.runtime.watcher import Watcher, copier, open_log
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError, NotFound, Unavailable, Unknown
from refimpl.contract.runtimes import Exit
from refimpl.contract.types import TypedAny
from refimpl.ttrpc.client import Client, Closed

log = logging.getLogger("refimpl.runtime")

SERVICE = "containerd.task.v2.Task"
ADDRESS = "address"
BINARY = "shim-binary-path"

_BEFORE_CREATE = {"config.json", "rootfs", "work", "log", ADDRESS, BINARY}
"""Files of a bundle whose shim has not been asked for anything."""

_STDERR = 2
_LOST = 255
"""Exit status of which nobody knows (SHM-045)."""

A = TypeVar("A", bound=Message)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long shims may take, in seconds; 0 for as long as they like (SHM-085, SHM-091).

    Attributes:
        load: to answer after a restart of the daemon.
        cleanup: for the delete command.
        shutdown: to end.
    """

    load: float = 5.0
    cleanup: float = 5.0
    shutdown: float = 3.0


def within(seconds: float, namespace: str) -> CallContext:
    """A context of the daemon's own."""
    return CallContext(namespace, deadline=time.monotonic() + seconds if seconds else None)


class Shim:
    """One bundle's shim.

    Args:
        lost: called once, in a thread of its own, when the shim is gone and cleaned up: with how its task ended.

    Attributes:
        bundle: where it works.
        address: where it serves; empty before it does.
        cleaned: set when nothing is left to clean up, or when this daemon leaves it to the next one.
    """

    def __init__(self, commands: Commands, watcher: Watcher, patience: Patience, lost: Callable[[Exit], None]) -> None:
        self.bundle: Bundle = commands.bundle
        self.address = ""
        self.cleaned = threading.Event()
        self._commands = commands
        self._watcher = watcher
        self._patience = patience
        self._lost = lost
        self._client: Client | None = None
        self._left_alone = False
        self._forget_log: Callable[[], None] = lambda: None

    def start(self, ctx: CallContext, options: TypedAny | None) -> None:
        """Run the start command and connect; a failure leaves nothing but the bundle.

        Raises:
            Unknown: it failed (SHM-009), or nobody listens where it says (SHM-010).
            Canceled, DeadlineExceeded: the caller gave up (SHM-011).
        """
        self._follow_log()
        try:
            self._connect(self._commands.start(ctx, options))
            self.bundle.record(BINARY, self._commands.binary)
        except BaseException:
            self._end_unheard()
            raise

    def _end_unheard(self) -> None:
        """After a start that failed: the command may have made a process before it did, or before it was ended."""
        if self._client is None and (address := self.bundle.read(ADDRESS).strip()):
            with contextlib.suppress(ContainerdError):
                self._connect(address)
        if self._client is None:
            self._forget_log()
        else:
            # One that serves others already has no reason to end, and does not.
            self.shutdown()

    def reload(self) -> int:
        """Find a shim again that was started by an earlier daemon; answers with the pid of its task (SHM-082).

        Raises:
            NotFound: it never made the task; it is cleaned up.
            ContainerdError: there is no address, nobody listens, or it does not answer in time (SHM-084 to 086). It is
                not cleaned up.
        """
        address = self.bundle.read(ADDRESS).strip()
        if not address:
            raise Unknown("the bundle has no address of a shim")
        # First: a shim whose log has no reader is silent (SHM-032).
        self._follow_log()
        ctx = within(self._patience.load, self.bundle.namespace)
        try:
            self._connect(address)
            pid = self.connect_task(ctx)
            if not pid:
                # One that is to be restored has no process yet; any other was never made: the daemon died before.
                self.call(ctx, "State", pb.StateRequest(id=self.bundle.id), pb.StateResponse)
        except NotFound:
            self.shutdown()
            raise
        except ContainerdError:
            self.leave()
            raise
        return pid

    @property
    def binary(self) -> str:
        """Path of its program."""
        return self._commands.binary

    def process(self, ctx: CallContext) -> int:
        """The pid of the process that serves, as it says (SHM-051)."""
        return self.call(ctx, "Connect", pb.ConnectRequest(id=self.bundle.id), pb.ConnectResponse).shim_pid

    def connect_task(self, ctx: CallContext) -> int:
        """The pid of the task's init, as the shim knows it (SHM-051, SHM-052)."""
        return self.call(ctx, "Connect", pb.ConnectRequest(id=self.bundle.id), pb.ConnectResponse).task_pid

    def call(self, ctx: CallContext, method: str, request: Message, answer: type[A]) -> A:
        """Ask the shim.

        Raises:
            Closed: there is none any more.
            ContainerdError: what it answers.
        """
        if self._client is None:
            raise Closed
        return self._client.call(shim_context(ctx, self.bundle.namespace), SERVICE, method, request, answer)

    def shutdown(self) -> None:
        """Ask the shim to end, and hang up; back when all is cleaned up, whatever it answered (SHM-054)."""
        try:
            ctx = within(self._patience.shutdown, self.bundle.namespace)
            self.call(ctx, "Shutdown", pb.ShutdownRequest(id=self.bundle.id), Empty)
        except Closed:
            pass  # it was faster than its answer
        except ContainerdError as error:
            log.info("shim did not shut down", extra={"fields": {"id": self.bundle.id, "error": error}})
        if self._client is not None:
            self._client.close()
        self.cleaned.wait()
        if not self._left_alone and self.bundle.path.exists():
            # What it says to the delete command no longer matters: the first runc shim fails there when it had ended
            # in good order before (SHM-043).
            remove_bundle(self.bundle)

    def leave(self) -> None:
        """Hang up and leave the shim as it is; its task goes on. Idempotent."""
        self._left_alone = True
        if self._client is not None:
            self._client.close()
        self._forget_log()
        self.cleaned.set()

    def clean_up_at_start(self) -> None:
        """Clean up a shim that cannot be found again.

        Nobody is told, because nobody can listen yet. A bundle in which a shim has left nothing but its address is
        removed whatever the delete command says: the daemon died before it asked for a container, and runc's shim
        cannot delete what was never made (SHM-044).
        """
        self.clean_up()
        try:
            names = set(os.listdir(self.bundle.path))
        except FileNotFoundError:
            return
        if names <= _BEFORE_CREATE:
            remove_bundle(self.bundle)

    def clean_up(self) -> Exit:
        """Run the delete command and remove the bundle; answers with how the task ended.

        A shim that cannot say so leaves its bundle behind, because its processes may still run (SHM-045).
        """
        fields: dict[str, object] = {"id": self.bundle.id, "namespace": self.bundle.namespace}
        log.warning("cleaning up after shim disconnected", extra={"fields": fields})
        try:
            exit_, warnings = self._commands.delete(within(self._patience.cleanup, self.bundle.namespace))
        except ContainerdError as error:
            log.warning("failed to clean up after shim disconnected", extra={"fields": {**fields, "error": error}})
            return Exit(0, _LOST, time.time_ns())
        if warnings:
            log.warning("cleanup warnings %s", warnings.strip(), extra={"fields": fields})
        remove_bundle(self.bundle)
        return exit_

    def _follow_log(self) -> None:
        descriptor = open_log(str(self.bundle.path / "log"))
        self._forget_log = self._watcher.watch(descriptor, copier(descriptor, _STDERR))

    def _connect(self, address: str) -> None:
        try:
            self._client = Client.connect(address, on_close=self._closed)
        except Unavailable as error:
            raise Unknown(error.message) from error
        self.address = address

    def _closed(self) -> None:
        """The connection has ended. What waits for answers hears of it at once, so the rest is done elsewhere."""
        if not self._left_alone:
            threading.Thread(target=self._after_the_end, name="refimpl-shim-cleanup", daemon=True).start()

    def _after_the_end(self) -> None:
        log.info("shim disconnected", extra={"fields": {"id": self.bundle.id, "namespace": self.bundle.namespace}})
        try:
            self._lost(self.clean_up())
        finally:
            self._forget_log()
            self.cleaned.set()


def remove_bundle(bundle: Bundle) -> None:
    """Remove a bundle; one that cannot be removed is logged, and found again by the next start."""
    try:
        bundle.remove()
    except OSError as error:
        fields = {"id": bundle.id, "namespace": bundle.namespace, "error": status.text_of(error)}
        log.error("failed to delete bundle", extra={"fields": fields})
