"""The fake host's cgroups: usage goes up the tree, limits hold, and an empty group can be removed."""

from __future__ import annotations

import pytest

from refimpl.backends.fake import runtime_resources
from refimpl.backends.fake.cgroups import CgroupTree
from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.runtime_resources import apply, check_types
from tests.backends.fake.containers import Ran, WatchedClock, make_host, sh, until


def test_a_group_is_made_once_with_those_above_it() -> None:
    tree = CgroupTree()

    group = tree.make("/a/b")

    assert tree.make("/a/b") is group
    assert tree.find("/a") is group.parent
    assert tree.find("/a/c") is None


def test_only_an_empty_group_can_be_removed() -> None:
    tree = CgroupTree()
    tree.make("/a/b")

    with pytest.raises(OSError, match="busy"):
        tree.remove("/a")
    tree.remove("/a/b")
    tree.remove("/a")
    tree.remove("/a")

    assert tree.find("/a") is None


def test_what_a_process_uses_is_counted_in_its_group_and_above_and_its_memory_goes_with_it() -> None:
    host = make_host(FakeClock())
    ran = Ran(host, ["allocate", "10M"])
    group = host.cgroups.make("/alone")
    until(lambda: group.memory > 10 << 20)

    assert host.cgroups.root.memory == group.memory
    assert group.pids == 1
    assert group.cpu_user + group.cpu_system > 0
    assert sum(group.cpu_by_processor.values()) == group.cpu_user + group.cpu_system
    ran.process.signal(9)
    assert ran.status() == 137

    assert (group.memory, group.kernel_memory, group.pids) == (0, 0, 0)
    assert group.peak > 10 << 20


def test_the_processor_time_of_a_quota_takes_longer_and_is_counted_as_throttled() -> None:
    clock = WatchedClock()
    host = make_host(clock)
    group = host.cgroups.make("/alone")
    apply(host.cgroups, group, {"cpu": {"quota": 50_000, "period": 100_000}})
    ran = Ran(host, ["burn", "1"])
    until(lambda: group.cpu_user >= 1_000_000)

    def passed() -> bool:
        # Not while it computes: that takes none of this clock's time.
        if clock.awaited():
            clock.advance(0.05)
        return ran.process.ended.is_set()

    until(passed)

    assert 1.9 < clock.monotonic() < 2.6
    assert group.throttled_periods > 0
    assert group.throttled > 0


def test_a_limit_of_processes_refuses_a_fork() -> None:
    host = make_host()
    apply(host.cgroups, host.cgroups.make("/alone"), {"pids": {"limit": 1}})

    assert sh(host, "(true); echo no") == (2, "", "sh: can't fork: Resource temporarily unavailable\n")


@pytest.mark.parametrize(
    "resources, text",
    [
        ({"memory": {"limit": -5}}, "write /sys/fs/cgroup/memory/g/memory.limit_in_bytes: invalid argument"),
        ({"memory": {"limit": 10}}, "unable to set memory limit to 10 (current usage: 100, peak usage: 100)"),
        ({"memory": {"limit": 1000, "swap": 10}}, "memsw.limit_in_bytes: invalid argument"),
        ({"cpu": {"shares": 1}}, "the minimum allowed cpu-shares is 2"),
        ({"cpu": {"shares": 1 << 20}}, "the maximum allowed cpu-shares is 262144"),
        ({"cpu": {"quota": 5}}, "cpu.cfs_quota_us: invalid argument"),
        ({"cpu": {"period": 5}}, "cpu.cfs_period_us: invalid argument"),
    ],
)
def test_a_limit_that_the_kernel_refuses_changes_nothing(resources: dict[str, dict[str, int]], text: str) -> None:
    tree = CgroupTree()
    group = tree.make("/g")

    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the text is looked at below
        runtime_resources.apply(tree, group, {"pids": {"limit": 7}} | resources, least=100)

    assert text in str(refused.value)
    assert group.pids_limit is None


@pytest.mark.parametrize(
    "resources, text",
    [
        (
            {"memory": {"limit": "x"}},
            "cannot unmarshal string into Go struct field LinuxMemory.memory.limit of type int64",
        ),
        ({"cpu": {"shares": 1.5}}, "cannot unmarshal number into Go struct field LinuxCPU.cpu.shares of type uint64"),
        ({"pids": [1]}, "cannot unmarshal array into Go struct field LinuxResources.pids of type specs.LinuxPids"),
    ],
)
def test_a_limit_of_another_type_is_refused_as_go_does(resources: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_types(resources)
