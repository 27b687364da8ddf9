"""The restart monitor: what a label makes of a container's task, pass by pass, on a clock that the test moves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.scratch import FakeScratch
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import NotFound, Unavailable, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.namespaces import Namespace
from refimpl.contract.runtimes import IO, Status
from refimpl.contract.tasks import CreateTask
from refimpl.contract.types import TypedAny
from refimpl.kernel import Duration, InitContext, Kernel, Plugin, Registration
from refimpl.services import restart
from refimpl.services.plugin_types import EVENT, SERVICE
from refimpl.services.restart import LOG_PATH, LOG_URI, STATUS, Config, RestartMonitor, Services
from refimpl.services.tasks import TasksService
from refimpl.services.tasks_checkpoints import Checkpoints
from refimpl.services.tasks_runtimes import Runtimes, Unwatched
from tests.services.fakes import Store
from tests.services.tiny_runtime import TinyRuntime, TinyTask

NS = CallContext(namespace="ns")
SPEC = TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b"{}")
INTERVAL = 10.0
WAIT = 60
LOG = logging.getLogger("test.restart")


class Records(Store):
    """Containers by namespace and id; each look at a namespace is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.there: dict[tuple[str, str], Container] = {}
        self.looks = 0
        self.broken: set[str] = set()

    def get(self, ctx: CallContext, id: str) -> Container:
        try:
            return self.there[ctx.namespace, id]
        except KeyError:
            raise NotFound(f'container "{id}"') from None

    def list(self, ctx: CallContext, filters: Sequence[str] = ()) -> list[Container]:
        assert list(filters) == [f'labels."{STATUS}"']
        self.looks += 1
        if ctx.namespace in self.broken:
            raise Unavailable("no database")
        return [
            container
            for (namespace, _), container in self.there.items()
            if namespace == ctx.namespace and STATUS in container.labels
        ]


class Namespaces(Store):
    """Two namespaces."""

    broken = False

    def list(self, ctx: CallContext) -> list[Namespace]:
        if self.broken:
            raise Unavailable("no database")
        return [Namespace("ns"), Namespace("other")]


class World:
    """A monitor with all that stands around it."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.records = Records()
        self.runtime = TinyRuntime()
        self.clock = clock or FakeClock()
        self.snapshots = Store(mounts=[Mount("bind", "/layer")])
        checkpoints = Checkpoints(Store(), FakeScratch(FakeHost(self.clock)), self.clock)
        runtimes = Runtimes({}, self.runtime)
        self.tasks = TasksService(self.records, runtimes, Unwatched(), checkpoints, self.clock, LOG)
        self.namespaces = Namespaces()
        services = Services(self.namespaces, self.records, {"overlayfs": self.snapshots}, self.tasks)
        self.monitor = RestartMonitor(services, self.clock, INTERVAL, LOG)

    def box(self, id: str, namespace: str = "ns", **labels: str) -> None:
        named = {"status": STATUS, "loguri": LOG_URI, "logpath": LOG_PATH}
        put = {named.get(key, f"containerd.io/restart.{key}"): value for key, value in labels.items()}
        record = Container(id, labels=put, runtime=RuntimeInfo("io.containerd.runc.v2"), spec=SPEC)
        self.records.there[namespace, id] = record

    def change(self, id: str, **fields: object) -> None:
        self.records.there["ns", id] = replace(self.records.there["ns", id], **fields)  # type: ignore[arg-type]

    def task(self, id: str, namespace: str = "ns") -> TinyTask:
        return self.runtime.made[namespace, id]

    def started(self, id: str) -> TinyTask:
        self.tasks.create(NS, CreateTask(id, io=IO("/in", "/out", "/err")))
        self.tasks.start(NS, id)
        return self.task(id)


@pytest.fixture
def world() -> World:
    return World()


def test_containers_without_the_label_are_left_alone(world: World) -> None:
    world.box("none")
    world.box("ended")
    world.started("ended").finish(1)
    world.monitor.reconcile()
    assert [task.status for task in world.runtime.made.values()] == [Status.STOPPED]


def test_running_starts_a_task_that_is_missing(world: World) -> None:
    world.box("c", status="running")
    world.monitor.reconcile()
    assert world.task("c").status is Status.RUNNING


@pytest.mark.parametrize("exit_status", [0, 7, 137])
def test_running_replaces_a_task_that_ended_however(world: World, exit_status: int) -> None:
    world.box("c", status="running")
    before = world.started("c")
    before.finish(exit_status)
    world.monitor.reconcile()
    assert world.task("c").status is Status.RUNNING
    assert world.task("c").pid != before.pid


@pytest.mark.parametrize("status", [Status.CREATED, Status.PAUSED])
def test_running_replaces_a_task_in_any_other_state(world: World, status: Status) -> None:
    world.box("c", status="running")
    before = world.started("c")
    before.become(status)
    world.monitor.reconcile()
    assert before.status is Status.STOPPED
    assert world.task("c").status is Status.RUNNING
    assert world.task("c").pid != before.pid


def test_running_leaves_a_running_task_alone(world: World) -> None:
    world.box("c", status="running")
    before = world.started("c")
    world.monitor.reconcile()
    assert world.task("c") is before
    assert before.done == []


@pytest.mark.parametrize("status", [Status.CREATED, Status.RUNNING, Status.PAUSED])
def test_stopped_kills_all_of_a_task_and_deletes_it(world: World, status: Status) -> None:
    world.box("c", status="stopped")
    task = world.started("c")
    task.become(status)
    world.monitor.reconcile()
    assert task.done == [("kill", 9, True)]
    assert not world.runtime.made


def test_stopped_leaves_a_stopped_task_alone_and_makes_none(world: World) -> None:
    for id in ("ended", "none"):
        world.box(id, status="stopped")
    task = world.started("ended")
    task.finish(3)
    world.monitor.reconcile()
    assert list(world.runtime.made.values()) == [task]
    assert world.tasks.get(NS, "ended").exit_status == 3


@pytest.mark.parametrize("wish", ["paused", "created", "banana", "", "Running"])
def test_other_wishes_are_not_granted(world: World, wish: str) -> None:
    world.box("none", status=wish)
    world.box("ended", status=wish)
    task = world.started("ended")
    task.finish(0)
    world.monitor.reconcile()
    assert list(world.runtime.made.values()) == [task]


def test_labels_are_read_anew_in_every_pass(world: World) -> None:
    world.box("c", status="running")
    world.monitor.reconcile()
    world.change("c", labels={STATUS: "stopped"})
    world.monitor.reconcile()
    assert not world.runtime.made
    world.change("c", labels={STATUS: "running"})
    world.monitor.reconcile()
    world.change("c", labels={})
    world.task("c").finish(1)
    world.monitor.reconcile()
    assert world.task("c").status is Status.STOPPED


def test_labels_of_the_next_release_mean_nothing(world: World) -> None:
    world.box("c", status="running", policy="no", count="junk")
    world.box("d", status="running", policy="on-failure:2", **{"explicitly-stopped": "true"})
    labels = {id: dict(record.labels) for (_, id), record in world.records.there.items()}
    for _ in range(3):
        world.monitor.reconcile()
        for id in ("c", "d"):
            assert world.task(id).status is Status.RUNNING
            world.task(id).finish(0)
    assert {id: dict(record.labels) for (_, id), record in world.records.there.items()} == labels


def test_every_namespace_is_watched(world: World) -> None:
    world.box("c", status="running")
    world.box("c", namespace="other", status="running")
    world.monitor.reconcile()
    assert sorted(world.runtime.made) == [("ns", "c"), ("other", "c")]


def test_a_container_that_fails_and_a_namespace_that_fails_stop_nobody_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for id in ("a", "bad", "z"):
        world.box(id, status="running")
    world.box("hidden", namespace="other", status="running")
    world.runtime.fails["bad"] = Unknown("OCI runtime create failed")
    world.records.broken.add("other")
    world.monitor.reconcile()
    assert sorted(world.runtime.made) == [("ns", "a"), ("ns", "z")]
    assert sorted(record.message for record in caplog.records) == ["apply change", "monitor for changes"]
    del world.runtime.fails["bad"]
    world.records.broken.clear()
    world.monitor.reconcile()
    assert len(world.runtime.made) == 4, "the next pass tries again"


def test_a_change_that_takes_long_holds_up_no_other_of_its_pass(world: World) -> None:
    for id in ("slow", "quick"):
        world.box(id, status="stopped")
        world.started(id)
    held, go = threading.Event(), threading.Event()
    slow, kill = world.task("slow"), world.task("slow").kill

    def hold(ctx: CallContext, signal: int, *, all: bool = False) -> None:
        held.set()
        assert go.wait(WAIT)
        kill(ctx, signal, all=all)

    slow.kill = hold  # type: ignore[method-assign]
    quick = world.task("quick")
    one_pass = threading.Thread(target=world.monitor.reconcile)
    one_pass.start()
    assert held.wait(WAIT)
    quick.wait(NS)
    go.set()
    one_pass.join(WAIT)
    assert not world.runtime.made


def test_a_restarted_task_has_no_stdio_of_the_one_before(world: World) -> None:
    world.box("c", status="running")
    world.started("c").finish(1)
    world.monitor.reconcile()
    assert world.tasks.get(NS, "c").io == IO()


@pytest.mark.parametrize(
    "labels,uri",
    [
        ({"loguri": "file:///D/i.log"}, "file:///D/i.log"),
        ({"loguri": "binary:///PROG?k=v"}, "binary:///PROG?k=v"),
        ({"logpath": "/D/j.log"}, "file:///D/j.log"),
        ({"loguri": "file:///k2.log", "logpath": "/k1.log"}, "file:///k2.log"),
    ],
)
def test_log_labels_say_where_it_writes(world: World, labels: dict[str, str], uri: str) -> None:
    world.box("c", status="running", **labels)
    world.monitor.reconcile()
    assert world.tasks.get(NS, "c").io == IO(stdout=uri, stderr=uri)


def test_two_log_labels_are_warned_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.box("c", status="running", loguri="file:///k2.log", logpath="/k1.log")
    world.monitor.reconcile()
    assert "has been deprecated" in caplog.text


@pytest.mark.parametrize("labels", [{"loguri": "%zz"}, {"logpath": "relative"}])
def test_a_log_that_cannot_be_makes_no_task_in_any_pass(
    world: World, labels: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    world.box("c", status="running", **labels)
    for _ in range(2):
        world.monitor.reconcile()
    assert not world.runtime.made
    assert [record.message for record in caplog.records] == ["apply change"] * 2


def test_a_task_is_made_from_the_record_as_it_is_now(world: World) -> None:
    world.box("c", status="running")
    world.started("c").finish(0)
    spec, options = TypedAny(SPEC.type_url, b'{"new":1}'), TypedAny("o", b"x")
    world.change("c", spec=spec, runtime=RuntimeInfo("x.y", options), snapshotter="overlayfs", snapshot_key="k")
    world.monitor.reconcile()
    given = world.task("c").options
    assert (given.spec, given.runtime, given.runtime_options) == (spec, "x.y", options)
    assert given.rootfs == [Mount("bind", "/layer")]
    assert [(name, args[1:]) for name, args, _ in world.snapshots.calls] == [("mounts", ("k",))]


def test_a_snapshotter_that_is_not_there_makes_no_task(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.box("c", status="running")
    world.change("c", snapshotter="nope", snapshot_key="k")
    world.monitor.reconcile()
    assert not world.runtime.made
    assert [record.message for record in caplog.records] == ["apply change"]


def test_a_task_outlives_its_record(world: World) -> None:
    world.box("c", status="running")
    world.monitor.reconcile()
    before = world.task("c")
    del world.records.there["ns", "c"]
    world.monitor.reconcile()
    assert world.task("c") is before
    assert before.status is Status.RUNNING


# --- passes


class Turns(FakeClock):
    """A clock on which every wait lasts until the test lets it go; it says when somebody has begun to wait."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = threading.Condition()
        self._released = 0
        self.waits: list[float | None] = []

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        with self._turn:
            self.waits.append(seconds)
            mine = len(self.waits)
            self._turn.notify_all()
            assert self._turn.wait_for(lambda: self._released >= mine or event.is_set(), WAIT)
        return event.is_set()

    def until_waits(self, count: int) -> None:
        """Return when the ``count``-th wait has begun."""
        with self._turn:
            assert self._turn.wait_for(lambda: len(self.waits) >= count, WAIT)

    def release(self) -> None:
        """Let one more wait be over."""
        with self._turn:
            self._released += 1
            self._turn.notify_all()


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def taking_turns(turns: Turns) -> Iterator[World]:
    world = World(turns)
    yield world
    world.monitor._stop.set()
    turns.release()
    world.monitor.close()


def test_the_first_pass_is_at_once_and_an_interval_begins_when_a_pass_ends(taking_turns: World, turns: Turns) -> None:
    taking_turns.box("c", status="running")
    taking_turns.monitor.start()
    for passes in range(1, 4):
        turns.until_waits(passes)
        assert taking_turns.records.looks == 2 * passes, "two namespaces, each looked at once in a pass"
        assert taking_turns.task("c").status is Status.RUNNING
        taking_turns.task("c").finish(0)
        turns.release()
    assert set(turns.waits) == {INTERVAL}


def test_the_monitor_goes_on_after_a_pass_that_failed(
    taking_turns: World, turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    taking_turns.namespaces.broken = True
    taking_turns.monitor.start()
    turns.until_waits(1)
    assert [record.message for record in caplog.records] == ["reconcile"]
    taking_turns.namespaces.broken = False
    turns.release()
    turns.until_waits(2)
    assert taking_turns.records.looks == 2


def test_a_close_ends_what_a_pass_waits_for(world: World) -> None:
    world.box("c", status="stopped")
    task = world.started("c")
    waiting = threading.Event()

    def ignore(ctx: CallContext, signal: int, *, all: bool = False) -> None:
        waiting.set()

    task.kill = ignore  # type: ignore[method-assign]
    world.monitor.start()
    assert waiting.wait(WAIT)
    world.monitor.close()
    world.monitor.close()
    assert not world.monitor._thread.is_alive()


# --- how the plugin comes about


def booted(config: Config, missing: str = "", broken: str = "") -> Plugin:
    world = World()

    def registration(name: str, instance: object) -> Registration:
        def init(_ic: InitContext) -> object:
            if name == broken:
                raise Unavailable("away")
            return instance

        return Registration(SERVICE, f"{name}-service", init=init)

    def configured(ic: InitContext) -> object:
        ic.config = config
        return restart.init(ic)

    services = {"namespaces": Store(list=[]), "containers": Store(), "snapshots": {}, "tasks": Store()}
    registrations = [registration(name, instance) for name, instance in services.items() if name != missing]
    registrations.append(Registration(EVENT, "exchange", init=lambda _: object()))
    (own,) = restart.refimpl_registrations()
    registrations.append(Registration(own.type, own.id, init=configured, requires=own.requires))
    kernel = Kernel(registrations, root=Path("/nowhere"), state=Path("/nowhere"), clock=world.clock)
    plugin = kernel.boot()["io.containerd.internal.v1.restart"]
    kernel.close()
    return plugin


@pytest.mark.parametrize("text,seconds", [("10s", 10.0), ("3s", 3.0), ("0s", 10.0), ("-1s", 10.0)])
def test_the_interval_is_the_configurations(text: str, seconds: float) -> None:
    plugin = booted(Config(Duration.parse(text)))
    assert plugin.error is None
    assert cast("RestartMonitor", plugin.made)._interval == seconds


def test_a_service_that_is_missing_or_broken_is_the_monitors_error() -> None:
    assert str(booted(Config(), missing="tasks").error) == 'service "tasks-service" not found'
    assert str(booted(Config(), broken="snapshots").error) == "away: unavailable"
    assert Config().interval == Duration.parse("10s")
