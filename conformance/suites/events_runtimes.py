"""Events, what one runtime tells and the other does not, and the types of both (EVT-025, EVT-035, EVT-039)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import shutil

import pytest

from conformance import clause
from conformance.suites._events import listen, opened
from conformance.suites._linux import NAME, bundle, linux
from conformance.suites._tasks import LASTING, RUNTIME, runc_options, soon
from conformance.suites.runtime1 import has_it
from conformance.suites.runtime1_host import CHECKPOINTER
from refimpl.api import linux_runc_pb2
from refimpl.contract.types import TypedAny

TASKS = 'topic~="^/tasks/"'


@pytest.fixture
def checkpointer(tmp_path):
    """Path of an OCI runtime that can checkpoint without CRIU."""
    stub = tmp_path / "stub"
    stub.write_text(CHECKPOINTER.format(runc=shutil.which("runc")))
    stub.chmod(0o755)
    return str(stub)


@clause("EVT-039", needs={"runc", "shim", "disk", "events"})
def test_only_the_first_runtime_tells_of_checkpoints(ctx, introspection, linux, listen, checkpointer):
    """Rejects: another topic or type, and an event for a checkpoint of the second runtime's."""
    options = linux_runc_pb2.RuncOptions(runtime=checkpointer)
    first = TypedAny(options.DESCRIPTOR.full_name, options.SerializeToString())
    made = [linux(*LASTING, runtime=RUNTIME, options=runc_options(binary_name=checkpointer))]
    if has_it(introspection, ctx):
        made.append(linux(*LASTING, runtime=NAME, options=first))
    for box in made:
        box.run()
    told = listen(TASKS)

    for box in made:
        assert box.tasks.checkpoint(soon(ctx, 15), box.id)

    expected = [box.id for box in made[1:]]
    if expected:
        told.until("/tasks/checkpointed")
    heard = [(each.event.type_url, opened(each)) for each in told() if "checkpoint" in each.topic]
    assert [(kind, message.container_id, message.checkpoint) for kind, message in heard] == [
        ("containerd.events.TaskCheckpointed", id, "") for id in expected
    ]


@clause("EVT-035", needs={"runc", "cgroup-v1", "events"})
def test_the_first_runtime_tells_only_of_the_start_of_a_process_that_joins(ctx, introspection, linux, listen):
    """Rejects: the second runtime's events for both, or the id of the process in another field."""
    if not has_it(introspection, ctx):
        pytest.skip("2.x has no such runtime")
    told, found = listen(TASKS), linux(*LASTING)
    found.run()

    pid = found.run_exec("e", *LASTING)

    told.until("/tasks/exec-started")
    heard = [(each.topic, opened(each)) for each in told() if each.topic.startswith("/tasks/exec-")]
    ((topic, message),) = heard
    assert (topic, message.container_id, message.exec_id, message.pid) == ("/tasks/exec-started", found.id, "e", pid)


@clause("EVT-025", needs={"runc", "events"})
def test_the_events_of_tasks_go_by_bare_names(bundle, ctx, listen):
    """Rejects: the prefix that shims need for what they pack otherwise, such as options."""
    told, found = listen(TASKS), bundle(ctx, LASTING)
    found.run()
    found.run_exec("e", *LASTING)
    found.pause()
    found.resume()
    found.end()
    told.until("/tasks/exit", 2)
    found.delete()
    told.until("/tasks/delete")

    assert {each.topic: each.event.type_url for each in told()} == {
        "/tasks/create": "containerd.events.TaskCreate",
        "/tasks/start": "containerd.events.TaskStart",
        "/tasks/exec-added": "containerd.events.TaskExecAdded",
        "/tasks/exec-started": "containerd.events.TaskExecStarted",
        "/tasks/paused": "containerd.events.TaskPaused",
        "/tasks/resumed": "containerd.events.TaskResumed",
        "/tasks/exit": "containerd.events.TaskExit",
        "/tasks/delete": "containerd.events.TaskDelete",
    }
