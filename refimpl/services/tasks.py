"""io.containerd.service.v1.tasks-service: tasks over both runtimes.

It takes its place in the list of plugins and skips itself: tasks and runtimes are not built yet.
"""

from __future__ import annotations

from refimpl.kernel import InitContext, Registration, SkipPlugin, hookimpl
from refimpl.services.plugin_types import EVENT, METADATA, MONITOR, RUNTIME_V1, RUNTIME_V2, SERVICE


def init(_ic: InitContext) -> object:
    """Decide not to load.

    Raises:
        SkipPlugin: always.
    """
    raise SkipPlugin("tasks and runtimes are not built yet")


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The service."""
    requires = (EVENT, RUNTIME_V1, RUNTIME_V2, METADATA, MONITOR)
    return [Registration(SERVICE, "tasks-service", init=init, requires=requires)]
