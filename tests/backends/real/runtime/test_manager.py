"""Tasks of the second runtime, with scripted shims: how they come about, and what is asked of them."""

from __future__ import annotations

import threading
import time

import pytest
from google.protobuf.message import Message

from refimpl.api import task_v2_pb2 as pb
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import (
    Canceled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unknown,
)
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.types import TypedAny
from tests.backends.real.runtime.worlds import CTX, SECONDS, World, options, refuses, until

pytestmark = pytest.mark.root


# --- creation


def test_a_task_is_listed_in_its_namespace_with_the_pid_of_its_shim(made: World) -> None:
    shim = made.shim()

    task = made.create(shim)

    assert (task.id, task.namespace, task.pid) == ("id", "ns", shim.pid)
    assert made.runtime.get(CTX, "id") is task
    assert made.runtime.tasks(CTX) == made.runtime.tasks(CallContext(), everywhere=True) == [task]
    assert made.runtime.tasks(CallContext("other")) == []
    with pytest.raises(NotFound):
        made.runtime.get(CallContext("other"), "id")
    # The shim tells.
    assert made.ends() == []


def test_an_id_that_is_no_name_reaches_no_directory(made: World) -> None:
    with pytest.raises(InvalidArgument):
        made.create(made.shim(), "../x")

    assert made.left() == []


def test_options_of_the_call_replace_those_of_the_record(made: World) -> None:
    shim = made.shim()
    of_record, of_call = TypedAny("a.Record", b"1"), TypedAny("a.Call", b"2")

    made.runtime.create(CTX, "one", options(str(shim.binary), runtime_options=of_record))
    made.runtime.create(CTX, "two", options(str(shim.binary), runtime_options=of_record, task_options=of_call))

    sent = [call.request.options.type_url for call in shim.calls if call.method == "Create"]
    assert sent == ["a.Record", "a.Call"]
    assert [b"Record" in bytes.fromhex(one["stdin"]) for one in shim.record()] == [True, False]


def test_a_path_of_the_call_replaces_the_name_of_the_record(made: World) -> None:
    shim = made.shim()

    made.runtime.create(CTX, "id", options("io.containerd.nosuch.v9", runtime_path=str(shim.binary)))

    assert shim.actions() == ["start"]


@pytest.mark.parametrize(
    "name, text",
    [
        ("io.containerd.nosuch.v9", "failed to start shim: failed to resolve runtime path: runtime "),
        ("nodots", "failed to start shim: failed to resolve runtime path: invalid runtime name nodots"),
    ],
)
def test_without_a_shim_there_is_no_task(made: World, name: str, text: str) -> None:
    with pytest.raises(Unknown, match=text):
        made.create(name)

    assert made.left() == []
    assert made.runtime.tasks(CTX) == []


def test_a_start_that_fails_leaves_nothing_and_is_not_cleaned_up(made: World) -> None:
    shim = made.shim()
    shim.plan("start", err=b"boom", status=3)

    with pytest.raises(Unknown, match=r"^failed to start shim: start failed: boom: exit status 3$"):
        made.create(shim)

    assert (made.left(), shim.actions()) == ([], ["start"])


def test_nobody_at_the_address_is_a_failed_start(made: World) -> None:
    shim = made.shim()
    shim.plan("start", out=b"unix:///no/such/socket")

    with pytest.raises(Unknown, match="dial unix /no/such/socket: no such file or directory"):
        made.create(shim)

    assert made.left() == []


def test_a_create_that_is_refused_takes_all_back(made: World) -> None:
    shim = made.shim()
    refuses(shim, "Create", FailedPrecondition("not now"))

    with pytest.raises(FailedPrecondition, match=r"^failed to create shim task: not now: failed precondition$"):
        made.create(shim)

    assert shim.methods() == ["Create", "Delete", "Shutdown"]
    assert (made.left(), made.runtime.tasks(CTX), made.ends()) == ([], [], [])
    del shim.answers["Create"]
    assert made.create(shim).pid == shim.pid


def test_who_gives_up_a_create_leaves_no_task(made: World) -> None:
    shim, free = made.shim(), threading.Event()

    def answer(_request: object) -> Message:
        free.wait(SECONDS)
        return pb.CreateTaskResponse()

    shim.answers["Create"] = answer
    try:
        with pytest.raises(DeadlineExceeded):
            made.create(shim, ctx=CallContext("ns", deadline=time.monotonic() + 0.5))
        assert made.left() == []
        assert made.runtime.tasks(CTX) == []
    finally:
        free.set()


def test_the_process_of_a_start_that_was_given_up_is_told_to_end(made: World) -> None:
    """Its address is in the bundle before it is printed; nobody else would ever speak to it."""
    shim, token = made.shim(), CancelToken()
    shim.plan("start", address_file=f"unix://{shim.path}", sleep=1000.0)

    def give_up() -> None:
        # The file is there a moment before what it says.
        until(lambda: made.places.bundle("ns", "id").read("address"), "the command does not begin")
        token.cancel()

    thread = threading.Thread(target=give_up)
    thread.start()
    with pytest.raises(Canceled):
        made.create(shim, ctx=CallContext("ns", cancel=token))
    thread.join()

    assert (shim.methods(), made.left()) == (["Shutdown"], [])


def test_of_two_creates_the_second_does_not_disturb_the_first(made: World) -> None:
    shim = made.shim()
    task = made.create(shim)

    with pytest.raises(Unknown, match="file exists"):
        made.create(shim)

    assert made.runtime.get(CTX, "id") is task
    assert task.state(CTX).status is Status.CREATED


# --- calls


def test_a_process_that_started_has_the_pid_of_its_state(made: World) -> None:
    shim = made.shim()
    task = made.create(shim)
    shim.answers["Start"] = lambda _request: pb.StartResponse(pid=1)

    assert task.start(CTX) == shim.pid
    assert task.pid == shim.pid


def test_an_end_that_was_waited_for_has_its_pid(made: World) -> None:
    shim = made.shim()
    task = made.create(shim)
    shim.answers["Wait"] = lambda _request: pb.WaitResponse(exit_status=3)

    assert (task.wait(CTX).pid, task.wait(CTX).status) == (shim.pid, 3)


def test_an_exec_is_asked_for_by_its_own_id(made: World) -> None:
    shim = made.shim()
    task = made.create(shim)

    added = task.exec(CTX, "e", TypedAny("spec", b"{}"), IO(stdin="/in"))
    added.kill(CTX, 9)
    added.resize(CTX, 80, 24)
    added.close_io(CTX)
    added.delete(CTX)

    calls = {call.method: call.request for call in shim.calls}
    assert (calls["Exec"].exec_id, calls["Exec"].stdin, calls["Exec"].spec.value) == ("e", "/in", b"{}")
    assert {calls[method].exec_id for method in ("Kill", "ResizePty", "CloseIO", "Delete")} == {"e"}
    assert (calls["ResizePty"].width, calls["ResizePty"].height, calls["CloseIO"].stdin) == (80, 24, True)


def test_an_exec_that_failed_to_start_is_not_started_again_until_it_was_deleted(made: World) -> None:
    shim = made.shim()
    added = made.create(shim).exec(CTX, "e", TypedAny(), IO())
    refuses(shim, "Start", Unknown("OCI runtime exec failed"))
    with pytest.raises(Unknown, match="OCI runtime exec failed"):
        added.start(CTX)
    shim.calls.clear()

    with pytest.raises(Unknown, match="failed to start"):
        added.start(CTX)
    assert "Start" not in shim.methods()

    added.delete(CTX)
    del shim.answers["Start"]
    assert added.start(CTX) == shim.pid


def test_an_update_of_nothing_does_not_reach_the_shim(made: World) -> None:
    shim = made.shim()
    task = made.create(shim)

    with pytest.raises(InvalidArgument):
        task.update(CTX, None, {})

    assert "Update" not in shim.methods()


def test_a_task_without_statistics_says_so(made: World) -> None:
    task = made.create(made.shim())

    with pytest.raises(NotFound, match="no metrics received for task id"):
        task.stats(CTX)
