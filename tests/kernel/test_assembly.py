"""The built-in plugins as a whole: which, in which order, with what they need (PLG-005 to PLG-013, PLG-025 to 027)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.kernel import Configuration, Kernel, PluginSet, Registration, assemble, assembled, hookimpl
from refimpl.kernel.assembly import built_in_hooks
from refimpl.kernel.builtin import MODULES
from refimpl.kernel.graph import required
from tests.kernel.plugins import plugin

# The order in which containerd 1.6.20 initialises its plugins.
CATALOGUE = """\
    content.v1.content snapshotter.v1.aufs snapshotter.v1.btrfs snapshotter.v1.devmapper snapshotter.v1.native
    snapshotter.v1.overlayfs snapshotter.v1.zfs metadata.v1.bolt differ.v1.walking event.v1.exchange gc.v1.scheduler
    service.v1.introspection-service service.v1.containers-service service.v1.content-service service.v1.diff-service
    service.v1.images-service service.v1.leases-service service.v1.namespaces-service service.v1.snapshots-service
    runtime.v1.linux runtime.v2.task monitor.v1.cgroups service.v1.tasks-service grpc.v1.introspection
    internal.v1.restart grpc.v1.containers grpc.v1.content grpc.v1.diff grpc.v1.events grpc.v1.healthcheck
    grpc.v1.images grpc.v1.leases grpc.v1.namespaces internal.v1.opt grpc.v1.snapshots grpc.v1.tasks grpc.v1.version
    grpc.v1.cri
"""
FRONTS = ("introspection", "containers", "content", "diff", "images", "leases", "namespaces", "snapshots", "tasks")

REQUIRES = {
    "metadata.v1.bolt": ["content.v1", "snapshotter.v1"],
    "differ.v1.walking": ["metadata.v1"],
    "gc.v1.scheduler": ["metadata.v1"],
    "service.v1.containers-service": ["event.v1", "metadata.v1"],
    "service.v1.content-service": ["event.v1", "metadata.v1"],
    "service.v1.diff-service": ["differ.v1"],
    "service.v1.images-service": ["metadata.v1", "gc.v1"],
    "service.v1.leases-service": ["metadata.v1"],
    "service.v1.namespaces-service": ["event.v1", "metadata.v1"],
    "service.v1.snapshots-service": ["event.v1", "metadata.v1"],
    "runtime.v1.linux": ["event.v1", "metadata.v1"],
    "runtime.v2.task": ["event.v1", "metadata.v1"],
    "monitor.v1.cgroups": ["event.v1"],
    "service.v1.tasks-service": ["event.v1", "runtime.v1", "runtime.v2", "metadata.v1", "monitor.v1"],
    "internal.v1.restart": ["event.v1", "service.v1"],
    "grpc.v1.events": ["event.v1"],
    "grpc.v1.cri": ["event.v1", "service.v1"],
    **{f"grpc.v1.{name}": ["service.v1"] for name in FRONTS},
}

ON_A_PLATFORM = {
    *(f"snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "native", "overlayfs", "zfs")),
    "differ.v1.walking", "runtime.v1.linux", "runtime.v2.task", "monitor.v1.cgroups", "grpc.v1.cri",
}  # fmt: skip


def short(uri: str) -> str:
    return uri.removeprefix("io.containerd.")


def assembly(**more: object) -> Kernel:
    wish = {"backends": "fake", "entry_points": False, **more}
    return assemble(root=Path("/nowhere/root"), state=Path("/nowhere/state"), **wish)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def booted() -> Iterator[PluginSet]:
    with assembled(
        root=Path("/nowhere/root"), state=Path("/nowhere/state"), backends="fake", entry_points=False
    ) as found:
        yield found


def test_the_order_of_initialisation_is_containerds(booted: PluginSet) -> None:
    assert [short(listed.uri) for listed in booted] == CATALOGUE.split()


@pytest.mark.parametrize(
    "disabled,moved",
    [
        # Seen with containerd 1.6.20: what is not pulled forward by a requirement shows the order of registration.
        ("differ.v1.walking", "event.v1.exchange content.v1.content snapshotter.v1.aufs"),
        (
            "service.v1.introspection-service",
            "gc.v1.scheduler service.v1.containers-service service.v1.content-service",
        ),
        ("grpc.v1.introspection", "service.v1.tasks-service internal.v1.restart grpc.v1.containers"),
        ("metadata.v1.bolt", "snapshotter.v1.zfs content.v1.content"),
    ],
)
def test_the_order_without_a_plugin_is_containerds_too(disabled: str, moved: str) -> None:
    kernel = assembly(configuration=Configuration(disabled_plugins=[f"io.containerd.{disabled}"]))
    assert f" {moved} " in f" {' '.join(short(registration.uri) for registration in kernel.order())} "


def test_requires_are_declared_as_containerd_declares_them(booted: PluginSet) -> None:
    declared = {
        short(p.uri): [short(type_) for type_ in p.registration.requires] for p in booted if p.registration.requires
    }
    assert declared == REQUIRES


def test_everything_comes_after_all_that_it_requires(booted: PluginSet) -> None:
    order = [listed.registration for listed in booted]
    for position, registration in enumerate(order):
        assert set(map(id, required(registration, order))) <= set(map(id, order[:position]))


def test_the_same_plugins_as_in_containerd_depend_on_the_machine(booted: PluginSet) -> None:
    assert {short(listed.uri) for listed in booted if listed.platforms} == ON_A_PLATFORM


def test_no_plugin_has_capabilities(booted: PluginSet) -> None:
    assert [listed.uri for listed in booted if listed.capabilities] == []


def test_no_plugin_fails_in_the_fake_world(booted: PluginSet) -> None:
    assert {listed.uri: str(listed.error) for listed in booted if listed.status == "error"} == {}


def test_a_fake_assembly_touches_no_disk(tmp_path: Path) -> None:
    with assembled(root=tmp_path / "root", state=tmp_path / "state", backends="fake", entry_points=False):
        assert list(tmp_path.iterdir()) == []


def test_with_real_backends_what_is_not_built_is_listed_and_skips(tmp_path: Path) -> None:
    kernel = assembly(backends="real")
    assert {short(registration.uri) for registration in kernel.order()} == set(CATALOGUE.split())


def test_a_module_of_ones_own_takes_part() -> None:
    class Guest:
        @hookimpl
        def refimpl_registrations(self) -> list[Registration]:
            return [plugin("io.strange.v1.guest", "io.containerd.event.v1")]

    order = [registration.uri for registration in assembly(extra=[Guest()]).order()]
    assert order[-1] == "io.strange.v1.guest"


def test_further_registrations_come_last_and_take_their_place_before_who_requires_them() -> None:
    order = [r.uri for r in assembly(registrations=[plugin("io.containerd.snapshotter.v1.ps1")]).order()]
    place = order.index("io.containerd.snapshotter.v1.ps1")
    assert order[place - 1 : place + 2 : 2] == ["io.containerd.snapshotter.v1.zfs", "io.containerd.metadata.v1.bolt"]


def test_what_touches_a_world_is_there_in_both() -> None:
    """A daemon that is told its world loads that one's modules only, and lacks nothing."""
    for uri in (registry := built_in_hooks(entry_points=False).registry()).uris():
        assert set(registry.candidates(uri)) in ({""}, {"real", "fake"}), uri


@pytest.mark.parametrize(
    "backends,chosen,worlds",
    [
        ("fake", {}, {"fake"}),
        ("real", {}, {"real"}),
        ("auto", {}, {"real", "fake"}),
        ("real", {"io.containerd.content.v1.content": "fake"}, {"real", "fake"}),
        ("auto", {"default": "fake"}, {"fake"}),
    ],
)
def test_a_world_that_nobody_asked_for_is_not_loaded(backends: str, chosen: dict[str, str], worlds: set[str]) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from refimpl.kernel import Configuration, assemble\n"
        "from refimpl.kernel.config.model import RefimplConfig\n"
        f"settings = Configuration(refimpl=RefimplConfig(backends={chosen!r}))\n"
        f"kernel = assemble(root=Path('/r'), state=Path('/s'), backends={backends!r}, configuration=settings)\n"
        "loaded = {name.split('.')[2] for name in sys.modules if name.startswith('refimpl.backends.')}\n"
        "print(len(kernel.order()), *loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    plugins, *loaded = done.stdout.split()
    assert (int(plugins), set(loaded)) == (len(CATALOGUE.split()), worlds)


def test_importing_a_plugin_module_registers_nothing() -> None:
    """Rejects: a module that does something when it is imported."""
    script = (
        "import importlib, threading\n"
        f"for name in {MODULES!r}: importlib.import_module(name)\n"
        "print([thread.name for thread in threading.enumerate()])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("['MainThread']\n", "")
