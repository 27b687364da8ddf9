"""The commands of a shim: how they are run, and how they end."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from refimpl.api.task_v2_pb2 import DeleteResponse
from refimpl.backends.real.runtime.bundle import BundlePlaces
from refimpl.backends.real.runtime.commands import Commands
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, DeadlineExceeded, Unknown
from refimpl.contract.types import TypedAny
from tests.backends.real.runtime.worlds import CTX, DAEMON, SECONDS, runs, until


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """Of a shim that is a script in ``tmp_path/shim``."""
    bundle = BundlePlaces(tmp_path / "state", tmp_path / "root", linked=True).bundle("ns", "id")
    bundle.path.mkdir(parents=True)
    return Commands(DAEMON, str(tmp_path / "shim"), bundle)


def _script(commands: Commands, body: str) -> None:
    path = Path(commands.binary)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_start_is_told_who_asks_and_where_events_go(commands: Commands) -> None:
    _script(commands, 'echo "$@"; pwd; echo $TTRPC_ADDRESS $GOMAXPROCS "$SCHED_CORE"')

    told = commands.start(CTX, None).splitlines()

    assert told == [
        "-namespace ns -address /d/c.sock -publish-binary /d/program -id id start",
        str(commands.bundle.path),
        "/d/c.sock.ttrpc 2",
    ]


def test_a_daemon_that_logs_more_has_its_shims_log_more(commands: Commands) -> None:
    _script(commands, 'echo "$@" "$SCHED_CORE"')
    loud = replace(commands, daemon=replace(DAEMON, debug=True, sched_core=True))

    assert loud.start(CTX, None).endswith("-id id -debug start 1")


def test_options_come_on_standard_input_with_their_type(commands: Commands) -> None:
    _script(commands, "od -An -tx1 | tr -d ' \\n'")

    assert commands.start(CTX, TypedAny("a.B", b"\x01")) == "0a03612e42120101"
    assert commands.start(CTX, None) == ""


def test_what_is_printed_on_either_stream_is_the_answer(commands: Commands) -> None:
    _script(commands, "echo noise >&2; echo ' unix:///x '")

    assert commands.start(CTX, None) == "noise\n unix:///x"


@pytest.mark.parametrize("body, text", [("exit 3", "exit status 3"), ("kill -KILL $$", "signal: killed")])
def test_a_start_that_fails_tells_what_it_printed_and_how_it_ended(commands: Commands, body: str, text: str) -> None:
    _script(commands, f"echo boom >&2; {body}")

    with pytest.raises(Unknown) as caught:
        commands.start(CTX, None)

    assert str(caught.value) == f"boom\n: {text}"


def test_a_shim_that_cannot_be_run_says_so(commands: Commands) -> None:
    with pytest.raises(Unknown, match=f"fork/exec {commands.binary}: no such file or directory"):
        commands.start(CTX, None)


def test_who_waits_no_longer_ends_the_command_and_its_children(commands: Commands) -> None:
    _script(commands, "sleep 1000 & echo $! >child; wait")
    child = commands.bundle.path / "child"

    # A machine under load may not have begun the first time.
    for seconds in (0.3, 3.0, 30.0):
        with pytest.raises(DeadlineExceeded):
            commands.start(CallContext("ns", deadline=time.monotonic() + seconds), None)
        if child.exists() and child.read_text():
            break

    pid = int(child.read_text())
    until(lambda: not runs(pid), "the child runs on")


def test_a_call_that_is_cancelled_ends_the_command(commands: Commands) -> None:
    _script(commands, "echo >begun; sleep 1000")
    cancel = CancelToken()

    def give_up() -> None:
        until((commands.bundle.path / "begun").exists, "the command does not begin")
        cancel.cancel()

    thread = threading.Thread(target=give_up)
    thread.start()
    with pytest.raises(Canceled):
        commands.start(CallContext("ns", cancel=cancel), None)
    thread.join(SECONDS)


def test_delete_answers_with_the_end_and_its_warnings(commands: Commands, tmp_path: Path) -> None:
    answer = DeleteResponse(pid=7, exit_status=137)
    answer.exited_at.FromNanoseconds(1_700_000_000_000_000_001)
    (tmp_path / "answer").write_bytes(answer.SerializeToString())
    _script(commands, f'echo "$@" >&2; cat {tmp_path}/answer')

    end, warnings = commands.delete(CTX)

    assert (end.pid, end.status, end.exited_at) == (7, 137, 1_700_000_000_000_000_001)
    wanted = "-namespace ns -address /d/c.sock -publish-binary /d/program -id id"
    assert warnings == f"{wanted} -bundle {commands.bundle.path} delete\n"


@pytest.mark.parametrize("body", ["echo words for people", "exit 1"])
def test_a_delete_that_cannot_be_understood_has_failed(commands: Commands, body: str) -> None:
    _script(commands, body)

    with pytest.raises(Unknown):
        commands.delete(CTX)
