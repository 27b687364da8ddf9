"""Debian's ``ctr`` takes a fake containerd for a containerd, and meets what was planned for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from refimpl.contract.errors import Unavailable
from refimpl.testing import FakeContainerd
from tests.acceptance.daemons import printed

pytestmark = pytest.mark.debian("ctr")


def ctr(containerd: FakeContainerd, *arguments: str) -> tuple[int, str]:
    """Status and output of one command; only the environment tells it where to go."""
    done = subprocess.run(
        ["ctr", *arguments],
        env=containerd.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_it_sees_what_was_seeded(containerd: FakeContainerd) -> None:
    containerd.seed.container("web", image="registry.test/app:1")

    assert ctr(containerd, "images", "ls", "-q") == (0, "registry.test/app:1\n")
    status, printed = ctr(containerd, "containers", "ls")
    assert (status, printed.split()[-3:]) == (0, ["web", "registry.test/app:1", "io.containerd.runc.v2"])
    assert ctr(containerd, "images", "check", "-q") == (0, "registry.test/app:1\n")


def test_it_sees_tasks_and_ends_them(containerd: FakeContainerd) -> None:
    pid = containerd.seed.task("web").pid

    assert ctr(containerd, "tasks", "ls", "-q") == (0, "web\n")
    assert ctr(containerd, "tasks", "ps", "web")[1].split() == ["PID", "INFO", str(pid), "-"]
    assert ctr(containerd, "tasks", "kill", "-s", "KILL", "web") == (0, "")
    assert containerd.client.tasks.wait(containerd.ctx, "web").status == 137
    assert ctr(containerd, "tasks", "rm", "web")[0] == 0
    assert ctr(containerd, "tasks", "ls", "-q") == (0, "")


def test_it_runs_programs(containerd: FakeContainerd, tmp_path: Path) -> None:
    containerd.seed.container("greets", args=["echo", "hi"])
    containerd.seed.container("fails", args=["sh", "-c", "exit 7"])
    start = ("tasks", "start", "--fifo-dir", str(tmp_path))

    assert printed(lambda: ctr(containerd, *start, "greets")) == (0, "hi\n")
    assert ctr(containerd, *start, "fails") == (7, "")

    *first, second = [call.response.exit_status for call in containerd.calls.assert_called("Tasks/Delete")]
    assert (set(first), second) == ({0}, 7), "ctr may have had to print again"


def test_its_calls_are_in_the_log(containerd: FakeContainerd) -> None:
    assert ctr(containerd, "namespaces", "create", "mine", "colour=green")[0] == 0

    [call] = containerd.calls.assert_called("Namespaces/Create", times=1)
    assert (call.request.namespace.name, dict(call.request.namespace.labels)) == ("mine", {"colour": "green"})
    assert "grpc-go/" in call.metadata["user-agent"]


def test_it_tells_its_user_about_a_planned_error(containerd: FakeContainerd) -> None:
    containerd.faults.fail("Images/List", with_=Unavailable("the disk is on holiday"), on=2)

    assert ctr(containerd, "images", "ls", "-q") == (0, "")
    status, printed = ctr(containerd, "images", "ls", "-q")
    assert status == 1
    assert "the disk is on holiday: unavailable" in printed
    assert ctr(containerd, "images", "ls", "-q") == (0, "")


def test_it_gives_up_on_a_call_that_hangs(containerd: FakeContainerd) -> None:
    containerd.faults.hang("Containers/List*")  # Go's client prefers ListStream

    status, printed = ctr(containerd, "--timeout", "100ms", "containers", "ls")

    assert status == 1
    assert "deadline exceeded" in printed.lower()


def test_it_notices_that_its_connection_died(containerd: FakeContainerd) -> None:
    fault = containerd.faults.drop("Images/List")

    status, printed = ctr(containerd, "images", "ls")

    assert (status, fault.hits) == (1, 1)
    assert printed == "ctr: failed to list images: transport is closing: unavailable\n"
