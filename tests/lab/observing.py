"""What a daemon tells of the cgroups of its tasks: run in the guest, the answer is a JSON file.

``python -m tests.lab.observing DAEMON FILE`` starts the real ``containerd``, or ``refimpl`` with real backends, and
lets it run containers by Debian's shim and by ours. Of each it notes what ``ctr tasks metrics``, the page of metrics
and the files of the cgroup say at one moment, and what happens when memory runs out. It judges nothing:
``test_cgroup_v2`` does, on the host.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.acceptance import daemons, images

GROUPS = Path("/sys/fs/cgroup/default")
IMAGE = images.PROGRAMS_NAME
DISK = "/dev/ubda"
"""The block device that the host gives to the guest."""

MEBI = 1 << 20
LIMIT = 64 * MEBI
PIDS_LIMIT = 55
LITTLE = 16 * MEBI
"""Bytes of a container that asks for more."""

RUNTIMES = {"debian": "io.containerd.runc.v2", "ours": "io.containerd.refimpl.v1"}

FILES = (
    "cpu.stat", "io.stat", "memory.current", "memory.events", "memory.max", "memory.stat", "memory.swap.current",
    "memory.swap.max", "pids.current", "pids.max",
)  # fmt: skip

# The guest has a network of its own: nobody else can have this port.
_ADDRESS = "127.0.0.1:1338"
_SECONDS = 60.0
_NAME = "containerd-shim-refimpl-v1"
_MAIN = "import sys\nsys.path[:0] = {path!r}\nfrom refimpl.shim.main import main\nsys.exit(main())\n"

_WORK = f"dd if={DISK} of=/dev/null bs=4096 count=64; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo >/done"
_WAIT = "while :; do sleep 0.1; done"
_GREEDY = "busybox tail /dev/zero"
# Debian's shim begins to watch beside the answer to the start: of a kill before that it never tells.
_ON_DEMAND = "until test -e /go; do sleep 0.1; done"


def main() -> None:
    """Observe everything and write it down."""
    name, file = sys.argv[1:]
    places = Path("/tmp/lab")
    places.mkdir()
    archives = images.build(places, images.program())
    base = places / "d"
    daemon = daemons.containerd(base) if name == "containerd" else daemons.refimpl(base, backends="real")
    daemon.env = {**daemon.env, "PATH": f"{_shim(places / 'bin')}:{os.environ['PATH']}"}
    daemons.write_config(daemon, f'[metrics]\naddress = "{_ADDRESS}"\n')
    with daemons.running(daemon):
        _does(daemon, "images", "import", str(archives.programs))
        seen = {short: _Observer(daemon, runtime).everything() for short, runtime in RUNTIMES.items()}
    Path(file).write_text(json.dumps(seen, indent=1), encoding="utf-8")


class _Observer:
    """One daemon with one runtime."""

    def __init__(self, daemon: daemons.Daemon, runtime: str) -> None:
        self._daemon, self._runtime = daemon, runtime

    def everything(self) -> dict[str, Any]:
        """The names are those under which ``test_cgroup_v2`` looks for it."""
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "used": self._used,
            "killed init": self._killed_init,
            "killed child": self._killed_child,
        }
        seen: dict[str, Any] = {}
        for name, part in parts.items():
            # For the reader of a guest that had to be switched off.
            sys.stdout.write(f"{time.monotonic():.1f} {self._runtime} {name}\n")
            sys.stdout.flush()
            seen[name] = part()
        return seen

    def _run(self, *words: str, detach: bool = False) -> daemons.Result:
        return self._daemon.ctr("run", *(["-d"] if detach else []), "--runtime", self._runtime, *words)

    def _used(self) -> dict[str, Any]:
        """A task that has worked, and stands still while it is looked at: with limits, and when they are lifted."""
        limits = (f"--memory-limit={LIMIT}", "--cpus=0.5", "--privileged", f"--device={DISK}")
        done = self._run(*limits, IMAGE, "t", "sh", "-c", f"{_WORK}; {_WAIT}", detach=True)
        assert done.code == 0, done.stderr
        group = GROUPS / "t"
        try:
            _until(lambda: _exists("t", "done"), lambda: "the container does not come to the end of its work")
            _does(self._daemon, "tasks", "pause", "t")
            # ``ctr`` has no flag for it.
            (group / "pids.max").write_text(str(PIDS_LIMIT), encoding="ascii")
            limited = self._at_one_moment("t")
            for file in ("pids.max", "memory.max"):
                (group / file).write_text("max", encoding="ascii")
            return {"limited": limited, "unlimited": self._at_one_moment("t")}
        finally:
            self._remove("t")

    def _killed_init(self) -> dict[str, Any]:
        with self._events() as told:
            script = f"{_ON_DEMAND}; exec {_GREEDY}"
            done = self._run(f"--memory-limit={LITTLE}", IMAGE, "o", "sh", "-c", script, detach=True)
            assert done.code == 0, done.stderr
            try:
                _let_go(told, "o")
                # Debian's shim has two threads for the two, and reads the counter of kills from the cgroup's own file:
                # once the task is deleted the file is gone, and then it tells of no kill at all.
                _told(told, "o", "/tasks/oom", "/tasks/exit")
            finally:
                warning = self._remove("o")
            _told(told, "o", "/tasks/delete")
            return {"warning": warning, "topics": told("o")}

    def _killed_child(self) -> dict[str, Any]:
        """A task of which a child wants too much; the first process goes on, and ends as it likes."""
        script = f"trap 'exit 9' TERM; {_ON_DEMAND}; {_GREEDY}; echo >/done; {_WAIT}"
        with self._events() as told:
            done = self._run(f"--memory-limit={LITTLE}", IMAGE, "c", "sh", "-c", script, detach=True)
            assert done.code == 0, done.stderr
            try:
                _let_go(told, "c")
                _until(lambda: _exists("c", "done"), lambda: "the child is not killed")
                _told(told, "c", "/tasks/oom")
                seen = self._at_one_moment("c", "memory.events")
                _does(self._daemon, "tasks", "kill", "-s", "SIGTERM", "c")
                _told(told, "c", "/tasks/exit")
            finally:
                warning = self._remove("c")
            _told(told, "c", "/tasks/delete")
            return {**seen, "warning": warning, "topics": told("c")}

    def _at_one_moment(self, id: str, *names: str) -> dict[str, Any]:
        """Ask all three until those files are the same before and after."""
        group = GROUPS / id

        def files() -> dict[str, str]:
            return {name: (group / name).read_text(encoding="ascii") for name in names or FILES}

        before: dict[str, str] = {}
        for _ in range(20):
            before = files()
            seen = {
                "files": before,
                "json": json.loads(_does(self._daemon, "tasks", "metrics", "--format", "json", id)),
                "table": _does(self._daemon, "tasks", "metrics", id),
                "page": self._page(),
            }
            if files() == before:
                return seen
        raise AssertionError(f"the cgroup of a paused task does not stand still: {before} {files()}")

    @staticmethod
    def _page() -> str:
        with urllib.request.urlopen(f"http://{_ADDRESS}/v1/metrics", timeout=_SECONDS) as answer:
            return str(answer.read().decode())

    @contextmanager
    def _events(self) -> Iterator[Callable[[str], list[str]]]:
        """What tells the topics of a container's events so far, from now on, in their order."""
        file = self._daemon.base / "events"
        with file.open("wb") as output:
            process = subprocess.Popen(
                ["ctr", "--address", str(self._daemon.socket), "events"], stdin=subprocess.DEVNULL, stdout=output
            )
        try:
            # It is subscribed when it tells of something.
            for number in range(200):
                _does(self._daemon, "namespaces", "label", "default", f"n={number}")
                if file.stat().st_size:
                    break
                time.sleep(0.05)
            yield lambda id: [topic for topic, named in _events(file) if named == id]
        finally:
            process.kill()
            process.wait()

    def _remove(self, id: str) -> str:
        """End it and forget it; what ``ctr`` says of its status."""
        done = self._daemon.ctr("tasks", "delete", "--force", id)
        self._daemon.ctr("containers", "delete", id)
        _until(lambda: not (GROUPS / id).exists(), lambda: f"the cgroup of {id} stays")
        return done.stderr.decode()


def _events(file: Path) -> Iterator[tuple[str, str]]:
    """Topic and container of each event of a task, in lines such as ``DATE TIME +0000 UTC default /tasks/oom {}``."""
    # The last line may still be on its way.
    for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
        _, _, rest = line.partition(" UTC ")
        words = rest.split(" ", 2)
        if len(words) == 3 and words[1].startswith("/tasks/"):
            yield words[1], json.loads(words[2]).get("container_id", "")


def _root(id: str, name: str) -> Path:
    """A file at the top of a running container's file system; there is none where nothing runs."""
    pids = (GROUPS / id / "cgroup.procs").read_text(encoding="ascii").split() or ["0"]
    return Path(f"/proc/{pids[0]}/root/{name}")


def _exists(id: str, name: str) -> bool:
    # The process that was chosen may end at this moment.
    with suppress(OSError):
        return _root(id, name).exists()
    return False


def _touched(id: str, name: str) -> bool:
    with suppress(OSError):  # as above
        _root(id, name).touch()
        return True
    return False


def _does(daemon: daemons.Daemon, *words: str) -> str:
    done = daemon.ctr(*words)
    assert done.code == 0, f"ctr {' '.join(words)}: {done.stderr.decode()}\n{daemon.log[-4000:]}"
    return done.stdout.decode()


def _shim(folder: Path) -> Path:
    """A directory for PATH with our shim."""
    folder.mkdir()
    (folder / "shim.py").write_text(_MAIN.format(path=sys.path), encoding="utf-8")
    (folder / _NAME).write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{folder}/shim.py" "$@"\n', encoding="utf-8")
    (folder / _NAME).chmod(0o755)
    return folder


def _let_go(told: Callable[[str], list[str]], id: str) -> None:
    """Have a container that has been started use up its memory."""
    _told(told, id, "/tasks/start")
    _until(lambda: _touched(id, "go"), lambda: f"{id} has no process")


def _told(told: Callable[[str], list[str]], id: str, *topics: str) -> None:
    """Wait until those have been told of a container."""
    _until(lambda: set(topics) <= set(told(id)), lambda: f"not all of {topics} is told of {id}: {told(id)}")


def _until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


if __name__ == "__main__":
    main()
