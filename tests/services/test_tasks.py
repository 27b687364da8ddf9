"""The tasks service: whom it asks, what it checks itself, and what it makes of the answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, cast

import pytest

from refimpl.api import linux_runc_pb2, runc_v1_pb2, typeurl
from refimpl.backends.fake.clock import EPOCH, FakeClock
from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.scratch import FakeScratch
from refimpl.contract.containers import Container, RuntimeInfo
from refimpl.contract.context import CallContext
from refimpl.contract.errors import (
    AlreadyExists,
    ContainerdError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unknown,
)
from refimpl.contract.mounts import ClientMounts, Mount
from refimpl.contract.runtimes import IO, CreateOptions, Exit, ProcessInfo, ProcessState, Status
from refimpl.contract.scratch import Scratch
from refimpl.contract.tasks import CreateTask, Metric
from refimpl.contract.times import ZERO_TIME
from refimpl.contract.types import TypedAny
from refimpl.kernel import InitContext, Kernel, Plugin, Registration, SkipPlugin
from refimpl.services import tasks
from refimpl.services.plugin_types import EVENT, METADATA, MONITOR, RUNTIME_V1, RUNTIME_V2
from refimpl.services.tasks import TasksService
from refimpl.services.tasks_checkpoints import Checkpoints
from refimpl.services.tasks_runtimes import Runtimes, Unwatched
from tests.services.fakes import Store
from tests.services.tiny_runtime import EXITED_AT, METRICS, TinyMonitor, TinyRuntime, TinyTask

NS = CallContext(namespace="ns")
LINUX_V1 = "io.containerd.runtime.v1.linux"
RUNC = "io.containerd.runc.v2"
SPEC = TypedAny("types.containerd.io/opencontainers/runtime-spec/1/Spec", b"{}")
LOG = logging.getLogger("test.tasks")


class Containers(Store):
    """Container records that a test puts in."""

    def __init__(self, *containers: Container) -> None:
        super().__init__()
        self.there = {container.id: container for container in containers}

    def get(self, ctx: CallContext, id: str) -> Container:
        namespace = ctx.require_namespace()
        if id not in self.there:
            raise NotFound(f'container "{id}" in namespace "{namespace}"')
        return self.there[id]


def container(id: str, runtime: str = RUNC, options: TypedAny | None = None) -> Container:
    return Container(id, runtime=RuntimeInfo(runtime, options), spec=SPEC)


@dataclass
class World:
    """A service with all that stands around it."""

    containers: Containers = field(
        default_factory=lambda: Containers(
            container("c1"), container("c2"), container("old", LINUX_V1), container("odd", "nodots")
        )
    )
    first: TinyRuntime = field(default_factory=lambda: TinyRuntime(LINUX_V1))
    second: TinyRuntime = field(default_factory=TinyRuntime)
    monitor: TinyMonitor = field(default_factory=TinyMonitor)
    clock: FakeClock = field(default_factory=FakeClock)

    def service(self, state_seconds: float = 2.0) -> TasksService:
        checkpoints = Checkpoints(Store(), FakeScratch(FakeHost(self.clock)), self.clock)
        runtimes = Runtimes({LINUX_V1: self.first}, self.second)
        return TasksService(self.containers, runtimes, self.monitor, checkpoints, self.clock, LOG, state_seconds)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def service(world: World) -> TasksService:
    return world.service()


def every_call(service: TasksService, id: str) -> dict[str, Callable[[CallContext], object]]:
    """One call of each method that names a container."""
    return {
        "create": lambda ctx: service.create(ctx, CreateTask(id)),
        "start": lambda ctx: service.start(ctx, id),
        "delete": lambda ctx: service.delete(ctx, id),
        "delete_process": lambda ctx: service.delete_process(ctx, id, "e"),
        "get": lambda ctx: service.get(ctx, id),
        "kill": lambda ctx: service.kill(ctx, id, signal=9),
        "exec": lambda ctx: service.exec(ctx, id, "e", SPEC, IO()),
        "resize_pty": lambda ctx: service.resize_pty(ctx, id, width=1, height=1),
        "close_io": lambda ctx: service.close_io(ctx, id, stdin=True),
        "pause": lambda ctx: service.pause(ctx, id),
        "resume": lambda ctx: service.resume(ctx, id),
        "list_pids": lambda ctx: service.list_pids(ctx, id),
        "checkpoint": lambda ctx: service.checkpoint(ctx, id),
        "update": lambda ctx: service.update(ctx, id, SPEC),
        "wait": lambda ctx: service.wait(ctx, id),
    }


def test_every_call_needs_a_namespace(service: TasksService) -> None:
    calls = every_call(service, "c1") | {"list": service.list}
    for call in calls.values():
        with pytest.raises(FailedPrecondition, match="namespace is required"):
            call(CallContext())
        with pytest.raises(InvalidArgument):
            call(CallContext("../x"))


@pytest.mark.parametrize("id", ["nope", ""])
def test_every_call_needs_a_container(service: TasksService, id: str) -> None:
    for call in every_call(service, id).values():
        with pytest.raises(NotFound, match=f'container "{id}" in namespace "ns": not found'):
            call(NS)


def test_every_call_but_create_needs_a_task(service: TasksService) -> None:
    calls = every_call(service, "c1")
    del calls["create"]
    for call in calls.values():
        with pytest.raises(NotFound) as caught:
            call(NS)
        assert str(caught.value) == "task c1 not found"


def test_a_create_hands_the_record_and_the_wish_to_the_runtime(world: World, service: TasksService) -> None:
    options = TypedAny("containerd.runc.v1.Options", b"")
    world.containers.there["c1"] = container("c1", RUNC, TypedAny("o", b"record"))
    io = IO("in", "out", "err", terminal=True)
    mounts = [Mount("bind", "/a", "below", ("ro",)), Mount("bind", "/b")]
    pid = service.create(NS, CreateTask("c1", mounts, io, options=options, runtime_path="/bin/shim"))
    made = world.second.made["ns", "c1"]
    assert pid == made.pid > 0
    given = made.options
    assert (given.spec, given.io, given.checkpoint) == (SPEC, io, "")
    assert given.rootfs == [Mount("bind", "/a", "", ("ro",)), Mount("bind", "/b")], "targets are of the next release"
    assert (given.runtime, given.runtime_path) == (RUNC, "/bin/shim")
    assert (given.runtime_options, given.task_options) == (TypedAny("o", b"record"), options)
    assert world.monitor.watched == {"c1": {"runtime": RUNC}}


def test_a_runtime_is_chosen_by_its_full_name_and_all_other_names_are_shims(
    world: World, service: TasksService
) -> None:
    for id in ("c1", "old", "odd"):
        service.create(NS, CreateTask(id))
    assert list(world.first.made) == [("ns", "old")]
    assert list(world.second.made) == [("ns", "c1"), ("ns", "odd")]


def test_deprecated_runtimes_are_warned_of(
    world: World, service: TasksService, caplog: pytest.LogCaptureFixture
) -> None:
    world.containers.there["c2"] = container("c2", "io.containerd.runc.v1")
    for id in ("c1", "old", "c2"):
        service.create(NS, CreateTask(id))
    assert [record.getMessage() for record in caplog.records] == [
        "runtime v1 is deprecated since containerd v1.4, consider using runtime v2",
        '"io.containerd.runc.v1" is deprecated since containerd v1.4, consider using "io.containerd.runc.v2"',
    ]


def test_a_container_has_one_task(world: World, service: TasksService) -> None:
    pid = service.create(NS, CreateTask("c1"))
    with pytest.raises(AlreadyExists, match=r"^task c1: already exists$"):
        service.create(NS, CreateTask("c1"))
    assert service.get(NS, "c1").pid == pid
    service.create(CallContext("other"), CreateTask("c1"))
    assert len(world.second.made) == 2


def packed(message: runc_v1_pb2.Options | linux_runc_pb2.CreateOptions | runc_v1_pb2.CheckpointOptions) -> TypedAny:
    packed = typeurl.pack(message)
    return TypedAny(packed.type_url, packed.value)


@pytest.mark.parametrize(
    "id,options,text",
    [
        ("c1", packed(runc_v1_pb2.CheckpointOptions()), f"invalid task create option for {RUNC}"),
        ("c1", packed(linux_runc_pb2.CreateOptions()), f"invalid task create option for {RUNC}"),
        ("c1", TypedAny("foo.Bar"), "type with url foo.Bar: not found"),
        ("c1", TypedAny(typeurl.OCI_SPEC, b"{}"), f"invalid task create option for {RUNC}"),
        ("old", packed(runc_v1_pb2.Options()), f"invalid task create option for {LINUX_V1}"),
        ("old", TypedAny("foo.Bar"), "type with url foo.Bar: not found"),
    ],
)
def test_options_of_another_type_are_refused_before_the_runtime_hears_of_it(
    world: World, service: TasksService, id: str, options: TypedAny, text: str
) -> None:
    with pytest.raises(Unknown) as caught:
        service.create(NS, CreateTask(id, options=options))
    assert str(caught.value) == text
    assert not world.first.made
    assert not world.second.made


def test_options_of_a_runtime_that_nobody_knows_are_its_own(world: World, service: TasksService) -> None:
    service.create(NS, CreateTask("odd", options=TypedAny("foo.Bar", b"x")))
    assert world.second.made["ns", "odd"].options.task_options == TypedAny("foo.Bar", b"x")


def test_a_failed_create_leaves_nothing_to_watch(world: World, service: TasksService) -> None:
    world.second.fails["c1"] = Unknown("OCI runtime create failed")
    with pytest.raises(Unknown, match="OCI runtime create failed"):
        service.create(NS, CreateTask("c1"))
    assert world.monitor.told == []
    del world.second.fails["c1"]
    service.create(NS, CreateTask("c1"))


def test_a_monitor_that_fails_is_told_of(world: World, service: TasksService) -> None:
    world.monitor.error = Unavailable("no cgroups")
    with pytest.raises(Unknown, match=r"^monitor task: no cgroups: unavailable$"):
        service.create(NS, CreateTask("c1"))


def test_a_delete_answers_how_it_ended_and_ends_the_watch(world: World, service: TasksService) -> None:
    pid = service.create(NS, CreateTask("c1"))
    service.start(NS, "c1")
    world.second.made["ns", "c1"].finish(7)
    assert service.delete(NS, "c1") == Exit(pid, 7, EXITED_AT)
    assert world.monitor.watched == {}
    with pytest.raises(NotFound, match="task c1 not found"):
        service.delete(NS, "c1")


def test_a_task_that_cannot_be_deleted_stays_watched(world: World, service: TasksService) -> None:
    service.create(NS, CreateTask("c1"))
    service.start(NS, "c1")
    with pytest.raises(ContainerdError, match="cannot delete a running process"):
        service.delete(NS, "c1")
    assert world.monitor.watched == {"c1": {"runtime": RUNC}}


def test_a_task_that_somebody_else_deletes_meanwhile_is_not_watched(
    world: World, service: TasksService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be asked for its numbers as long as the daemon runs."""
    create, delete = world.second.create, world.second.delete

    def outrun(ctx: CallContext, id: str, options: CreateOptions) -> TinyTask:
        made = create(ctx, id, options)
        delete(ctx, id)
        return made

    def twice(ctx: CallContext, id: str) -> Exit:
        delete(ctx, id)
        return delete(ctx, id)

    with monkeypatch.context() as patch:
        patch.setattr(world.second, "create", outrun)
        service.create(NS, CreateTask("c1"))
    assert world.monitor.watched == {}

    service.create(NS, CreateTask("c1"))
    monkeypatch.setattr(world.second, "delete", twice)
    with pytest.raises(NotFound):
        service.delete(NS, "c1")
    assert world.monitor.watched == {}


def test_calls_go_to_init_or_to_the_exec_that_they_name(world: World, service: TasksService) -> None:
    init_pid = service.create(NS, CreateTask("c1"))
    service.exec(NS, "c1", "e", SPEC, IO(stdout="/e"))
    task = world.second.made["ns", "c1"]
    exec_ = task.execs["e"]
    assert service.start(NS, "c1") == init_pid
    assert service.start(NS, "c1", "e") not in {0, init_pid}
    service.resize_pty(NS, "c1", width=91, height=31)
    service.resize_pty(NS, "c1", "e", width=132, height=43)
    service.close_io(NS, "c1", "e", stdin=False)
    service.close_io(NS, "c1", "e", stdin=True)
    service.kill(NS, "c1", signal=15, all=True)
    service.kill(NS, "c1", "e", signal=10)
    assert task.done == [("resize", 91, 31), ("kill", 15, True)]
    assert exec_.done == [("resize", 132, 43), ("close_io",), ("kill", 10, False)]
    exec_.finish(5)
    assert service.wait(NS, "c1", "e").status == 5
    assert service.get(NS, "c1", "e") == ProcessState(
        "e", "c1", exec_.state(NS).pid, Status.STOPPED, IO(stdout="/e"), 5, EXITED_AT
    )
    assert service.delete_process(NS, "c1", "e").status == 5
    assert service.get(NS, "c1").status is Status.RUNNING


def test_an_exec_that_is_not_there_is_not_found(service: TasksService) -> None:
    service.create(NS, CreateTask("c1"))
    calls: list[Callable[[], object]] = [
        lambda: service.get(NS, "c1", "nope"),
        lambda: service.start(NS, "c1", "nope"),
        lambda: service.kill(NS, "c1", "nope", signal=9),
        lambda: service.wait(NS, "c1", "nope"),
        lambda: service.resize_pty(NS, "c1", "nope", width=1, height=1),
        lambda: service.close_io(NS, "c1", "nope", stdin=False),
        lambda: service.delete_process(NS, "c1", "nope"),
    ]
    for call in calls:
        with pytest.raises(NotFound, match=r"^process does not exist nope: not found$"):
            call()


def test_init_is_not_an_exec_without_a_name(world: World, service: TasksService) -> None:
    service.create(NS, CreateTask("c1"))
    world.second.made["ns", "c1"].finish(0)
    with pytest.raises(NotFound, match=r"^process  does not exist: not found$"):
        service.delete_process(NS, "c1", "")
    assert service.get(NS, "c1").status is Status.STOPPED


@pytest.mark.parametrize(
    "container_id,exec_id,error",
    [
        ("nope", "", InvalidArgument("exec id cannot be empty", bare=True)),
        ("nope", "a/b", NotFound('container "nope" in namespace "ns"')),
        ("c2", "a/b", NotFound("task c2 not found", bare=True)),
        (
            "c1",
            "a/b",
            InvalidArgument(
                'invalid exec id a/b: identifier "a/b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$'
            ),
        ),
        (
            "old",
            "a/b",
            InvalidArgument('invalid exec id: identifier "a/b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$'),
        ),
    ],
)
def test_exec_ids_are_looked_at_in_containerds_order(
    service: TasksService, container_id: str, exec_id: str, error: ContainerdError
) -> None:
    service.create(NS, CreateTask("c1"))
    service.create(NS, CreateTask("old"))
    with pytest.raises(type(error)) as caught:
        service.exec(NS, container_id, exec_id, SPEC, IO())
    assert str(caught.value) == str(error)


def test_the_longest_exec_id_has_76_characters(world: World, service: TasksService) -> None:
    service.create(NS, CreateTask("c1"))
    service.exec(NS, "c1", "x" * 76, SPEC, IO())
    service.exec(NS, "c1", "c1", SPEC, IO())
    with pytest.raises(InvalidArgument, match="greater than maximum length"):
        service.exec(NS, "c1", "x" * 77, SPEC, IO())
    assert set(world.second.made["ns", "c1"].execs) == {"x" * 76, "c1"}


def test_an_exec_without_a_spec_is_refused_and_harms_nothing(world: World, service: TasksService) -> None:
    service.create(NS, CreateTask("c1"))
    with pytest.raises(InvalidArgument):
        service.exec(NS, "c1", "e", None, IO())
    assert not world.second.made["ns", "c1"].execs


def test_a_list_has_the_tasks_of_both_runtimes_in_the_callers_namespace(service: TasksService) -> None:
    assert service.list(NS) == []
    for id in ("c1", "old"):
        service.create(NS, CreateTask(id))
    service.create(CallContext("other"), CreateTask("c2"))
    assert {state.id for state in service.list(NS)} == {"c1", "old"}


def test_a_record_that_is_gone_hides_its_task_but_from_the_list(world: World, service: TasksService) -> None:
    service.create(NS, CreateTask("c1"))
    record = world.containers.there.pop("c1")
    with pytest.raises(NotFound):
        service.get(NS, "c1")
    assert [state.id for state in service.list(NS)] == ["c1"]
    world.containers.there["c1"] = record
    assert service.get(NS, "c1").status is Status.CREATED


@pytest.mark.parametrize("error", [Unknown("broken"), Unavailable("away"), OSError("pipe")])
def test_a_process_whose_state_nobody_knows_says_so(world: World, service: TasksService, error: Exception) -> None:
    for id in ("c1", "c2"):
        service.create(NS, CreateTask(id))
    world.second.made["ns", "c1"].broken = error
    unknown = ProcessState("c1", "c1", 0, Status.UNKNOWN, IO(), exited_at=ZERO_TIME)
    assert service.get(NS, "c1") == unknown
    listed = {state.id: state.status for state in service.list(NS)}
    assert listed == {"c1": Status.UNKNOWN, "c2": Status.CREATED}


def test_a_process_that_is_gone_is_not_found_and_not_listed(world: World, service: TasksService) -> None:
    service.create(NS, CreateTask("c1"))
    world.second.made["ns", "c1"].broken = NotFound("container not created")
    with pytest.raises(NotFound):
        service.get(NS, "c1")
    assert service.list(NS) == []


def test_a_runtime_has_limited_time_to_tell_a_state(world: World) -> None:
    service = world.service(state_seconds=2.0)
    service.create(NS, CreateTask("c1"))
    start = time.monotonic()
    service.get(NS, "c1")
    service.get(CallContext("ns", deadline=start + 1), "c1")
    service.get(CallContext("ns", deadline=start + 600), "c1")
    world.service(state_seconds=0).get(NS, "c1")
    end = time.monotonic()
    ours, callers, ours_again, none = world.second.made["ns", "c1"].deadlines
    assert ours is not None
    assert ours_again is not None
    # However long this took meanwhile.
    assert start + 2 <= ours <= end + 2
    assert callers == start + 1
    assert start + 2 <= ours_again <= end + 2
    assert none is None


def test_pids_pause_resume_and_update_reach_the_task(world: World, service: TasksService) -> None:
    pid = service.create(NS, CreateTask("c1"))
    service.start(NS, "c1")
    assert service.list_pids(NS, "c1")[0] == ProcessInfo(pid)
    service.pause(NS, "c1")
    assert service.get(NS, "c1").status is Status.PAUSED
    service.resume(NS, "c1")
    assert service.get(NS, "c1").status is Status.RUNNING
    service.update(NS, "c1", SPEC, {"a": "b"})
    assert world.second.made["ns", "c1"].done == [("update", SPEC, {"a": "b"})]
    with pytest.raises(InvalidArgument):
        service.update(NS, "c1", None)


@pytest.mark.parametrize(
    "filters,ids",
    [
        ([], {"c1", "c2"}),
        ([""], {"c1", "c2"}),
        (["id==c1"], {"c1"}),
        (["id==c1", "id==c2"], {"c1", "c2"}),
        (["id!=c1"], {"c2"}),
        (["id~=^c"], {"c1", "c2"}),
        (["id==c1,namespace==zzz"], set()),
        (["namespace==ns"], {"c1", "c2"}),
        ([f"runtime=={RUNC}"], set()),
        (["runtime!=x"], {"c1", "c2"}),
        (["id.more==c1"], {"c1"}),
        (["labels.a"], set()),
    ],
)
def test_metrics_are_chosen_by_id_and_namespace_alone(service: TasksService, filters: list[str], ids: set[str]) -> None:
    for id in ("c1", "c2"):
        service.create(NS, CreateTask(id))
    service.create(CallContext("other"), CreateTask("c1"))
    metrics = service.metrics(NS, filters)
    assert {metric.id for metric in metrics} == ids
    assert metrics == [Metric(EPOCH, metric.id, METRICS) for metric in metrics]


@pytest.mark.parametrize("error", [NotFound("no cgroup"), Unknown("broken"), OSError("pipe")])
def test_a_task_without_metrics_is_left_out(world: World, service: TasksService, error: Exception) -> None:
    for id in ("c1", "c2"):
        service.create(NS, CreateTask(id))
    world.second.made["ns", "c1"].silent = error
    assert [metric.id for metric in service.metrics(NS)] == ["c2"]


@pytest.mark.parametrize(
    "ctx,filters,text",
    [
        (CallContext(), [], "namespace is required: failed precondition"),
        (CallContext(), ["bad filter"], "filters: parse error"),
        (NS, ["bad filter"], "filters: parse error"),
    ],
)
def test_metrics_lose_the_kind_of_their_errors_as_containerd_does(
    service: TasksService, ctx: CallContext, filters: list[str], text: str
) -> None:
    with pytest.raises(Unknown, match=text):
        service.metrics(ctx, filters)


# --- how the plugin comes about


def booted(monitor: object = None, v1: object = None, v2: object = None, config: tasks.Config | None = None) -> Plugin:
    """The plugin on runtimes and a monitor; an exception in the place of one is its init error."""

    def given(instance: object) -> Callable[[InitContext], object]:
        def init(_ic: InitContext) -> object:
            if isinstance(instance, Exception):
                raise instance
            return instance

        return init

    def configured(ic: InitContext) -> object:
        ic.config = config or tasks.Config()
        return tasks.init(ic)

    class Metadata:
        containers = Containers(container("c1"))
        content = Store()
        snapshotters: ClassVar[dict[str, object]] = {}

    registrations = [
        Registration(EVENT, "exchange", init=given(object())),
        Registration(RUNTIME_V1, "linux", init=given(v1 or TinyRuntime(LINUX_V1))),
        Registration(RUNTIME_V2, "task", init=given(v2 or TinyRuntime())),
        Registration(METADATA, "bolt", init=given(Metadata())),
        *([Registration(MONITOR, "cgroups", init=given(monitor))] if monitor is not None else []),
    ]
    (service,) = tasks.refimpl_registrations()
    registrations.append(Registration(service.type, service.id, init=configured, requires=service.requires))
    place = Path("/nowhere")
    scratch = FakeScratch(FakeHost(FakeClock()))
    kernel = Kernel(registrations, root=place, state=place, resources={Scratch: scratch, ClientMounts: ClientMounts()})
    return kernel.boot()["io.containerd.service.v1.tasks-service"]


def test_tasks_from_before_are_watched_again() -> None:
    first, second, monitor = TinyRuntime(LINUX_V1), TinyRuntime(), TinyMonitor()
    for runtime, id in ((first, "a"), (second, "b")):
        runtime.create(NS, id, CreateOptions(SPEC))
    assert booted(monitor, first, second).error is None
    assert monitor.watched == {"a": {}, "b": {}}


def test_without_a_monitor_nobody_watches() -> None:
    plugin = booted()
    assert plugin.error is None
    service = cast("TasksService", plugin.instance())
    service.create(NS, CreateTask("c1"))
    service.delete(NS, "c1")
    Unwatched().stop(TinyRuntime().create(NS, "x", CreateOptions(SPEC)))


@pytest.mark.parametrize(
    "broken,error",
    [
        ({"v1": Unavailable("away")}, "no runtimes available to create task service"),
        ({"v1": SkipPlugin("not here")}, "not here: skip plugin"),
        ({"v2": Unavailable("away")}, "away: unavailable"),
        ({"monitor": Unavailable("no cgroups")}, "no cgroups: unavailable"),
    ],
)
def test_what_is_missing_is_the_services_own_error(broken: dict[str, object], error: str) -> None:
    assert str(booted(**broken).error) == error  # type: ignore[arg-type]


def test_an_rdt_file_is_told_of_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    plugin = booted(config=tasks.Config(rdt_config_file="/no/such"))
    assert plugin.error is None
    assert "RDT initialization failed" in caplog.text
