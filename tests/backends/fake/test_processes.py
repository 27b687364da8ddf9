"""Fake processes: signals, waiting, freezing and memory (TSK-036 to TSK-043, MON-017)."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.processes import FakeProcess, Image, PidNamespace
from refimpl.backends.fake.runtime_resources import apply
from refimpl.contract.times import SECOND
from tests.backends.fake.containers import ROOT, SECONDS, Ran, WatchedClock, living, make_host, sh, until


def test_a_process_sleeps_by_the_host_s_clock() -> None:
    clock = WatchedClock()
    host = make_host(clock)
    ran = Ran(host, ["sleep", "10"])
    until(clock.awaited)

    clock.advance(9)
    assert not ran.process.ended.wait(0.05)
    clock.advance(1.5)

    assert ran.status() == 0
    assert ran.process.exited_at == clock.now()
    assert living(host) == []


def test_a_busy_loop_waits_for_the_clock_and_can_be_killed() -> None:
    host = make_host(FakeClock())
    ran = Ran(host, ["sh", "-c", "while true; do :; done"])
    group = host.cgroups.make("/alone")
    until(lambda: group.cpu_user > 900_000_000)

    ran.process.signal(signal.SIGKILL)

    assert ran.status() == 137
    assert group.cpu_user < 1_100_000_000, "no more than the clock allows"


def test_by_the_machine_s_own_clock_nobody_computes_more_than_time_allows() -> None:
    host = make_host()
    begun = host.clock.monotonic()
    ran = Ran(host, ["sh", "-c", "while true; do :; done"])
    group = host.cgroups.make("/alone")
    until(lambda: group.cpu_user > SECOND // 10)

    ran.process.signal(signal.SIGKILL)

    assert ran.status() == 137
    passed = (host.clock.monotonic() - begun) * SECOND
    assert group.cpu_user <= passed + host.processes.burst + SECOND // 1000


def test_a_machine_that_is_switched_off_leaves_nothing_running() -> None:
    host = make_host(FakeClock())
    ran = [Ran(host, ["sh", "-c", "sleep 1000 & wait"]), Ran(host, ["sleep", "1000"])]
    frozen = ran[1].process.cgroup
    host.cgroups.freeze(frozen)

    host.switch_off()

    assert living(host) == []
    assert all(one.process.ended.is_set() for one in ran)
    host.switch_off()


def _note(ends: list[str], name: str, _process: FakeProcess) -> None:
    ends.append(name)


def spawned(*, private: bool) -> FakeProcess:
    host = make_host()
    space = PidNamespace() if private else None
    image = Image(args=["sleep", "1000"], root=host.fs.below(ROOT))

    def sleep(process: FakeProcess) -> int:
        process.sleep(1000)
        return 0

    process = host.processes.spawn(sleep, image, host.cgroups.root, namespace=space)
    process.start()
    return process


@pytest.mark.parametrize("number, status", [(15, 143), (1, 129), (10, 138), (64, 192)])
def test_a_default_action_kills_with_128_and_the_signal(number: int, status: int) -> None:
    process = spawned(private=False)

    process.signal(number)

    assert process.ended.wait(SECONDS)
    assert process.exit_status == status


@pytest.mark.parametrize("number", [15, 1, 10, 64])
def test_the_first_of_a_pid_namespace_is_spared_default_actions_but_not_sigkill(number: int) -> None:
    process = spawned(private=True)

    process.signal(number)
    assert not process.ended.wait(0.05)
    process.signal(signal.SIGKILL)

    assert process.ended.wait(SECONDS)
    assert process.exit_status == 137


@pytest.mark.parametrize("number", [17, 18, 23, 28, 0])
def test_some_signals_do_nothing(number: int) -> None:
    process = spawned(private=False)

    process.signal(number)

    assert not process.ended.wait(0.05)
    process.signal(9)


def test_a_stopped_process_goes_on_with_sigcont() -> None:
    host = make_host()
    ran = Ran(host, ["cat"], stdin=None)

    ran.process.signal(signal.SIGSTOP)
    ran.into.data += b"hello"
    ran.into.writer.close()
    assert not ran.process.ended.wait(0.05)
    ran.process.signal(signal.SIGCONT)

    assert ran.result() == (0, "hello", "")


def test_a_frozen_process_does_nothing_and_dies_of_nothing_before_it_is_thawed() -> None:
    clock = WatchedClock()
    host = make_host(clock)
    ran = Ran(host, ["sleep", "10"])
    until(clock.awaited)
    group = host.cgroups.make("/alone")
    host.cgroups.freeze(group)

    clock.advance(20)
    ran.process.signal(signal.SIGKILL)
    frozen = not ran.process.ended.wait(0.05)
    host.cgroups.thaw(group)

    assert frozen
    assert ran.status() == 137


def test_the_end_of_the_first_process_kills_its_namespace_before_it_is_told() -> None:
    host = make_host()
    ends: list[str] = []
    ran = Ran(host, ["sh", "-c", "sleep 1000 & exec sleep 1000"])
    until(lambda: len(living(host)) == 2)
    child = next(process for process in living(host) if process is not ran.process)
    for name, process in (("init", ran.process), ("child", child)):
        process.on_exit.append(partial(_note, ends, name))

    ran.process.signal(signal.SIGKILL)

    assert ran.status() == 137
    assert ends == ["child", "init"]
    assert child.exit_status == 137


def test_whoever_has_the_most_memory_is_killed_when_there_is_too_little() -> None:
    clock = WatchedClock()
    host = make_host(clock)
    group = host.cgroups.make("/alone")
    apply(host.cgroups, group, {"memory": {"limit": 20 << 20}})
    told: list[int] = []
    host.cgroups.on_oom(group, lambda: told.append(len(living(host))))

    ran = Ran(host, ["sh", "-c", "allocate 15M & sleep 1; allocate 10M 0; echo $?; wait $!; echo $?"])
    until(lambda: group.memory > 15 << 20 and clock.awaited())
    clock.advance(1)

    assert ran.result() == (0, "0\n137\n", "")
    assert group.oom_kills == 1
    assert group.failcnt == 1
    assert told == [3], "told before the process is gone"


def test_variables_of_a_shell_take_memory() -> None:
    host = make_host()
    group = host.cgroups.make("/alone")
    apply(host.cgroups, group, {"memory": {"limit": 20 << 20}})

    assert sh(host, "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done")[0] == 137
    assert group.memory == 0


def test_a_program_with_a_mistake_ends_like_one_that_crashed(caplog: pytest.LogCaptureFixture) -> None:
    host = make_host()

    def broken(process: FakeProcess) -> int:
        raise ZeroDivisionError

    process = host.processes.spawn(broken, Image(args=["broken"], root=host.fs), host.cgroups.root)
    process.start()

    assert process.ended.wait(SECONDS)
    assert process.exit_status == 139
    assert "fake program ['broken'] failed" in caplog.text
