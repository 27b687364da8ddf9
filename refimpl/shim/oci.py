"""An OCI runtime, driven by command: runc, crun, or whatever has their command line (SHM-066, SHM-067, TSK-008)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from refimpl.contract.errors import Unknown
from refimpl.shim.children import Children, FileActions

if TYPE_CHECKING:
    from refimpl.contract.context import CallContext

ROOT = "/run/containerd/runc"
"""Where the runtime keeps its state, a directory for each namespace, unless the options say otherwise."""

DEFAULT = "runc"
"""The runtime that is run unless the options name another."""

_GONE = ("does not exist", "not running", "already finished", "no such process", "no such file or directory")
"""How runc and crun say that a container or its process is gone."""

_LOG_TAIL = 1 << 16
_NOT_FOR_CHILDREN = {"NOTIFY_SOCKET", "TTRPC_ADDRESS"}


class OCIError(Exception):
    """A command of the runtime failed.

    Attributes:
        said: what it wrote to its output.
        logged: the last error in its log; empty where there is none.
    """

    def __init__(self, message: str, said: str = "", logged: str = "") -> None:
        super().__init__(message)
        self.said, self.logged = said, logged

    @property
    def gone(self) -> bool:
        """Whether it failed because what it was about is not there any more."""
        text = f"{self.said} {self.logged}".lower()
        return any(word in text for word in _GONE)

    def as_unknown(self, doing: str) -> Unknown:
        """The error that goes to the daemon: what was tried, and what the runtime says of it."""
        return Unknown(f"OCI runtime {doing} failed: {self.logged or self}", bare=False)


class OCIRuntime:
    """The runtime of one container.

    Args:
        children: starts and reaps its commands.
        bundle: directory of the container, where the log is kept.
        namespace: decides, with ``root``, where the runtime keeps its state.
        binary: name or path; empty for the default.
        root: directory for the state of all namespaces; empty for the default.
        systemd_cgroup: have systemd make the cgroups.
    """

    def __init__(
        self,
        children: Children,
        bundle: str,
        namespace: str,
        *,
        binary: str = "",
        root: str = "",
        systemd_cgroup: bool = False,
    ) -> None:
        self._children = children
        self._log = os.path.join(bundle, "log.json")
        self._binary = binary or DEFAULT
        self._global = ["--root", os.path.join(root or ROOT, namespace), "--log", self._log, "--log-format", "json"]
        if systemd_cgroup:
            self._global.append("--systemd-cgroup")

    def run(self, *arguments: str, stdin: bytes = b"", ctx: CallContext | None = None) -> str:
        """Run a command; answers with its output, both streams together.

        Args:
            ctx: of a caller who may give up, which ends the command; None for one that has to come to its end.

        Raises:
            OCIError: it failed, or could not be run.
            Canceled, DeadlineExceeded: the caller gave up.
        """
        output = os.memfd_create("output")
        given = os.memfd_create("input") if stdin else -1
        try:
            source = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
            if stdin:
                os.write(given, stdin)
                os.lseek(given, 0, os.SEEK_SET)
                source = (os.POSIX_SPAWN_DUP2, given, 0)  # type: ignore[assignment]
            actions = [source, (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
            self._execute(ctx, arguments, actions, output)
            return _content(output)
        finally:
            os.close(output)
            if given >= 0:
                os.close(given)

    def run_with(self, ctx: CallContext, streams: Sequence[int], *arguments: str) -> None:
        """Run a command whose standard streams become those of a container's process.

        Args:
            ctx: of the caller; who gives up ends the command.
            streams: descriptors for 0, 1 and 2; negative for ``/dev/null``.

        Raises:
            OCIError: it failed, or could not be run.
            Canceled, DeadlineExceeded: the caller gave up.
        """
        actions = [
            (os.POSIX_SPAWN_DUP2, descriptor, number)
            if descriptor >= 0
            else (os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0)
            for number, descriptor in enumerate(streams)
        ]
        self._execute(ctx, arguments, actions, -1)

    def _execute(self, ctx: CallContext | None, arguments: Sequence[str], actions: FileActions, output: int) -> None:
        before = self._log_size()
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
        try:
            command = self._children.spawn([self._binary, *self._global, *arguments], environment, actions)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OCIError(f"cannot run {self._binary}: {reason}") from error
        status = self._children.wait(command, ctx)
        if status and ctx is not None:
            # It may have ended because the caller gave up.
            ctx.check()
        if status:
            said = _content(output) if output >= 0 else ""
            program = os.path.basename(self._binary)
            message = f"{program} did not terminate successfully: exit status {status}: {said}"
            raise OCIError(message, said, self._last_error(before))

    def _log_size(self) -> int:
        try:
            return os.stat(self._log).st_size
        except FileNotFoundError:
            return 0

    def _last_error(self, since: int) -> str:
        """The last line of level error that came to the log since it had that size."""
        try:
            with open(self._log, "rb") as file:
                file.seek(max(since, self._log_size() - _LOG_TAIL))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return ""
        for line in reversed(lines):
            with contextlib.suppress(ValueError, AttributeError):
                entry = json.loads(line)
                if entry.get("level") in {"error", "fatal"}:
                    return str(entry.get("msg", "")).strip()
        return ""


def _content(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")
