"""io.containerd.runtime.v2.task: shims and their tasks.

It takes its place in the list of plugins and skips itself: tasks and runtimes are not built yet.
"""

from __future__ import annotations

from refimpl.kernel import InitContext, Registration, SkipPlugin, hookimpl
from refimpl.services.plugin_types import EVENT, METADATA, RUNTIME_V2


def init(_ic: InitContext) -> object:
    """Decide not to load.

    Raises:
        SkipPlugin: always.
    """
    raise SkipPlugin("tasks and runtimes are not built yet")


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The shim manager."""
    return [Registration(RUNTIME_V2, "task", init=init, requires=(EVENT, METADATA), platforms=True)]
