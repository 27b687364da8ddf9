"""Tasks of the first runtime, with Debian's shim and runc; and what is refused before there is a shim."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.shim.bundle import make_rootfs, shell, spec
from refimpl.api import cgroups_v1_pb2, linux_runc_pb2, runc_v1_pb2, typeurl
from refimpl.backends.real.runtime.bundle import BundlePlaces
from refimpl.backends.real.runtime.linux_runtime import LinuxRuntime, OCIRuntime
from refimpl.backends.real.runtime.linux_shim import LinuxShim, ShimSettings, socket_path
from refimpl.backends.real.runtime.watcher import Watcher
from refimpl.contract.context import CallContext, CancelToken
from refimpl.contract.errors import Canceled, InvalidArgument, NotFound, Unimplemented, Unknown
from refimpl.contract.mounts import Mount
from refimpl.contract.runtimes import CreateOptions, Status, Task
from refimpl.contract.types import TypedAny
from tests.backends.real.runtime.worlds import SECONDS, runs, until
from tests.services.fakes import Bus

pytestmark = [pytest.mark.root, pytest.mark.debian("containerd-shim", "runc", "busybox")]

CGROUPS = Path("/sys/fs/cgroup")


class Machine:
    """A first runtime that can be started again, and containers of a busybox.

    Attributes:
        options: of the records, by container id; ids that are not in it have no record.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.rootfs = top / "rootfs"
        make_rootfs(self.rootfs)
        self.exchange = Bus()
        self.places = BundlePlaces(top / "state", top / "root", linked=False)
        # Publishing is the daemon's; here nobody listens.
        self.settings = ShimSettings("containerd-shim", str(top / "c.sock"), "/bin/true", str(top / "oci"))
        self.namespace = f"t{uuid.uuid4().hex[:8]}"
        self.ctx = CallContext(self.namespace)
        self.options: dict[str, TypedAny | None] = {}
        self.runtime = self._runtime()

    def _runtime(self) -> LinuxRuntime:
        oci = OCIRuntime(root=str(self.top / "oci"))
        return LinuxRuntime(self.exchange, self.places, self.settings, oci, self._options_of)

    def _options_of(self, namespace: str, id: str) -> TypedAny | None:
        try:
            return self.options[id]
        except KeyError:
            raise NotFound(f"container {id} in {namespace}") from None

    def restart(self) -> None:
        """End the runtime and make another one on the same directories."""
        self.runtime.close()
        self.runtime = self._runtime()
        for path in sorted((self.top / "state" / self.namespace).iterdir()):
            self.runtime.reload(self.places.bundle(self.namespace, path.name), SECONDS)

    def wish(self, id: str, args: list[str], **more: Any) -> CreateOptions:
        """For a container that runs a program."""
        written = spec(args, f"/{self.namespace}-{id}", **more)
        return CreateOptions(
            spec=TypedAny("spec", json.dumps(written).encode()),
            rootfs=[Mount("bind", str(self.rootfs), options=("rbind", "ro"))],
        )

    def create(self, id: str, args: list[str], **more: Any) -> Task:
        """Make a task."""
        self.options.setdefault(id, None)
        return self.runtime.create(self.ctx, id, self.wish(id, args, **more))

    def bundle(self, id: str) -> Path:
        """Its directory."""
        return self.places.bundle(self.namespace, id).path

    def shim(self, id: str) -> int:
        """The pid of its shim."""
        return int((self.bundle(id) / "shim.pid").read_text())

    def topics(self) -> list[str]:
        """Of all that was told."""
        return [topic.removeprefix("/tasks/") for _, topic, _ in self.exchange.told]

    def left(self) -> list[str]:
        """Names of all bundles and work directories."""
        places = (self.places.state, self.places.root)
        return sorted(path.name for place in places for path in place.glob("*/*") if path.is_dir())

    def close(self) -> None:
        """End all tasks and their shims."""
        for task in self.runtime.tasks(self.ctx):
            # One that does not answer must not hold up the whole run.
            ctx = replace(self.ctx, deadline=time.monotonic() + SECONDS)
            with suppress(Exception):
                task.kill(ctx, signal.SIGKILL, all=True)
            with suppress(Exception):
                task.wait(ctx)
            with suppress(Exception):
                self.runtime.delete(ctx, task.id)
        self.runtime.close()
        for group in CGROUPS.glob(f"*/{self.namespace}-*"):
            with suppress(OSError):
                group.rmdir()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A first runtime."""
    if (CGROUPS / "cgroup.controllers").exists():
        pytest.skip("the first runtime needs cgroup v1")
    made = Machine(tmp_path)
    yield made
    made.close()


def test_the_daemon_tells_the_life_of_a_task_but_for_its_exit(machine: Machine) -> None:
    task = machine.create("c", shell("exit 3"))
    shim = machine.shim("c")
    assert task.state(machine.ctx).status is Status.CREATED
    assert task.start(machine.ctx) == task.pid
    assert task.wait(machine.ctx).status == 3
    assert task.state(machine.ctx).status is Status.STOPPED

    end = machine.runtime.delete(machine.ctx, "c")

    assert (end.pid, end.status) == (task.pid, 3)
    assert machine.topics() == ["create", "start", "delete"]
    assert (machine.left(), runs(shim)) == ([], False)
    assert not socket_path(machine.settings.address, machine.places.bundle(machine.namespace, "c")).exists()
    with pytest.raises(NotFound):
        machine.runtime.get(machine.ctx, "c")


def test_an_exec_is_told_when_it_starts_and_init_is_one_of_the_processes(machine: Machine) -> None:
    task = machine.create("c", ["sleep", "1000"])
    task.start(machine.ctx)

    wished = {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    added = task.exec(machine.ctx, "e", TypedAny("p", json.dumps(wished).encode()), replace(task.state(machine.ctx).io))
    added.start(machine.ctx)
    assert added.wait(machine.ctx).status == 0
    added.delete(machine.ctx)

    assert task.process(machine.ctx, "c").state(machine.ctx).pid == task.pid
    with pytest.raises(InvalidArgument):
        task.process(machine.ctx, "c").delete(machine.ctx)
    with pytest.raises(NotFound):
        task.process(machine.ctx, "nope")
    assert machine.topics() == ["create", "start", "exec-started"]


def test_a_task_without_its_shim_is_ended_and_told(machine: Machine) -> None:
    task = machine.create("c", ["sleep", "1000"])
    task.start(machine.ctx)

    os.kill(machine.shim("c"), signal.SIGKILL)

    until(lambda: machine.topics()[-1] == "delete", "no word of it")
    ends = [(event.pid, event.exit_status) for _, _, event in machine.exchange.told[-2:]]  # type: ignore[attr-defined]  # of an end
    assert machine.topics()[-2:] == ["exit", "delete"]
    assert ends == [(task.pid, 137)] * 2
    until(lambda: not machine.left(), "directories are left")
    assert not runs(task.pid)
    assert machine.runtime.tasks(machine.ctx) == []
    with pytest.raises(NotFound):
        task.state(machine.ctx)


def test_tasks_outlive_the_daemon_and_are_found_again(machine: Machine) -> None:
    lives, dies = (machine.create(id, ["sleep", "1000"]) for id in ("lives", "dies"))
    for task in (lives, dies):
        task.start(machine.ctx)
    shim = machine.shim("dies")

    machine.runtime.close()
    os.kill(shim, signal.SIGKILL)
    os.waitpid(shim, 0)
    machine.restart()

    (found,) = machine.runtime.tasks(machine.ctx)
    assert (found.id, found.pid, found.state(machine.ctx).status) == ("lives", lives.pid, Status.RUNNING)
    assert not runs(dies.pid)
    assert machine.left() == ["lives", "lives"]
    found.kill(machine.ctx, 9)
    assert found.wait(machine.ctx).status == 137
    assert machine.runtime.delete(machine.ctx, "lives").status == 137


def test_a_broken_bundle_is_kept_for_a_look_in_debug_mode(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.settings = replace(machine.settings, debug=True)
    machine.runtime = machine._runtime()
    task = machine.create("c", ["sleep", "1000"])
    task.start(machine.ctx)
    del machine.options["c"]

    os.kill(machine.shim("c"), signal.SIGKILL)

    until(lambda: "failed to terminate task" in caplog.text, "nobody has tried to end it")
    assert machine.runtime.tasks(machine.ctx) == []
    assert machine.bundle("c").exists()
    os.kill(task.pid, signal.SIGKILL)
    machine.options["c"] = None
    until(lambda: not runs(task.pid), "the process lives")
    machine.settings = replace(machine.settings, debug=False)
    machine.restart()
    assert machine.left() == []


@pytest.mark.parametrize("wrong", ["program", "mount", "shim", "runtime options", "task options", "cgroup", "id"])
def test_a_failed_create_leaves_nothing(machine: Machine, wrong: str) -> None:
    wish, id = machine.wish("c", ["/no/such"] if wrong == "program" else ["true"]), "c"
    of_second = TypedAny("containerd.runc.v1.Options", runc_v1_pb2.Options(binary_name="runc").SerializeToString())
    if wrong == "mount":
        wish = replace(wish, rootfs=[Mount("bind", "/no/such", options=("bind",))])
    elif wrong == "shim":
        machine.settings = replace(machine.settings, binary="/no/such/shim")
        machine.runtime = machine._runtime()
    elif wrong == "runtime options":
        wish = replace(wish, runtime_options=of_second)
    elif wrong == "task options":
        wish = replace(wish, task_options=of_second)
    elif wrong == "cgroup":
        options = linux_runc_pb2.CreateOptions(shim_cgroup="/no/such/group")
        packed = TypedAny("containerd.linux.runc.CreateOptions", options.SerializeToString())
        wish = replace(wish, task_options=packed)
    elif wrong == "id":
        id = "../x"

    with pytest.raises((Unknown, InvalidArgument)):
        machine.runtime.create(machine.ctx, id, wish)

    assert machine.left() == []
    assert machine.runtime.tasks(machine.ctx) == []
    assert machine.topics() == []
    assert str(machine.top) not in Path("/proc/self/mounts").read_text()


def test_without_a_shim_to_start_tasks_are_refused(machine: Machine) -> None:
    machine.settings = replace(machine.settings, binary="")
    machine.runtime = machine._runtime()

    with pytest.raises(Unimplemented):
        machine.create("c", ["true"])

    assert machine.left() == []


def test_a_shim_that_waits_for_a_create_that_never_comes_is_ended(machine: Machine) -> None:
    bundle = machine.places.bundle(machine.namespace, "c")
    bundle.make(machine.wish("c", ["true"]).spec.value)
    watcher = Watcher()
    shim = LinuxShim(machine.settings, bundle, watcher, lambda: None)
    shim.start(None, "")
    pid = machine.shim("c")
    shim.leave()
    watcher.close()

    machine.restart()

    assert machine.runtime.tasks(machine.ctx) == []
    assert (machine.left(), runs(pid)) == ([], False)


def test_options_of_the_record_name_the_oci_runtime_and_its_root(machine: Machine) -> None:
    root = machine.top / "another"
    options = linux_runc_pb2.RuncOptions(runtime=str(shutil.which("runc")), runtime_root=str(root))
    packed = TypedAny("containerd.linux.runc.RuncOptions", options.SerializeToString())
    machine.options["c"] = packed

    machine.runtime.create(machine.ctx, "c", replace(machine.wish("c", ["true"]), runtime_options=packed))

    assert (root / machine.namespace / "c" / "state.json").exists()


def test_statistics_are_those_of_the_tasks_groups_and_last_until_its_deletion(machine: Machine) -> None:
    task = machine.create("c", ["sleep", "1000"], memory=64 << 20)
    task.start(machine.ctx)

    def read() -> cgroups_v1_pb2.Metrics:
        packed = task.stats(machine.ctx)
        assert packed.type_url == "io.containerd.cgroups.v1.Metrics"
        return cgroups_v1_pb2.Metrics.FromString(packed.value)

    # At first it is still the OCI runtime, which has threads.
    until(lambda: read().pids.current == 1, "other processes")
    metrics = read()
    assert metrics.memory.usage.limit == 64 << 20
    assert metrics.cpu.usage.total > 0
    task.kill(machine.ctx, 9)
    task.wait(machine.ctx)
    until(lambda: read().pids.current == 0, "somebody is left in the group")
    assert read().memory.usage.limit == 64 << 20


def test_every_kill_for_want_of_memory_is_told(machine: Machine) -> None:
    # Init survives: a child of it is killed.
    greedy = "(v=12345678; while :; do v=$v$v; done); sleep 1000"
    # Much more than the OCI runtime itself takes in there.
    task = machine.create("c", shell(greedy), memory=32 << 20)
    kills: list[int] = []
    forget = task.on_oom(lambda: kills.append(1))  # type: ignore[attr-defined]  # an OOMSource
    task.start(machine.ctx)

    until(lambda: kills, "nobody was told")
    assert task.state(machine.ctx).status is Status.RUNNING
    forget()
    forget()


def test_the_end_of_a_group_is_not_a_kill(machine: Machine) -> None:
    task = machine.create("c", ["true"])
    kills: list[int] = []
    task.on_oom(lambda: kills.append(1))  # type: ignore[attr-defined]  # an OOMSource
    task.start(machine.ctx)
    task.wait(machine.ctx)

    machine.runtime.delete(machine.ctx, "c")
    machine.runtime.close()

    assert kills == []


def test_a_container_whose_create_was_given_up_is_taken_back_and_its_id_free(machine: Machine) -> None:
    slow = machine.top / "slow"
    # It hangs as long as there is a shim that waits for it.
    hang = "while kill -0 $PPID 2>/dev/null; do sleep 1; done"
    slow.write_text(f'#!/bin/sh\nrunc "$@" || exit\ncase " $* " in *" create "*) {hang};; esac\n')
    slow.chmod(0o755)
    packed = typeurl.pack(linux_runc_pb2.RuncOptions(runtime=str(slow)))
    machine.options["c"] = TypedAny(packed.type_url, packed.value)
    wish = replace(machine.wish("c", ["sleep", "1000"]), runtime_options=machine.options["c"])
    token = CancelToken()

    def give_up() -> None:
        until((machine.bundle("c") / "init.pid").exists, "the OCI runtime makes no container")
        token.cancel()

    thread = threading.Thread(target=give_up)
    thread.start()
    with pytest.raises(Canceled):
        machine.runtime.create(CallContext(machine.namespace, cancel=token), "c", wish)
    thread.join()

    assert machine.left() == []
    assert machine.create("c", ["sleep", "1000"]).state(machine.ctx).status is Status.CREATED
