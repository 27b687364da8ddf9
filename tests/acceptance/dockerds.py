"""A ``dockerd`` beside a daemon, for tests of what it sees of that daemon; all of it lies below the daemon's base.

It has no bridge, touches no rule of the packet filter, and its containers have a network of their own without any
interface but the loopback. Containers live in the daemon's own namespace and below a control group of that name.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance import daemons, images, real_tasks
from tests.acceptance.real_tasks import RealDaemon

COMMANDS = ("dockerd", "docker", "docker-init", "containerd", "containerd-shim-runc-v2", "runc", "busybox")
"""What the tests need from Debian's packages."""

IMAGE = "programs"

_POLL_SECONDS = 0.1

_DEBIANS = Path("/usr/bin/docker")
"""Preferred to another one on the PATH: the client's own words differ from version to version."""

_PLUGINS = Path("/run/docker/plugins")
"""dockerd makes this one wherever its own directories are."""

_DOCKERFILE = f"""FROM {images.DOCKER_NAME} AS tools
RUN ["busybox", "--install", "-s", "/bin"]
FROM scratch
COPY --from=tools /bin /bin
COPY --from=tools /etc/passwd /etc/group /etc/
CMD ["sleep", "1000"]
"""

_OF_THE_MACHINE = ("Your kernel does not support ", "IPv4 forwarding is disabled")
"""Warnings that say something of the machine, not of the daemon."""


@dataclass
class Dockerd:
    """One dockerd, running or not, and the client that speaks to it.

    Attributes:
        daemon: the one that it is told to use.
        process: the one last started.
    """

    daemon: RealDaemon
    process: subprocess.Popen[bytes] | None = None
    _seen: int = 0

    @property
    def base(self) -> Path:
        """Holds data, state, socket, log, and the client's configuration."""
        return self.daemon.base / "docker"

    @property
    def log(self) -> str:
        """What dockerd has said so far."""
        return (self.base / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start the process, and wait until it answers.

        Raises:
            AssertionError: it ended, or does not answer in time.
        """
        base, namespace = self.base, self.daemon.namespace
        (base / "client").mkdir(parents=True, exist_ok=True)
        (base / "daemon.json").write_text(json.dumps({"deprecated-key-path": str(base / "key.json")}))
        command = [
            "dockerd",
            f"--config-file={base / 'daemon.json'}",
            f"--containerd={self.daemon.socket}",
            f"--containerd-namespace={namespace}",
            f"--containerd-plugins-namespace={namespace}-plugins",
            f"--cgroup-parent=/{namespace}",
            f"--data-root={base / 'data'}",
            f"--exec-root={base / 'exec'}",
            f"--host=unix://{base / 'sock'}",
            f"--pidfile={base / 'pid'}",
            "--group=root",
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--userland-proxy=false",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            # Works on whatever file system the temporary directory is.
            "--storage-driver=vfs",
            "--live-restore",
        ]
        with (base / "log").open("ab") as log:
            process = self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=base, start_new_session=True
            )
        self.waits(lambda: self.docker("version")[0] == 0 or process.poll() is not None, "dockerd does not answer")
        assert process.poll() is None, f"dockerd has ended: {self.log[-4000:]}"

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal, and wait for the end."""
        assert self.process is not None, "stop() without start()"
        self.process.send_signal(how)
        self.process.wait(real_tasks.SECONDS)

    def docker(self, *words: str, stdin: str = "", seconds: float = real_tasks.SECONDS) -> tuple[int, str, str]:
        """Status, standard output and standard error of one command; the status is -1 if it hangs."""
        try:
            done = subprocess.run(
                [_client(), *words],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=seconds,
                env=self._environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return -1, str(error.stdout), f"{words} hangs: {error.stderr!r}"
        return done.returncode, done.stdout, done.stderr

    def does(self, *words: str) -> str:
        """Standard output of one command that must succeed, without the last newline."""
        code, out, error = self.docker(*words)
        assert code == 0, f"docker {' '.join(words)}: {out}{error}\n{self.log[-2000:]}"
        return out.removesuffix("\n")

    def run(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        """``docker run --rm``."""
        return self.docker("run", "--rm", "--network", "none", *words, stdin=stdin)

    def starts(self, name: str, *words: str) -> None:
        """``docker run -d``."""
        self.does("run", "-d", "--network", "none", "--name", name, *words)

    @contextmanager
    def beside(self, *words: str, terminal: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command beside what follows, on pipes or on a terminal; it is ended on leaving."""
        pipe = subprocess.PIPE if terminal is None else terminal
        with subprocess.Popen(
            [_client(), *words], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=self._environment()
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def state(self, name: str) -> dict[str, Any]:
        """What ``docker inspect`` says of a container, ``RestartCount`` and ``ID`` beside the members of its state."""
        found: dict[str, Any] = json.loads(self.does("inspect", name))[0]
        return {**found["State"], "RestartCount": found["RestartCount"], "ID": found["Id"]}

    def becomes(self, name: str, **wanted: object) -> None:
        """Wait until ``state`` has these members."""
        self.waits(lambda: wanted.items() <= self.state(name).items(), f"{name} is never {wanted}")

    def waits(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something holds; a look costs a process, so that there are few of them."""
        deadline = time.monotonic() + real_tasks.SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"{what}:\n{self.log[-4000:]}"
            time.sleep(_POLL_SECONDS)

    def pid(self, name: str) -> int:
        """The first process of a container, as the host knows it."""
        return int(self.state(name)["Pid"])

    def limit(self, name: str, first: str, second: str) -> str:
        """A file of a container's control group: ``controller/file`` of version 1, or a file of version 2."""
        groups = self.daemon.groups(self.state(name)["ID"])
        controller, _, file = first.partition("/")
        path = groups[""] / second if "" in groups else groups[controller] / file
        return path.read_text(encoding="ascii").strip()

    def events(self, since: float, name: str) -> list[str]:
        """What dockerd has told of a container: each action, with the exit status or the signal if there is one."""
        now = f"{time.time():.9f}"
        text = self.does(
            "events",
            "--since",
            f"{since:.9f}",
            "--until",
            now,
            "--filter",
            f"container={name}",
            "--format",
            "{{json .}}",
        )
        found = []
        for event in map(json.loads, text.splitlines()):
            attributes = event["Actor"]["Attributes"]
            words = [event["Action"], *(attributes[key] for key in ("exitCode", "signal") if key in attributes)]
            if event["Type"] == "container":
                found.append(" ".join(words))
        return found

    def complaints(self) -> list[str]:
        """What dockerd has said since the last look, from warnings on, but for what is the machine's fault."""
        text = self.log
        fresh, self._seen = text[self._seen :], len(text)
        lines = [line for line in fresh.splitlines() if re.search(r"level=(warning|error|fatal)|^panic", line)]
        return [line for line in lines if not any(words in line for words in _OF_THE_MACHINE)]

    def load(self, archive: Path) -> None:
        """Make the image with the classic builder: one step runs in a container, and the result stands on nothing."""
        context = self.base / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(_DOCKERFILE)
        self.does("load", "-i", str(archive))
        self.does("build", "--network", "none", "-t", IMAGE, str(context))

    def remove_all(self) -> None:
        """Remove all containers, by force; also those that somebody is removing already."""

        def none() -> bool:
            if names := self.does("ps", "-aq").split():
                self.docker("rm", "-f", *names)
            return not names

        self.waits(none, "containers stay")

    def left(self) -> list[str]:
        """What there is of containers on this machine."""
        kept = [*(self.base / "exec").glob("containerd/*"), *(self.base / "exec").glob("runtime-runc/*/*")]
        found = [*self.daemon.left(), *map(str, kept), *map(str, (self.base / "data" / "containers").glob("*"))]
        # Its data directory is mounted on itself; one that has been started twice does not undo that.
        return [path for path in found if path != str(self.base / "data")]

    def end(self) -> None:
        """End whatever there is of it, and of the daemon, also without their help."""
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self.daemon.end()
        self.daemon.clear()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDKIT_"))}
        own = {"DOCKER_HOST": f"unix://{self.base / 'sock'}", "DOCKER_CONFIG": str(self.base / "client")}
        # The other builder speaks to no containerd.
        return {**kept, **own, "DOCKER_BUILDKIT": "0"}


@contextmanager
def dockerd(base: Path, kind: str, archive: Path) -> Iterator[Dockerd]:
    """A daemon and a dockerd beside it, with the image; nothing of them is there on leaving.

    Args:
        kind: ``containerd``; ``refimpl``; or ``shim``, which is refimpl with our own shim in the place of runc's, whose
            name dockerd has built in.
        archive: as ``docker save`` writes it, with a busybox.
    """
    plain = daemons.containerd(base) if kind == "containerd" else daemons.refimpl(base, backends="real")
    daemon = RealDaemon(plain.command, base, env=dict(plain.env))
    if kind == "shim":
        _put_shim(daemon)
    made = not _PLUGINS.parent.exists()
    found = Dockerd(daemon)
    try:
        daemon.start()
        found.start()
        found.load(archive)
        yield found
    finally:
        found.end()
        if made:
            for path in (_PLUGINS, _PLUGINS.parent):
                with suppress(OSError):
                    path.rmdir()


def _put_shim(daemon: RealDaemon) -> None:
    tools = daemon.base / "bin"
    tools.mkdir()
    real_tasks._program(tools / "containerd-shim-runc-v2", real_tasks._SHIM.format(python=sys.executable))
    daemon.env = {**daemon.env, "PATH": f"{tools}:{os.environ['PATH']}"}


@functools.cache
def _client() -> str:
    return str(_DEBIANS) if _DEBIANS.exists() else shutil.which("docker") or "docker"
