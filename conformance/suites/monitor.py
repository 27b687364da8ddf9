"""Cgroup monitor: what a daemon tells of its tasks, as series and as messages (MON-001 to 030).

Each check about series has a daemon of its own, with a metrics address.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import tomllib

import pytest

from conformance import clause
from conformance.runc_state import HERE, THERE
from conformance.suites._boxes import daemon, ended, until
from conformance.suites._events import opened, program
from conformance.suites._linux import NAME
from conformance.suites._monitor import PLUGIN, listening, meter, parent_of, server_of
from conformance.suites._tasks import LASTING, alive, eventually
from refimpl.api import cgroups_v1_pb2, cgroups_v2_pb2
from refimpl.contract.context import CallContext
from refimpl.contract.errors import AlreadyExists
from refimpl.contract.runtimes import Status

__all__ = ["daemon", "meter"]

V1 = {"runc", "cgroup-v1", "config"}
V2 = {"runc", "cgroup-v2", "config"}
REAL = {"runc", "disk", "config"}
"""A subject whose files and processes are those of this machine."""

METRICS_V1 = "io.containerd.cgroups.v1.Metrics"
METRICS_V2 = "io.containerd.cgroups.v2.Metrics"

MEBI = 1 << 20

BUSY = ("sh", "-c", "while :; do :; done")

A_WHILE = 2e8
"""Nanoseconds on a processor; a busy task has them soon, also where other programs want it too."""

LITTLE_MEMORY = 12 * MEBI
"""Bytes in which a shell can start, and not much more."""

GREEDY = "v=12345678; while :; do v=$v$v; done"
"""A script that remembers more and more."""

CPU = {
    "cpu_total_nanoseconds", "cpu_user_nanoseconds", "cpu_kernel_nanoseconds", "per_cpu_nanoseconds",
    "cpu_throttle_periods_total", "cpu_throttled_periods_total", "cpu_throttled_time_nanoseconds",
}  # fmt: skip

MEMORY_BLOCKS = {
    f"memory_{block}_{field}"
    for block in ("usage", "swap", "kernel", "kerneltcp")
    for field in ("usage_bytes", "limit_bytes", "max_bytes", "failcnt_total")
}

_STATISTICS = (
    "cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault", "pgmajfault",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable",
)  # fmt: skip
MEMORY_STATISTICS = {
    f"memory_{name}_bytes"
    for name in (
        *_STATISTICS, *(f"total_{name}" for name in _STATISTICS),
        "hierarchical_memory_limit", "hierarchical_memsw_limit",
    )
}  # fmt: skip

CPU_V2 = {
    "cpu_usage_usec_microseconds", "cpu_user_usec_microseconds", "cpu_system_usec_microseconds",
    "cpu_throttled_usec_microseconds", "cpu_nr_periods_total", "cpu_nr_throttled_total",
}  # fmt: skip

MEMORY_V2 = {
    f"memory_{name}_bytes"
    for name in (
        "usage", "usage_limit", "swap_usage", "swap_limit", "anon", "file", "kernel_stack", "slab", "sock", "shmem",
        "file_mapped", "file_dirty", "file_writeback", "anon_thp", "inactive_anon", "active_anon", "inactive_file",
        "active_file", "unevictable", "slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault",
        "workingset_refault", "workingset_activate", "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal",
        "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
    )
}  # fmt: skip


def number(path):
    """What a file of a cgroup says."""
    return int(path.read_text())


def v1(data):
    """The message of a host with cgroup v1."""
    assert data is not None, "Tasks.Metrics does not name the task"
    assert data.type_url == METRICS_V1
    return cgroups_v1_pb2.Metrics.FromString(data.value)


def v2(data):
    """The message of a host with cgroup v2."""
    assert data is not None, "Tasks.Metrics does not name the task"
    assert data.type_url == METRICS_V2
    return cgroups_v2_pb2.Metrics.FromString(data.value)


def metric_of(box):
    """What Tasks.Metrics tells of a task."""
    return {metric.id: metric.data for metric in box.tasks.metrics(box.ctx)}.get(box.id)


def about(box, lines):
    """Those lines that are about one task."""
    return [line for line in lines if f'container_id="{box.id}"' in line]


def greedy(box):
    """Have a process of a task killed for want of memory, of whose end nobody is told.

    Its parent joins: a shim looks out from the answer to the start on, and a child of init might be killed before that.
    """
    box.run_exec("greedy", "sh", "-c", f"sh -c '{GREEDY}'; sleep 1000")


# ------------------------------------------------------------------------------------------------- the page


@clause("MON-001", needs={"command"})
def test_without_an_address_no_port_is_open(own):
    """Rejects: metrics that everybody on the network can read, unasked."""
    assert listening(server_of(own().address)) == set()


@clause("MON-001", needs={"command"})
def test_metrics_are_on_one_page_as_plain_text(meter):
    """Rejects: the path of other programs."""
    boxes = meter()

    page = boxes.get("/v1/metrics")
    assert page.status == 200
    assert page.kind.startswith("text/plain; version=0.0.4; charset=utf-8")
    assert "\n# TYPE " in page.text
    assert [boxes.get(path).status for path in ("/", "/metrics", "/v1")] == [404] * 3


@clause("MON-002", needs={"runc"})
def test_a_task_has_its_series_from_its_creation_to_its_removal(meter):
    """Rejects: series that begin with the start or vanish at the end of the program."""
    boxes = meter()
    assert boxes.lines() == []

    def count():
        # Block devices have series from their first use on.
        return len([line for line in boxes.lines() if not line.startswith("container_blkio_")])

    box = boxes.box(*LASTING)
    assert boxes.lines() == [], "a container is no task"
    box.create(rootfs=())
    created = count()
    assert created > 10
    box.start()
    assert count() == created
    ended(box)
    assert count() == created
    box.delete()
    assert boxes.lines() == []


@clause("MON-003", needs={"runc"})
def test_series_say_of_which_task_they_are(meter):
    """Rejects: other names for the labels, or series that nobody can tell apart."""
    boxes = meter()
    box = boxes.run(*LASTING)

    found = boxes.scrape()

    mine = {"container_id": box.id, "namespace": box.ctx.namespace, "runtime": "io.containerd.runc.v2"}
    assert found
    for name, samples in found.items():
        for labels, _ in samples:
            assert mine.items() <= labels.items(), f"{name} has the labels {labels}"


@clause("MON-004", needs={"runc", "restart"})
def test_series_of_before_and_after_a_restart_are_on_one_page(meter):
    """Rejects: a scrape that fails because some series have a label less."""
    boxes = meter()
    before = boxes.run(*LASTING)

    boxes.restart()
    after = boxes.run(*LASTING)

    runtimes = {labels["container_id"]: labels.get("runtime") for labels, _ in boxes.scrape()["pids_current"]}
    assert runtimes[after.id] == "io.containerd.runc.v2"
    # Nobody knows it any more, in 1.6 and 2.x; who does may tell.
    assert runtimes[before.id] in {None, "", "io.containerd.runc.v2"}


@clause("MON-005", needs={"runc"})
def test_all_series_are_gauges(meter):
    """Rejects: counters, by which dashboards would have to be written anew."""
    boxes = meter()
    boxes.run(*LASTING)

    kinds = boxes.kinds()

    assert len(kinds) > 10
    assert {name: kind for name, kind in kinds.items() if kind != "gauge"} == {}


# ------------------------------------------------------------------------------------------------- V1


@clause("MON-006", needs=V1)
def test_v1_processes_are_counted_and_limited(meter):
    """Rejects: the two numbers swapped, or another number for no limit."""
    boxes = meter()
    limited = boxes.run("sh", "-c", "sleep 1000 & wait", resources={"pids": {"limit": 77}})
    free = boxes.run(*LASTING)
    eventually(lambda: len(limited.pids()) == 2, "the second process")

    # What starts a program has threads, which are counted until the program has taken its place.
    until(lambda: boxes.values(limited)["pids_current"] == 2, "two processes on the page")
    until(lambda: boxes.values(free)["pids_current"] == 1, "one process on the page")
    assert (boxes.values(limited)["pids_limit"], boxes.values(free)["pids_limit"]) == (77, 0)


@clause("MON-007", needs=V1)
def test_v1_cpu_time_is_in_nanoseconds(meter):
    """Rejects: another unit, or processors whose sum is not the whole."""
    boxes = meter()
    began = time.monotonic()
    box = boxes.run(*BUSY)
    until(lambda: boxes.values(box)["cpu_total_nanoseconds"] > A_WHILE, "a busy task's time on a processor")
    box.pause()
    ran = (time.monotonic() - began) * 1e9

    found, values = boxes.scrape(), boxes.values(box)

    assert set(found) >= CPU
    total = values["cpu_total_nanoseconds"]
    # What makes the container is counted with it.
    assert A_WHILE < total < ran * 1.5
    processors = {labels["cpu"]: value for labels, value in found["per_cpu_nanoseconds"]}
    assert set(processors) == {str(n) for n in range(len(processors))}
    assert sum(processors.values()) == pytest.approx(total, rel=0.01)
    parts = values["cpu_user_nanoseconds"] + values["cpu_kernel_nanoseconds"]
    assert parts == pytest.approx(total, rel=0.2, abs=4e7)
    assert values["cpu_user_nanoseconds"] % 10_000_000 == 0, "the kernel counts in ticks"


@clause("MON-007", needs={*REAL, "cgroup-v1"})
def test_v1_cpu_time_is_what_the_cgroup_says(meter):
    """Rejects: times that were added up somewhere else, or a quota that is not told."""
    boxes = meter()
    box = boxes.run(*BUSY, resources={"cpu": {"quota": 20000, "period": 100000}})
    until(lambda: boxes.values(box)["cpu_throttled_periods_total"] > 0, "a throttled period")
    box.pause()

    def told():
        values = boxes.values(box)
        return [values[f"cpu_{name}"] for name in (
            "total_nanoseconds", "throttle_periods_total", "throttled_periods_total", "throttled_time_nanoseconds",
        )]  # fmt: skip

    def said():
        lines = (boxes.cgroup(box, "cpu") / "cpu.stat").read_text().splitlines()
        numbers = {name: int(value) for name, value in (line.split() for line in lines)}
        total = number(boxes.cgroup(box, "cpuacct") / "cpuacct.usage")
        return [total, *(numbers[name] for name in ("nr_periods", "nr_throttled", "throttled_time"))]

    # The period in which it was paused still comes to its end.
    until(lambda: told() == said(), "the numbers of the cgroup on the page")


@clause("MON-008", needs=V1)
def test_v1_memory_is_told_in_four_blocks(meter):
    """Rejects: a block that is left out, or a limit that is not the one of the spec."""
    boxes = meter()
    box = boxes.run(*LASTING, resources={"memory": {"limit": 64 * MEBI}})

    values = boxes.values(box)

    assert set(values) >= MEMORY_BLOCKS
    assert values["memory_usage_limit_bytes"] == 64 * MEBI
    assert 0 < values["memory_usage_usage_bytes"] <= values["memory_usage_max_bytes"] <= 64 * MEBI


@clause("MON-008", needs={*REAL, "cgroup-v1"})
def test_v1_memory_is_what_the_cgroup_says(meter):
    """Rejects: the present usage and the highest one mixed up."""
    boxes = meter()
    box = boxes.run(*LASTING, resources={"memory": {"limit": 64 * MEBI}})
    box.pause()

    cgroup = boxes.cgroup(box, "memory")

    def told():
        return [boxes.values(box)[f"memory_usage_{name}"] for name in ("usage_bytes", "max_bytes", "failcnt_total")]

    def said():
        return [number(cgroup / f"memory.{name}") for name in ("usage_in_bytes", "max_usage_in_bytes", "failcnt")]

    # The kernel settles its accounts when it has time.
    until(lambda: told() == said(), "the numbers of the cgroup on the page")


@clause("MON-009", needs=V1)
def test_v1_memory_statistics_have_these_names(meter):
    """Rejects: names that fit better than those that everybody has."""
    boxes = meter()
    box = boxes.run(*LASTING)

    names = set(boxes.values(box))
    assert names >= MEMORY_STATISTICS
    strange = {name for name in names if name.startswith("memory_")} - MEMORY_STATISTICS - MEMORY_BLOCKS
    assert strange == set()


@clause("MON-010", needs=V1)
def test_v1_huge_pages_are_told_by_their_size(meter):
    """Rejects: one series for all sizes."""
    boxes = meter()
    boxes.run(*LASTING)

    found = {name: samples for name, samples in boxes.scrape().items() if name.startswith("hugetlb_")}

    # None where the controller is not mounted.
    assert set(found) in (set(), {"hugetlb_usage_bytes", "hugetlb_max_bytes", "hugetlb_failcnt_total"})
    for samples in found.values():
        sizes = [labels["page"] for labels, _ in samples]
        assert len(set(sizes)) == len(sizes)
        assert all(sizes)


@clause("MON-011", needs=V1)
def test_v1_block_io_is_told_by_device_and_operation(meter):
    """Rejects: devices added up."""
    names = {"io_service_bytes", "io_serviced", "io_queued", "io_service_time", "io_merged", "io_time", "sectors"}
    boxes = meter()
    boxes.run("sh", "-c", "cat /bin/busybox > /dev/null; sleep 1000")

    found = {name: samples for name, samples in boxes.scrape().items() if name.startswith("blkio_")}

    assert {name.removeprefix("blkio_").partition("_recursive")[0] for name in found} <= names
    for name, samples in found.items():
        assert name.endswith("_recursive_bytes" if "service_bytes" in name else "_recursive_total")
        for labels, _ in samples:
            assert {"op", "device", "major", "minor"} <= set(labels)
            assert labels["op"] in {"", "Read", "Write", "Sync", "Async", "Discard", "Total"}


# ------------------------------------------------------------------------------------------------- V2


@clause("MON-012", needs=V2)
def test_v2_processes_and_cpu_have_these_names(meter):
    """Rejects: the names of V1, or its 0 for no limit."""
    boxes = meter()
    limited = boxes.run(*LASTING, resources={"pids": {"limit": 55}})
    free = boxes.run(*LASTING)

    values = boxes.values(limited)
    assert set(values) >= {"pids_current", "pids_limit", *CPU_V2}
    until(lambda: boxes.values(limited)["pids_current"] == 1, "one process on the page")
    assert values["pids_limit"] == 55
    assert boxes.values(free)["pids_limit"] == 2.0**64


@clause("MON-013", needs=V2)
def test_v2_memory_has_these_names(meter):
    """Rejects: the names of V1, or 0 for no limit."""
    boxes = meter()
    limited = boxes.run(*LASTING, resources={"memory": {"limit": 64 * MEBI}})
    free = boxes.run(*LASTING)

    values = boxes.values(limited)
    assert set(values) >= {*MEMORY_V2, "memory_oom_total"}
    assert values["memory_usage_limit_bytes"] == 64 * MEBI
    assert boxes.values(free)["memory_swap_limit_bytes"] in {0, 2.0**64}, "0 where the kernel counts no swap"


@clause("MON-014", needs=V2)
def test_v2_every_task_has_a_count_of_lacks_of_memory(meter):
    """Rejects: a count that begins with the first one."""
    boxes = meter()
    quiet = boxes.run(*LASTING)
    lacking = boxes.run(*LASTING, resources={"memory": {"limit": 16 * MEBI, "swap": 16 * MEBI}})
    greedy(lacking)

    until(lambda: boxes.values(lacking)["memory_oom_total"] >= 1, "the lack of memory, counted")
    assert boxes.values(quiet)["memory_oom_total"] == 0


@clause("MON-015", needs=V2)
def test_v2_io_is_told_by_device(meter):
    """Rejects: devices added up."""
    boxes = meter()
    boxes.run("sh", "-c", "cat /bin/busybox > /dev/null; sleep 1000")

    found = {name: samples for name, samples in boxes.scrape().items() if name.startswith("io_")}

    assert set(found) in (set(), {"io_rbytes_bytes", "io_wbytes_bytes", "io_rios_total", "io_wios_total"})
    for samples in found.values():
        assert all({"major", "minor"} <= set(labels) for labels, _ in samples)


# ------------------------------------------------------------------------------------------------- lack of memory


@clause("MON-016", needs={*V1, "events"})
def test_v1_lacks_of_memory_are_counted_for_the_first_runtime_only(meter):
    """Rejects: an event of the monitor beside that of the shim, or a count for tasks that it does not watch."""
    boxes = meter()
    told = boxes.listen()
    limits = {"memory": {"limit": LITTLE_MEMORY, "swap": LITTLE_MEMORY}}

    first = boxes.run(*LASTING, id="first", runtime=NAME, resources=limits)
    second = boxes.run(*LASTING, id="second", resources=limits)
    for box in (first, second):
        greedy(box)
    told.until("/tasks/oom", 2)

    ooms = [(opened(each).container_id, each.namespace) for each in told() if each.topic == "/tasks/oom"]
    assert sorted(ooms) == [(box.id, box.ctx.namespace) for box in (first, second)]
    expected = [({"container_id": first.id, "namespace": first.ctx.namespace}, 1.0)]
    until(lambda: boxes.scrape().get("memory_oom_total") == expected, f"a count of {expected}")
    ended(first)
    first.delete()
    # The kernel tells the monitor that the group is gone.
    until(lambda: "memory_oom_total" not in boxes.scrape(), "the end of the count")


@clause("MON-017", needs={"runc", "config", "events"})
def test_a_lack_of_memory_is_told_though_init_survives(daemon):
    """Rejects: a task that is told of only when all of it is dead."""
    boxes = daemon()
    told = boxes.listen()
    limits = {"memory": {"limit": 16 * MEBI, "swap": 16 * MEBI}}

    box = boxes.run(*LASTING, resources=limits)
    greedy(box)
    told.until("/tasks/oom")

    assert [each for each in told() if each.topic == "/tasks/exit"] == []
    assert {opened(each).container_id for each in told() if each.topic == "/tasks/oom"} == {box.id}
    assert box.status() is Status.RUNNING


# ------------------------------------------------------------------------------------------------- settings


@clause("MON-018", needs={"runc"})
def test_without_prometheus_there_are_no_series_and_all_else_works(meter):
    """Rejects: a setting that takes away more than the series."""
    boxes = meter(f'[plugins."{PLUGIN}"]\n  no_prometheus = true\n')
    told = boxes.listen()
    limits = {"memory": {"limit": LITTLE_MEMORY, "swap": LITTLE_MEMORY}}

    # The first runtime needs the first version (RT1-029).
    first = [NAME] if "cgroup-v1" in boxes.instance.capabilities else []
    made = [boxes.run(*LASTING, runtime=runtime, resources=limits) for runtime in (*first, "io.containerd.runc.v2")]
    for box in made:
        greedy(box)
    told.until("/tasks/oom", len(made))

    assert boxes.lines() == []
    assert {opened(each).container_id for each in told() if each.topic == "/tasks/oom"} == {box.id for box in made}
    assert None not in [metric_of(box) for box in made]
    if "command" in boxes.instance.capabilities:
        assert "\ngrpc_server_" in boxes.text()


@clause("MON-019", needs={"command"})
def test_the_only_setting_is_whether_there_are_series(subject):
    """Rejects: series that have to be asked for."""
    dump = subprocess.run([*program(subject.address), "config", "default"], capture_output=True, check=True, timeout=20)

    sections = tomllib.loads(dump.stdout.decode())["plugins"]
    assert sections.get(PLUGIN, sections.get("io.containerd.monitor.task.v1.cgroups")) == {"no_prometheus": False}


@clause("MON-020")
def test_the_monitor_is_introduced(introspection, ctx):
    """Rejects: a monitor that is not there on hosts of the other cgroup version."""
    plugins = [plugin for plugin in introspection.plugins(ctx, ["id==cgroups"]) if "monitor" in plugin.type]
    (plugin,) = plugins

    assert plugin.uri in {PLUGIN, "io.containerd.monitor.task.v1.cgroups"}
    assert plugin.init_err is None
    assert list(plugin.requires)[:1] == ["io.containerd.event.v1"]
    assert [platform.os for platform in plugin.platforms] == ["linux"]


# ------------------------------------------------------------------------------------------------- scrapes


@clause("MON-021", needs=V1)
def test_each_scrape_tells_what_is_now(meter):
    """Rejects: values that were read some time ago."""
    boxes = meter()
    box = boxes.run(*BUSY)

    def now():
        return boxes.values(box)["cpu_total_nanoseconds"]

    first = now()
    until(lambda: now() - first > 1e7, "the time of a busy task that goes on")
    second = now()
    box.pause()

    def same():
        third, fourth = now(), now()
        return second <= third == fourth

    # The kernel settles its accounts when it has time.
    until(same, "the time of a task that stands still")


@clause("MON-022", needs=REAL)
def test_a_task_that_cannot_be_read_does_not_spoil_the_page(meter):
    """Rejects: a page that is an error as long as one of a thousand tasks is broken."""
    boxes = meter()
    good, bad = boxes.run(*LASTING), boxes.run(*LASTING)
    os.kill(parent_of(bad.get().pid), signal.SIGKILL)
    until(bad.gone, "the end of the task whose shim has died")

    assert about(good, boxes.lines())
    until(lambda: about(bad, boxes.lines()) == [], "a page without the task whose shim has died")
    assert about(good, boxes.lines())


@clause("MON-023", needs=REAL)
def test_a_dead_task_does_not_hide_the_next_one_of_its_name(meter):
    """Rejects: an entry that stays for ever because nobody deleted the task."""
    boxes = meter()
    box = boxes.run(*LASTING)
    pid = box.get().pid
    os.kill(parent_of(pid), signal.SIGKILL)
    until(box.gone, "the end of the task whose shim has died")
    eventually(lambda: not alive(pid), "the end of the process")

    def again():
        try:
            return box.run(rootfs=())
        except AlreadyExists:  # it is still being removed
            return 0

    until(again, "a second task")

    assert about(box, boxes.lines())


@clause("MON-024", needs={"runc"})
def test_equal_ids_in_two_namespaces_are_two_tasks(meter):
    """Rejects: the second that takes the place of the first."""
    boxes = meter()
    both = [boxes.run(*LASTING, id="same", ns=ns) for ns in (HERE, THERE)]

    found = boxes.scrape()

    assert {labels["namespace"] for labels, _ in found["pids_current"]} == {HERE, THERE}
    assert len(found["pids_current"]) == 2
    ended(both[0])
    both[0].delete()
    assert {labels["namespace"] for labels, _ in boxes.scrape()["pids_current"]} == {THERE}


@clause("MON-025", needs={"runc"})
def test_long_ids_are_told_whole(meter):
    """Rejects: an id that is cut."""
    boxes = meter()

    box = boxes.run(*LASTING, id="x" * 76)

    assert [labels["container_id"] for labels, _ in boxes.scrape()["pids_current"]] == [box.id]


# ------------------------------------------------------------------------------------------------- messages


@clause("MON-026", needs=V1)
def test_v1_metrics_are_this_message(daemon):
    """Rejects: other units, or values in other fields."""
    boxes = daemon()
    began = time.monotonic()
    box = boxes.run(*BUSY, resources={"pids": {"limit": 45}, "memory": {"limit": 64 * MEBI}})
    until(lambda: v1(metric_of(box)).cpu.usage.total > A_WHILE, "a busy task's time on a processor")
    box.pause()
    ran = (time.monotonic() - began) * 1e9

    (metric,) = box.tasks.metrics(box.ctx)
    found = v1(metric.data)

    assert metric.id == box.id
    assert abs(metric.timestamp - time.time_ns()) < 60 * 10**9
    assert (found.pids.current, found.pids.limit) == (1, 45)
    usage = found.cpu.usage
    assert A_WHILE < usage.total < ran * 1.5
    assert sum(usage.per_cpu) == pytest.approx(usage.total, rel=0.01)
    assert usage.user + usage.kernel == pytest.approx(usage.total, rel=0.2, abs=4e7)
    assert found.memory.usage.limit == 64 * MEBI
    assert 0 < found.memory.usage.usage <= found.memory.usage.max <= 64 * MEBI
    assert found.memory.hierarchical_memory_limit == 64 * MEBI
    for name in ("pids", "cpu", "memory", "memory_oom_control"):
        assert found.HasField(name), f"{name} is missing"


@clause("MON-026", needs={*REAL, "cgroup-v1"})
def test_v1_metrics_are_what_the_cgroup_says(daemon):
    """Rejects: numbers that are nearly right."""
    boxes = daemon()
    box = boxes.run(*LASTING, resources={"memory": {"limit": 64 * MEBI}})
    box.pause()

    accounts, memory = boxes.cgroup(box, "cpuacct"), boxes.cgroup(box, "memory")

    def told():
        found = v1(metric_of(box))
        usage = found.memory.usage
        return [found.cpu.usage.total, list(found.cpu.usage.per_cpu), usage.usage, usage.max]

    def said():
        processors = [int(time) for time in (accounts / "cpuacct.usage_percpu").read_text().split()]
        sizes = [number(memory / f"memory.{name}") for name in ("usage_in_bytes", "max_usage_in_bytes")]
        return [number(accounts / "cpuacct.usage"), processors, *sizes]

    # The kernel settles its accounts when it has time.
    until(lambda: told() == said(), "the numbers of the cgroup in the message")


@clause("MON-027", needs=V2)
def test_v2_metrics_are_this_message(daemon):
    """Rejects: the message of V1, or nanoseconds."""
    boxes = daemon()
    began = time.monotonic()
    box = boxes.run(*BUSY, resources={"pids": {"limit": 55}, "memory": {"limit": 64 * MEBI}})
    until(lambda: v2(metric_of(box)).cpu.usage_usec > A_WHILE / 1000, "a busy task's time on a processor")
    box.pause()
    ran = (time.monotonic() - began) * 1e6

    found = v2(metric_of(box))

    assert (found.pids.current, found.pids.limit) == (1, 55)
    assert A_WHILE / 1000 < found.cpu.usage_usec < ran * 1.5
    assert found.cpu.usage_usec == pytest.approx(found.cpu.user_usec + found.cpu.system_usec, abs=10_000)
    assert found.memory.usage_limit == 64 * MEBI


@clause("MON-028", needs={"runc", "config"})
def test_a_stopped_task_still_has_its_numbers(daemon):
    """Rejects: an error, or a task that is left out because nothing runs in it."""
    boxes = daemon()
    box = boxes.run(*BUSY)
    time.sleep(0.1)

    def cpu(data):
        return v1(data).cpu.usage.total if data.type_url == METRICS_V1 else v2(data).cpu.usage_usec

    def current(data):
        return v1(data).pids.current if data.type_url == METRICS_V1 else v2(data).pids.current

    # What starts a program has threads, which are counted until the program has taken its place.
    until(lambda: current(metric_of(box)) == 1, "one process in the numbers")
    before = metric_of(box)
    ended(box)
    until(lambda: current(metric_of(box)) == 0, "the end of the process in the numbers")
    after = metric_of(box)

    assert current(before) == 1
    assert 0 < cpu(before) <= cpu(after)
    box.delete()
    assert metric_of(box) is None


# ------------------------------------------------------------------------------------------------- shims and restarts


@clause("MON-029", needs=REAL)
def test_a_shim_that_hangs_does_not_hang_the_page_since_2_x(meter):
    """Rejects: a page that waits for ever for one task."""
    boxes = meter()
    if boxes.instance.introspection.plugins(CallContext(), [f"type=={PLUGIN.rpartition('.')[0]}"]):
        pytest.skip("before 2.x a scrape waits for every shim")
    good, bad = boxes.run(*LASTING), boxes.run(*LASTING)
    shim = parent_of(bad.get().pid)
    os.kill(shim, signal.SIGSTOP)
    try:
        assert about(good, boxes.lines())
    finally:
        os.kill(shim, signal.SIGCONT)


@clause("MON-030", needs={"runc", "restart"})
def test_tasks_of_before_a_restart_are_watched(meter):
    """Rejects: series of those tasks only that this daemon has made."""
    boxes = meter()
    box = boxes.run(*LASTING)
    assert about(box, boxes.lines())

    boxes.restart()

    until(lambda: about(box, boxes.lines()), "the series of a task of before")
    assert box.status() is Status.RUNNING
