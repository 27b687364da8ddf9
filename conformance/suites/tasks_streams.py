"""Tasks: where processes read and write (TSK-016 to 029, TSK-050)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import time

import pytest

from conformance import clause
from conformance.suites._events import listen
from conformance.suites._tasks import (
    LASTING,
    PATIENCE,
    Later,
    box,
    bundle,
    eventually,
    given_up,
    outputs,
    shim_of,
    soon,
    streams,
    told,
)
from refimpl.contract.errors import ContainerdError, NotFound, Unknown
from refimpl.contract.runtimes import IO, Status

LOGGER = """#!/bin/sh
exec 2> /dev/null
cd {folder}
trap 'echo > told; exit' TERM
for word; do echo "$word"; done > arguments
tr '\\0' '\\n' < /proc/$$/environ > environment
for number in 3 4 5; do readlink /proc/$$/fd/$number; done > descriptors
sleep 0.3
echo > ready
exec 5>&-
(cat <&3 > out; echo > out.ended) &
(cat <&4 > err; echo > err.ended) &
wait
turn=0
while [ ! -e told ] && [ $turn -lt 600 ]; do turn=$((turn + 1)); sleep 0.1; done
"""
"""A logging program that tells how it was started and ended, and which stream brought what."""

TALKING = ("sh", "-c", "echo out; echo err >&2; exec sleep 1000")
"""A program with a line for each stream that goes on: 1.6 closes the file of both with the stream that ends first."""


def _refused(found, **io):
    """A task that cannot be made with these streams, and of which nothing is left."""
    with pytest.raises(Unknown):
        found.create(io=IO(**io))
    assert found.gone()


def _logger(streams, text=LOGGER):
    """A logging program; its path."""
    path = streams.folder / "logger"
    path.write_text(text.replace("{folder}", str(streams.folder)))
    path.chmod(0o755)
    return path


# ------------------------------------------------------------------------------------------------------- the paths


@clause("TSK-016")
def test_the_paths_of_streams_are_told_as_they_were_given(box, streams):
    """Rejects: paths that are resolved, or those of init for every process."""
    out, err, other = streams.pipe(), streams.pipe(), streams.pipe()
    io = IO(stdin=streams.source(), stdout=out.path, stderr=err.path)
    found = box(*LASTING)
    found.create(io=io)
    assert found.get().io == io

    found.start()
    found.exec("e", "true", io=outputs(other))
    assert found.get("e").io == outputs(other)
    found.start("e")
    found.wait("e")
    assert found.get("e").io == outputs(other)
    assert found.get().io == io
    assert [state.io for state in found.tasks.list(soon(found.ctx))] == [io]


@clause("TSK-016")
def test_a_uri_is_told_as_it_was_given(box, streams):
    """Rejects: the path in the place of the URI."""
    uri = f"file://{streams.folder}/y.log"
    io = IO(stdout=uri, stderr=uri)
    found = box("true")

    found.create(io=io)

    assert found.get().io == io


# ----------------------------------------------------------------------------------------------------------- fifos


@clause("TSK-017")
def test_streams_are_copied_byte_for_byte(box, streams):
    """Rejects: stderr among stdout, bytes that are lost, or an end of file that does not come."""
    out, err, source = streams.pipe(), streams.pipe(), streams.source()
    found = box("sh", "-c", "echo out; echo err >&2; cat; echo end")
    found.run(io=IO(stdin=source, stdout=out.path, stderr=err.path))

    streams.write(source, b"hello\r\n\x00\xff\n")
    streams.shut(source)
    found.tasks.close_io(soon(found.ctx), found.id, stdin=True)

    assert out.rest() == b"out\nhello\r\n\x00\xff\nend\n"
    assert err.rest() == b"err\n"
    assert found.wait().status == 0


@clause("TSK-018")
@pytest.mark.parametrize("exec_id", ["", "e"], ids=["init", "exec"])
def test_input_ends_when_the_call_says_so(box, streams, exec_id):
    """Rejects: an end of input as soon as the client leaves, or with a call that does not ask for it."""
    out, source = streams.pipe(), streams.source()
    io = IO(stdin=source, stdout=out.path, stderr=out.path)
    found = box(*(LASTING if exec_id else ("cat",)))

    def close_io(*, stdin):
        found.tasks.close_io(soon(found.ctx), found.id, exec_id, stdin=stdin)

    if exec_id:
        found.run()
        found.run_exec(exec_id, "cat", io=io)
    else:
        found.run(io=io)
    streams.write(source, b"hello")
    out.until(b"hello")

    streams.shut(source)
    with given_up():
        found.wait(exec_id, seconds=0.3)
    close_io(stdin=False)
    with given_up():
        found.wait(exec_id, seconds=0.3)
    assert found.status(exec_id) is Status.RUNNING

    close_io(stdin=True)
    assert found.wait(exec_id).status == 0
    close_io(stdin=True)
    assert out.rest() == b"hello"


@clause("TSK-018")
def test_input_can_be_ended_in_every_state(box, streams):
    """Rejects: a call that fails before the start, or in a pause."""
    out, source = streams.pipe(), streams.source()
    found = box(*LASTING)

    def close_io():
        found.tasks.close_io(soon(found.ctx), found.id, stdin=True)

    found.create(io=IO(stdin=source, stdout=out.path, stderr=out.path))
    close_io()
    found.start()
    close_io()
    found.pause()
    close_io()
    found.resume()
    found.end()
    close_io()


# ----------------------------------------------------------------------------------------------------------- files


@clause("TSK-019")
def test_a_file_that_is_there_is_appended_to(box, streams):
    """Rejects: files that are emptied, or made."""
    file = streams.folder / "log"
    file.write_bytes(b"before\n")
    whole = (b"before\nout\nerr\n", b"before\nerr\nout\n")
    found = box(*TALKING)
    found.run(io=IO(stdout=str(file), stderr=str(file)))
    eventually(lambda: file.read_bytes() in whole, "the file is not whole")
    found.end()
    found.delete()

    assert file.read_bytes() in whole

    _refused(found, stdout=f"{streams.folder}/no/such", stderr=f"{streams.folder}/no/such")
    _refused(found, stdout=str(file), stderr="")
    assert not (streams.folder / "no").exists()


@clause("TSK-020")
def test_a_file_uri_is_a_log_of_both_streams(box, streams):
    """Rejects: a log that is emptied at each start, or whose directory has to be there."""
    log, other = streams.folder / "sub/dir/log.txt", streams.folder / "other.txt"
    found = box(*TALKING)
    for turn in (1, 2):
        found.run(io=IO(stdout=f"file://{log}", stderr=f"file://{other}"))
        eventually(lambda: len(log.read_text().split()) >= 2 * turn, f"the log of turn {turn} is not whole")  # noqa: B023
        found.end()
        found.delete()
        assert sorted(log.read_text().split()) == sorted(["out", "err"] * turn)

    assert not other.exists()
    assert log.stat().st_mode & 0o777 == 0o644
    assert log.parent.stat().st_mode & 0o777 == 0o755
    assert log.parent.parent.stat().st_mode & 0o777 == 0o755


@clause("TSK-020")
def test_a_file_uri_for_one_stream_leaves_no_half_task(box, streams):
    """Rejects: a task that is there and cannot be reached."""
    log = streams.folder / "log.txt"
    found = box(*TALKING)
    try:
        found.run(io=IO(stdout=f"file://{log}"))
    except Unknown:
        eventually(found.gone, "half a task is left")
        return
    eventually(lambda: sorted(log.read_text().split()) == ["err", "out"], "the log is not whole")


# --------------------------------------------------------------------------------------------------------- loggers


@clause("TSK-021")
def test_a_binary_uri_is_a_logging_program(box, streams):
    """Rejects: a query that is one argument, streams that are mixed, or a Create that does not wait for the program."""
    logger = _logger(streams)
    found = box("sh", "-c", "echo out; echo err >&2")
    uri = f"binary://{logger}?k1=v1&k2=v2"

    found.create(io=IO(stdout=uri, stderr=uri))
    assert (streams.folder / "ready").exists(), "Create did not wait until the program was ready"
    found.start()
    found.wait()
    out, err = streams.folder / "out", streams.folder / "err"
    eventually(lambda: out.exists() and out.read_bytes() == b"out\n", "the output did not reach the program")
    eventually(lambda: err.exists() and err.read_bytes() == b"err\n", "the errors did not reach the program")
    found.delete()

    eventually((streams.folder / "told").exists, "the program was not asked to end")
    words = (streams.folder / "arguments").read_text().split()
    assert words in (["k1", "v1", "k2", "v2"], ["k2", "v2", "k1", "v1"])
    environment = set((streams.folder / "environment").read_text().split())
    assert environment == {f"CONTAINER_ID={found.id}", f"CONTAINER_NAMESPACE={found.ctx.namespace}"}
    assert len((streams.folder / "descriptors").read_text().split("\n")) == 4, "three descriptors from 3 on"


@clause("TSK-021")
def test_a_logging_program_that_is_not_there_is_no_task(box):
    """Rejects: output that goes nowhere."""
    _refused(box("true"), stdout="binary:///no/such/logger", stderr="binary:///no/such/logger")


@clause("TSK-022")
def test_a_logging_program_that_dies_at_once_is_told_by_the_scheme(box, streams):
    """Rejects: the second form of the scheme as if it were the first."""
    logger = _logger(streams, "#!/bin/sh\nexit 3\n")
    first, second = box("true"), box("true")
    uri = f"binary://{logger}"

    first.run(io=IO(stdout=uri, stderr=uri))
    assert first.wait().status == 0
    _refused(second, stdout=f"binary-v2://{logger}", stderr=f"binary-v2://{logger}")


@clause("TSK-023")
@pytest.mark.parametrize("stdout", ["npipe:///x", "http://x/y", "::%zz"])
def test_an_unknown_scheme_is_refused(box, stdout):
    """Rejects: a URI as the name of a file."""
    _refused(box("true"), stdout=stdout, stderr=stdout)


@clause("TSK-023")
def test_an_unknown_scheme_is_refused_when_an_exec_starts(box):
    """Rejects: a process whose output goes nowhere."""
    found = box(*LASTING)
    found.run()
    found.exec("e", "true", io=IO(stdout="npipe:///x", stderr="npipe:///x"))

    with pytest.raises(Unknown):
        found.start("e")

    assert found.status() is Status.RUNNING


@clause("TSK-024")
def test_streams_need_not_be_given(box):
    """Rejects: a task that has to have an output, or input that never ends."""
    found = box("sh", "-c", "echo out; echo err >&2; cat; read x; exit 4")

    found.run()

    assert found.wait().status == 4


# -------------------------------------------------------------------------------------------------------- terminals


def _terminal(streams):
    """Streams of a terminal."""
    out, source = streams.pipe(), streams.source()
    return out, source, IO(stdin=source, stdout=out.path, terminal=True)


@clause("TSK-025")
def test_a_terminal_has_one_stream_of_output(box, streams):
    """Rejects: stderr that is kept apart, plain line ends, or input that does not arrive."""
    out, source, io = _terminal(streams)
    found = box("sh", "-c", "tty; echo err >&2; read x; echo got $x", terminal=True)
    found.run(io=io)
    out.until(b"err")
    streams.write(source, b"hello\n")

    assert found.wait().status == 0
    text = out.rest()
    assert text.startswith(b"/dev/pts/0\r\n")
    assert b"err\r\n" in text
    assert text.endswith(b"got hello\r\n")


@clause("TSK-025")
@pytest.mark.parametrize("terminal", [True, False])
def test_both_have_to_agree_on_a_terminal(box, streams, terminal):
    """Rejects: one of two words that is not looked at."""
    out = streams.pipe()
    found = box("true", terminal=not terminal)

    _refused(found, stdout=out.path, stderr="" if terminal else out.path, terminal=terminal)


@clause("TSK-026")
@pytest.mark.parametrize("scheme", ["", "file"])
def test_a_terminal_needs_somebody_who_reads(box, streams, scheme):
    """Rejects: output that is dropped in silence."""
    stdout = f"file://{streams.folder}/log" if scheme else ""

    _refused(box("true", terminal=True), stdout=stdout, terminal=True)


@clause("TSK-026")
def test_a_logging_program_may_read_from_a_terminal(box, streams):
    """Rejects: a program that gets nothing, or the end of nothing."""
    found = box("sh", "-c", "echo out; echo err >&2", terminal=True)

    found.run(io=IO(stdout=f"binary://{_logger(streams)}", terminal=True))
    assert found.wait().status == 0
    eventually((streams.folder / "out.ended").exists, "the program got no end of file")
    found.delete()

    assert (streams.folder / "out").read_bytes() == b"out\r\nerr\r\n"
    err = streams.folder / "err"
    assert not err.exists() or err.read_bytes() == b"", "a terminal has one stream"


@clause("TSK-027")
def test_a_terminal_has_the_size_that_it_was_given(box, streams):
    """Rejects: width and height in each other's place, numbers above 16 bits, or a size for all terminals."""
    out, source, io = _terminal(streams)
    found = box("sh", "-c", "while :; do stty size; read x; done", terminal=True)
    found.create(io=io)

    def resize(width, height, exec_id=""):
        found.tasks.resize_pty(soon(found.ctx), found.id, exec_id, width=width, height=height)

    resize(91, 31)
    found.start()
    out.until(b"31 91\r\n")
    resize(132, 43)
    streams.write(source, b"\n")
    out.until(b"43 132\r\n")
    resize(65613, 65547)
    streams.write(source, b"\n")
    out.until(b"11 77\r\n")

    other, other_source, other_io = _terminal(streams)
    found.run_exec("e", "sh", "-c", "read x; stty size", io=other_io)
    resize(50, 20, "e")
    streams.write(other_source, b"\n")
    other.until(b"20 50\r\n")
    streams.write(source, b"\n")
    eventually(lambda: out.data.count(b"11 77\r\n") == 2, "the size of init is another one")


@clause("TSK-027")
def test_only_terminals_that_are_there_have_a_size(box):
    """Rejects: an error without a terminal, or none for a process that has ended."""
    found = box(*LASTING)

    def resize(exec_id=""):
        found.tasks.resize_pty(soon(found.ctx), found.id, exec_id, width=80, height=25)

    found.run()
    resize()
    with pytest.raises(NotFound):
        resize("nope")
    found.run_exec("e", "true")
    found.wait("e")
    with pytest.raises(Unknown):
        resize("e")
    found.end()
    resize()


# ------------------------------------------------------------------------------------------------- nobody is there


@clause("TSK-028")
def test_a_fifo_that_nobody_reads_is_not_waited_for_longer_than_wanted(box, streams):
    """Rejects: a task that blocks for ever, or one that is left when the caller has given up."""
    source = streams.source()
    streams.shut(source)
    found = box("true")

    started = time.monotonic()
    with given_up():
        found.tasks.create(soon(found.ctx, 1), found.wish(io=IO(stdout=source, stderr=source)))

    # The caller's deadline ended it; what came behind that may take its time on a busy machine.
    assert time.monotonic() - started < PATIENCE
    eventually(found.gone, "a task is left")


@clause("TSK-029")
def test_a_stdin_that_is_not_there_leaves_no_task(ctx, box, streams):
    """Rejects: a task that is dead when the caller has given up."""
    out = streams.pipe()
    found = box("true")
    wish = found.wish(io=IO(stdin="/no/such", stdout=out.path, stderr=out.path))
    try:
        with pytest.raises(ContainerdError):
            found.tasks.create(soon(found.ctx, 1), wish)
        eventually(found.gone, "a task is left")
    finally:
        found.end_shims()


# ------------------------------------------------------------------------------------------------------------ drain


@clause("TSK-050")
def test_a_delete_waits_for_output_but_not_for_ever(box, streams):
    """Rejects: a delete that hangs at a pipe which somebody still holds."""
    out = streams.pipe()
    found = box(*LASTING)
    found.run()
    found.run_exec("e", "sh", "-c", "(sleep 100 &); echo out; exit 0", io=outputs(out))
    assert found.wait("e").status == 0
    out.until(b"out\n")

    started = time.monotonic()
    found.delete_process("e")
    length = time.monotonic() - started

    # Some seconds, and far from the end of who holds the pipe.
    assert 1.5 < length < 2 * PATIENCE, f"{length:.1f} s"
    assert out.data == b"out\n"


@clause("TSK-050")
def test_the_output_of_a_fast_process_is_whole(box, streams):
    """Rejects: output that is cut when the process is deleted."""
    out = streams.pipe()
    text = "x" * 100_000
    found = box("echo", text)
    found.run(io=outputs(out))
    found.wait()

    found.delete()

    assert out.rest() == text.encode() + b"\n"
