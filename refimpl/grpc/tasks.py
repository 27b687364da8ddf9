"""io.containerd.grpc.v1.tasks: the wire in front of tasks-service.

It shares that service's fate, as every front does: while the service skips itself, so does this, with the same reason
(PLG-016).
"""

from __future__ import annotations

from refimpl.grpc.fronts import service
from refimpl.kernel import InitContext, Registration, SkipPlugin, hookimpl
from refimpl.services.plugin_types import GRPC, SERVICE


def init(ic: InitContext) -> object:
    """Find the service.

    Raises:
        SkipPlugin: always; the service's own reason if there is one.
        Unknown: the service is disabled (PLG-035).
    """
    service(ic, "tasks")
    raise SkipPlugin("tasks and runtimes are not built yet")


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "tasks", init=init, requires=(SERVICE,))]
