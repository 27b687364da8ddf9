"""Shims, as a daemon keeps them: one process for one group, its socket, its log, its events, and its end.

The same clauses are judged on a shim binary alone in ``shim``, ``shim_groups`` and ``shim_events``; here it is whatever
shim the daemon starts for ``io.containerd.runc.v2`` (SHM-015, 016, 018, 020 to 022, 032, 034, 043, 071, 072).
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import socket
import stat
from collections import Counter
from pathlib import Path

import pytest

from conformance import clause, runc_state
from conformance.shim import processes, sockets
from conformance.shim.harness import GROUP, SANDBOX
from conformance.suites._events import listen
from conformance.suites._monitor import server_of
from conformance.suites._shim_daemon import DAEMON
from conformance.suites._tasks import (
    LASTING,
    box,
    bundle,
    bundle_of,
    eventually,
    mounts_below,
    told,
)
from refimpl.contract.context import CallContext
from refimpl.contract.errors import ContainerdError
from refimpl.contract.runtimes import Status

TASKS = 'topic~="^/tasks/"'

ROUNDS = 5
"""Times that a race is run."""


def _shim(found):
    """The pid of the shim of a task: init is its child."""
    return processes.parent(found.get().pid)


def _heard(ear, found):
    """The ends of the topics that were told of a task, with the process each is about where it is none of init."""
    return [
        (topic.rpartition("/")[2], getattr(message, "exec_id", "") or getattr(message, "id", ""))
        for topic, message in told(ear, id=found.id)
    ]


# ------------------------------------------------------------------------------------------------- one shim, one group


@pytest.fixture
def group(box):
    """Makes running containers of a group: ``group("a", "b", "a")``, by the values of the annotation."""
    return lambda *names, key=GROUP: [_running(box(*LASTING, annotations={key: name})) for name in names]


def _running(found):
    found.run()
    return found


@clause("SHM-020", "SHM-015", needs=DAEMON)
@pytest.mark.parametrize("key", [GROUP, SANDBOX])
def test_the_containers_of_one_group_share_a_shim_and_its_address(subject, listen, group, key, unique):
    """Rejects: a shim for each container; an address that is recorded for the first of them alone."""
    ear, grp, other = listen(TASKS), unique("grp"), unique("other")
    boxes = group(grp, grp, other, key=key)
    ear.until("/tasks/create", 3)

    first, second, third = map(_shim, boxes)
    assert first == second != third
    addresses = [(bundle_of(ear, found) / "address").read_text().strip() for found in boxes]
    expected = [sockets.of(subject.address, boxes[0].ctx.namespace, name) for name in (grp, grp, other)]
    assert addresses == [f"unix://{path}" for path in expected]


@clause("SHM-021", needs=DAEMON)
def test_a_group_keeps_its_shim_until_the_last_of_it_is_deleted(group, unique):
    """Rejects: a shim that ends with the container that it was started for, or that stays without any."""
    name = unique("grp")
    first, second = group(name, name)
    shim = _shim(first)

    first.end()
    first.delete()
    assert (second.status(), processes.alive(shim)) == (Status.RUNNING, True)

    first.run()
    assert _shim(first) == _shim(second) == shim
    for found in (second, first):
        found.end()
        found.delete()
    eventually(lambda: not processes.alive(shim), "the end of a shim without containers")


@clause("SHM-022", needs=(*DAEMON, "events"))
def test_every_container_ends_with_the_shim_of_its_group(group, listen, unique):
    """Rejects: an end of the one alone for which the shim was started."""
    name = unique("grp")
    first, second, other = group(name, name, unique("other"))
    pids = [found.get().pid for found in (first, second)]
    ear = listen(TASKS)

    processes.kill(_shim(first))

    eventually(lambda: first.gone() and second.gone(), "the end of both tasks")
    eventually(lambda: not any(map(processes.alive, pids)), "the end of both processes")
    ear.until("/tasks/delete", 2)
    ends = Counter(
        (topic, message.container_id, message.pid, message.exit_status)
        for topic, message in told(ear)
        if topic in ("/tasks/exit", "/tasks/delete")
    )
    assert ends == Counter(
        (topic, found.id, pid, 137)
        for topic in ("/tasks/exit", "/tasks/delete")
        for found, pid in zip((first, second), pids, strict=True)
    )
    assert other.status() is Status.RUNNING


# ------------------------------------------------------------------------------------------------- process and socket


@clause("SHM-034", needs=(*DAEMON, "command"))
def test_the_shim_of_a_task_is_no_child_of_the_daemon(subject, listen, box):
    """Rejects: a shim that ends with its daemon, or that cannot be told from others by its arguments."""
    ear, found = listen(TASKS), box(*LASTING)
    found.run()
    shim = _shim(found)

    state = processes.stat(shim)
    assert int(state[1]) != server_of(subject.address)
    assert int(state[2]) == shim, "the leader of its own process group"
    assert Path(f"/proc/{shim}/cwd").readlink() == bundle_of(ear, found)
    words = [word for word in processes.arguments(shim)[1:] if word != "-debug"]
    assert words == ["-namespace", found.ctx.namespace, "-id", found.id, "-address", subject.address]


@clause("SHM-016", "SHM-015", needs=(*DAEMON, "root"))
def test_the_socket_of_a_shim_is_for_its_user_alone(subject, box):
    """Rejects: a socket that anybody on the machine can open."""
    found = box(*LASTING)
    found.run()

    path = sockets.of(subject.address, found.ctx.namespace, found.id)

    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0 or path.parent.stat().st_mode & 0o011 == 0


@clause("SHM-018", needs=DAEMON)
def test_a_socket_that_nobody_serves_is_in_nobodys_way(subject, box):
    """Rejects: a task that can never be made again because a shim of its name was killed."""
    found = box(*LASTING)
    path = sockets.of(subject.address, found.ctx.namespace, found.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    found.run()

    assert found.status() is Status.RUNNING


@clause("SHM-032", needs=(*DAEMON, "config", "command", "log"))
def test_what_a_shim_logs_stands_in_the_log_of_the_daemon(own, bundle, unique):
    """Rejects: a log that is read and thrown away, or that fills up because nobody reads."""
    instance, words = own(), unique("words-of-the-shim")
    found = bundle(CallContext(runc_state.HERE), LASTING, on=instance)
    found.run()
    folder = instance.root.parent / "state/io.containerd.runtime.v2.task" / found.ctx.namespace / found.id

    fifo = os.open(folder / "log", os.O_WRONLY | os.O_NONBLOCK)
    try:
        assert stat.S_ISFIFO(os.fstat(fifo).st_mode)
        os.write(fifo, f"{words}\n".encode())
    finally:
        os.close(fifo)

    eventually(lambda: words in instance.log(), "the shim's line in the daemon's log")


@clause("SHM-043", needs=DAEMON)
def test_nothing_is_left_of_a_task_whose_shim_was_killed(listen, box):
    """Rejects: a process, a mount or a state of the OCI runtime's that outlives the shim."""
    ear, found = listen(TASKS), box(*LASTING)
    pid = found.run()
    folder = bundle_of(ear, found)
    assert mounts_below(folder)
    state = runc_state.ROOT / found.ctx.namespace / found.id
    assert state.is_dir()

    processes.kill(_shim(found))

    eventually(found.gone, "the end of the task")
    eventually(lambda: not processes.alive(pid), "the end of init")
    eventually(lambda: not mounts_below(folder) and not folder.exists(), "the end of the bundle")
    eventually(lambda: not state.exists(), "the end of the state of the OCI runtime")


# ------------------------------------------------------------------------------------------------- events


@clause("SHM-071", needs=(*DAEMON, "events"))
def test_a_task_that_ends_at_once_is_told_of_in_order(box, listen):
    """Rejects: an end that is told before the start, or a second time when the task is deleted."""
    ear, made = listen(TASKS), [box("true") for _ in range(ROUNDS)]
    for found in made:
        found.run()
        found.wait()
        found.delete()
    ear.until("/tasks/delete", ROUNDS)

    for found in made:
        heard = [topic for topic, _ in _heard(ear, found)]
        assert heard == ["create", "start", "exit", "delete"]


@clause("SHM-072", needs=(*DAEMON, "events"))
def test_a_process_that_joins_is_told_of_in_order(box, listen):
    """Rejects: an end before the start, an event for a deletion, and any for a start that fails."""
    ear, found = listen(TASKS), box(*LASTING)
    found.run()
    for number in range(ROUNDS):
        found.run_exec(f"e{number}", "true")
        found.wait(f"e{number}")
        found.delete_process(f"e{number}")
    found.exec("bad", "/no/such/program")
    with pytest.raises(ContainerdError):
        found.start("bad")
    found.end()
    found.delete()
    ear.until("/tasks/delete")

    heard = _heard(ear, found)
    for number in range(ROUNDS):
        assert [topic for topic, id in heard if id == f"e{number}"] == ["exec-added", "exec-started", "exit"]
    assert [topic for topic, id in heard if id == "bad"] == ["exec-added"]
