"""What all fronts have in common: each stands before one service, and is put on the server as it is.

Clauses PLG-035, PLG-059.
"""

from __future__ import annotations

from typing import Any

from refimpl.contract.errors import NotFound, Unknown
from refimpl.kernel import InitContext
from refimpl.services.plugin_types import SERVICE


def service(ic: InitContext, name: str) -> Any:
    """The instance of the service of that name, such as ``containers``.

    Raises:
        Unknown: it is disabled (PLG-035).
        Exception: its own error (PLG-016).
    """
    try:
        return ic.get_by_id(SERVICE, f"{name}-service")
    except NotFound as error:
        if f"{name}-service" in _there(ic):
            raise
        raise Unknown(f"{name} service not found") from error


def _there(ic: InitContext) -> set[str]:
    """Ids of the services that had their turn; one that failed with NotFound is no missing one."""
    return {plugin.registration.id for plugin in ic.plugins() if plugin.registration.type == SERVICE}
