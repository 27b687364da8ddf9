"""The built-in plugin modules, by name, in the order in which containerd's program registers its plugins.

The order of initialisation follows from this one (PLG-010): the differ first, because it makes the metadata store, the
content store and the snapshotters come first; the introspection front early, because it makes all services come before
the other fronts. Real and fake twins stand side by side. Nothing is imported here.
"""

from __future__ import annotations

from collections.abc import Collection

from refimpl.kernel.backends import FAKE, REAL

MODULES: tuple[str, ...] = (
    "refimpl.backends.real.resources",
    "refimpl.backends.fake.resources",
    "refimpl.backends.real.differ",
    "refimpl.backends.fake.differ",
    "refimpl.services.events",
    "refimpl.metadata.scheduler",
    "refimpl.services.introspection",
    "refimpl.grpc.introspection",
    "refimpl.services.restart",
    "refimpl.backends.real.runtime_v2",
    "refimpl.backends.fake.runtime_v2",
    "refimpl.services.containers",
    "refimpl.grpc.containers",
    "refimpl.services.content",
    "refimpl.grpc.content",
    "refimpl.services.diff",
    "refimpl.grpc.diff",
    "refimpl.grpc.events",
    "refimpl.grpc.healthcheck",
    "refimpl.services.images",
    "refimpl.grpc.images",
    "refimpl.services.leases",
    "refimpl.grpc.leases",
    "refimpl.services.namespaces",
    "refimpl.grpc.namespaces",
    "refimpl.services.opt",
    "refimpl.services.snapshots",
    "refimpl.grpc.snapshots",
    "refimpl.services.tasks",
    "refimpl.grpc.tasks",
    "refimpl.grpc.version",
    "refimpl.grpc.cri",
    "refimpl.services.monitor",
    "refimpl.backends.real.runtime_v1",
    "refimpl.backends.fake.runtime_v1",
    "refimpl.backends.real.snapshotters",
    "refimpl.backends.fake.snapshotters",
    "refimpl.backends.real.content",
    "refimpl.backends.fake.content",
    "refimpl.metadata.plugin",
)


def modules_of(worlds: Collection[str]) -> tuple[str, ...]:
    """Those of ``MODULES`` that are in one of these worlds (``real``, ``fake``), or in none, in the same order."""
    others = tuple(f"refimpl.backends.{world}." for world in {REAL, FAKE} - set(worlds))
    return tuple(name for name in MODULES if not name.startswith(others))
