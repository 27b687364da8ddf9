"""io.containerd.runtime.v1.linux: tasks through the first runtime's shim.

It takes its place in the list of plugins and skips itself: tasks and runtimes are not built yet.
"""

from __future__ import annotations

from refimpl.kernel import InitContext, Registration, SkipPlugin, hookimpl
from refimpl.services.plugin_types import EVENT, METADATA, RUNTIME_V1


def init(_ic: InitContext) -> object:
    """Decide not to load.

    Raises:
        SkipPlugin: always.
    """
    raise SkipPlugin("tasks and runtimes are not built yet")


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The runtime."""
    return [Registration(RUNTIME_V1, "linux", init=init, requires=(EVENT, METADATA), platforms=True)]
