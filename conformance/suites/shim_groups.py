"""Shims, several containers in one: which come together, and that they stay apart (SHM-020 to 023, SHM-062)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import time
from hashlib import sha256

import pytest

from conformance import clause
from conformance.shim import processes
from conformance.shim.harness import GROUP, SANDBOX
from conformance.shim.waiting import until
from conformance.suites._shim import (
    KILLED,
    SHIM,
    shim,
)
from refimpl.api import task_types_v1_pb2 as types
from refimpl.api.task_v2_pb2 import DeleteResponse


@pytest.fixture
def pair(shim):
    """Two running containers of one group."""
    return [shim.running(annotations={GROUP: "grp"}) for _ in range(2)]


@clause("SHM-020", needs=SHIM)
@pytest.mark.parametrize("annotation", [GROUP, SANDBOX])
def test_containers_of_one_group_have_one_shim(shim, annotation):
    """Rejects: a shim for each container, whatever the annotations say."""
    first, second = (shim.running(annotations={annotation: "grp"}) for _ in range(2))
    other = shim.running(annotations={annotation: "another"})

    assert first.address == second.address != other.address
    assert first.shim_pid == second.shim_pid != other.shim_pid
    assert until(lambda: len(shim.shim_processes()) == 2), shim.shim_processes()


@clause("SHM-020", needs=SHIM)
def test_the_group_annotation_counts_before_the_sandbox(shim):
    """Rejects: the sandbox's id for a container that names a group of its own."""
    pod = shim.running(annotations={SANDBOX: "pod"})
    both = shim.running(annotations={SANDBOX: "pod", GROUP: "grp"})
    group = shim.running(annotations={GROUP: "grp"})

    assert both.address == group.address != pod.address


@clause("SHM-020", needs=(*SHIM, "root"))
def test_the_group_takes_the_place_of_the_id_in_the_address(shim, pair):
    """Rejects: the address of whoever came first, which the next daemon cannot work out."""
    digest = sha256(f"{shim.address}/{shim.namespace}/grp".encode()).hexdigest()

    assert [one.address.rpartition("/")[2] for one in pair] == [digest] * 2


@clause("SHM-020", needs=SHIM)
def test_each_member_of_a_group_has_the_address_in_its_bundle(shim, pair):
    """Rejects: one record for the group, so that the others are lost when the daemon restarts."""
    recorded = [(one.bundle.path / "address").read_text().strip() for one in pair]

    assert recorded == [one.address for one in pair]


@clause("SHM-021", "SHM-062", needs=SHIM)
def test_a_shim_lives_until_its_last_container_is_deleted(shim, pair):
    """Rejects: the end of all with the first that is deleted; a shim without containers that stays."""
    first, second = pair
    pid = first.shim_pid
    first.end()
    first.shutdown()
    time.sleep(0.3)

    assert second.state().status == types.RUNNING
    assert second.shim_pid == pid
    third = shim.created(annotations={GROUP: "grp"})
    assert third.shim_pid == pid, "a member that comes later has a shim of its own"
    third.end()
    second.end()
    second.shutdown()
    assert until(lambda: not processes.alive(pid)), "the shim has outlived its containers"


@clause("SHM-022", needs=SHIM)
def test_delete_cleans_each_member_of_a_dead_shim(shim, pair):
    """Rejects: a clean-up of the one container that the shim was started for."""
    pid = pair[0].shim_pid
    processes.kill(pid)
    assert until(lambda: not processes.alive(pid))

    for member in reversed(pair):
        output = shim.delete(member.bundle)
        assert output.status == 0, output.said
        answer = DeleteResponse.FromString(output.out)
        assert (answer.pid, answer.exit_status) == (member.pid, KILLED)

    assert until(lambda: not any(processes.alive(member.pid) for member in pair))


@clause("SHM-023", needs=SHIM)
def test_the_first_runc_shim_keeps_every_container_apart(shim, pair):
    """Rejects: grouping by a shim that is asked for one container each."""
    first, second = pair
    assert first.address != second.address
    assert first.shim_pid != second.shim_pid
    first.end()
    first.shutdown()
    assert until(lambda: len(shim.shim_processes()) == 1)
    assert second.state().status == types.RUNNING


@clause("SHM-062", needs=SHIM)
def test_calls_go_to_the_container_they_name(shim):
    """Rejects: the first container for every id."""
    first = shim.running()
    second = shim.join(first)
    second.create()
    second.start()

    assert first.pid != second.pid
    assert second.task.connect(second.id).task_pid == second.pid
    assert first.task.connect(first.id).task_pid == first.pid
    assert [one.state().pid for one in (first, second)] == [first.pid, second.pid]
    first.end()
    assert second.state().status == types.RUNNING
    assert processes.alive(second.pid)
