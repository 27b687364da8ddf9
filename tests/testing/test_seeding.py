"""What is seeded is what clients would have made."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.shim.waiting import until
from refimpl.contract.errors import AlreadyExists, NotFound
from refimpl.contract.runtimes import Status
from refimpl.contract.snapshots import Kind
from refimpl.contract.tasks import CreateTask
from refimpl.testing import FakeContainerd, fake_containerd
from refimpl.testing.seeding import COMMAND, IMAGE
from tests.testing.threads import left

SECONDS = 30.0


def test_an_image_is_imported_and_unpacked(containerd: FakeContainerd) -> None:
    client, ctx = containerd.client, containerd.ctx

    image = containerd.seed.image("registry.test/app:1", files={"app/hello": b"hi\n"})

    assert client.images.get(ctx, "registry.test/app:1") == image
    assert len(list(client.content.walk(ctx))) == 4, "index, manifest, config and layer"
    [snapshot] = list(client.snapshotter("overlayfs").walk(ctx))
    assert snapshot.kind is Kind.COMMITTED


def test_an_image_need_not_be_unpacked(containerd: FakeContainerd) -> None:
    containerd.seed.image("a", snapshotter="")

    assert list(containerd.client.snapshotter("overlayfs").walk(containerd.ctx)) == []


def test_the_same_wish_gives_the_same_digest_everywhere() -> None:
    with fake_containerd() as one, fake_containerd() as other:
        wish = {"files": {"b/c": b"1", "a": b"2"}, "labels": {"x": "y"}}
        assert one.seed.image("n", **wish).target == other.seed.image("n", **wish).target  # type: ignore[arg-type]


def test_a_container_stands_on_its_image(containerd: FakeContainerd) -> None:
    client, ctx = containerd.client, containerd.ctx

    made = containerd.seed.container("web", args=["cat"], labels={"tier": "front"})

    found = client.containers.get(ctx, "web")
    assert found == made
    assert (found.image, found.runtime.name, found.labels) == (IMAGE, "io.containerd.runc.v2", {"tier": "front"})
    snapshots = client.snapshotter("overlayfs")
    assert (snapshots.stat(ctx, "web").kind, snapshots.stat(ctx, "web").parent) == (
        Kind.ACTIVE,
        next(info.name for info in snapshots.walk(ctx) if info.kind is Kind.COMMITTED),
    )
    assert found.spec is not None
    assert json.loads(found.spec.value)["process"]["args"] == ["cat"]


def test_a_container_runs_what_its_image_says(containerd: FakeContainerd) -> None:
    containerd.seed.image("other", command=["echo", "hi"], env=["A=b"])

    made = containerd.seed.container("a", image="other", spec={"hostname": "host"})
    plain = containerd.seed.container("b")

    assert made.spec is not None
    assert plain.spec is not None
    spec = json.loads(made.spec.value)
    assert (spec["process"]["args"], spec["process"]["env"], spec["hostname"]) == (["echo", "hi"], ["A=b"], "host")
    assert json.loads(plain.spec.value)["process"]["args"] == list(COMMAND)


def test_a_container_that_is_there_is_not_seeded_again(containerd: FakeContainerd) -> None:
    containerd.seed.container("web")

    with pytest.raises(AlreadyExists):
        containerd.seed.container("web")


def test_a_task_runs_until_it_is_told_to_end(containerd: FakeContainerd) -> None:
    tasks, ctx = containerd.client.tasks, containerd.ctx

    seeded = containerd.seed.task("web", labels={"tier": "front"})

    state = tasks.get(ctx, "web")
    assert (state.status, state.pid) == (Status.RUNNING, seeded.pid)
    assert seeded.container == containerd.client.containers.get(ctx, "web")
    tasks.kill(ctx, "web", signal=signal.SIGTERM)
    tasks.kill(ctx, "web", signal=signal.SIGKILL)
    assert tasks.wait(ctx, "web").status == 128 + signal.SIGKILL
    assert tasks.delete(ctx, "web").pid == seeded.pid


def test_a_task_sleeps_until_the_clock_is_moved(containerd: FakeContainerd) -> None:
    containerd.seed.task("job", args=["sleep", "3600"])
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(containerd.client.tasks.wait, containerd.ctx, "job")
        containerd.calls.wait_for("Tasks/Wait", seconds=SECONDS)
        containerd.clock.advance(3599)
        assert not end.done()

        def over() -> bool:
            # It may have begun to sleep only now: a program starts a moment after its task.
            containerd.clock.advance(3600)
            return end.done()

        assert until(over, SECONDS)
        assert end.result(0).status == 0
    assert containerd.client.tasks.get(containerd.ctx, "job").status is Status.STOPPED


def test_a_container_that_is_there_gets_a_task(containerd: FakeContainerd) -> None:
    made = containerd.seed.container("web")

    assert containerd.seed.task("web").container == made
    with pytest.raises(AlreadyExists):
        containerd.seed.task("web")
    with pytest.raises(TypeError, match="container web is there already; it cannot get args"):
        containerd.seed.task("web", args=["cat"])


def test_tasks_end_with_their_daemon() -> None:
    before = set(threading.enumerate())
    with fake_containerd() as containerd:
        for id in ("running", "paused", "ended", "created"):
            containerd.seed.container(id, args=["true" if id == "ended" else "sleep", "1000"])
        for id in ("running", "paused", "ended"):
            containerd.seed.task(id)
        containerd.client.tasks.pause(containerd.ctx, "paused")
        containerd.client.tasks.wait(containerd.ctx, "ended")
        containerd.client.tasks.create(containerd.ctx, CreateTask("created"))

    assert left(before) == []


def test_seeding_is_neither_logged_nor_struck(containerd: FakeContainerd) -> None:
    containerd.faults.hang("*")

    containerd.seed.container("web")

    assert len(containerd.calls) == 0


def test_what_is_seeded_outlives_a_collection(containerd: FakeContainerd) -> None:
    containerd.seed.container("web")
    containerd.client.images.delete(containerd.ctx, IMAGE, sync=True)

    snapshots = containerd.client.snapshotter("overlayfs")
    assert snapshots.stat(containerd.ctx, "web").kind is Kind.ACTIVE
    assert snapshots.mounts(containerd.ctx, "web")
    with pytest.raises(NotFound):
        containerd.client.images.get(containerd.ctx, IMAGE)
