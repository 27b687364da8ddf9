"""Tasks of an earlier daemon: found again by their bundles, or cleaned up."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.message import Message

from refimpl.api import task_types_v1_pb2 as types
from refimpl.api import task_v2_pb2 as pb
from refimpl.contract.errors import (
    NotFound,
)
from refimpl.contract.runtimes import Status, Task
from tests.backends.real.runtime.worlds import CTX, SECONDS, World, end, refuses, until

pytestmark = pytest.mark.root


def test_tasks_are_there_again_and_their_shims_were_not_touched(made: World) -> None:
    shim = made.shim()
    made.create(shim).start(CTX)

    made.restart()

    (task,) = made.runtime.tasks(CTX)
    assert (task.id, task.pid, task.state(CTX).status) == ("id", shim.pid, Status.RUNNING)
    assert shim.actions() == ["start"]
    assert made.ends() == []
    assert made.runtime.delete(CTX, "id").status == 5
    assert made.left() == []


def test_the_death_of_a_shim_that_was_found_again_is_told(made: World) -> None:
    shim = made.shim()
    made.create(shim)
    made.restart()

    shim.cut()

    until(lambda: not made.runtime.tasks(CTX), "the task is listed")
    assert made.ends() == end(4242, 42)


@pytest.mark.parametrize("fate", ["died", "silent", "no address"])
def test_a_shim_that_is_not_found_again_is_cleaned_up(made: World, fate: str) -> None:
    shim, free = made.shim(), threading.Event()
    kept = made.shim()
    made.create(shim)
    made.create(kept, "kept")

    def silent(_request: object) -> Message:
        free.wait(SECONDS)
        return pb.ConnectResponse()

    def between() -> None:
        if fate == "died":
            shim.cut()
        elif fate == "silent":
            shim.answers["Connect"] = silent
            # As long as it takes the other shim to answer, on a machine that stands still for a moment.
            made.patience = replace(made.patience, load=5.0)
        else:
            (made.bundle() / "address").unlink()

    try:
        made.restart(between)
        assert [task.id for task in made.runtime.tasks(CTX)] == ["kept"]
        assert shim.actions() == ["start", "delete"]
        assert made.left() == ["root/ns/kept", "state/ns/kept"]
    finally:
        free.set()


def test_a_clean_up_that_fails_at_the_start_keeps_a_bundle_in_which_something_may_run(made: World) -> None:
    shim = made.shim()
    made.create(shim)
    (made.bundle() / "init.pid").write_text("1")
    shim.plan("delete", status=1)

    made.restart(shim.cut)

    assert made.runtime.tasks(CTX) == []
    assert made.bundle().exists()


def test_a_daemon_that_died_before_it_asked_for_a_container_blocks_nothing(made: World) -> None:
    shim = made.shim()
    made.create(shim)
    # As runc's shim has it: nothing to delete is a failure.
    shim.plan("delete", status=1)

    made.restart(shim.cut)

    assert made.left() == []


def test_a_shim_that_waits_for_a_create_that_never_comes_is_ended(made: World) -> None:
    shim = made.shim()
    made.create(shim)
    shim.answers["Connect"] = lambda _request: pb.ConnectResponse(shim_pid=1)
    refuses(shim, "State", NotFound("container not created"))

    made.restart()

    assert made.runtime.tasks(CTX) == []
    assert shim.methods()[-1] == "Shutdown"
    assert made.left() == []


def test_a_task_that_is_to_be_restored_is_there_again_without_a_process(made: World) -> None:
    shim = made.shim()
    shim.pid = 0
    shim.state = types.CREATED
    made.create(shim)

    made.restart()

    (task,) = made.runtime.tasks(CTX)
    assert (task.pid, task.state(CTX).status) == (0, Status.CREATED)


def test_what_was_left_half_way_is_removed_and_what_is_hidden_is_not(made: World) -> None:
    state, root = made.top / "state" / "ns", made.top / "root" / "ns"

    def litter() -> None:
        for path in (state / "empty", state / "unknown" / "rootfs", state / ".hidden", root / "orphan", root / ".kept"):
            path.mkdir(parents=True)
        (state / "file").write_text("")

    made.restart(litter)

    assert made.left() == ["root/ns/.kept", "state/ns/.hidden"]
    assert (state / "file").exists()


def test_the_record_tells_the_shim_of_a_bundle_that_does_not(made: World) -> None:
    shim = made.shim()
    made.create(shim)

    made.restart((made.bundle() / "shim-binary-path").unlink)

    assert [task.id for task in made.runtime.tasks(CTX)] == ["id"]


def test_twenty_tasks_are_found_at_once(made: World) -> None:
    shims = [made.shim() for _ in range(20)]
    for number, shim in enumerate(shims):
        made.create(shim, f"t{number}")

    made.restart()

    assert sorted(task.id for task in made.runtime.tasks(CTX)) == sorted(f"t{number}" for number in range(20))


def test_a_task_is_one_of_the_contract(made: World) -> None:
    task: Task = made.create(made.shim())

    assert task.process(CTX, "e").id == "e"
    assert isinstance(made.bundle(), Path)
