"""io.containerd.runtime.v1.linux on the fake host: tasks of the first runtime.

Config as the real one's; the shim is never started, so its settings change nothing here but for ``runtime``.
Clauses RT1-001 to RT1-030..
"""

from __future__ import annotations

from dataclasses import dataclass

from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.runtime import FakeRuntime
from refimpl.backends.fake.runtime_dialect import FIRST
from refimpl.kernel import InitContext, Registration, hookimpl

EVENT = "io.containerd.event.v1"
METADATA = "io.containerd.metadata.v1"


@dataclass(frozen=True, slots=True)
class Config:
    """The section (RT1-003).

    Attributes:
        shim: the shim's binary.
        runtime: the OCI runtime's binary.
        runtime_root: where that keeps its state.
        no_shim: run the shim's code inside the daemon, which is what a fake does anyway.
        shim_debug: let the shim log more.
    """

    shim: str = "containerd-shim"
    runtime: str = "runc"
    runtime_root: str = ""
    no_shim: bool = False
    shim_debug: bool = False


def init(ic: InitContext) -> FakeRuntime:
    """Make the runtime on the fake host; tasks of an earlier one on the same host are there again."""
    places = str(ic.state), str(ic.root)
    return FakeRuntime(ic.resource(FakeHost), ic.get(EVENT), FIRST, *places, oci_runtime=ic.config.runtime)


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The first runtime, in the fake world."""
    requires = (EVENT, METADATA)
    return [
        Registration(
            "io.containerd.runtime.v1",
            "linux",
            init=init,
            requires=requires,
            config=Config,
            platforms=True,
            backend="fake",
        )
    ]
