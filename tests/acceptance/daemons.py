"""Starting and stopping the two daemons that are compared, each on a directory of its own.

Everything a daemon writes lies under one base directory. Starting waits for the socket, stopping for the end of the
process, both with a limit; a daemon that is not ready in time is killed and its log is the error message.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

# They end what hangs. A machine that others use as well may stand still for seconds, and all of this comes later then.
READY_SECONDS = 60.0
STOP_SECONDS = 60.0
COMMAND_SECONDS = 60.0
_CONNECT_SECONDS = 40
_POLL_SECONDS = 0.02
_AGAIN = 4

# The console script's own line, so that any interpreter that has the modules can run it.
_REFIMPL = "import sys; from refimpl.cli import main; sys.argv[0] = 'refimpl'; sys.exit(main())"


@dataclass(frozen=True)
class Result:
    """How a command ended. ``code`` is -1 if it had to be stopped because it took too long."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass
class Daemon:
    """A daemon under a base directory, running or not.

    Attributes:
        command: What starts it.
        base: Holds ``root``, ``state``, ``work`` (the commands' working directory), ``c.sock`` and ``log``.
        user: The uid for the daemon and for ``ctr``, or None for the caller's own.
        env: Extra environment for the daemon.
        wrapper: What every ``ctr`` is run by, such as ``unshare``; nothing for none.
    """

    command: Sequence[str]
    base: Path
    user: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    wrapper: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.base / "c.sock"

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def state(self) -> Path:
        return self.base / "state"

    @property
    def work(self) -> Path:
        return self.base / "work"

    @property
    def log(self) -> str:
        """What the daemon has said so far."""
        path = self.base / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process, in a session of its own so that what it leaves behind can be found, and do not wait."""
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.work,
                env=self._environment(self.env),
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=_groups(self.user),
            )
        return self.process

    def start(self) -> None:
        """Start the process and wait until its socket takes connections.

        Raises:
            AssertionError: It ended, or was not ready within ``READY_SECONDS``; the message holds the log.
        """
        process = self.spawn()
        for _ in range(round(READY_SECONDS / _POLL_SECONDS)):
            if self.answers():
                return
            try:
                code = process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"{self.command[0]} ended with status {code} while starting:\n{self.log[-4000:]}")
        self.stop(signal.SIGKILL)
        raise AssertionError(f"{self.command[0]} was not ready within {READY_SECONDS:g} s:\n{self.log[-4000:]}")

    def refuses_to_start(self) -> int:
        """Start the process in the expectation that it ends by itself, and return its exit status.

        Raises:
            AssertionError: It went on for ``READY_SECONDS``; it has been killed.
        """
        try:
            return self.spawn().wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            self.stop(signal.SIGKILL)
            raise AssertionError(f"{self.command[0]} runs, and should not:\n{self.log[-4000:]}") from None

    def answers(self) -> bool:
        """Whether somebody takes connections on the socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; whoever ignores it is killed.

        Returns:
            The exit status as ``subprocess`` counts it, negative for a signal.

        Raises:
            AssertionError: The process did not end within ``STOP_SECONDS``.
        """
        assert self.process is not None, "stop() without start()"
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
            raise AssertionError(f"no end within {STOP_SECONDS:g} s of {how.name}:\n{self.log[-4000:]}") from None

    def end(self) -> None:
        """Kill it if it runs; for cleaning up after a test that failed in the middle."""
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)

    def session(self) -> list[int]:
        """The processes, other than zombies, that are in the session of the daemon last started."""
        assert self.process is not None, "session() without start()"
        return [pid for pid, session in _sessions().items() if session == self.process.pid]

    def ctr(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Result:
        """Run ``ctr`` against this daemon, as its user, in its working directory."""
        try:
            done = subprocess.run(
                self._argv(arguments),
                input=stdin,
                capture_output=True,
                timeout=COMMAND_SECONDS,
                cwd=self.work,
                env=self._environment(env or {}),
                check=False,
                user=self.user,
                group=self.user,
                extra_groups=_groups(self.user),
            )
        except subprocess.TimeoutExpired as error:
            return Result(-1, error.stdout or b"", error.stderr or b"")
        return Result(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def background(self, *arguments: str, terminal: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``ctr`` beside what follows, standard input and output pipes or a terminal; it is ended on leaving."""
        pipe = subprocess.PIPE if terminal is None else terminal
        with subprocess.Popen(
            self._argv(arguments),
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            cwd=self.work,
            env=self._environment({}),
            user=self.user,
            group=self.user,
            extra_groups=_groups(self.user),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def _argv(self, arguments: Sequence[str]) -> list[str]:
        patience = f"{_CONNECT_SECONDS}s"  # of its own it has ten
        return [*self.wrapper, "ctr", "--address", str(self.socket), "--connect-timeout", patience, *arguments]

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        # Another user can write neither coverage data nor into our temporary directory, and what the caller's ctr would
        # talk to is no matter here.
        unwanted = ("CONTAINERD_", "COVERAGE_", "TMPDIR") if self.user is not None else ("CONTAINERD_",)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        return {**kept, **extra}


def printed(run: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """What a command tells that runs a program which prints; again, if nothing came out.

    ``ctr`` forgets output of a program that has ended before it has noticed that its own side of the fifos is open: on
    a machine under load with one run of a hundred, whoever is the daemon.
    """
    found = run()
    for _ in range(_AGAIN):
        if found[1]:
            break
        found = run()
    return found


def containerd(base: Path) -> Daemon:
    """The installed containerd; needs root. May share its base with a ``refimpl`` that does not run meanwhile."""
    daemon = Daemon(["containerd", "--config", str(base / "config.toml")], base)
    _make_directories(daemon)
    write_config(daemon)
    return daemon


def refimpl(base: Path, user: int | None = None, *, config: bool = True, backends: str = "fake") -> Daemon:
    """``refimpl serve``, as a user of one's choice, with the same configuration file or without any."""
    daemon = Daemon([], base, user, {"PYTHONPATH": os.pathsep.join(_import_path())})
    _make_directories(daemon)
    places = ["--root", str(daemon.root), "--state", str(daemon.state), "--address", str(daemon.socket)]
    daemon.command = [interpreter(user), "-c", _REFIMPL, "serve", "--backends", backends, *places]
    if config:
        write_config(daemon)
        daemon.command = [*daemon.command, "--config", str(base / "config.toml")]
    return daemon


def write_config(daemon: Daemon, extra: str = "") -> None:
    """The stock configuration but for its paths and for the collection shortly after the start.

    That one would come at a moment that depends on the machine, between any two steps of a script.
    """
    (daemon.base / "config.toml").write_text(
        f'version = 2\nroot = "{daemon.root}"\nstate = "{daemon.state}"\n'
        f'[grpc]\naddress = "{daemon.socket}"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\npath = "{daemon.base / "opt"}"\n'
        f'[plugins."io.containerd.gc.v1.scheduler"]\nstartup_delay = "0s"\n{extra}'
    )


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """The daemon, started, and stopped on leaving whatever happens."""
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def nobody() -> int:
    """The uid of the user who owns nothing."""
    return pwd.getpwnam("nobody").pw_uid


@cache
def interpreter(user: int | None) -> str:
    """A Python that ``user`` may execute and that finds refimpl and its libraries: this one, or the distribution's.

    Raises:
        LookupError: There is none, for instance because this one lies in a home directory.
    """
    if user is None:
        return sys.executable
    _open_the_way()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())}
    for candidate in (sys.executable, f"/usr/bin/{version}"):
        probe = [candidate, "-c", "import grpc, pluggy, refimpl"]
        try:
            done = subprocess.run(
                probe,
                capture_output=True,
                cwd="/",
                env=environment,
                timeout=60,
                check=False,
                user=user,
                group=user,
                extra_groups=[],
            )
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    raise LookupError(f"uid {user} can run neither {sys.executable} nor a {version} of the distribution with refimpl")


def lacks_ctr() -> str:
    """Why no ``ctr`` can be run here, or the empty string."""
    return "" if shutil.which("ctr") else "the command ctr is not installed (Debian package containerd)"


def lacks_containerd() -> str:
    """Why the real daemon cannot be run here, or the empty string."""
    if not shutil.which("containerd"):
        return "the daemon containerd is not installed (Debian package containerd)"
    return "" if os.geteuid() == 0 else "containerd needs root"


def ctr_version() -> str:
    """What ``ctr --version`` says, e.g. ``1.6.20~ds1``."""
    done = subprocess.run(["ctr", "--version"], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.split()[-1]


def _make_directories(daemon: Daemon) -> None:
    daemon.base.mkdir(parents=True, exist_ok=True)
    daemon.base.chmod(0o755)
    daemon.work.mkdir(exist_ok=True)
    if daemon.user is not None:
        for path in (daemon.base, daemon.work):
            os.chown(path, daemon.user, daemon.user)


def _groups(user: int | None) -> list[int] | None:
    """The supplementary groups for ``subprocess``: none of root's for somebody else, one's own for oneself."""
    return None if user is None else []


def _import_path() -> list[str]:
    """Where this process finds its modules, for a Python that has a standard library of its own."""
    library = Path(sysconfig.get_path("stdlib"))
    return [
        path
        for path in sys.path
        if path and Path(path).is_dir() and Path(path) not in {library, library / "lib-dynload"}
    ]


def _open_the_way() -> None:
    """Let others pass through tox's directory, which tox closes to them: our libraries lie behind it."""
    for path in _import_path():
        for parent in Path(path).parents:
            if parent.name == ".tox":
                parent.chmod(parent.stat().st_mode | 0o011)


def _sessions() -> dict[int, int]:
    """Session id by pid, of all processes but zombies."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command's name is in parentheses and may hold spaces: count from the last one.
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # the process ended between the listing and the reading
        if state != "Z":
            found[int(stat.parent.name)] = int(session)
    return found
