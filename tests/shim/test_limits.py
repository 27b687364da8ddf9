"""Where the host gives no more, or somebody does not answer: a shim and its commands go on, and leave nothing."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import subprocess
import sys
import termios
import threading
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as Packed

from conformance.shim import processes
from refimpl.api import runc_v1_pb2, typeurl
from refimpl.api import task_types_v1_pb2 as types
from refimpl.api import task_v2_pb2 as pb
from refimpl.contract.errors import AlreadyExists, DeadlineExceeded, ResourceExhausted
from refimpl.shim.address import listen, socket_path
from refimpl.shim.serve import CallThreads
from tests.shim.conftest import MAIN, SECONDS, Served, until

FOREVER = ("sleep", "1000")

WAITS = "from refimpl.shim import serve; serve.FLUSH_SECONDS = 1000.0; "
"""In front of ``MAIN``: a shim that waits for the delivery of its last events nearly for ever."""


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


# --- who does not read, and what does not end


def test_a_log_that_nobody_reads_holds_up_nothing_else(served: Served) -> None:
    """The file of a URI may be a fifo: all containers of a shim have one loop."""
    fifo = served.top / "slow"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR)
    try:
        noisy = served.bundle("noisy", sh("yes"))
        served.create(noisy, stdout=f"file://{fifo}", stderr=f"file://{fifo}")
        served.task.start("noisy")
        assert until(lambda: _queued(reader) >= 65536), "the fifo is full"

        served.running("other", sh("exit 3"))

        assert served.task.wait("other").exit_status == 3
        assert served.task.state("noisy").status == types.RUNNING
    finally:
        os.close(reader)


def _queued(descriptor: int) -> int:
    found = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, found)
    return found[0]


def _slow(served: Served, command: str) -> Packed:
    """Options that name a runtime that hangs in one command, as hooks may have it hang."""
    binary = served.top / f"slow-{command}"
    binary.write_text(f'#!/bin/sh\ncase " $* " in *" {command} "*) sleep 1000;; esac\nexec {served.runtime} "$@"\n')
    binary.chmod(0o755)
    return typeurl.pack(runc_v1_pb2.Options(binary_name=str(binary), root=str(served.top / "oci-state")))


def test_a_create_that_hangs_ends_with_its_caller_and_blocks_no_id(served: Served) -> None:
    bundle = served.bundle("c", FOREVER)
    request = pb.CreateTaskRequest(id="c", bundle=str(bundle.path), options=_slow(served, "create"))

    with pytest.raises(DeadlineExceeded):
        served.task.call("Create", request, 0.5)

    # What the command has started becomes the shim's child when the command ends: it has to end as well.
    assert until(lambda: processes.children(served.process.pid) == {}), "the command goes on"

    def creates() -> bool:
        with suppress(AlreadyExists):  # the first attempt is being undone
            return served.create(bundle) > 0
        return False

    assert until(creates), "the id is taken"


def test_a_start_that_hangs_ends_with_its_caller(served: Served) -> None:
    bundle = served.bundle("c", FOREVER)
    served.create(bundle, _slow(served, "start"))

    with pytest.raises(DeadlineExceeded):
        served.task.call("Start", pb.StartRequest(id="c"), 0.5)

    # Nobody holds the container any more.
    served.task.delete("c")


def test_an_exec_that_hangs_ends_with_its_caller(served: Served) -> None:
    bundle = served.bundle("c", FOREVER)
    served.create(bundle, _slow(served, "exec"))
    served.task.start("c")
    served.task.exec("c", "e", FOREVER)

    with pytest.raises(DeadlineExceeded):
        served.task.call("Start", pb.StartRequest(id="c", exec_id="e"), 0.5)

    served.task.delete("c", "e")
    assert served.task.state("c").status == types.RUNNING


# --- the end


def test_a_shim_whose_events_are_commands_ends_when_they_are_delivered(short: Path) -> None:
    """Somebody has to notice the end of the last of them."""
    told = short / "told"
    publish = short / "publish"
    publish.write_text(f'#!/bin/sh\ncat >/dev/null\necho "$@" >>{told}\n')
    publish.chmod(0o755)
    served = Served(short, str(publish), WAITS + MAIN)
    try:
        served.create(served.bundle("c", FOREVER))
        served.task.delete("c")
        served.task.shutdown("c")

        # Sooner than it would give them up.
        assert served.process.wait(SECONDS) == 0
        assert [line.split()[4] for line in told.read_text().splitlines()] == ["/tasks/create", "/tasks/delete"]
    finally:
        served.close()


def test_the_execs_of_a_container_share_the_time_that_its_delete_waits(served: Served) -> None:
    bundle = served.running("c", FOREVER)
    out = bundle.fifo("out")
    for number in range(12):
        # Each leaves a process behind that keeps its output open.
        served.task.exec("c", f"e{number}", sh("sleep 1000 & exit 0"), stdout=str(out.path), stderr=str(out.path))
        served.task.start("c", f"e{number}")
        served.task.wait("c", f"e{number}")
    served.task.kill("c", 9)
    served.task.wait("c")

    # For one after the other it would be 24 seconds.
    served.task.call("Delete", pb.DeleteRequest(id="c"), 22.0)


# --- what the host refuses


def test_a_call_for_which_there_is_no_thread_is_refused_and_that_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = CallThreads()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        with pytest.raises(ResourceExhausted):
            threads.submit(print)

    assert threads.wait_idle(0.0)


LOGGER = """
import os, resource, sys
from refimpl.contract.context import CallContext
from refimpl.contract.errors import Unknown
from refimpl.shim.children import Children
from refimpl.shim.files import URI
from refimpl.shim.logger import Logger
count = lambda: len(os.listdir("/proc/self/fd"))
before, failed = count(), 0
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
for room in range(12):
    resource.setrlimit(resource.RLIMIT_NOFILE, (before - 1 + room, hard))
    try:
        Logger(CallContext(), Children(looped=False), URI("binary:///no/such/program"), "c", "n")
    except Unknown as error:
        failed += "too many open files" in str(error)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert count() == before, (room, count(), before)
print(failed)
"""


def test_a_logger_for_which_there_are_no_descriptors_leaves_none_open() -> None:
    done = subprocess.run([sys.executable, "-c", LOGGER], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "descriptors never were too few"


def test_a_socket_whose_queue_is_full_is_served_and_holds_up_nobody(short: Path) -> None:
    """Its shim may have stopped, and the lock is everybody's."""
    path = str(short / "s")
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(path)
        stopped.listen(0)
        waiting = []
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            try:
                client.connect(path)
            except BlockingIOError:
                break

        assert listen(path) is None

        for client in waiting:
            client.close()


@pytest.mark.root
def test_a_start_that_cannot_say_where_it_serves_makes_no_process(tmp_path: Path) -> None:
    """Nobody would ever speak to it, and so it would never end."""
    (tmp_path / "config.json").write_text("{}")
    # As on a file system without room: what is written first cannot be.
    (tmp_path / ".address").mkdir()
    address = f"/nowhere/{uuid.uuid4().hex}.sock"
    argv = [sys.executable, "-c", MAIN, "-namespace", "n", "-address", address, "-id", "c", "start"]

    done = subprocess.run(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)

    try:
        assert (done.returncode, done.stdout) == (1, b"")
        assert not processes.serving(address)
        assert not Path(socket_path(address, "n", "c")).exists()
    finally:
        for pid in processes.serving(address):
            processes.kill(pid)
