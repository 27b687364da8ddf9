"""io.containerd.metadata.v1.bolt as a plugin: what it needs, exports and keeps (refimpl.metadata.plugin)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from refimpl.backends.fake.clock import FakeClock
from refimpl.backends.fake.content import MemoryContent
from refimpl.backends.fake.kv import MemoryStoreFactory
from refimpl.contract.containers import ContainerStore
from refimpl.contract.content import ContentStore
from refimpl.contract.context import CallContext
from refimpl.contract.errors import InvalidArgument, NotFound, Unavailable, Unknown
from refimpl.contract.gc import Collector
from refimpl.contract.images import Image, ImageStore
from refimpl.contract.kv import Store, StoreFactory
from refimpl.contract.leases import LeaseManager
from refimpl.contract.namespaces import NamespaceStore
from refimpl.contract.types import Descriptor
from refimpl.kernel import Configuration, InitContext, Kernel, Plugin, PluginSet, Registration, SkipPlugin
from refimpl.kernel.config import Section
from refimpl.metadata import plugin as metadata_plugin
from refimpl.metadata import scheduler as scheduler_plugin
from refimpl.metadata.plugin import Metadata
from tests.metadata.world import CTX, ScriptedSnapshotter, digest_of

URI = "io.containerd.metadata.v1.bolt"
CONTENT = Registration("io.containerd.content.v1", "content", init=lambda ic: MemoryContent(ic.clock))


def _snapshotter(id: str, failure: Exception | None = None) -> Registration:
    def init(_ic: InitContext) -> ScriptedSnapshotter:
        if failure is not None:
            raise failure
        return ScriptedSnapshotter(FakeClock())

    return Registration("io.containerd.snapshotter.v1", id, init=init)


@contextmanager
def _booted(
    root: Path,
    *registrations: Registration,
    section: Mapping[str, Any] | None = None,
    factory: StoreFactory | None = None,
    timeouts: Mapping[str, str] | None = None,
) -> Iterator[PluginSet]:
    kernel = Kernel(
        [*registrations, *metadata_plugin.refimpl_registrations()],
        root=root,
        state=root,
        configuration=Configuration(
            plugins={URI: Section(section)} if section is not None else {}, timeouts=dict(timeouts or {})
        ),
        clock=FakeClock(),
        resources={StoreFactory: factory or MemoryStoreFactory()},
    )
    try:
        yield kernel.boot()
    finally:
        kernel.close()


def _metadata(plugin: Plugin) -> Metadata:
    instance = plugin.instance()
    assert isinstance(instance, Metadata)
    return instance


def test_it_needs_content_and_snapshotters_and_exports_policy_and_path(tmp_path: Path) -> None:
    with _booted(tmp_path, CONTENT, _snapshotter("native")) as plugins:
        plugin = plugins[URI]
        assert plugin.registration.requires == ("io.containerd.content.v1", "io.containerd.snapshotter.v1")
        assert plugin.exports == {"policy": "shared", "path": str(tmp_path / URI / "meta.db")}
        assert list(tmp_path.iterdir()) == [], "making directories is up to the engine"


def test_its_parts_are_what_the_contract_names(tmp_path: Path) -> None:
    with _booted(tmp_path, CONTENT, _snapshotter("native"), _snapshotter("plain")) as plugins:
        metadata = _metadata(plugins[URI])
        content: ContentStore = metadata.content
        images: ImageStore = metadata.images
        containers: ContainerStore = metadata.containers
        namespaces: NamespaceStore = metadata.namespaces
        leases: LeaseManager = metadata.leases
        collector: Collector = metadata
        assert list(metadata.snapshotters) == ["native", "plain"]
        lists = [
            list(content.walk(CTX)),
            images.list(CTX),
            containers.list(CTX),
            leases.list(CTX),
            namespaces.list(CTX),
        ]
        assert not any(lists)
        assert collector.collect(CallContext()).removed == {}


@pytest.mark.parametrize("policy, effective", [("", "shared"), ("shared", "shared"), ("isolated", "isolated")])
def test_the_policy_in_force_is_exported(tmp_path: Path, policy: str, effective: str) -> None:
    section = {"content_sharing_policy": policy}
    with _booted(tmp_path, CONTENT, _snapshotter("native"), section=section) as plugins:
        assert plugins[URI].exports["policy"] == effective
        metadata = _metadata(plugins[URI])
        writer = metadata.content.writer(CallContext("other"), "r")
        writer.write(b"x")
        writer.commit(CallContext("other"))
        offset = metadata.content.writer(CTX, "r", expected=digest_of(b"x")).status().offset
        assert offset == (1 if effective == "shared" else 0)


@pytest.mark.parametrize("policy", ["bogus", "Shared", "shared "])
def test_an_unknown_policy_disables_the_plugin(tmp_path: Path, policy: str) -> None:
    section = {"content_sharing_policy": policy}
    with _booted(tmp_path, CONTENT, _snapshotter("native"), section=section) as plugins:
        error = plugins[URI].error
        assert isinstance(error, InvalidArgument)
        assert str(error) == f"unknown policy: {policy}: invalid argument"


def test_a_snapshotter_that_did_not_load_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    skipped = _snapshotter("zfs", SkipPlugin("no zfs here"))
    failed = _snapshotter("devmapper", ValueError("no pool"))
    with _booted(tmp_path, CONTENT, skipped, failed, _snapshotter("native")) as plugins:
        assert list(_metadata(plugins[URI]).snapshotters) == ["native"]
    assert "could not use snapshotter devmapper in metadata plugin" in caplog.text
    assert "could not use snapshotter zfs" not in caplog.text


def test_without_a_content_store_it_fails_with_the_stores_error(tmp_path: Path) -> None:
    def init(_ic: InitContext) -> None:
        raise ValueError("disk on fire")

    broken = Registration("io.containerd.content.v1", "content", init=init)
    with _booted(tmp_path, broken, _snapshotter("native")) as plugins:
        assert str(plugins[URI].error) == "disk on fire"
    with _booted(tmp_path, _snapshotter("native")) as plugins:
        assert isinstance(plugins[URI].error, NotFound)


def test_without_any_snapshotter_type_it_fails(tmp_path: Path) -> None:
    with _booted(tmp_path, CONTENT) as plugins:
        assert isinstance(plugins[URI].error, NotFound)


class HeldStoreFactory:
    """Opens nothing: somebody else holds every database. ``patience`` is how long one was to wait, in seconds."""

    def __init__(self) -> None:
        self.patience: float | None = None

    def open(self, path: Path, *, timeout: float = 0.0) -> Store:
        self.patience = timeout
        raise Unavailable("held")


@pytest.mark.parametrize("timeouts,patience", [({}, 0.0), ({"io.containerd.timeout.bolt.open": "500ms"}, 0.5)])
def test_who_has_waited_long_enough_for_the_database_fails_as_containerd_does(
    tmp_path: Path, timeouts: Mapping[str, str], patience: float
) -> None:
    factory = HeldStoreFactory()
    with _booted(tmp_path, CONTENT, _snapshotter("native"), factory=factory, timeouts=timeouts) as plugins:
        error = plugins[URI].error
        assert factory.patience == patience
        assert isinstance(error, Unknown)
        assert str(error) == "timeout"


def test_records_survive_a_restart(tmp_path: Path) -> None:
    factory = MemoryStoreFactory()
    image = Image("i", Descriptor("t", digest_of(b"x"), 1))
    with _booted(tmp_path, CONTENT, _snapshotter("native"), factory=factory) as plugins:
        created = _metadata(plugins[URI]).images.create(CTX, image)
    with _booted(tmp_path, CONTENT, _snapshotter("native"), factory=factory) as plugins:
        assert _metadata(plugins[URI]).images.get(CTX, "i") == created


def test_the_scheduler_collects_what_is_deleted(tmp_path: Path) -> None:
    kernel = Kernel(
        [
            CONTENT,
            _snapshotter("native"),
            *metadata_plugin.refimpl_registrations(),
            *scheduler_plugin.refimpl_registrations(),
        ],
        root=tmp_path,
        state=tmp_path,
        resources={StoreFactory: MemoryStoreFactory()},
    )
    try:
        plugins = kernel.boot()
        metadata = _metadata(plugins[URI])
        scheduler = plugins["io.containerd.gc.v1.scheduler"].instance()
        assert isinstance(scheduler, scheduler_plugin.Scheduler)
        writer = metadata.content.writer(CTX, "r")
        writer.write(b"x")
        writer.commit(CTX)
        scheduler.schedule_and_wait(CallContext())
        assert list(metadata.content.walk(CTX)) == []
    finally:
        kernel.close()
