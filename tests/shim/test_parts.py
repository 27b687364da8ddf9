"""Parts of the serving shim by themselves: copies, the loop, children, processes, log lines, URIs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.api.types_pb2 import Mount
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, Unknown
from refimpl.shim import rootfs
from refimpl.shim.children import Children
from refimpl.shim.files import URI
from refimpl.shim.log import open_log
from refimpl.shim.loop import Loop
from refimpl.shim.options import Options, read_options
from refimpl.shim.process import Exit, Process, refuse
from refimpl.shim.stdio import Stdio
from refimpl.shim.streams import Copy, Drain
from tests.shim.conftest import SECONDS, until


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that runs."""
    made = Loop()
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join()
    made.close()


def pipe() -> tuple[int, int]:
    """A pipe that does not block."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


# --- copies


def test_a_copy_is_whole_however_slow_its_reader_is(loop: Loop) -> None:
    source, feed = pipe()
    out, target = pipe()
    os.set_blocking(feed, True)
    os.set_blocking(out, True)
    drain = Drain()
    drain.add()
    Copy(loop, source, target, on_end=drain.done).begin()
    data = os.urandom(500_000)

    def write() -> None:
        os.write(feed, data)
        os.close(feed)

    writer = threading.Thread(target=write)
    writer.start()
    assert not drain.wait(0.1), "nobody has read yet"

    got = b""
    while piece := os.read(out, 30_000):
        got += piece

    writer.join()
    assert got == data
    assert drain.wait(SECONDS)
    assert not is_open(source)
    assert not is_open(target)
    os.close(out)


def test_a_copy_ends_with_its_target_and_closes_everything(loop: Loop) -> None:
    source, feed = pipe()
    out, target = pipe()
    other = os.dup(out)
    os.close(out)
    ends: list[int] = []
    copy = Copy(loop, source, target, [other], lambda: ends.append(1))
    copy.begin()
    copy.end()
    copy.end()
    assert until(lambda: ends == [1])
    assert not any(map(is_open, (source, target, other)))

    source, feed2 = pipe()
    out, target = pipe()
    os.close(out)
    Copy(loop, source, target, (), lambda: ends.append(2)).begin()
    os.write(feed2, b"x")
    assert until(lambda: ends == [1, 2]), "a broken pipe is the end"
    os.close(feed)
    os.close(feed2)


def test_what_fails_in_the_loop_is_logged_and_the_loop_goes_on(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def fail() -> None:
        raise ValueError("no")

    loop.call(fail)
    loop.call(done.set)

    assert done.wait(SECONDS)
    assert "call in the loop failed" in caplog.text


# --- children: in a process of their own, since whoever reaps takes everybody's children

CHILDREN = """
import os, signal, sys, threading, time
from refimpl.shim.children import Children
children = Children()
null = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in range(3)]
command = children.spawn(["sh", "-c", "exit 3"], os.environ, null)
while not command.wait(0.01): children.reap()
print(command.status)
killed = children.spawn(["sleep", "100"], os.environ, null)
os.kill(killed.pid, 15)
while not killed.wait(0.01): children.reap()
print(killed.status)
told = []
with children.expecting():
    pid = os.posix_spawnp("true", ["true"], os.environ)
    while not children._early: children.reap()
    children.watch(pid, lambda status, at: told.append((status, at > 0)))
print(told)
pid = os.posix_spawnp("sleep", ["sleep", "100"], os.environ)
children.watch(pid, lambda status, at: told.append(status))
print(children.kill(pid, 9), children.kill(999999, 9))
with children.left_alone():
    time.sleep(0.2)
    children.reap()
    print(len(told))
while len(told) < 2: children.reap()
print(told[1], children.kill(pid, 9))
with children.expecting():
    pid = os.posix_spawnp("true", ["true"], os.environ)
    while not children._early: children.reap()
print(children._early)
try: children.spawn(["/no/such"], os.environ, null)
except FileNotFoundError as error: print(error.filename)
"""


def test_children_are_reaped_and_whoever_waits_is_told() -> None:
    done = subprocess.run([sys.executable, "-c", CHILDREN], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == [
        "3", "143", "[(0, True)]", "True False", "1", "137 False", "{}", "/no/such",
    ], done.stderr  # fmt: skip


def test_without_a_loop_whoever_waits_reaps() -> None:
    children = Children(looped=False)
    null = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)]
    assert children.wait(children.spawn(["sh", "-c", "kill -9 $$"], os.environ, null)) == 137


# --- processes


def process() -> Process:
    return Process("p", Stdio("", "", "", terminal=False))


def test_an_end_that_is_kept_back_happens_with_the_release() -> None:
    one = process()
    seen: list[str] = []
    one.hold()
    one.when_free(lambda: seen.append("end"))
    assert (seen, one.held) == ([], True)
    one.release()
    one.when_free(lambda: seen.append("again"))
    assert (seen, one.held) == (["end", "again"], False)


def test_the_first_outcome_counts_for_all_who_wait() -> None:
    one = process()
    assert not one.over_within(0.0)
    one.tell(Exit(3, 7))
    one.tell(refuse("too late"))
    assert one.over_within(0.0)
    assert (one.wait(CallContext()).status, one.wait(CallContext()).at) == (3, 7)

    other = process()
    other.tell(refuse("gone"))
    with pytest.raises(Unknown, match="gone"):
        other.wait(CallContext())


def test_who_goes_away_waits_no_longer() -> None:
    one = process()
    token = CancelToken()
    timer = threading.Timer(0.05, token.cancel)
    timer.start()
    with pytest.raises(Canceled):
        one.wait(CallContext(cancel=token))
    timer.join()


# --- small things


def test_log_lines_are_keys_and_values(tmp_path: Path) -> None:
    script = (
        "import logging\nfrom refimpl.shim.log import open_log\nopen_log('log', debug=False)\n"
        "log = logging.getLogger('x')\nlog.debug('hidden')\n"
        "log.warning('some %s', 'words', extra={'fields': {'path': '/a/b', 'error': 'said \"no\"'}})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    [line] = done.stderr.splitlines()
    _, _, rest = line.partition(" ")
    assert line.startswith("time=")
    assert rest == 'level=warning msg="some words" path=/a/b error="said \\"no\\""'


def test_a_log_without_a_file_is_standard_error_and_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "getLogger", lambda: root)
    open_log("/no/such/log", debug=True)
    assert (len(root.handlers), root.level) == (1, logging.DEBUG)


@pytest.mark.parametrize(
    "text, scheme, path, pairs",
    [
        ("/run/x/fifo", "fifo", "/run/x/fifo", []),
        ("relative", "fifo", "relative", []),
        ("", "fifo", "", []),
        ("1x:/y", "fifo", "1x:/y", []),
        ("FILE:///a%20b", "file", "/a b", []),
        ("file://host/a", "file", "/a", []),
        ("binary:///l?a=1&b=%2f+c&d", "binary", "/l", [("a", "1"), ("b", "/ c"), ("d", "")]),
    ],
)
def test_a_uri_is_taken_apart(text: str, scheme: str, path: str, pairs: list[tuple[str, str]]) -> None:
    uri = URI(text)
    assert (uri.scheme, uri.path, uri.pairs) == (scheme, path, pairs)


@pytest.mark.parametrize("text", [":x", "file:///a\n", "file:///%z", "file:///%2", "binary:///x?a=%gg"])
def test_a_text_that_is_no_uri_is_refused(text: str) -> None:
    with pytest.raises(Unknown, match="unable to parse"):
        URI(text)


def test_options_are_kept_for_the_delete_command(tmp_path: Path) -> None:
    assert read_options(str(tmp_path)).values == {}
    Options({"binary_name": "crun", "io_gid": 7}).write(str(tmp_path))
    found = read_options(str(tmp_path))
    assert (found.text("binary_name"), found.text("root"), found.flag("systemd_cgroup")) == ("crun", "", False)
    assert (found.owner, Options({}).owner) == ((0, 7), None)
    assert json.loads((tmp_path / "options.json").read_text()) == {"binary_name": "crun", "io_gid": 7}
    assert (tmp_path / "options.json").stat().st_mode & 0o777 == 0o600


def test_a_root_file_system_without_mounts_is_left_alone(tmp_path: Path) -> None:
    children = Children(looped=False)
    rootfs.mount_rootfs(children, [], str(tmp_path / "rootfs"))
    assert not (tmp_path / "rootfs").exists()
    rootfs.unmount_rootfs(children, str(tmp_path / "rootfs"))


@pytest.mark.root
def test_a_root_file_system_is_mounted_and_unmounted_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    children = Children(looped=False)
    source, target = tmp_path / "source dir", tmp_path / "bundle" / "rootfs"
    source.mkdir()
    (source / "file").touch()
    bind = Mount(type="bind", source=str(source), options=["rbind", "ro"])

    rootfs.mount_rootfs(children, [Mount(type="tmpfs", source="tmpfs"), bind], str(target))
    try:
        assert [entry.name for entry in target.iterdir()] == ["file"]
    finally:
        rootfs.unmount_rootfs(children, str(target))
    assert list(target.iterdir()) == []

    with pytest.raises(Unknown, match="failed to mount rootfs component"):
        rootfs.mount_rootfs(children, [bind, Mount(type="no-such-type", source="x")], str(target))
    assert list(target.iterdir()) == []
