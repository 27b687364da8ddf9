"""The harness of shims: it waits with bounds, takes down what happens, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from conformance.shim import command, processes, stub
from conformance.shim.bundle import Fifo, make_rootfs
from conformance.shim.events import SERVICE, EventServer
from conformance.shim.harness import Harness
from conformance.shim.raw import Raw, request
from conformance.shim.scripted import ScriptedShim
from conformance.shim.waiting import until
from conformance.subjects.base import SubjectError
from conformance.subjects.shim import ShimSubject
from conformance.subjects.shim_stub import StubSubject, whole
from conformance.subjects.spec import parse
from refimpl.api import typeurl
from refimpl.api.event_types_pb2 import TaskStart
from refimpl.api.events_ttrpc_v1_pb2 import ForwardRequest
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unavailable
from refimpl.ttrpc.client import Client
from refimpl.ttrpc.server import Server

SECONDS = 30.0
"""How long what is waited for may take on a busy machine."""


@pytest.fixture
def subject() -> Iterator[StubSubject]:
    made = whole()
    try:
        made.open()
        yield made
    finally:
        made.close()


@pytest.fixture
def harness(subject: StubSubject) -> Iterator[Harness]:
    made = subject.harness()
    yield made
    made.close()


def test_waiting_ends_with_the_condition_or_with_the_time() -> None:
    begun = time.monotonic()

    # More than any machine stands still.
    assert until(lambda: True, 600.0)
    assert not until(lambda: False, 0.05)
    assert time.monotonic() - begun < 120.0


def test_nothing_is_left_of_a_check_that_broke_off(subject: StubSubject) -> None:
    harness = subject.harness()
    container = harness.running()
    shim_pid = container.shim_pid
    path = Path(container.address.removeprefix("unix://"))
    assert path.exists()

    assert harness.close() == []

    assert not processes.alive(shim_pid)
    # Killed, which takes a moment.
    assert until(lambda: not processes.alive(container.pid), SECONDS)
    assert not path.exists()
    assert not harness.top.exists()
    assert processes.serving(harness.address) == []


def test_a_container_outlives_a_killed_shim_until_the_harness_ends(subject: StubSubject) -> None:
    harness = subject.harness()
    container = harness.running()
    processes.kill(container.shim_pid)
    assert processes.alive(container.pid)

    harness.close()

    assert until(lambda: not processes.alive(container.pid), SECONDS)


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="did not end"):
        command.run([sys.executable, "-c", "import time; time.sleep(60)", "start"], tmp_path, {}, seconds=0.3)


def test_an_output_that_is_left_open_counts_as_hanging(tmp_path: Path) -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '60'])"

    with pytest.raises(TimeoutError, match="left its output open"):
        command.run([sys.executable, "-c", script, "start"], tmp_path, {}, seconds=0.5)


@pytest.mark.parametrize(
    "out, address",
    [
        (b"unix:///a\n", "unix:///a"),
        (b'{"version":2,"address":"unix:///b"}', "unix:///b"),
        (b"", ""),
    ],
)
def test_the_address_is_read_from_either_form_of_the_answer(out: bytes, address: str) -> None:
    assert command.Output(0, out, b"", 0.0).address == address


def _forward(address: str, id: str) -> None:
    message = ForwardRequest()
    message.envelope.topic, message.envelope.namespace = "/tasks/start", "ns"
    message.envelope.event.CopyFrom(typeurl.pack(TaskStart(container_id=id, pid=7)))
    with Client.connect(f"unix://{address}") as client:
        ctx = CallContext(namespace="ns", deadline=time.monotonic() + 2 * SECONDS)
        client.call(ctx, SERVICE, "Forward", message, Empty)


def test_envelopes_are_kept_in_order_and_refused_ones_apart(tmp_path: Path) -> None:
    events = EventServer(tmp_path / "e.sock")
    events.start()

    def refuse(_event: object) -> None:
        if len(events.received) == 1:
            raise Unavailable("not now")

    events.refuse = refuse
    try:
        with pytest.raises(Unavailable):
            _forward(events.address, "a")
        _forward(events.address, "a")
        events.stop()
        events.start()
        _forward(events.address, "a")

        assert [one.accepted for one in events.received] == [False, True, True]
        assert events.topics("a") == ["start", "start"]
        assert events.topics("b") == []
        assert (events.received[0].sent_namespace, events.received[0].event.pid) == ("ns", 7)
        assert SECONDS < events.received[0].left <= 2 * SECONDS
    finally:
        events.close()


def test_a_fifo_collects_what_several_writers_say(tmp_path: Path) -> None:
    fifo = Fifo(tmp_path / "f")
    for word in ("one", "two"):
        with fifo.path.open("w") as file:
            file.write(word)

    assert fifo.has("onetwo", SECONDS)
    fifo.close()
    fifo.close()
    assert fifo.text == "onetwo"


def test_a_fifo_without_a_reader_has_none(tmp_path: Path) -> None:
    fifo = Fifo(tmp_path / "f", read=False)

    with pytest.raises(OSError, match="No such device"):
        os.open(fifo.path, os.O_WRONLY | os.O_NONBLOCK)
    fifo.close()


def test_frames_made_by_hand_reach_a_server(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    server = Server(listener, ThreadPoolExecutor(2))
    server.start()
    try:
        with Raw(str(tmp_path / "s")) as raw:
            assert raw.silent(0.05)
            heard = raw.ask(1, request("foo.Bar", "Nope"))
            assert (heard.stream, heard.type, heard.code) == (1, 2, 12)
            assert "foo.Bar" in heard.message
    finally:
        server.stop()


def test_a_connection_that_ends_is_no_silence(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    with Raw(str(tmp_path / "s")) as raw:
        listener.accept()[0].close()
        assert not raw.silent(1.0)
    listener.close()


def test_a_scripted_shim_takes_down_how_it_was_called(tmp_path: Path) -> None:
    shim = ScriptedShim(tmp_path / "s")
    try:
        shim.plan("start", out=b"here", err=b"noise", status=3)
        found = subprocess.run(
            [shim.binary, "-id", "x", "start"], check=False, capture_output=True, input=b"\x01\x02", cwd=tmp_path
        )

        assert (found.returncode, found.stdout, found.stderr) == (3, b"here", b"noise")
        (record,) = shim.record()
        assert record["argv"] == [str(shim.binary), "-id", "x", "start"]
        assert (record["cwd"], record["stdin"]) == (str(tmp_path), "0102")
    finally:
        shim.close()


def test_a_process_is_named_by_its_pid_and_its_beginning() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert processes.alive(process.pid)
        assert processes.parent(process.pid) == os.getpid()
        assert processes.begun(process.pid) == processes.begun(process.pid) != ""
        processes.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not processes.alive(process.pid)
        assert processes.begun(process.pid) == ""


def test_a_zombie_does_not_live() -> None:
    with subprocess.Popen(["true"]) as process:
        assert until(lambda: not processes.alive(process.pid), SECONDS)


@pytest.mark.debian("busybox")
def test_a_root_file_system_has_a_shell(tmp_path: Path) -> None:
    assert make_rootfs(tmp_path / "r")
    assert subprocess.run([tmp_path / "r/bin/busybox", "sh", "-c", "exit 3"], check=False).returncode == 3
    assert (tmp_path / "r/bin/sh").is_symlink()


def test_a_command_line_is_read_as_go_does() -> None:
    flags = stub.parse(["--mutant", "shim.calls", "X", "-namespace", "n", "-id", "i", "-debug", "start"])

    assert (flags.place, flags.mutant) == ("shim.calls", "X")
    assert (flags.namespace, flags.id, flags.debug, flags.action) == ("n", "i", True, "start")
    for wrong in (["-foo"], ["-id"]):
        with pytest.raises(stub.UsageError):
            stub.parse(wrong)


def test_a_shim_may_say_that_it_behaves_like_another_one() -> None:
    assert parse("shim:/x/containerd-shim-mine-v1").types == frozenset({"containerd-shim-mine-v1"})
    both = parse("shim:/x/containerd-shim-mine-v1?like=containerd-shim-runc-v2")
    assert both.types == frozenset({"containerd-shim-mine-v1", "containerd-shim-runc-v2"})
    with pytest.raises(SubjectError, match=r"only [?]like="):
        parse("shim:/x/containerd-shim-mine-v1?as=containerd-shim-runc-v2")


@pytest.mark.parametrize("spec", ["shim:", "shim:relative/path"])
def test_a_shim_is_named_by_an_absolute_path(spec: str) -> None:
    with pytest.raises(SubjectError, match="expected shim:/"):
        parse(spec)


@pytest.mark.parametrize(
    "text, message", [(None, "not there"), ("#!/bin/sh\nexit 1\n", "serves no shim"), ("#!/bin/sh\n", "no address")]
)
def test_what_is_no_shim_is_not_judged(tmp_path: Path, text: str | None, message: str) -> None:
    binary = tmp_path / "containerd-shim-none-v1"
    if text is not None:
        binary.write_text(text)
        binary.chmod(0o755)
    subject = parse(f"shim:{binary}")
    assert isinstance(subject, ShimSubject)
    try:
        with pytest.raises(SubjectError, match=message):
            subject.open()
    finally:
        subject.close()


def test_two_checks_at_once_do_not_meet(subject: StubSubject) -> None:
    made: list[int] = []

    def work() -> None:
        harness = subject.harness()
        try:
            container = harness.running()
            made.append(container.shim_pid)
            assert harness.shim_processes() == [container.shim_pid]
        finally:
            harness.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(made)) == 2
