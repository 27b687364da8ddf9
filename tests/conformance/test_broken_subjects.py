"""A subject that is not there, hangs, talks nonsense or dies: a clear result, soon, and the others are judged."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from conformance.shim.waiting import until
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from tests.conformance.command import LIMIT, conform, summary

ONE_CLAUSE = ("--clause", "CNT-001", "-n", "0")


@contextmanager
def listening(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A socket whose connections are handed to ``serve``, each on a thread."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"unix://{path}"
        # A blocked accept does not notice a close: wake it.
        listener.shutdown(socket.SHUT_RDWR)


def silent(connection: socket.socket) -> None:
    with connection:
        while connection.recv(4096):
            pass


def babbling(connection: socket.socket) -> None:
    with connection:
        try:
            connection.sendall(b"220 mail.example.com ready\r\n" * 100)
            connection.recv(4096)
        except OSError:
            return


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose name leaves room for a socket's."""
    return tmp_path_factory.mktemp("s")


def test_an_unknown_subject_is_a_usage_error() -> None:
    done = conform("daemon:other", *ONE_CLAUSE)
    assert done.returncode == 2
    assert "no such daemon" in done.stderr


def test_a_subject_that_is_not_there_leaves_the_others_alone() -> None:
    status, seen = summary("unix:///nowhere/x.sock", "fake", *ONE_CLAUSE)
    assert status == 2
    assert seen["subjects"]["fake"]["failed"] == 0
    assert seen["subjects"]["fake"]["passed"] > 0
    assert seen["subjects"]["unix:///nowhere/x.sock"]["error"] > 0


@pytest.mark.parametrize("serve", [silent, babbling])
def test_a_subject_that_does_not_speak_the_language_is_given_up_soon(
    short: Path, serve: Callable[[socket.socket], None]
) -> None:
    with listening(short / "x.sock", serve) as spec:
        # Bounded by ``conform``'s own time limit.
        done = conform(spec, "fake", *ONE_CLAUSE)
    assert done.returncode == 2
    assert f"{spec} could not be judged: no containerd answers" in " ".join(done.stdout.split())
    assert "fake: every MUST that was decided holds" in done.stdout


def kill_once_judged(daemon: subprocess.Popen[bytes], address: Path) -> None:
    """Kill a daemon as soon as some checks have come and gone; a time would be too early or too late."""
    seen: set[str] = set()

    def judged() -> bool:
        with suppress(ContainerdError):
            # Each check works in a namespace of its own, and takes it away.
            now = {namespace.name for namespace in client.namespaces.list(CallContext())}
            gone = seen - now
            seen.update(now)
            return bool(now) and len(gone) >= 3
        return False

    with Client(str(address)) as client:
        until(judged, LIMIT)
    daemon.kill()


def test_a_daemon_that_dies_in_the_middle_fails_its_own_checks_only(short: Path) -> None:
    address = short / "d.sock"
    argv = [
        sys.executable,
        "-m",
        "refimpl",
        "serve",
        "--backends",
        "fake",
        "--root",
        f"{short}/r",
        "--state",
        f"{short}/s",
    ]
    daemon = subprocess.Popen([*argv, "--address", str(address)], stderr=subprocess.DEVNULL)
    try:
        assert until(address.exists, LIMIT)
        killer = threading.Thread(target=kill_once_judged, args=(daemon, address))
        killer.start()
        status, seen = summary(f"unix://{address}", "fake", "--area", "content", "-n", "0")
        killer.join()
    finally:
        daemon.kill()
        daemon.wait()
    dead = seen["subjects"][f"unix://{address}"]
    assert status == 1
    assert dead["passed"] > 0, "it was in the middle"
    assert dead["error"] > 0, "the checks that came too late say that the daemon is gone"
    assert seen["subjects"]["fake"]["failed"] == 0


def test_a_daemon_that_cannot_start_says_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "containerd"
    fake.write_text("#!/bin/sh\necho 'no room left' >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if os.geteuid() != 0:
        assert "needs root" in conform("daemon:containerd", *ONE_CLAUSE).stderr
        return
    done = conform("daemon:containerd", *ONE_CLAUSE)
    assert done.returncode == 2
    assert "the daemon ended with status 3: no room left" in " ".join(done.stdout.split())


def test_nothing_is_left_in_the_temporary_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    status, _ = summary("fake", "daemon:fake", "unix:///nowhere/x.sock", *ONE_CLAUSE)
    assert status == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("cfm-")] == []
