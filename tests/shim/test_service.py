"""The serving shim from create to shutdown, on an OCI runtime without isolation: what needs no root."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Packed

from conformance.shim import processes
from conformance.shim.bundle import Bundle
from refimpl.api import runc_v1_pb2, typeurl
from refimpl.api import task_types_v1_pb2 as types
from refimpl.api import task_v2_pb2 as pb
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from tests.shim.conftest import NAMESPACE, SECONDS, Served, until

ZERO_SECONDS = -62135596800
FOREVER = ("sleep", "1000")


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def ended(served: Served, id: str, exec_id: str = "") -> int:
    """The exit status, once there is one."""
    return int(served.task.wait(id, exec_id).exit_status)


# --- the life of a container


def test_a_container_lives_and_its_events_tell_of_it(served: Served) -> None:
    bundle = served.bundle("c", sh("exit 7"))
    pid = served.create(bundle)
    assert served.task.state("c").status == types.CREATED
    assert served.task.connect("c").task_pid == pid

    assert served.task.start("c").pid == pid
    assert ended(served, "c") == 7
    deleted = served.task.delete("c")

    assert (deleted.pid, deleted.exit_status) == (pid, 7)
    assert served.events.wait("c", 4) == ["create", "start", "exit", "delete"]
    assert {one.namespace for one in served.events.of("c")} == {NAMESPACE}
    with pytest.raises(NotFound):
        served.task.state("c")


def test_the_options_are_kept_and_reach_the_runtime(served: Served) -> None:
    bundle = served.bundle("c", FOREVER)
    served.create(bundle, served.options(no_pivot_root=True, no_new_keyring=True, io_uid=os.getuid()))

    kept = json.loads((bundle.path / "options.json").read_text())
    given = json.loads((served.top / "oci-state" / NAMESPACE / "c" / "options").read_text())

    assert kept["binary_name"] == (bundle.path / "runtime").read_text() == str(served.runtime)
    assert (given["no_pivot"], given["no_new_keyring"]) == (True, True)


def test_a_runtime_may_be_named_in_a_file(served: Served) -> None:
    """As the CRI plugin and ``ctr run --runtime-config-path`` do for runtimes that they do not know."""
    file = served.top / "options.toml"
    file.write_text(f'BinaryName = "{served.runtime}"\nRoot = "{served.top / "oci-state"}"\n')
    # runtimeoptions.v1.Options: 2 is the path.
    path = str(file).encode()
    options = Packed(type_url="runtimeoptions.v1.Options", value=b"\x12" + bytes([len(path)]) + path)

    assert served.create(served.bundle("c", FOREVER), options) > 0

    file.write_text("Color = 1\n")
    with pytest.raises(InvalidArgument, match="Color"):
        served.create(served.bundle("d", FOREVER), options)


@pytest.mark.parametrize(
    "options",
    [Packed(type_url="x.Options"), Packed(type_url="containerd.runc.v1.Options", value=b"\xff")],
    ids=["type", "value"],
)
def test_options_that_are_none_make_no_container(served: Served, options: Packed) -> None:
    with pytest.raises(InvalidArgument):
        served.create(served.bundle("c", FOREVER), options)
    with pytest.raises(NotFound):
        served.task.state("c")


def test_the_last_error_of_the_runtime_is_passed_on_and_nothing_is_left(served: Served) -> None:
    with pytest.raises(Unknown, match=r"OCI runtime create failed: exec: .*/no/such.*: no such file") as caught:
        served.create(served.bundle("c", ["/no/such"]))
    assert "so far so good" not in str(caught.value)
    assert not list((served.top / "oci-state").glob("*/c"))

    missing = typeurl.pack(runc_v1_pb2.Options(binary_name="/no/such/runc"))
    with pytest.raises(Unknown, match="/no/such/runc: no such file"):
        served.create(served.bundle("d", FOREVER), missing)
    assert served.create(served.bundle("e", FOREVER)) > 0


def test_an_id_is_taken_once(served: Served) -> None:
    bundle = served.running("c", FOREVER)

    with pytest.raises(AlreadyExists):
        served.create(bundle)

    assert served.task.state("c").status == types.RUNNING


def test_what_the_state_does_not_allow_is_refused_and_changes_nothing(served: Served) -> None:
    served.create(served.bundle("c", FOREVER))
    for call in (served.task.pause, served.task.resume):
        with pytest.raises(Unknown, match="created state"):
            call("c")
    served.task.start("c")
    with pytest.raises(Unknown, match="cannot start a running process"):
        served.task.start("c")
    with pytest.raises(Unknown, match="cannot delete a running process"):
        served.task.delete("c")
    with pytest.raises(Unknown, match="cannot resume a running process"):
        served.task.resume("c")

    served.task.pause("c")
    assert served.task.state("c").status == types.PAUSED
    with pytest.raises(Unknown, match="cannot pause a paused container"):
        served.task.pause("c")
    with pytest.raises(Unknown, match="cannot delete a paused process"):
        served.task.delete("c")
    with pytest.raises(Unknown, match="cannot exec in a paused"):
        served.task.exec("c", "e", FOREVER)
    served.task.resume("c")

    assert served.task.state("c").status == types.RUNNING
    assert served.events.wait("c", 4) == ["create", "start", "paused", "resumed"]
    served.task.kill("c", signal.SIGKILL)
    assert ended(served, "c") == 128 + signal.SIGKILL
    with pytest.raises(NotFound, match="already finished"):
        served.task.kill("c", signal.SIGTERM)
    served.task.kill("c", signal.SIGTERM, all=True)


def test_a_frozen_container_can_be_killed(served: Served) -> None:
    served.running("c", FOREVER)
    served.task.pause("c")

    served.task.kill("c", signal.SIGKILL)

    assert ended(served, "c") == 128 + signal.SIGKILL


def test_a_container_that_never_ran_is_deleted_without_an_exit(served: Served) -> None:
    pid = served.create(served.bundle("c", FOREVER))

    deleted = served.task.delete("c")

    assert (deleted.pid, deleted.exit_status, deleted.exited_at.seconds) == (pid, 0, ZERO_SECONDS)
    assert served.events.wait("c", 2) == ["create", "delete"]
    assert not processes.alive(pid)


def test_who_waits_for_a_container_that_is_deleted_hears_of_it(served: Served) -> None:
    served.create(served.bundle("c", FOREVER))
    request = pb.WaitRequest(id="c")
    other = type(served.task)(served.address, SECONDS)
    try:
        with pytest.raises(DeadlineExceeded):
            other.call("Wait", request, 0.2)
        served.task.delete("c")
        with pytest.raises(NotFound):
            other.call("Wait", request)
    finally:
        other.close()


def test_a_signal_that_there_is_not_is_refused(served: Served) -> None:
    served.running("c", FOREVER)
    with pytest.raises(Unknown, match="invalid argument"):
        served.task.kill("c", 1000)
    assert served.task.state("c").status == types.RUNNING


def test_limits_reach_the_runtime(served: Served) -> None:
    served.running("c", FOREVER)
    limits = b'{"memory": {"limit": 1000000}}'

    served.task.call("Update", pb.UpdateTaskRequest(id="c", resources=Packed(value=limits)))

    assert (served.top / "oci-state" / NAMESPACE).parent.joinpath("resources").read_bytes() == limits
    for wrong in (b"", b"no json", b"[]", b'{"refused": 1}'):
        with pytest.raises(ContainerdError):
            served.task.call("Update", pb.UpdateTaskRequest(id="c", resources=Packed(value=wrong)))


def test_without_a_pid_namespace_the_rest_ends_with_init(served: Served) -> None:
    served.running("c", sh("exit 0"), private=False)
    assert ended(served, "c") == 0
    assert served.events.wait("c", 3) == ["create", "start", "exit"]

    served.running("d", FOREVER, private=False)
    served.task.exec("d", "e", FOREVER)
    pid = served.task.start("d", "e").pid
    served.task.kill("d", signal.SIGKILL)
    assert ended(served, "d") == 128 + signal.SIGKILL
    assert until(lambda: not processes.alive(pid))


# --- execs


def test_an_exec_lives_beside_init(served: Served) -> None:
    bundle = served.running("c", FOREVER)
    served.task.exec("c", "e", sh("exit 5"))
    assert served.task.state("c", "e").status == types.CREATED
    with pytest.raises(FailedPrecondition):
        served.task.kill("c", 9, "e")

    pid = served.task.start("c", "e").pid
    assert ended(served, "c", "e") == 5
    assert (bundle.path / "e.pid").read_text() == str(pid)
    with pytest.raises(Unknown, match="cannot start a stopped process"):
        served.task.start("c", "e")
    with pytest.raises(Unknown, match="resize a stopped"):
        served.task.resize("c", 1, 1, "e")
    with pytest.raises(NotFound, match="already finished"):
        served.task.kill("c", 9, "e")
    deleted = served.task.delete("c", "e")

    assert (deleted.pid, deleted.exit_status) == (pid, 5)
    assert not (bundle.path / "e.pid").exists()
    assert served.events.wait("c", 3, "e") == ["exec-added", "exec-started", "exit"]
    with pytest.raises(NotFound, match="process does not exist e"):
        served.task.state("c", "e")


def test_an_exec_is_signalled_alone(served: Served) -> None:
    served.running("c", FOREVER)
    served.task.exec("c", "init", FOREVER)
    served.task.start("c", "init")
    with pytest.raises(Unknown, match="invalid argument"):
        served.task.kill("c", 1000, "init")
    with pytest.raises(Unknown, match="cannot delete a running process"):
        served.task.delete("c", "init")

    served.task.kill("c", signal.SIGTERM, "init")

    assert ended(served, "c", "init") == 128 + signal.SIGTERM
    assert served.task.state("c").status == types.RUNNING


def test_an_exec_that_fails_stays_and_fails_again(served: Served) -> None:
    served.running("c", FOREVER)
    served.task.exec("c", "e", ["/no/such"])

    with pytest.raises(Unknown, match="OCI runtime exec failed"):
        served.task.start("c", "e")
    with pytest.raises(Unknown, match="first start failed"):
        served.task.start("c", "e")

    waited = served.task.wait("c", "e")
    assert (waited.exit_status, waited.exited_at.seconds) == (0, ZERO_SECONDS)
    assert served.task.state("c", "e").pid == 0
    served.task.delete("c", "e")


@pytest.mark.parametrize(
    "id, spec, kind",
    [
        ("e", b"", InvalidArgument),
        ("e", b"no json", Unknown),
        ("e", b"[]", Unknown),
        ("../x", b"{}", InvalidArgument),
        ("", b"{}", InvalidArgument),
    ],
)
def test_an_exec_that_is_none_is_not_added(served: Served, id: str, spec: bytes, kind: type[ContainerdError]) -> None:
    served.running("c", FOREVER)
    with pytest.raises(kind):
        served.task.call("Exec", pb.ExecProcessRequest(id="c", exec_id=id, spec=Packed(value=spec)))


def test_an_exec_id_is_taken_once_and_the_container_has_to_live(served: Served) -> None:
    served.running("c", FOREVER)
    served.task.exec("c", "e", FOREVER)
    with pytest.raises(AlreadyExists):
        served.task.exec("c", "e", FOREVER)
    served.task.kill("c", 9)
    ended(served, "c")
    with pytest.raises(Unknown, match="stopped"):
        served.task.exec("c", "f", FOREVER)
    with pytest.raises(Unknown, match="stopped"):
        served.task.start("c", "e")
    served.task.delete("c")


def test_processes_are_listed_with_the_ids_of_execs(served: Served) -> None:
    pid = served.create(served.bundle("c", FOREVER))
    served.task.start("c")
    served.task.exec("c", "e", FOREVER)
    other = served.task.start("c", "e").pid

    found = served.task.call("Pids", pb.PidsRequest(id="c")).processes

    # Nobody has a cgroup of its own here, so there are strangers among them.
    assert {pid, other} <= {one.pid for one in found}
    assert {one.pid: one.info.type_url for one in found if one.info.type_url} == {
        other: "containerd.runc.v1.ProcessDetails"
    }


def test_execs_side_by_side_have_their_own_ends_and_leave_nothing_open(served: Served) -> None:
    served.running("c", FOREVER)
    # By now it has the connection that its events go over.
    assert served.events.wait("c", 2) == ["create", "start"]
    before = len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))
    ids = [f"e{number}" for number in range(16)]

    def one(id: str) -> int:
        served.task.exec("c", id, sh(f"exit {int(id[1:]) % 7}"))
        served.task.start("c", id)
        return int(served.task.delete("c", id).exit_status) if ended(served, "c", id) >= 0 else -1

    with ThreadPoolExecutor(len(ids)) as pool:
        assert list(pool.map(one, ids)) == [int(id[1:]) % 7 for id in ids]

    for id in ids:
        assert served.events.wait("c", 3, id) == ["exec-added", "exec-started", "exit"]
    assert until(lambda: len(list(Path(f"/proc/{served.process.pid}/fd").iterdir())) == before)


# --- streams


def streams(served: Served, bundle: Bundle, *names: str) -> dict[str, str]:
    return {name: str(bundle.fifo(name).path) for name in names}


def output(bundle: Bundle, name: str) -> Path:
    return bundle.work / name


def test_output_comes_out_of_two_fifos_and_input_goes_in(served: Served) -> None:
    bundle = served.bundle("c", sh("cat; echo oops >&2"))
    out, error = bundle.fifo("out"), bundle.fifo("err")
    stdin = bundle.work / "in"
    os.mkfifo(stdin)
    served.create(bundle, stdin=str(stdin), stdout=str(out.path), stderr=str(error.path))
    served.task.start("c")

    with stdin.open("w") as writer:
        writer.write("one\n" + "x" * 200_000 + "\nlast\n")
    time.sleep(0.1)
    assert served.task.state("c").status == types.RUNNING, "the input ended with the client's writer alone"
    served.task.close_stdin("c")
    served.task.close_stdin("c")

    assert ended(served, "c") == 0
    # A thread of this process reads the fifos, and a delete does not wait for it any longer than two seconds.
    assert until(lambda: out.text == "one\n" + "x" * 200_000 + "\nlast\n")
    assert until(lambda: error.text == "oops\n")
    served.task.delete("c")


def test_output_goes_to_files_that_are_there_and_to_files_that_are_made(served: Served) -> None:
    plain = served.top / "plain"
    plain.write_text("before\n")
    bundle = served.bundle("c", sh("echo out; echo err >&2"))
    served.create(bundle, stdout=str(plain), stderr=str(plain))
    served.task.start("c")
    ended(served, "c")
    served.task.delete("c")
    assert sorted(plain.read_text().splitlines()) == ["before", "err", "out"]

    made = served.top / "some" / "where" / "log file"
    bundle = served.bundle("d", sh("echo 1; echo 2 >&2; echo 3"))
    uri = f"file://{str(made).replace(' ', '%20')}"
    served.create(bundle, stdout=uri, stderr=uri)
    served.task.start("d")
    ended(served, "d")
    served.task.delete("d")
    assert made.read_text() == "1\n2\n3\n"


@pytest.mark.parametrize(
    "stdio, text",
    [
        ({"stdout": "/no/such/file", "stderr": "/no/such/file"}, "no such file"),
        ({"stdout": "PLAIN"}, 'opening file ""'),
        ({"stdin": "/no/such/fifo", "stdout": "PLAIN", "stderr": "PLAIN"}, "opening stdin"),
        ({"stdin": "PLAIN", "stdout": "PLAIN", "stderr": "PLAIN"}, "no fifo"),
        ({"stdout": "http://x/y", "stderr": "http://x/y"}, "unknown STDIO scheme http"),
        ({"stdout": ":x", "stderr": ":x"}, "unable to parse"),
        ({"stdout": "file:///a%zz", "stderr": "x"}, "unable to parse"),
        ({"stdout": "binary:///no/such/logger", "stderr": "x"}, "/no/such/logger: no such file"),
        ({"stdout": "", "terminal": True}, "no such file"),
        ({"stdout": "file:///tmp/x", "terminal": True}, "scheme file for a terminal"),
    ],
)
def test_streams_that_cannot_be_opened_make_no_container(served: Served, stdio: dict[str, Any], text: str) -> None:
    plain = served.top / "plain"
    plain.touch()
    given: dict[str, Any] = {name: str(plain) if value == "PLAIN" else value for name, value in stdio.items()}

    with pytest.raises(Unknown, match=text):
        served.create(served.bundle("c", FOREVER), **given)

    assert not (served.top / "oci-state").exists(), "the runtime was run"
    assert len(list(Path(f"/proc/{served.process.pid}/fd").iterdir())) < 20, "descriptors are left"


def test_a_fifo_that_nobody_reads_is_waited_for_no_longer_than_the_caller_does(served: Served) -> None:
    bundle = served.bundle("c", FOREVER)
    fifo = served.top / "lonely"
    os.mkfifo(fifo)
    request = pb.CreateTaskRequest(
        id="c", bundle=str(bundle.path), stdout=str(fifo), stderr=str(fifo), options=served.options()
    )
    with pytest.raises(DeadlineExceeded):
        served.task.call("Create", request, 0.3)
    assert until(lambda: served.task.connect("c").task_pid == 0)


def test_a_logging_program_gets_the_output_and_its_end(served: Served) -> None:
    logger = served.top / "logger"
    told = served.top / "told"
    logger.write_text(
        f'#!/bin/sh\nexec >{told}\necho "$@" "$CONTAINER_ID" "$CONTAINER_NAMESPACE"\necho ready >&5\nexec 5>&-\n'
        "cat <&3; cat <&4\necho done\n"
    )
    logger.chmod(0o755)
    bundle = served.bundle("c", sh("echo out; echo err >&2"))
    served.create(bundle, stdout=f"binary://{logger}?k=a+b&l=%2f", stderr="x")
    served.task.start("c")
    ended(served, "c")

    assert until(lambda: told.read_text().endswith("done\n"))
    served.task.delete("c")
    assert told.read_text() == f"k a b l / c {NAMESPACE}\nout\nerr\ndone\n"


def test_a_terminal_goes_both_ways_and_has_a_size(served: Served) -> None:
    bundle = served.bundle(
        "c", sh("read line; echo got $line; stty size; tty >/dev/null && echo terminal"), terminal=True
    )
    out = bundle.fifo("out")
    stdin = bundle.work / "in"
    os.mkfifo(stdin)
    served.create(bundle, stdin=str(stdin), stdout=str(out.path), terminal=True)
    served.task.resize("c", 90, 30)
    served.task.start("c")
    with stdin.open("w") as writer:
        writer.write("hello\n")
        writer.flush()
        assert ended(served, "c") == 0
    served.task.resize("c", 1, 1)
    assert until(lambda: out.text.endswith("terminal\r\n")), out.text
    served.task.delete("c")

    assert "got hello\r\n" in out.text
    assert "30 90\r\n" in out.text


def test_a_terminal_that_does_not_come_makes_no_process(served: Served) -> None:
    served.running("c", FOREVER)
    bundle = served.bundle("d", FOREVER)
    out = bundle.fifo("out")

    with pytest.raises(Unknown, match="a terminal for a process that has none"):
        served.create(bundle, stdout=str(out.path), terminal=True)


def test_an_exec_has_a_terminal_of_its_own(served: Served) -> None:
    bundle = served.running("c", FOREVER)
    out = bundle.fifo("out")
    served.task.exec("c", "e", sh("tty >/dev/null && echo terminal"), terminal=True, stdout=str(out.path))
    served.task.start("c", "e")
    assert ended(served, "c", "e") == 0
    assert until(lambda: out.text == "terminal\r\n"), out.text
    served.task.delete("c", "e")


def test_output_that_goes_on_in_the_background_does_not_hold_up_a_delete_for_ever(served: Served) -> None:
    bundle = served.bundle("c", sh("sleep 30 & exit 0"))
    out = bundle.fifo("out")
    served.create(bundle, stdout=str(out.path), stderr=str(out.path))
    served.task.start("c")
    ended(served, "c")

    served.task.delete("c")

    with pytest.raises(NotFound):
        served.task.state("c")


# --- checkpoints


def test_a_container_is_checkpointed_and_restored(served: Served) -> None:
    bundle = served.running("c", FOREVER)
    image = served.top / "image"
    served.task.call("Checkpoint", pb.CheckpointTaskRequest(id="c", path=str(image)))
    given = json.loads((image / "inventory.img").read_text())
    assert given["leave_running"] is True
    assert not (bundle.work / "criu-work").exists()

    other = served.bundle("d", sh("exit 3"))
    request = pb.CreateTaskRequest(id="d", bundle=str(other.path), checkpoint=str(image), options=served.options())
    assert served.task.call("Create", request).pid == 0
    assert served.task.state("d").status == types.CREATED
    for refused in (served.task.pids, served.task.pause):
        with pytest.raises(Unknown):
            refused("d")
    with pytest.raises(NotFound):
        served.task.stats("d")
    with pytest.raises(NotFound):
        served.task.kill("d", 9)
    with pytest.raises(Unknown):
        served.task.exec("d", "e", FOREVER)

    assert served.task.start("d").pid > 0
    assert ended(served, "d") == 3


def test_a_checkpoint_that_fails_says_where_its_log_is(served: Served) -> None:
    bundle = served.running("c", FOREVER)
    options = typeurl.pack(runc_v1_pb2.CheckpointOptions(open_tcp=True))
    request = pb.CheckpointTaskRequest(id="c", path=str(served.top / "image"), options=options)

    with pytest.raises(Unknown, match=r"exit status 1: .*criu-dump.log"):
        served.task.call("Checkpoint", request)

    assert (bundle.path / "criu-dump.log").read_text() == "the reason\n"
    assert served.task.state("c").status == types.RUNNING
    wrong = pb.CheckpointTaskRequest(id="c", options=Packed(type_url="x"))
    with pytest.raises(InvalidArgument):
        served.task.call("Checkpoint", wrong)


# --- the process


def test_a_shim_shuts_down_when_it_has_no_container_and_takes_its_socket_along(served: Served) -> None:
    served.create(served.bundle("c", FOREVER))
    served.task.call("Shutdown", pb.ShutdownRequest(id="c", now=True))
    assert served.task.connect("c").task_pid > 0
    served.task.delete("c")

    served.task.shutdown("c")

    assert served.process.wait(20) == 0
    assert not Path(served.address.removeprefix("unix://")).exists()
    assert served.events.wait("c", 2) == ["create", "delete"]


def test_a_shutdown_that_comes_while_a_container_is_made_counts_when_that_fails(served: Served) -> None:
    """The daemon gives up a create, cleans up, and never comes back."""
    bundle = served.bundle("c", FOREVER)
    fifo = served.top / "lonely"
    os.mkfifo(fifo)
    request = pb.CreateTaskRequest(
        id="c", bundle=str(bundle.path), stdout=str(fifo), stderr=str(fifo), options=served.options()
    )
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(served.task.call, "Create", request)
        # The first thing that it does in the bundle.
        assert until((bundle.path / "options.json").exists)
        served.task.call("Shutdown", pb.ShutdownRequest(id="c"))
        assert served.task.connect("").shim_pid == served.process.pid
        fifo.unlink()
        assert isinstance(creating.exception(SECONDS), ContainerdError)

    assert served.process.wait(20) == 0


def test_an_orphan_is_reaped_and_is_nobodys_business(served: Served) -> None:
    served.running("c", FOREVER)
    served.task.exec("c", "e", sh("(sleep 0.2 &) ; exit 0"))
    served.task.start("c", "e")
    ended(served, "c", "e")

    def zombies() -> list[int]:
        return [pid for pid, state in processes.children(served.process.pid).items() if state == "Z"]

    assert until(lambda: len(processes.children(served.process.pid)) == 1)
    assert zombies() == []


def test_stacks_come_out_of_the_log_on_a_signal_and_the_shim_goes_on(served: Served) -> None:
    served.process.send_signal(signal.SIGUSR1)
    assert served.first.log.has("thread MainThread:", SECONDS)
    assert served.task.connect("").shim_pid == served.process.pid


def test_another_name_in_the_place_of_the_socket_is_left_alone(served: Served) -> None:
    path = Path(served.address.removeprefix("unix://"))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
        assert path.exists()
