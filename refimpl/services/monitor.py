"""io.containerd.monitor.v1.cgroups: metrics and out-of-memory events of cgroups.

It takes its place in the list of plugins and skips itself: tasks and runtimes are not built yet.
"""

from __future__ import annotations

from refimpl.kernel import InitContext, Registration, SkipPlugin, hookimpl
from refimpl.services.plugin_types import EVENT, MONITOR


def init(_ic: InitContext) -> object:
    """Decide not to load.

    Raises:
        SkipPlugin: always.
    """
    raise SkipPlugin("tasks and runtimes are not built yet")


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The monitor."""
    return [Registration(MONITOR, "cgroups", init=init, requires=(EVENT,), platforms=True)]
