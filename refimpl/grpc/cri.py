"""io.containerd.grpc.v1.cri: the interface that Kubernetes speaks.

It takes its place in the list of plugins, with its exports (PLG-024), and skips itself: it is not built yet.
"""

from __future__ import annotations

from refimpl.kernel import InitContext, Registration, SkipPlugin, hookimpl
from refimpl.services.plugin_types import EVENT, GRPC, SERVICE


def init(ic: InitContext) -> object:
    """Decide not to load.

    Raises:
        SkipPlugin: always.
    """
    ic.exports["CRIVersion"] = "v1"
    ic.exports["CRIVersionAlpha"] = "v1alpha2"
    raise SkipPlugin("the CRI is not built yet")


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The front."""
    return [Registration(GRPC, "cri", init=init, requires=(EVENT, SERVICE), platforms=True)]
