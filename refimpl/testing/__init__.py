"""A fake containerd for other people's tests: a whole daemon on a unix socket, in this process, in milliseconds.

::

    with fake_containerd() as containerd:
        containerd.seed.image("registry.test/app:1")
        containerd.faults.fail("Images/Get", on=2, with_=Unavailable("try again"))
        run_the_program_under_test(containerd.address)
        containerd.calls.assert_called("Images/Get", times=2)

It is refimpl's daemon on fake backends: no root, no network, nothing outside a temporary directory. With
``pytest_plugins = ["refimpl.testing.pytest_plugin"]`` the same comes as the fixture ``containerd``.
"""

from refimpl.testing.calls import Call, CallLog
from refimpl.testing.faults import Fault, FaultPlan
from refimpl.testing.instance import FakeContainerd, fake_containerd
from refimpl.testing.methods import UnknownMethod
from refimpl.testing.seeding import Seed, SeededTask

__all__ = [
    "Call",
    "CallLog",
    "FakeContainerd",
    "Fault",
    "FaultPlan",
    "Seed",
    "SeededTask",
    "UnknownMethod",
    "fake_containerd",
]
