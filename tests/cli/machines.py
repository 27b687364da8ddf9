"""Machines to run containers on: refimpl on fakes, refimpl on real backends, and the real containerd.

``refimpl run`` and its like are programs that own signals and a terminal, so here they run in processes of their own.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

from refimpl.cli import main
from refimpl.client import Client
from refimpl.client.archive import import_archive
from refimpl.client.running import remove
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.snapshots import Kind
from tests.acceptance import daemons, images, real_tasks
from tests.acceptance.test_ctr_tasks import Told

SECONDS = 60.0

_PLAIN = frozenset({"ps", "stop", "rm"})


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass
class Machine:
    """A running daemon with the image of ``images.programs``.

    Attributes:
        daemon: with what a test must not leave on the machine, unless all is fake.
        folder: where commands make their fifos.
    """

    daemon: real_tasks.RealDaemon
    real: bool
    folder: Path
    ctx: CallContext = field(init=False)

    def __post_init__(self) -> None:
        self.ctx = CallContext(namespace=self.daemon.namespace)

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Done:
        """Run ``refimpl`` to its end; a command without streams and signals of its own in this process."""
        if arguments[0] in _PLAIN or "-d" in arguments:
            out, err = io.StringIO(), io.StringIO()
            here = ("--address", str(self.daemon.socket), "--namespace", self.daemon.namespace)
            with redirect_stdout(out), redirect_stderr(err):
                status = main([arguments[0], *here, *arguments[1:]])
            return Done(status, out.getvalue(), err.getvalue())
        done = subprocess.run(
            self._command(arguments),
            input=stdin,
            capture_output=True,
            timeout=SECONDS,
            env=self._environment,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextmanager
    def beside(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Told]]:
        """Run ``refimpl`` beside what follows, with what it prints; killed on leaving."""
        with subprocess.Popen(
            self._command(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=self._environment
        ) as process:
            assert process.stdout is not None
            try:
                yield process, Told(process.stdout.fileno())
            finally:
                process.kill()

    @contextmanager
    def terminal(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """Run ``refimpl`` on a terminal of 77 columns and 23 lines, with its other side; killed on leaving."""
        ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 23, 77, 0, 0))
            command = self._command(arguments)
            with subprocess.Popen(
                command, stdin=theirs, stdout=theirs, stderr=theirs, env=self._environment
            ) as process:
                try:
                    yield process, ours
                finally:
                    process.kill()
        finally:
            os.close(ours)
            os.close(theirs)

    @contextmanager
    def client(self) -> Iterator[Client]:
        with Client(str(self.daemon.socket)) as client:
            yield client

    def left(self) -> list[str]:
        """What containers have left in the daemon and on the machine, and commands in their folder."""
        with self.client() as client:
            found = [one.id for one in client.containers.list(self.ctx)]
            found += [task.id for task in client.tasks.list(self.ctx)]
            found += [
                one.name for one in client.snapshotter("overlayfs").walk(self.ctx) if one.kind.name != "COMMITTED"
            ]
            found += [lease.id for lease in client.leases.list(self.ctx)]
        found += [path.name for path in self.folder.iterdir()]
        return found + (self.daemon.left() if self.real else [])

    def leaves_nothing(self) -> None:
        """Shims end a moment after their task."""
        deadline = time.monotonic() + SECONDS
        while found := self.left():
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def clear(self) -> None:
        """Take away what a test that failed has left, so that no other one meets it, nor its own second try."""
        with self.client() as client:
            for container in client.containers.list(self.ctx):
                with suppress(ContainerdError):
                    remove(self.ctx, client, container.id, force=True)
            # Of commands that were killed on their way.
            snapshots = client.snapshotter("overlayfs")
            for info in [*snapshots.walk(self.ctx)]:
                if info.kind is not Kind.COMMITTED:
                    with suppress(ContainerdError):
                        snapshots.remove(self.ctx, info.name)
            for lease in client.leases.list(self.ctx):
                client.leases.delete(self.ctx, lease.id)
        for path in self.folder.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "refimpl", *arguments]

    @property
    def _environment(self) -> dict[str, str]:
        ours = {"CONTAINERD_ADDRESS": str(self.daemon.socket), "CONTAINERD_NAMESPACE": self.daemon.namespace}
        return {**os.environ, **ours, "TMPDIR": str(self.folder)}


@contextmanager
def machine(kind: str, base: Path) -> Iterator[Machine]:
    """A machine: ``fake``, ``real`` or ``containerd``.

    Args:
        base: not yet there; its name is short, for sockets lie below it.
    """
    base.mkdir()
    folder = base / "tmp"
    folder.mkdir()
    archive = images.build(_made(base / "images"), images.program()).programs
    plain = daemons.containerd(base / "d") if kind == "containerd" else daemons.refimpl(base / "d", backends=kind)
    daemon = real_tasks.RealDaemon(plain.command, plain.base, env=dict(plain.env))
    daemon.start()
    try:
        made = Machine(daemon, kind != "fake", folder)
        with made.client() as client:
            import_archive(made.ctx, client, archive)
        try:
            yield made
        finally:
            made.clear()
    finally:
        daemon.end()
        daemon.clear()


def _made(path: Path) -> Path:
    path.mkdir()
    return path
