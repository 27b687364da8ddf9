"""Standard streams of fake tasks over real fifos and files (TSK-016 to TSK-029, TSK-050)."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.backends.fake import stdio
from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded, Unknown
from refimpl.contract.runtimes import IO, Status
from tests.backends.descriptors import descriptors
from tests.backends.fake.containers import CTX, NAMESPACE, SECONDS, Client, World, in_time, until


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.end()


TERMINAL = {"process": {"terminal": True}}


def test_output_and_error_output_go_to_their_fifos_which_end_with_the_process(world: World, tmp_path: Path) -> None:
    client = Client(tmp_path)
    task = world.run("c", ["sh", "-c", "echo out; echo err >&2"], io=client.io)

    task.wait(in_time())

    assert (client.read("stdout"), client.read("stderr")) == (b"out\n", b"err\n")
    assert task.state(CTX).io == client.io
    task.delete(CTX)
    assert (client.read("stdout"), client.read("stderr")) == (b"", b"")
    client.close()


def test_standard_input_ends_only_after_close_io_and_the_client_s_end(world: World, tmp_path: Path) -> None:
    client = Client(tmp_path, stdin=True)
    task = world.run("c", ["cat"], io=client.io)
    client.type(b"one\n")
    client.read_until(b"one\n")

    client.close_stdin()
    assert not task.part.ending._over  # type: ignore[attr-defined]  # the fake's own
    task.close_io(CTX)
    task.close_io(CTX)

    assert task.wait(in_time()).status == 0
    task.close_io(CTX)
    client.close()


def test_a_reader_that_goes_away_hurts_nobody_and_a_full_fifo_can_be_killed(world: World, tmp_path: Path) -> None:
    client = Client(tmp_path)
    task = world.run("c", ["yes"], io=client.io)
    client.read_until(b"y\n")
    client.close()

    assert task.state(CTX).status is Status.RUNNING
    task.kill(CTX, 9)

    assert task.wait(in_time()).status == 137


def test_nothing_is_left_open_of_a_task(world: World, tmp_path: Path) -> None:
    before = descriptors()
    for number, terminal in enumerate((False, True)):
        directory = tmp_path / str(number)
        directory.mkdir()
        client = Client(directory, stdin=True, terminal=terminal)
        more = TERMINAL if terminal else {}
        task = world.run(f"c{number}", ["sh", "-c", "read x; echo $x"], io=client.io, **more)
        client.type(b"hello\n")
        client.read_until(b"hello")
        task.wait(in_time())
        world.runtime.delete(CTX, task.id)
        client.close_stdin()
        client.close()

    until(lambda: not descriptors() - before)


def test_plain_files_are_appended_to_and_may_be_one_file(world: World, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    io = IO(stdout=str(path), stderr=str(path))

    world.run("c", ["sh", "-c", "echo out; echo err >&2"], io=io).wait(in_time())

    assert path.read_text() == "before\nout\nerr\n"


def test_a_file_uri_is_made_with_its_directory_and_gets_both_streams(world: World, tmp_path: Path) -> None:
    path = tmp_path / "new" / "log"

    world.run("c", ["sh", "-c", "echo out; echo err >&2"], io=IO(stdout=f"file://{path}", stderr="file://x")).wait(
        in_time()
    )

    assert path.read_text() == "out\nerr\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


LOGGER = """#!{python}
import os, signal, sys
out, err, ready = os.fdopen(3, "rb"), os.fdopen(4, "rb"), os.fdopen(5, "wb")
with open({log!r}, "w") as log:
    def told(*_):
        log.write("told to end\\n"); log.flush(); os._exit(0)
    signal.signal(signal.SIGTERM, told)
    print(sys.argv[1:], dict(os.environ), file=log, flush=True)
    ready.write(b"x"); ready.close()
    print(out.read(), err.read(), file=log, flush=True)
    signal.pause()
"""


def test_a_logging_program_gets_both_streams_and_is_told_to_end_at_delete(world: World, tmp_path: Path) -> None:
    program, log = tmp_path / "logger", tmp_path / "log"
    program.write_text(LOGGER.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    uri = f"binary://{program}?a=1&b=2"

    task = world.run("c", ["sh", "-c", "echo out; echo err >&2"], io=IO(stdout=uri, stderr=uri))
    first = log.read_text()
    task.wait(in_time())
    until(lambda: "out" in log.read_text())
    task.delete(CTX)
    until(lambda: "told to end" in log.read_text())

    assert "['a', '1', 'b', '2']" in first
    assert "'CONTAINER_ID': 'c'" in first
    assert f"'CONTAINER_NAMESPACE': '{NAMESPACE}'" in first
    assert r"b'out\n' b'err\n'" in log.read_text()


@pytest.mark.parametrize(
    "io, text",
    [
        (
            IO(stdout="/nowhere/o", stderr="/nowhere/e"),
            'containerd-shim: opening file "/nowhere/o" failed: open /nowhere/o: no such',
        ),
        (IO(stdout="/dev/null"), 'containerd-shim: opening file "" failed: open : no such file or directory'),
        (IO(stdin="/nowhere/i"), "failed to open stdin fifo /nowhere/i: stat /nowhere/i: no such file or directory"),
        (IO(stdout="foo:///x", stderr="x"), "failed to create init process I/O: unknown STDIO scheme foo"),
        (IO(stdout="%zz", stderr="x"), 'unable to parse stdout uri: parse "%zz": invalid URL escape "%zz"'),
        (
            IO(stdout="binary:///no/p", stderr="x"),
            "failed to start binary process: fork/exec /no/p: no such file or directory",
        ),
    ],
)
def test_what_cannot_be_opened_fails_the_create_and_leaves_no_task(world: World, io: IO, text: str) -> None:
    before = descriptors()

    with pytest.raises(Unknown) as refused:
        world.create("c", ["true"], io=io)

    assert text in str(refused.value)
    assert str(refused.value).startswith("failed to create shim task: ")
    assert world.runtime.tasks(CTX) == []
    assert descriptors() - before == set()
    world.create("c", ["true"])


@pytest.mark.parametrize(
    "io, process, text",
    [
        (IO(terminal=True), {"terminal": True}, "failed to start console copy: stat : no such file or directory"),
        (
            IO(terminal=True, stdout="/dev/null"),
            {},
            "cannot use console socket if runc will not detach or allocate tty",
        ),
        (IO(), {"terminal": True}, "cannot allocate tty if runc will detach without setting console socket"),
    ],
)
def test_a_terminal_needs_both_sides(world: World, io: IO, process: dict[str, bool], text: str) -> None:
    with pytest.raises(Unknown) as refused:
        world.create("c", ["true"], io=io, process=process)

    assert text in str(refused.value)


def test_a_fifo_without_a_reader_is_waited_for_until_the_deadline(world: World, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "o")
    options = world.options(["true"], IO(stdout=str(tmp_path / "o"), stderr=str(tmp_path / "o")))

    with pytest.raises(DeadlineExceeded):
        world.runtime.create(CallContext(NAMESPACE, deadline=time.monotonic() + 0.05), "c", options)

    assert world.runtime.tasks(CTX) == []


def test_a_terminal_translates_line_ends_echoes_and_edits_lines(world: World, tmp_path: Path) -> None:
    client = Client(tmp_path, stdin=True, terminal=True)
    task = world.create(
        "c",
        ["sh", "-c", "stty size; tty; read x; echo got $x; stty -echo; echo err >&2; cat"],
        io=client.io,
        **TERMINAL,
    )
    task.resize(CTX, 100, 65536 + 40)
    task.start(CTX)
    client.read_until(b"40 100\r\n/dev/pts/0\r\n")

    client.type(b"ab\x7fc\r")
    assert client.read_until(b"err\r\n") == b"ab\b \bc\r\ngot ac\r\nerr\r\n"
    client.type(b"secret\n\x04")

    assert task.wait(in_time()).status == 0
    assert client.read_until(b"\n") == b"secret\r\n"
    client.close()


def test_an_interactive_shell_gives_the_interrupt_key_to_the_command_that_runs(world: World, tmp_path: Path) -> None:
    client = Client(tmp_path, stdin=True, terminal=True)
    task = world.run("c", ["sh"], io=client.io, **TERMINAL)
    client.read_until(b"/ # ")
    client.type(b"echo on; sleep 1000\n")
    client.read_until(b"on\r\n")

    client.type(b"\x03")
    client.read_until(b"/ # ")
    client.type(b"echo $?\n")
    client.read_until(b"130\r\n")
    client.type(b"half a line\x03")
    client.read_until(b"^C")
    client.type(b"exit 4\n")

    assert task.wait(in_time()).status == 4
    client.close()


def test_delete_waits_for_output_that_a_background_process_still_holds(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process may be late.
    monkeypatch.setattr(stdio, "DRAIN_SECONDS", SECONDS)
    client = Client(tmp_path)
    task = world.run("c", ["sleep", "1000"])
    exec_ = world.exec(task, "e", ["sh", "-c", "(sleep 0.2; echo late) & exit 3"], client.io)
    exec_.start(CTX)

    assert exec_.wait(in_time()).status == 3
    exec_.delete(CTX)

    assert client.read() == b"late\n"
    client.close()
