"""io.containerd.runtime.v2.task on the fake host: tasks of runc's shims, without a shim.

Clauses TSK-004 to TSK-091, SHM-001 to SHM-031, SHM-039..
"""

from __future__ import annotations

from dataclasses import dataclass, field

from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.runtime import FakeRuntime
from refimpl.backends.fake.runtime_dialect import SECOND
from refimpl.contract.types import Platform
from refimpl.kernel import InitContext, Registration, hookimpl

EVENT = "io.containerd.event.v1"
METADATA = "io.containerd.metadata.v1"


@dataclass(frozen=True, slots=True)
class Config:
    """The section.

    Attributes:
        platforms: what the plugin lists as served; by default the machine's own (SHM-039).
        sched_core: core scheduling of the shims, of which there are none here (SHM-038).
    """

    platforms: list[str] = field(default_factory=list)
    sched_core: bool = False


def init(ic: InitContext) -> FakeRuntime:
    """Make the runtime on the fake host; tasks of an earlier one on the same host are there again.

    Raises:
        InvalidArgument: a platform that cannot be read.
    """
    if ic.config.platforms:
        ic.platforms[:] = [Platform.parse(text) for text in ic.config.platforms]
    return FakeRuntime(ic.resource(FakeHost), ic.get(EVENT), SECOND, str(ic.state), str(ic.root))


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The second runtime, in the fake world."""
    requires = (EVENT, METADATA)
    return [
        Registration(
            "io.containerd.runtime.v2",
            "task",
            init=init,
            requires=requires,
            config=Config,
            platforms=True,
            backend="fake",
        )
    ]
