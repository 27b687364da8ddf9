"""What another package's plugin module looks like."""

from __future__ import annotations

from refimpl.kernel import Registration, hookimpl


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """One plugin."""
    return [Registration("io.strange.v1", "guest", init=lambda ic: ic.uri)]
