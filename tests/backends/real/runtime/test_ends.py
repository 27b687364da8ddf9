"""How tasks of the second runtime end: deleted, or with their shims; what is told, and what is left."""

from __future__ import annotations

import threading

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from conformance.shim.scripted import ScriptedShim
from refimpl.contract.errors import (
    NotFound,
    Unknown,
)
from refimpl.contract.runtimes import Status
from tests.backends.real.runtime.worlds import CTX, SECONDS, World, end, refuses, until

pytestmark = pytest.mark.root


# --- deletion


def test_a_task_that_is_deleted_is_gone_when_the_call_is_back(made: World) -> None:
    shim = made.shim()
    made.create(shim)

    end = made.runtime.delete(CTX, "id")

    assert (end.pid, end.status) == (shim.pid, 5)
    assert (made.left(), made.runtime.tasks(CTX)) == ([], [])
    assert shim.actions() == ["start", "delete"]
    assert made.ends() == [], "the shim has told of it"
    with pytest.raises(NotFound):
        made.runtime.delete(CTX, "id")


def test_a_task_that_is_deleted_is_gone_whatever_the_shim_says_afterwards(made: World) -> None:
    shim = made.shim()
    made.create(shim)
    shim.plan("delete", err=b"no such socket", status=1)

    made.runtime.delete(CTX, "id")

    assert made.left() == []


def test_a_delete_that_is_refused_changes_nothing(made: World) -> None:
    shim = made.shim()
    task = made.create(shim)
    refuses(shim, "Delete", Unknown("cannot delete a running process"))

    with pytest.raises(Unknown, match=r"^failed to delete task: cannot delete a running process: unknown$"):
        made.runtime.delete(CTX, "id")

    assert made.runtime.get(CTX, "id") is task
    assert task.state(CTX).status is Status.CREATED
    assert shim.actions() == ["start"]


def test_a_shim_that_has_forgotten_its_task_is_cleaned_up_and_that_is_told(made: World) -> None:
    shim = made.shim()
    made.create(shim)
    refuses(shim, "Delete", NotFound("container not created"))

    with pytest.raises(NotFound):
        made.runtime.delete(CTX, "id")

    assert made.ends() == end(4242, 42)
    assert (made.left(), made.runtime.tasks(CTX)) == ([], [])


def test_a_shutdown_that_is_not_answered_does_not_keep_the_task(made: World) -> None:
    shim, free = made.shim(), threading.Event()
    made.patient(shutdown=1.0)
    made.create(shim)

    def answer(_request: object) -> Message:
        free.wait(SECONDS)
        return Empty()

    shim.answers["Shutdown"] = answer
    try:
        made.runtime.delete(CTX, "id")
        assert made.left() == []
    finally:
        free.set()


def test_of_many_deletes_one_succeeds_and_nobody_is_told_twice(made: World) -> None:
    shim = made.shim()
    made.create(shim)
    gone = threading.Event()

    def answer(_request: object) -> Message:
        if gone.is_set():
            raise NotFound("container not created")
        gone.set()
        return ScriptedShim.exit(shim.pid, 5)

    shim.answers["Delete"] = answer
    outcomes: list[str] = []

    def delete() -> None:
        try:
            made.runtime.delete(CTX, "id")
            outcomes.append("deleted")
        except NotFound:
            outcomes.append("not found")

    threads = [threading.Thread(target=delete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    assert sorted(outcomes) == ["deleted", "not found", "not found", "not found"]
    assert made.ends() == []


# --- the death of a shim


def test_the_death_of_a_shim_is_told_and_its_task_forgotten(made: World) -> None:
    shim = made.shim()
    task = made.create(shim)

    shim.cut()

    until(lambda: not made.runtime.tasks(CTX), "the task is listed")
    assert made.ends() == end(4242, 42)
    assert made.left() == []
    with pytest.raises(NotFound):
        task.state(CTX)
    with pytest.raises(Unknown, match="ttrpc: closed"):
        task.wait(CTX)
    shim.listen()
    assert made.create(shim).pid == shim.pid


def test_a_clean_up_that_fails_is_told_as_255_and_keeps_the_bundle(made: World) -> None:
    shim = made.shim()
    made.create(shim)
    shim.plan("delete", status=1)

    shim.cut()

    until(lambda: not made.runtime.tasks(CTX), "the task is listed")
    assert made.ends() == end(0, 255)
    assert made.bundle().exists()


def test_a_dead_shim_takes_all_its_tasks_along_and_no_others(made: World) -> None:
    shared, other = made.shim(), made.shim()
    made.create(shared, "one")
    made.create(shared, "two")
    kept = made.create(other, "three")

    shared.cut()

    until(lambda: made.runtime.tasks(CTX) == [kept], "tasks of the dead shim are listed")
    assert sorted(made.ends()) == sorted(end(4242, 42) * 2)
    assert made.left() == ["root/ns/three", "state/ns/three"]


def test_a_shim_that_serves_many_lives_on_when_one_is_deleted(made: World) -> None:
    shared = made.shim()
    made.create(shared, "one")
    kept = made.create(shared, "two")

    made.runtime.delete(CTX, "one")

    assert made.runtime.tasks(CTX) == [kept]
    assert kept.state(CTX).status is Status.CREATED
