"""io.containerd.internal.v1.restart: starts stopped containers again, by label.

It takes its place in the list of plugins and skips itself: tasks and runtimes are not built yet.
"""

from __future__ import annotations

from refimpl.kernel import InitContext, Registration, SkipPlugin, hookimpl
from refimpl.services.plugin_types import EVENT, INTERNAL, SERVICE


def init(_ic: InitContext) -> object:
    """Decide not to load.

    Raises:
        SkipPlugin: always.
    """
    raise SkipPlugin("tasks and runtimes are not built yet")


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The restart monitor."""
    return [Registration(INTERNAL, "restart", init=init, requires=(EVENT, SERVICE))]
