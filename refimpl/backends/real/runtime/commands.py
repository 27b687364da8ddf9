"""The two commands of a shim of the second runtime: ``start`` and ``delete``.

Clauses SHM-005 to SHM-011, SHM-038, SHM-040 to SHM-045, SHM-091.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from refimpl.api import status
from refimpl.api.task_v2_pb2 import DeleteResponse
from refimpl.backends.real.runtime.bundle import Bundle
from refimpl.backends.real.runtime.translation import message, nanoseconds
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.contract.runtimes import Exit
from refimpl.contract.types import TypedAny

log = logging.getLogger("refimpl.runtime")


@dataclass(frozen=True, slots=True)
class Daemon:
    """What shims are told of the daemon.

    Attributes:
        address, ttrpc_address: paths of its sockets.
        program: a program that publishes events (``runtime.program``).
        debug: whether it logs at debug level.
        sched_core: whether shims are to ask for core scheduling (SHM-038).
    """

    address: str
    ttrpc_address: str
    program: str
    debug: bool = False
    sched_core: bool = False


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of one shim.

    Attributes:
        binary: path of the shim.
    """

    daemon: Daemon
    binary: str
    bundle: Bundle

    def start(self, ctx: CallContext, options: TypedAny | None) -> str:
        """Have the shim start serving; answers with its address, as it was printed (SHM-008).

        Raises:
            Unknown: it failed; the text holds what it printed (SHM-009).
            Canceled, DeadlineExceeded: the caller gave up; the command was ended (SHM-011).
        """
        packed = message(options)
        flags = ("-debug",) if self.daemon.debug else ()
        given = b"" if packed is None else packed.SerializeToString()
        ended = self._run(ctx, [*self._arguments(), *flags, "start"], given, together=True)
        if ended.returncode:
            text = ended.stdout.decode(errors="replace")
            raise Unknown(f"{text}: {_how(ended.returncode)}")
        return ended.stdout.decode(errors="surrogateescape").strip()

    def delete(self, ctx: CallContext) -> tuple[Exit, str]:
        """Have what is left of the container ended; answers with what the shim says of it, and its warnings.

        Raises:
            Unknown: it failed, or printed something else (SHM-045).
            Canceled, DeadlineExceeded: it took too long, and was ended (SHM-091).
        """
        arguments = [*self._arguments(), "-bundle", str(self.bundle.path), "delete"]
        ended = self._run(ctx, arguments, b"", together=False)
        warnings = ended.stderr.decode(errors="replace")
        if ended.returncode:
            raise Unknown(f"{warnings}: {_how(ended.returncode)}")
        try:
            told = DeleteResponse.FromString(ended.stdout)
        except DecodeError as error:
            raise Unknown(f"the answer to delete does not parse: {error}") from error
        return Exit(told.pid, told.exit_status, nanoseconds(told.exited_at)), warnings

    def _arguments(self) -> list[str]:
        """In the order that shims are used to (SHM-005)."""
        daemon, bundle = self.daemon, self.bundle
        words = ["-namespace", bundle.namespace, "-address", daemon.address, "-publish-binary", daemon.program]
        return [self.binary, *words, "-id", bundle.id]

    def _run(
        self, ctx: CallContext, arguments: list[str], given: bytes, *, together: bool
    ) -> subprocess.CompletedProcess[bytes]:
        ctx.check()
        environment = {**os.environ, "GOMAXPROCS": "2", "TTRPC_ADDRESS": self.daemon.ttrpc_address}
        if self.daemon.sched_core:
            environment["SCHED_CORE"] = "1"
        log.debug("running shim command", extra={"fields": {"command": arguments, "path": self.bundle.path}})
        try:
            process = subprocess.Popen(
                arguments,
                cwd=self.bundle.path,
                env=environment,
                stdin=subprocess.PIPE if given else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if together else subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            reason = status.text_of(OSError(error.errno, error.strerror))
            raise Unknown(f": fork/exec {self.binary}: {reason}") from error
        return _finished(ctx, process, given)


def _finished(ctx: CallContext, process: subprocess.Popen[bytes], given: bytes) -> subprocess.CompletedProcess[bytes]:
    """Wait for a process as long as the caller does; then end it, with all that it has started in its group."""

    def end() -> None:
        # Asked first: once it was waited for, its number may be somebody else's.
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    if ctx.cancel is not None:
        ctx.cancel.on_cancel(end)
    try:
        left = None if ctx.deadline is None else max(0.0, ctx.deadline - time.monotonic())
        try:
            out, err = process.communicate(given or None, left)
        except subprocess.TimeoutExpired:
            end()
            out, err = process.communicate()
    finally:
        if ctx.cancel is not None:
            ctx.cancel.forget(end)
    if process.returncode:
        # It may have ended because the caller gave up.
        ctx.check()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err or b"")


def _how(returncode: int) -> str:
    if returncode < 0:
        name = signal.strsignal(-returncode) or str(-returncode)
        return f"signal: {name.lower()}"
    return f"exit status {returncode}"
