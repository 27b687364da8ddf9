"""``refimpl run``, ``ps``, ``exec``, ``stop`` and ``rm``: the same on fakes, on real backends and on containerd."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import images
from tests.acceptance.test_ctr_tasks import Told
from tests.cli.machines import SECONDS, Machine
from tests.cli.machines import machine as running

IMAGE = images.PROGRAMS_NAME

STANDING = ("sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.1; done")
"""A program that goes on until it is asked to end; it says so with a status of its own."""

DEAF = ("sh", "-c", "trap 'echo told' INT TERM; echo ready; while :; do sleep 0.1; done")
"""A program that does not want to end."""


@pytest.fixture(
    scope="module",
    params=[
        "fake",
        pytest.param(
            "real", marks=[pytest.mark.root, pytest.mark.debian("containerd-shim-runc-v2", "runc", "busybox")]
        ),
        pytest.param("containerd", marks=[pytest.mark.root, pytest.mark.debian("containerd", "runc", "busybox")]),
    ],
)
def world(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with (
        tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as place,
        running(request.param, Path(place) / "m") as made,
    ):
        yield made


@pytest.fixture
def refimpl(world: Machine) -> Iterator[Machine]:
    """The command on one of the machines; what a test leaves is its fault."""
    yield world
    try:
        world.leaves_nothing()
    finally:
        world.clear()


# -- in the foreground


def test_output_errors_input_and_status_are_those_of_the_program(refimpl: Machine) -> None:
    script = "read first; cat; echo $first $WORD >&2; pwd; exit 7"
    words = ("--rm", "-i", "--env", "WORD=x y", "--cwd", "/tmp", "--user", "405:100")

    done = refimpl("run", *words, IMAGE, "id", "sh", "-c", script, stdin=b"one\ntwo\nthree")

    assert (done.status, done.out, done.err) == (7, "two\nthree/tmp\n", "one x y\n")


def test_a_program_without_input_has_none(refimpl: Machine) -> None:
    assert refimpl("run", "--rm", IMAGE, "id", "cat", stdin=b"not for it").out == ""


def test_much_output_comes_whole(refimpl: Machine) -> None:
    doubled = "v=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9; do v=$v$v; done"
    script = f"{doubled}; for i in 1 2 3 4 5; do for j in 1 2 3 4 5; do echo $v; done; done"

    done = refimpl("run", "--rm", IMAGE, "id", "sh", "-c", script)

    # More than a fifo holds.
    assert len(done.out) == 25 * (16 * 512 + 1) > 1 << 16


def test_without_rm_a_container_stays_and_its_task_does_not(refimpl: Machine) -> None:
    assert refimpl("run", "--label", "team=blue", IMAGE, "id", "true").status == 0
    assert refimpl("ps", "-q").out == ""
    [found] = json.loads(refimpl("ps", "--all", "--json").out)
    assert (found["id"], found["image"], found["status"], found["pid"]) == ("id", IMAGE, "none", 0)
    with refimpl.client() as client:
        assert client.containers.get(refimpl.ctx, "id").labels["team"] == "blue"

    again = refimpl("run", "--rm", IMAGE, "id", "true")
    assert (again.status, again.err.count("\n"), "already exists" in again.err) == (1, 1, True)
    assert refimpl("ps", "--all", "-q").out == "id\n"
    assert refimpl("rm", "id").out == "id\n"


def test_a_privileged_container_changes_what_others_may_not(refimpl: Machine) -> None:
    # The built-in programs of the fake have no mount.
    script = "mount -t tmpfs none /run && touch /run/here && echo mounted" if refimpl.real else "echo mounted"

    done = refimpl("run", "--rm", "--privileged", IMAGE, "id", "sh", "-c", script)
    assert (done.status, done.out) == (0, "mounted\n"), done.err

    if refimpl.real:
        refused = refimpl("run", "--rm", IMAGE, "id", "sh", "-c", script)
        assert (refused.status, refused.out, "permission denied" in refused.err) == (1, "", True), refused


def test_what_cannot_run_is_told_and_leaves_nothing(refimpl: Machine) -> None:
    for words in (
        (IMAGE, "id", "no-such-program"),
        ("-d", IMAGE, "id", "no-such-program"),
        ("-d", IMAGE, "not/an/id", "true"),
        ("-d", "--user", "nobody-here", IMAGE, "id", "true"),
        ("-d", "--snapshotter", "none", IMAGE, "id", "true"),
        ("-d", "registry.test/none:1", "id", "true"),
    ):
        done = refimpl("run", *words)
        assert (done.status, done.out, done.err.count("\n")) == (1, "", 1), words
        assert done.err.startswith("refimpl: "), words
        refimpl.leaves_nothing()


# -- signals


def test_a_signal_is_the_programs(refimpl: Machine) -> None:
    with refimpl.beside("run", "--rm", IMAGE, "id", *STANDING) as (process, told):
        told.until("ready\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 42


def test_who_interrupts_three_times_need_not_wait_for_a_deaf_program(refimpl: Machine) -> None:
    with refimpl.beside("run", "--rm", IMAGE, "id", *DEAF) as (process, told):
        told.until("ready\n")
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            told.until("told\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130


# -- in the background


def test_a_container_in_the_background_is_seen_entered_stopped_and_removed(refimpl: Machine) -> None:
    done = refimpl("run", "-d", IMAGE, "web", *STANDING)
    assert (done.status, done.out) == (0, "web\n")

    title, row = refimpl("ps").out.splitlines()
    assert title.split() == ["CONTAINER", "IMAGE", "PID", "STATUS", "AGE"]
    assert re.fullmatch(rf"web +{re.escape(IMAGE)} +\d+ +running +\d+[sm] *", row)
    assert refimpl("ps", "-q").out == "web\n"

    inside = refimpl(
        "exec",
        "-i",
        "--env",
        "A=1",
        "--cwd",
        "/etc",
        "--user",
        "guest",
        "web",
        "sh",
        "-c",
        "cat; echo $A $PWD; id -u; exit 5",
        stdin=b"in ",
    )
    assert (inside.status, inside.out, inside.err) == (5, "in 1 /etc\n405\n", "")
    assert refimpl("exec", "web", "no-such-program").status == 1
    assert refimpl("exec", "none", "true").err.startswith('refimpl: container "none"')

    early = refimpl("rm", "web")
    assert (early.status, "is running: stop it first" in early.err) == (1, True)
    assert refimpl("stop", "web").out == "web\n"
    assert refimpl("stop", "web").status == 1
    assert refimpl("rm", "web").status == 0


def test_a_deaf_container_is_killed_in_the_end(refimpl: Machine) -> None:
    assert refimpl("run", "-d", IMAGE, "a", *DEAF).status == 0
    assert refimpl("run", "-d", IMAGE, "b", *DEAF).status == 0
    assert refimpl("stop", "--timeout", "0.1", "--signal", "INT", "a").status == 0
    with refimpl.client() as client:
        client.tasks.pause(refimpl.ctx, "b")
    assert refimpl("ps").out.split()[-2] == "paused"
    assert refimpl("rm", "--force", "a", "b").out == "a\nb\n"


# -- with a terminal


def test_a_terminal_goes_both_ways_and_has_the_size_of_ours(refimpl: Machine) -> None:
    # The size is told once the program runs; until then busybox complains of having none.
    sized = 'until test "$(stty size 2>/dev/null)" = "23 77"; do sleep 0.05; done; stty size'
    script = f"tty; read word; {sized}; trap 'echo caught; exit 9' INT; echo got $word; while :; do sleep 0.1; done"
    with refimpl.terminal("run", "--rm", "-t", IMAGE, "id", "sh", "-c", script) as (process, ours):
        told = Told(ours)
        told.until("/dev/pts/0\r")
        os.write(ours, b"pear\n")
        told.until("23 77\r")
        told.until("got pear\r")
        os.write(ours, b"\x03")
        told.until("caught\r")
        assert process.wait(SECONDS) == 9


def test_an_exec_can_have_a_terminal_too(refimpl: Machine) -> None:
    assert refimpl("run", "-d", IMAGE, "web", *STANDING).status == 0
    with refimpl.terminal("exec", "-t", "web", "sh", "-c", "test -t 0 && echo yes; exit 3") as (process, ours):
        Told(ours).until("yes\r")
        assert process.wait(SECONDS) == 3
    assert refimpl("rm", "--force", "web").status == 0


def test_a_terminal_is_not_made_of_a_pipe(refimpl: Machine) -> None:
    done = refimpl("run", "-t", IMAGE, "id", "true")

    assert (done.status, done.err) == (2, "refimpl: -t needs a terminal as standard input\n")
