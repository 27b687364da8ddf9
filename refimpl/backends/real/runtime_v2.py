"""io.containerd.runtime.v2.task on this machine: tasks in shims, which are found by the runtime's name.

On disk::

    STATE/<namespace>/<id>/   bundles; after a restart they lead to the shims, which have gone on meanwhile
    ROOT/<namespace>/<id>/    work directories
    ROOT/.refimpl             the program that shims may run to publish events

Clauses TSK-004 to TSK-091, SHM-001 to SHM-091. Twin: refimpl.backends.fake.runtime_v2.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from refimpl.backends.real.runtime.bundle import BundlePlaces
from refimpl.backends.real.runtime.commands import Daemon
from refimpl.backends.real.runtime.loading import load
from refimpl.backends.real.runtime.manager import ShimRuntime
from refimpl.backends.real.runtime.program import daemon_program
from refimpl.backends.real.runtime.shim import Patience
from refimpl.contract.context import CallContext
from refimpl.contract.types import Platform
from refimpl.kernel import InitContext, Registration, hookimpl

EVENT = "io.containerd.event.v1"
METADATA = "io.containerd.metadata.v1"

_TIMEOUT = "io.containerd.timeout.shim"


@dataclass(frozen=True, slots=True)
class Config:
    """The section.

    Attributes:
        platforms: what the plugin lists as served; by default the machine's own (SHM-039).
        sched_core: whether shims are to ask for core scheduling (SHM-038).
    """

    platforms: list[str] = field(default_factory=list)
    sched_core: bool = False


def init(ic: InitContext) -> ShimRuntime:
    """Make the runtime, with the tasks whose shims an earlier daemon has left running.

    Raises:
        InvalidArgument: a platform that cannot be read.
    """
    if ic.config.platforms:
        ic.platforms[:] = [Platform.parse(text) for text in ic.config.platforms]
    daemon = Daemon(
        ic.address,
        ic.ttrpc_address,
        daemon_program(ic.root),
        debug=ic.log.isEnabledFor(logging.DEBUG),
        sched_core=ic.config.sched_core,
    )
    known = Patience()
    patience = Patience(
        load=ic.timeouts.get(f"{_TIMEOUT}.load", known.load),
        cleanup=ic.timeouts.get(f"{_TIMEOUT}.cleanup", known.cleanup),
        shutdown=ic.timeouts.get(f"{_TIMEOUT}.shutdown", known.shutdown),
    )
    runtime = ShimRuntime(ic.get(EVENT), BundlePlaces(ic.state, ic.root, linked=True), daemon, patience)
    containers = ic.get(METADATA).containers

    def runtime_of(namespace: str, id: str) -> str:
        return str(containers.get(CallContext(namespace), id).runtime.name)

    load(runtime, runtime_of)
    return runtime


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The second runtime, on this machine."""
    requires = (EVENT, METADATA)
    return [
        Registration(
            "io.containerd.runtime.v2",
            "task",
            init=init,
            requires=requires,
            config=Config,
            platforms=True,
            backend="real",
        )
    ]
