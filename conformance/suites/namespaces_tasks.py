"""Namespaces, beside tasks: what runs keeps no namespace (NSP-019)."""

# ruff: noqa: F401, F811  # fixtures are imported, and used by the names of arguments

from __future__ import annotations

from contextlib import suppress

from conformance import clause
from conformance.suites._namespaces import names
from conformance.suites._tasks import LASTING, bundle, soon  # a fixture
from refimpl.contract.errors import AlreadyExists
from refimpl.contract.runtimes import Status


@clause("NSP-019", needs={"runc", "containers"})
def test_a_running_task_does_not_keep_its_namespace(ctx, new_namespace, namespaces, containers, tasks, bundle):
    """Rejects: a deletion that looks for tasks: to refuse, or to end them."""
    own = new_namespace(lease=False)
    box = bundle(own, LASTING)
    pid = box.run()
    record = containers.get(own, box.id)

    try:
        containers.delete(own, box.id)
        namespaces.delete(ctx, own.namespace)

        assert own.namespace not in names(namespaces)
        listed = {task.container_id: (task.pid, task.status) for task in tasks.list(soon(own))}
        assert listed == {box.id: (pid, Status.RUNNING)}
    finally:
        # A task without a record can be neither killed nor deleted; a record brings its namespace with it.
        with suppress(AlreadyExists):
            containers.create(own, record)
    assert box.end().status == 137
    box.delete()
