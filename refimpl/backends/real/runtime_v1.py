"""io.containerd.runtime.v1.linux on this machine: tasks of the first runtime, each with a shim of its own.

On disk::

    STATE/<namespace>/<id>/   bundles; after a restart they lead to the shims, which have gone on meanwhile
    ROOT/<namespace>/<id>/    work directories, with the shims' logs
    ROOT/.refimpl             the program that shims run to tell of exits

Clauses RT1-001 to RT1-030. Twin: refimpl.backends.fake.runtime_v1.
"""

from __future__ import annotations

from dataclasses import dataclass

from refimpl.backends.real.runtime.bundle import BundlePlaces
from refimpl.backends.real.runtime.linux_runtime import LinuxRuntime, OCIRuntime
from refimpl.backends.real.runtime.linux_shim import ShimSettings
from refimpl.backends.real.runtime.loading import directories, remove_stale_work
from refimpl.backends.real.runtime.program import daemon_program
from refimpl.contract.context import CallContext
from refimpl.contract.types import TypedAny
from refimpl.kernel import InitContext, Registration, hookimpl

EVENT = "io.containerd.event.v1"
METADATA = "io.containerd.metadata.v1"

_LOAD_TIMEOUT = "io.containerd.timeout.shim.load"
_LOAD_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Config:
    """The section (RT1-003).

    Attributes:
        shim: the shim's binary.
        runtime: the OCI runtime's binary.
        runtime_root: where that keeps its state.
        no_shim: run the shim's code inside the daemon. It is not offered, because its tasks would end with the daemon
            and nobody would see them end: each create is refused (RT1-027).
        shim_debug: let the shim log more.
    """

    shim: str = "containerd-shim"
    runtime: str = "runc"
    runtime_root: str = ""
    no_shim: bool = False
    shim_debug: bool = False


def init(ic: InitContext) -> LinuxRuntime:
    """Make the runtime, with the tasks whose shims an earlier daemon has left running."""
    config = ic.config
    if config.no_shim:
        ic.log.warning("no_shim is not offered: tasks of this runtime are refused")
    settings = ShimSettings(
        "" if config.no_shim else config.shim,
        ic.address,
        daemon_program(ic.root),
        runtime_root=config.runtime_root,
        debug=config.shim_debug,
    )
    containers = ic.get(METADATA).containers

    def options_of(namespace: str, id: str) -> TypedAny | None:
        options: TypedAny | None = containers.get(CallContext(namespace), id).runtime.options
        return options

    places = BundlePlaces(ic.state, ic.root, linked=False)
    oci = OCIRuntime(config.runtime, config.runtime_root)
    runtime = LinuxRuntime(ic.get(EVENT), places, settings, oci, options_of)
    for namespace in directories(places.state):
        for entry in directories(namespace):
            runtime.reload(places.bundle(namespace.name, entry.name), ic.timeouts.get(_LOAD_TIMEOUT, _LOAD_SECONDS))
    remove_stale_work(places)
    return runtime


@hookimpl
def refimpl_registrations() -> list[Registration]:
    """The first runtime, on this machine."""
    requires = (EVENT, METADATA)
    return [
        Registration(
            "io.containerd.runtime.v1",
            "linux",
            init=init,
            requires=requires,
            config=Config,
            platforms=True,
            backend="real",
        )
    ]
