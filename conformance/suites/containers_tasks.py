"""Containers, beside their tasks: a record goes, and what runs stays (CTR-032)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

from contextlib import contextmanager, suppress

import pytest

from conformance import clause
from conformance.suites._tasks import LASTING, box, bundle, soon  # fixtures
from refimpl.contract.errors import AlreadyExists, NotFound
from refimpl.contract.runtimes import Status

RUNNING = {"runc", "containers"}


@contextmanager
def _afterwards_again(containers, ctx, record):
    """Whatever becomes of the check: a task without a record can be neither killed nor deleted."""
    try:
        yield
    finally:
        with suppress(AlreadyExists):
            containers.create(ctx, record)


@clause("CTR-032", needs=RUNNING)
def test_a_task_outlives_its_containers_record(ctx, containers, tasks, box):
    """Rejects: a deletion that refuses while a task runs, that ends the task, or that hides it from who lists tasks."""
    lasting = box(*LASTING)
    pid = lasting.run()
    record = containers.get(ctx, lasting.id)

    with _afterwards_again(containers, ctx, record):
        containers.delete(ctx, lasting.id)

        with pytest.raises(NotFound):
            containers.get(ctx, lasting.id)
        listed = {task.container_id: (task.pid, task.status) for task in tasks.list(soon(ctx))}
        assert listed == {lasting.id: (pid, Status.RUNNING)}

    # What was on its way to end would end before a process that joins now.
    lasting.run_exec("joins", "true")
    assert lasting.wait("joins").status == 0
    assert (lasting.get().pid, lasting.status()) == (pid, Status.RUNNING)
    assert lasting.end().status == 137
    lasting.delete()
