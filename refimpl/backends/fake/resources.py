"""What fake plugins ask for by class: their host, and a database engine in memory.

Made once for each kernel, so that two fake daemons in one process share nothing; a test that wants a restart gives
both kernels its own ``FakeHost`` and ``StoreFactory`` instead.
"""

from __future__ import annotations

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.host import FakeHost
from refimpl.backends.fake.kv import MemoryStoreFactory
from refimpl.backends.fake.scratch import FakeScratch
from refimpl.contract.kv import StoreFactory
from refimpl.contract.mounts import Mounter
from refimpl.contract.scratch import Scratch
from refimpl.contract.times import Clock, HandMovedClock
from refimpl.kernel import Resource, Resources, hookimpl


def _host(resources: Resources) -> FakeHost:
    return FakeHost(resources.get(Clock)).furnish()  # type: ignore[type-abstract]  # a Protocol is a fine key


@hookimpl
def refimpl_resources() -> list[Resource]:
    """The host, its mounts and scratch directories, and the engine of the fake world."""
    return [
        Resource(FakeHost, _host, backend="fake"),
        Resource(Mounter, lambda resources: resources.get(FakeHost, backend="fake").mounter, backend="fake"),
        Resource(Scratch, lambda resources: FakeScratch(resources.get(FakeHost, backend="fake")), backend="fake"),
        # Never the plugins' own: they ask for ``Clock``. For an assembly that wants its plugins to live by this one.
        Resource(HandMovedClock, lambda _: FakeClock(), backend="fake"),
        Resource(StoreFactory, lambda _: MemoryStoreFactory(), backend="fake"),
    ]
