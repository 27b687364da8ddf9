"""Containers outlive the daemon, and the daemon outlives their shims: what is true after a SIGKILL of either."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Packed

from refimpl.api import typeurl
from refimpl.client import Client
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound
from refimpl.contract.runtimes import Status
from refimpl.contract.types import TypedAny
from tests.acceptance import images, real_tasks
from tests.acceptance.real_tasks import RealDaemon, alive, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.debian("ctr", "containerd-shim-runc-v2", "runc", "busybox"),
]

IMAGE = images.PROGRAMS_NAME

LIVING, ENDING = 15, 5

RUNTIMES = ["runc", "refimpl", pytest.param("first", marks=pytest.mark.debian("containerd-shim"))]


@dataclass
class Scene:
    """A daemon with containers, and what its clients know.

    Attributes:
        flags: a directory that containers see as ``/flags``: one whose name is there ends.
    """

    daemon: RealDaemon
    flags: Path

    @property
    def ctx(self) -> CallContext:
        """For one call."""
        return CallContext(self.daemon.namespace, deadline=time.monotonic() + real_tasks.SECONDS)

    def run(self, id: str, status: int) -> None:
        """Run a container in the background that ends with ``status`` once it is told to."""
        script = f"until test -e /flags/{id}; do sleep 0.05; done; exit {status}"
        mount = f"type=bind,src={self.flags},dst=/flags,options=rbind:ro"
        done = self.daemon.ctr("run", "-d", "--mount", mount, IMAGE, id, "sh", "-c", script)
        assert done.code == 0, done.stderr.decode()

    def pids(self) -> dict[str, int]:
        """The pid of each running task."""
        with Client(str(self.daemon.socket), timeout=real_tasks.SECONDS) as client:
            return {task.id: task.pid for task in client.tasks.list(self.ctx) if task.status is Status.RUNNING}

    def killed(self, meanwhile: Callable[[], object]) -> None:
        """Kill the daemon, do something, and start it again."""
        self.daemon.stop(signal.SIGKILL)
        meanwhile()
        self.daemon.start()

    def delete(self, id: str) -> int:
        """Delete a task that has ended, and its container; its exit status."""
        with Client(str(self.daemon.socket), timeout=real_tasks.SECONDS) as client:
            status = client.tasks.delete(self.ctx, id).status
            client.containers.delete(self.ctx, id)
        # Nobody needs its snapshot any more: the collector may be faster.
        self.daemon.ctr("snapshots", "rm", id)
        return status

    def end(self, id: str) -> int:
        """Kill a task, wait for it and delete it; its exit status."""
        with Client(str(self.daemon.socket), timeout=real_tasks.SECONDS) as client:
            client.tasks.kill(self.ctx, id, signal=signal.SIGKILL)
            assert client.tasks.wait(self.ctx, id).status == 128 + signal.SIGKILL
        return self.delete(id)

    def shim_of(self, pid: int) -> int:
        """The process whose child a task's init is."""
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Ear:
    """Hears what is told of tasks from now on: topic, container, process and exit status."""

    def __init__(self, client: Client, scene: Scene) -> None:
        self.told: list[tuple[str, str, str, int]] = []
        self._subscription = client.events.subscribe(CallContext(), [f"namespace=={scene.daemon.namespace}"])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        # What is told before the subscription is set up is not heard.
        for number in range(1000):
            client.events.publish(
                CallContext(scene.daemon.namespace), f"/begin/n{number}", TypedAny("nothing", b"\x01")
            )
            if self.told:
                break
            time.sleep(0.02)
        assert self.told, "nothing is heard"

    def _listen(self) -> None:
        for envelope in self._subscription:
            event: Any = None
            if envelope.topic.startswith("/tasks/"):
                event = typeurl.unpack(Packed(type_url=envelope.event.type_url, value=envelope.event.value))
            fields = [getattr(event, name, "") for name in ("container_id", "id")]
            self.told.append((envelope.topic, *fields, getattr(event, "exit_status", 0)))  # type: ignore[arg-type]

    def of_task(self, id: str) -> list[tuple[str, str, str, int]]:
        """What was told of one task; shims may still tell of others that ended while nobody listened."""
        return [one for one in self.told if one[0].startswith("/tasks/") and one[1] == id]

    def close(self) -> None:
        """Hear no more."""
        self._subscription.close()
        self._thread.join(real_tasks.SECONDS)


@pytest.fixture(params=RUNTIMES)
def scene(request: pytest.FixtureRequest, base: Path, archives: images.Images) -> Iterator[Scene]:
    """A daemon with the image; afterwards nothing of its tasks may be there."""
    with real_tasks.real(base, request.param) as daemon:
        flags = daemon.base / "flags"
        flags.mkdir()
        daemon.start()
        done = daemon.ctr("images", "import", str(archives.programs))
        assert done.code == 0, done.stderr.decode()
        yield Scene(daemon, flags)
        daemon.stop()


def test_tasks_go_on_without_the_daemon_and_end_with_their_own_status(scene: Scene) -> None:
    living = [f"living{number}" for number in range(LIVING)]
    ending = {f"ending{number}": 10 + number for number in range(ENDING)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(scene.run, [*living, *ending], [0] * LIVING + [*ending.values()]))
    before = scene.pids()
    assert len(before) == LIVING + ENDING

    def meanwhile() -> None:
        for id in ending:
            (scene.flags / id).touch()
        until(lambda: not any(alive(before[id]) for id in ending), "some do not end")

    scene.killed(meanwhile)

    assert scene.pids() == {id: before[id] for id in living}
    with Client(str(scene.daemon.socket), timeout=real_tasks.SECONDS) as client:
        ended = {task.id: task for task in client.tasks.list(scene.ctx) if task.status is Status.STOPPED}
        assert {id: task.exit_status for id, task in ended.items()} == ending
        assert all(task.exited_at > 0 for task in ended.values())
        assert {id: client.tasks.wait(scene.ctx, id).status for id in ending} == ending
    assert {id: scene.delete(id) for id in ending} == ending

    _all_works(scene, living[0], before[living[0]])
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(scene.end, living[1:])) == {137}
    until(lambda: not scene.daemon.left(), f"something is left: {scene.daemon.left()}")


def _all_works(scene: Scene, id: str, pid: int) -> None:
    """Exec, events, pause, wait and kill of a task that was there before the daemon; it is deleted."""
    with Client(str(scene.daemon.socket), timeout=real_tasks.SECONDS) as client:
        ear = Ear(client, scene)
        done = scene.daemon.ctr("tasks", "exec", "--exec-id", "e", id, "sh", "-c", "exit 3")
        assert done.code == 3
        # The first runtime's shims tell of ends in their own time, and of none when the task is deleted.
        until(lambda: ("/tasks/exit", id, "e", 3) in ear.of_task(id), "no word of the exec's end")
        assert pid in {one.pid for one in client.tasks.list_pids(scene.ctx, id)}
        client.tasks.pause(scene.ctx, id)
        assert client.tasks.get(scene.ctx, id).status is Status.PAUSED
        client.tasks.resume(scene.ctx, id)
        assert [metric.id for metric in client.tasks.metrics(scene.ctx, [f"id=={id}"])] == [id]

        assert scene.end(id) == 137

        until(lambda: any(one[0] == "/tasks/delete" for one in ear.of_task(id)), "no word of the end")
        topics = [topic for topic, *_ in ear.of_task(id) if topic != "/tasks/exec-added"]
        expected = ["exec-started", "exit", "paused", "resumed", "exit", "delete"]
        assert [topic for topic in topics if topic != "/tasks/exit"] == [
            f"/tasks/{name}" for name in expected if name != "exit"
        ]
        ear.close()


def test_a_task_ends_with_its_shim(scene: Scene) -> None:
    for id in ("victim", "other"):
        scene.run(id, 0)
    pids = scene.pids()
    with Client(str(scene.daemon.socket), timeout=real_tasks.SECONDS) as client:
        ear = Ear(client, scene)

        os.kill(scene.shim_of(pids["victim"]), signal.SIGKILL)

        until(lambda: any(one[0] == "/tasks/delete" for one in ear.of_task("victim")), "no word of the end")
        assert [(topic, container, status) for topic, container, _, status in ear.of_task("victim")] == [
            ("/tasks/exit", "victim", 137),
            ("/tasks/delete", "victim", 137),
        ]
        until(lambda: scene.pids() == {"other": pids["other"]}, "the task is listed")
        with pytest.raises(NotFound):
            client.tasks.get(scene.ctx, "victim")
        ear.close()
    until(lambda: not alive(pids["victim"]), "its process lives on")
    until(lambda: not [path for path in scene.daemon.left() if "victim" in path], f"left: {scene.daemon.left()}")
    # The container is there, and can have a task again.
    assert scene.daemon.ctr("tasks", "start", "-d", "victim").code == 0
    for id in ("victim", "other"):
        scene.end(id)
    until(lambda: not scene.daemon.left(), f"something is left: {scene.daemon.left()}")


def test_a_shim_that_died_while_the_daemon_was_away_is_cleaned_up(scene: Scene) -> None:
    for id in ("victim", "other"):
        scene.run(id, 0)
    pids = scene.pids()
    shim = scene.shim_of(pids["victim"])

    def meanwhile() -> None:
        os.kill(shim, signal.SIGKILL)
        until(lambda: not alive(shim), "the shim lives on")

    scene.killed(meanwhile)

    assert scene.pids() == {"other": pids["other"]}
    until(lambda: not alive(pids["victim"]), "its process lives on")
    until(lambda: not [path for path in scene.daemon.left() if "victim" in path], f"left: {scene.daemon.left()}")
    assert scene.end("other") == 137
    until(lambda: not scene.daemon.left(), f"something is left: {scene.daemon.left()}")


def test_a_daemon_that_is_killed_while_tasks_are_made_blocks_no_id(scene: Scene) -> None:
    scene.run("lasting", 0)
    pid = scene.pids()["lasting"]
    made: list[str] = []

    def come_and_go(number: int) -> None:
        id = f"made{number}"
        mount = f"type=bind,src={scene.flags},dst=/flags,options=rbind:ro"
        made.append(id)
        # It may or may not come about: the daemon is killed at any moment.
        scene.daemon.ctr("run", "-d", "--mount", mount, IMAGE, id, "sleep", "1000")

    for number in range(5):
        thread = threading.Thread(target=come_and_go, args=(number,))
        thread.start()
        time.sleep(0.03 * number)
        scene.killed(thread.join)
        assert scene.pids()["lasting"] == pid

    with Client(str(scene.daemon.socket), timeout=real_tasks.SECONDS) as client:
        for task in client.tasks.list(scene.ctx):
            if task.status is not Status.STOPPED:
                client.tasks.kill(scene.ctx, task.id, signal=signal.SIGKILL)
                client.tasks.wait(scene.ctx, task.id)
            client.tasks.delete(scene.ctx, task.id)
        # Whatever became of them: the ids are free.
        for container in client.containers.list(scene.ctx):
            client.containers.delete(scene.ctx, container.id)
    for id in made:
        scene.daemon.ctr("snapshots", "rm", id)
        scene.run(id, 0)
        scene.end(id)
    until(lambda: not scene.daemon.left(), f"something is left: {scene.daemon.left()}")
