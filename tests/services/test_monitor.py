"""The monitor: series of tasks under containerd's names, and out-of-memory kills (MON-002 to MON-025)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import pytest
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, generate_latest

from refimpl.api import cgroups_v1_pb2 as v1
from refimpl.api import cgroups_v2_pb2 as v2
from refimpl.api import event_types_pb2, typeurl
from refimpl.contract.context import CallContext
from refimpl.contract.errors import DeadlineExceeded, NotFound
from refimpl.contract.runtimes import Task, TaskMonitor
from refimpl.contract.times import SystemClock
from refimpl.contract.types import TypedAny
from refimpl.services.events import Exchange
from refimpl.services.monitor import CgroupMonitor

RUNC = {"runtime": "io.containerd.runc.v2"}


class Silent:
    """A task of which only its statistics are known."""

    def __init__(self, id: str, metrics: Message | None, namespace: str = "n") -> None:
        self.id, self.namespace, self.metrics = id, namespace, metrics

    def stats(self, _ctx: CallContext) -> TypedAny:
        if self.metrics is None:
            raise RuntimeError("the shim is gone")
        packed = typeurl.pack(self.metrics)
        return TypedAny(packed.type_url, packed.value)


class Speaking(Silent):
    """One that tells of kills."""

    callbacks: list[Callable[[], None]]

    def on_oom(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks = [callback]
        return self.callbacks.clear


def task(double: Silent) -> Task:
    return cast("Task", double)


class Page:
    """A monitor and what a scrape of it shows."""

    def __init__(self, *, shown: bool = True) -> None:
        self.exchange = Exchange(SystemClock())
        self.monitor = CgroupMonitor(self.exchange, shown=shown)
        self.registry = CollectorRegistry()
        self.monitor.register_metrics(self.registry)

    def samples(self) -> Mapping[str, float]:
        lines = generate_latest(self.registry).decode().splitlines()
        return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))}


def full_v1() -> v1.Metrics:
    return v1.Metrics(
        pids=v1.PidsStat(current=1, limit=77),
        cpu=v1.CPUStat(usage=v1.CPUUsage(total=5, per_cpu=[3, 2])),
        memory=v1.MemoryStat(usage=v1.MemoryEntry(limit=67108864), rss=9),
    )


def test_a_task_has_its_58_series_of_version_1_while_it_is_watched() -> None:
    page = Page()
    assert page.samples() == {}
    one = task(Silent("a", full_v1()))

    page.monitor.monitor(one, RUNC)
    samples = page.samples()

    labels = '{container_id="a",namespace="n",runtime="io.containerd.runc.v2"}'
    assert len(samples) == 58
    assert samples[f"container_pids_limit{labels}"] == 77
    assert samples[f"container_memory_usage_limit_bytes{labels}"] == 67108864
    assert samples[f"container_memory_rss_bytes{labels}"] == 9
    assert (
        samples['container_per_cpu_nanoseconds{container_id="a",cpu="1",namespace="n",runtime="io.containerd.runc.v2"}']
        == 2
    )
    assert "container_memory_kerneltcp_failcnt_total" + labels in samples
    assert "# TYPE container_cpu_throttle_periods_total gauge" in generate_latest(page.registry).decode()
    page.monitor.stop(one)
    page.monitor.stop(one)
    assert page.samples() == {}


def test_version_2_has_names_of_its_own() -> None:
    page = Page()
    io = v2.IOStat(usage=[v2.IOEntry(major=8, minor=1, rbytes=5)])
    page.monitor.monitor(task(Silent("a", v2.Metrics(memory_events=v2.MemoryEvents(oom=2), io=io))), {})

    samples = page.samples()

    assert samples['container_memory_oom_total{container_id="a",namespace="n"}'] == 2
    assert samples['container_io_rbytes_bytes{container_id="a",major="8",minor="1",namespace="n"}'] == 5
    assert 'container_cpu_usage_usec_microseconds{container_id="a",namespace="n"}' in samples
    assert 'container_memory_thp_collapse_alloc_bytes{container_id="a",namespace="n"}' in samples


def test_a_task_that_cannot_be_read_does_not_break_the_page(caplog: pytest.LogCaptureFixture) -> None:
    page = Page()
    page.monitor.monitor(task(Silent("dead", None)), RUNC)
    page.monitor.monitor(task(Silent("odd", event_types_pb2.TaskOOM())), RUNC)
    page.monitor.monitor(task(Silent("a", full_v1())), RUNC)

    assert len(page.samples()) == 58
    assert "stat task dead" in caplog.text
    assert "stat task odd" in caplog.text


class Hanging(Silent):
    """One whose shim answers nothing."""

    def stats(self, ctx: CallContext) -> TypedAny:
        assert ctx.deadline is not None, "it would be waited for for ever"
        raise DeadlineExceeded

    def state(self, _ctx: CallContext) -> object:
        raise AssertionError("it would be waited for once more")


class Gone(Silent):
    """One whose shim has died."""

    def state(self, _ctx: CallContext) -> object:
        raise NotFound("process gone")


def test_a_task_that_hangs_is_not_waited_for_and_one_that_is_gone_is_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    page = Page()
    page.monitor.monitor(task(Hanging("hangs", full_v1())), RUNC)
    page.monitor.monitor(task(Gone("gone", None)), RUNC)
    page.monitor.monitor(task(Silent("a", full_v1())), RUNC)

    for _ in range(3):
        assert len(page.samples()) == 58

    told = [record.getMessage() for record in caplog.records]
    assert [told.count(f"stat task {id}") for id in ("hangs", "gone")] == [3, 1]


def test_values_are_read_at_each_scrape_and_names_are_apart_by_namespace() -> None:
    page = Page()
    first, second = Silent("a", full_v1()), Silent("a", full_v1(), namespace="m")
    for double in (first, second, first):
        page.monitor.monitor(task(double), {})
    assert len(page.samples()) == 116

    first.metrics = v1.Metrics(pids=v1.PidsStat(current=5))

    samples = page.samples()
    assert samples['container_pids_current{container_id="a",namespace="n"}'] == 5
    assert samples['container_pids_current{container_id="a",namespace="m"}'] == 1


def test_a_successor_is_watched_in_place_of_a_task_that_vanished() -> None:
    page = Page()
    dead, new = task(Silent("a", None)), task(Silent("a", full_v1()))
    page.monitor.monitor(dead, RUNC)
    page.monitor.monitor(new, RUNC)

    page.monitor.stop(dead)

    assert len(page.samples()) == 58


@pytest.mark.parametrize("shown", [True, False])
def test_kills_in_the_first_runtime_s_tasks_are_told_and_counted(shown: bool) -> None:
    page = Page(shown=shown)
    heard = page.exchange.subscribe(CallContext())
    double = Speaking("a", full_v1())
    page.monitor.monitor(task(double), {"runtime": "io.containerd.runtime.v1.linux"})

    double.callbacks[0]()
    double.callbacks[0]()

    envelope = next(iter(heard))
    assert (envelope.topic, envelope.namespace) == ("/tasks/oom", "n")
    assert event_types_pb2.TaskOOM.FromString(envelope.event.value).container_id == "a"
    counted = page.samples().get('container_memory_oom_total{container_id="a",namespace="n"}')
    assert counted == (2 if shown else None)
    page.monitor.close()
    assert double.callbacks == []


def test_the_plugin_fits_the_contract() -> None:
    monitor: TaskMonitor = Page().monitor

    monitor.stop(task(Silent("never watched", None)))
