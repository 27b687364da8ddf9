"""An OCI runtime without isolation, for tests of the shim that need no root: containers are plain processes.

It has as much of runc's command line as a shim uses. A container's state is a directory: ``pid``, ``args``, and a fifo
``go`` that its waiting init reads.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import socket
import sys
import termios
from pathlib import Path
from typing import Any, NoReturn


class FailedError(Exception):
    """What the log is told."""


def main(words: list[str]) -> int:
    """Run one command."""
    options = _parser().parse_args(words)
    home = Path(options.root) / options.id
    try:
        globals()[f"do_{options.command}"](options, home)
    except FailedError as error:
        with Path(options.log).open("a", encoding="utf-8") as log:
            log.write(json.dumps({"level": "warning", "msg": "so far so good"}) + "\n")
            log.write(json.dumps({"level": "error", "msg": str(error)}) + "\n")
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for name in ("--root", "--log", "--log-format"):
        parser.add_argument(name)
    commands = parser.add_subparsers(dest="command")
    make = ("--bundle", "--pid-file", "--console-socket")
    takes: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
        "create": (make, ("--no-pivot", "--no-new-keyring"), ("id",)),
        "restore": ((*make, "--image-path", "--work-path"), ("--detach", "--no-subreaper"), ("id",)),
        "start": ((), (), ("id",)),
        "exec": (("--process", "--pid-file", "--console-socket"), ("--detach",), ("id",)),
        "kill": ((), ("--all",), ("id", "signal")),
        "delete": ((), ("--force",), ("id",)),
        "pause": ((), (), ("id",)),
        "resume": ((), (), ("id",)),
        "update": (("--resources",), (), ("id",)),
        "checkpoint": (("--image-path", "--work-path"), ("--leave-running", "--tcp-established"), ("id",)),
    }
    for name, (values, switches, places) in takes.items():
        command = commands.add_parser(name)
        for value in values:
            command.add_argument(value)
        for switch in switches:
            command.add_argument(switch, action="store_true")
        for place in places:
            command.add_argument(place)
    return parser


def do_create(options: Any, home: Path) -> None:
    config = json.loads((Path(options.bundle) / "config.json").read_text())
    if home.exists():
        raise FailedError("container with given ID already exists")
    args = config["process"]["args"]
    _check(args)
    home.mkdir(parents=True)
    os.mkfifo(home / "go")
    (home / "options").write_text(json.dumps(vars(options)))
    _spawn(options, config["process"], home / "go", home / "pid")


def do_restore(options: Any, home: Path) -> None:
    do_create(options, home)
    do_start(options, home)


def do_start(_options: Any, home: Path) -> None:
    (home / "go").write_text("go")


def do_exec(options: Any, home: Path) -> None:
    spec = json.loads(Path(options.process).read_text())
    _check(spec["args"])
    with (home / "others").open("a") as others:
        others.write(f"{_spawn(options, spec, None, None)}\n")


def _check(args: list[str]) -> None:
    if shutil.which(args[0]) is None:
        raise FailedError(f'exec: "{args[0]}": no such file or directory')


def _spawn(options: Any, spec: dict[str, Any], go: Path | None, pid_file: Path | None) -> int:
    """Make a process that lives on, with this one's streams or a terminal; its pid, also in the files."""
    slave = -1
    if options.console_socket:
        if not spec.get("terminal"):
            raise FailedError("a terminal for a process that has none")
        master, slave = pty.openpty()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(options.console_socket)
            socket.send_fds(connection, [b"/dev/ptmx"], [master])
        os.close(master)
    pid = os.fork()
    if not pid:
        _become(spec, go, slave)
    for path in (Path(options.pid_file), pid_file):
        if path is not None:
            path.write_text(str(pid))
    return pid


def _become(spec: dict[str, Any], go: Path | None, slave: int) -> NoReturn:
    os.setsid()
    if slave >= 0:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for number in range(3):
            os.dup2(slave, number)
    if go is not None:
        go.read_text()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvp(spec["args"][0], spec["args"])


def do_kill(options: Any, home: Path) -> None:
    for pid in _pids(home) if options.all else _pids(home)[:1]:
        try:
            os.kill(pid, int(options.signal))
        except ProcessLookupError:
            if not options.all:
                raise FailedError("os: process already finished") from None
        except OSError as error:
            raise FailedError(f"unable to signal init: {str(error.strerror).lower()}") from error


def _pids(home: Path) -> list[int]:
    if not home.exists():
        raise FailedError("container does not exist")
    others = home / "others"
    return [int((home / "pid").read_text()), *map(int, others.read_text().split() if others.exists() else ())]


def do_delete(options: Any, home: Path) -> None:
    if home.exists():
        with contextlib.suppress(FailedError):
            do_kill(argparse.Namespace(all=True, signal=signal.SIGKILL), home)
        shutil.rmtree(home)
    elif not options.force:
        raise FailedError("container does not exist")


def do_pause(_options: Any, home: Path) -> None:
    do_kill(argparse.Namespace(all=True, signal=signal.SIGSTOP), home)


def do_resume(_options: Any, home: Path) -> None:
    do_kill(argparse.Namespace(all=True, signal=signal.SIGCONT), home)


def do_update(options: Any, home: Path) -> None:
    given = sys.stdin.read() if options.resources == "-" else ""
    if "refused" in given:
        raise FailedError("the kernel refuses")
    (home.parent.parent / "resources").write_text(given)


def do_checkpoint(options: Any, _home: Path) -> None:
    work = Path(options.work_path)
    if not work.is_dir():
        raise FailedError("no work directory")
    if options.tcp_established:
        (work / "dump.log").write_text("the reason\n")
        raise FailedError("criu failed")
    image = Path(options.image_path)
    image.mkdir(exist_ok=True)
    (image / "inventory.img").write_text(json.dumps(vars(options)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
