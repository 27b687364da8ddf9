"""Tasks: what the service makes of a shim that is not well (TSK-035, TSK-077).

The shim is one of the suite's own: a script that names a socket, at which this process answers.
"""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from conformance import clause
from conformance.suites._tasks import LASTING, PATIENCE, Later, box, bundle, soon, streams
from refimpl.api import task_types_v1_pb2
from refimpl.api import task_v2_pb2 as pb
from refimpl.contract.errors import ContainerdError, DeadlineExceeded, NotFound, Unavailable, Unknown
from refimpl.contract.runtimes import Status
from refimpl.kernel.service import TTRPCMethod
from refimpl.ttrpc.server import Server

SCRIPT = """#!/bin/sh
for word; do :; done
case $word in start) printf 'unix://%s' {socket};; esac
"""
"""A shim that is there already. Without an answer to `delete` there was nothing to delete."""


class Stub:
    """A shim whose process never does anything.

    Args:
        path: where its socket is made.
        pid: of its process.
    """

    def __init__(self, path: str, pid: int) -> None:
        self._pid = pid
        self.trouble: ContainerdError | None = None
        self.blocked: threading.Event | None = None
        self.entered = threading.Event()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        self._pool = ThreadPoolExecutor(8)
        self._server = Server(listener, self._pool)
        empty = Empty()
        answers = {
            "State": (pb.StateRequest, self._state),
            "Create": (pb.CreateTaskRequest, self._create),
            "Stats": (pb.StatsRequest, self._fail),
            "Delete": (pb.DeleteRequest, lambda _ctx, _request: pb.DeleteResponse(pid=self._pid)),
            "Connect": (pb.ConnectRequest, lambda _ctx, _request: pb.ConnectResponse(shim_pid=os.getpid())),
            "Kill": (pb.KillRequest, lambda _ctx, _request: empty),
            "Shutdown": (pb.ShutdownRequest, lambda _ctx, _request: empty),
        }
        methods = {name: TTRPCMethod(*answer) for name, answer in answers.items()}
        self._server.add_service("containerd.task.v2.Task", methods)
        self._server.start()

    def _create(self, _ctx, _request):
        self.entered.set()
        if self.blocked is not None:
            self.blocked.wait(3 * PATIENCE)
        return pb.CreateTaskResponse(pid=self._pid)

    def _state(self, _ctx, request):
        if self.blocked is not None:
            self.blocked.wait(3 * PATIENCE)
        if self.trouble is not None:
            raise self.trouble
        # The zero time is what a process has that has not ended.
        zero = Timestamp(seconds=-62135596800)
        return pb.StateResponse(id=request.id, pid=self._pid, status=task_types_v1_pb2.CREATED, exited_at=zero)

    def _fail(self, _ctx, _request):
        raise Unknown("no statistics")

    def close(self) -> None:
        """Hang up."""
        if self.blocked is not None:
            self.blocked.set()
        self._server.stop()
        self._pool.shutdown(wait=False)


@pytest.fixture
def stub(streams, box):
    """A container with a shim of the suite's own: ``found, shim, path``."""
    path = str(streams.folder / "shim.sock")
    script = streams.folder / "containerd-shim-stub-v1"
    script.write_text(SCRIPT.format(socket=path))
    script.chmod(0o755)
    shim = Stub(path, os.getpid())
    found = box(*LASTING, runtime="io.containerd.stub.v1")
    yield found, shim, str(script)
    shim.trouble = None
    if shim.blocked is not None:
        shim.blocked.set()
    found.close()
    shim.close()


@clause("TSK-035", needs={"shim"})
def test_a_shim_that_fails_does_not_hide_the_others(box, stub, tasks):
    """Rejects: a list that fails as a whole."""
    found, shim, path = stub
    other = box(*LASTING)
    other.create()
    found.create(runtime_path=path)
    assert found.status() is Status.CREATED

    shim.trouble = Unknown("not today")

    state = found.get()
    assert (state.status, state.pid) == (Status.UNKNOWN, 0)
    listed = {state.id: state.status for state in tasks.list(soon(found.ctx))}
    assert listed == {found.id: Status.UNKNOWN, other.id: Status.CREATED}


@clause("TSK-035", needs={"shim"})
def test_a_shim_that_does_not_know_its_task_has_none(stub, tasks):
    """Rejects: an entry for a task that is not there."""
    found, shim, path = stub
    found.create(runtime_path=path)

    shim.trouble = NotFound("no task here")

    with pytest.raises(NotFound):
        found.get()
    assert tasks.list(soon(found.ctx)) == []


@clause("TSK-035", needs={"shim"})
def test_a_shim_that_is_silent_is_not_waited_for(stub):
    """Rejects: a call that hangs as long as the shim does."""
    found, shim, path = stub
    shim.blocked = threading.Event()
    creation = Later(lambda: found.create(runtime_path=path))
    assert shim.entered.wait(PATIENCE), "the shim was not asked to create"

    started = time.monotonic()
    answer: Any = Later(found.get).outcome()
    length = time.monotonic() - started

    # 1.6 gives it 2 s. Who waits does so until the caller's own deadline.
    assert length < PATIENCE - 5, f"{length:.1f} s"
    if isinstance(answer, ContainerdError):
        # As of 2.x the failure is passed on, or the task may not be there yet.
        assert isinstance(answer, (NotFound, DeadlineExceeded, Unavailable)), answer
    else:
        assert (answer.status, answer.pid) == (Status.UNKNOWN, 0)
    shim.blocked.set()
    creation.outcome()


@clause("TSK-077", needs={"shim"})
def test_a_task_without_statistics_is_left_out(box, stub, tasks):
    """Rejects: a call that fails as a whole."""
    found, _, path = stub
    other = box(*LASTING)
    other.create()
    found.create(runtime_path=path)

    assert [metric.id for metric in tasks.metrics(soon(found.ctx))] == [other.id]
